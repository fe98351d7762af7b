"""DNS: the probe of a name server, and the lookup of a target that is given by name."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from .shot import Ended, Infra, Shot, exchange

RCODES = (
    *("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"),
    *("YXDOMAIN", "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE"),
)
RESOLV_CONF, HOSTS, PORT = "/etc/resolv.conf", "/etc/hosts", 53
RECORDS = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}


async def dns(shot: Shot) -> None:
    """Ask the given server, or the pod's own resolver, for a name exactly as it is written."""
    spec = shot.spec
    server = await resolve(shot, spec["host"]) if spec.get("host") else resolver()[0]
    rcode, records = await query(shot, server, spec["port"], spec["name"], spec.get("record", "A"))
    raise Ended("dns", ", ".join(records), rcode=rcode)


async def query(shot: Shot, server: str, port: int, name: str, record: str) -> tuple[str, list[str]]:
    """Ask one server one question: the response code's name and the addresses and names answered."""
    labels = [label.encode("idna") for label in name.rstrip(".").split(".")]
    if record not in RECORDS or any(not 0 < len(label) < 64 for label in labels):
        raise Infra(f"cannot ask for {name!r} {record!r}")
    number = os.urandom(2)
    question = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    question += struct.pack("!HH", RECORDS[record], 1)
    # One additional record: EDNS, answers of up to 1232 bytes.
    request = (
        number
        + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 1)
        + question
        + struct.pack("!BHHIH", 0, 41, 1232, 0, 0)
    )
    bind = shot.spec["protocol"] == "dns"  # the source port is the probe's, not the lookup's
    with await shot.dial(server, port, socket.SOCK_DGRAM, bind=bind) as sock:
        answer = await exchange(
            shot, sock, request, lambda data: data if data[:2] == number and len(data) >= 12 else None
        )
    code = answer[3] & 15
    try:
        records = [
            text for kind, text in answers(answer) if kind == RECORDS[record] or kind == RECORDS["CNAME"]
        ]
    except (IndexError, struct.error, ValueError) as error:
        raise Infra(f"malformed DNS answer: {error}") from None
    return RCODES[code] if code < len(RCODES) else f"RCODE{code}", records


def answers(data: bytes) -> list[tuple[int, str]]:
    """Type and text of the answer records."""

    def name(at: int, depth: int = 0) -> tuple[str, int]:
        labels: list[str] = []
        while data[at]:
            if data[at] >= 192:
                if depth > 16:
                    raise ValueError("a loop of names")
                target = struct.unpack_from("!H", data, at)[0] & 0x3FFF
                return ".".join([*labels, name(target, depth + 1)[0]]), at + 2
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        return ".".join(labels), at + 1

    questions, count = struct.unpack_from("!HH", data, 4)
    at, found = 12, []
    for _ in range(questions):
        at = name(at)[1] + 4
    for _ in range(count):
        at = name(at)[1]
        kind, _, _, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        if kind in (RECORDS["A"], RECORDS["AAAA"]):
            family = socket.AF_INET if kind == RECORDS["A"] else socket.AF_INET6
            found.append((kind, socket.inet_ntop(family, data[at : at + length])))
        elif kind in (RECORDS["CNAME"], RECORDS["NS"], RECORDS["PTR"]):
            found.append((kind, name(at)[0]))
        else:
            found.append((kind, data[at : at + length].hex()))
        at += length
    return found


def canonical(text: str) -> str:
    """An address as it is written shortest, with its zone, if any; nothing where the text is none."""
    address, percent, zone = text.partition("%")
    if percent and not zone:
        return ""
    for family in (socket.AF_INET6,) if percent else (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):  # ValueError: a zero byte in it
            return socket.inet_ntop(family, socket.inet_pton(family, address)) + percent + zone
    return ""


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:  # noqa: PTH123 - pathlib costs an agent its start
        return file.read()


def resolver() -> tuple[str, list[str]]:
    """The first name server and the search list of ``/etc/resolv.conf``."""
    server, search = "127.0.0.1", []
    for line in reversed(_text(RESOLV_CONF).splitlines()):
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            server = words[1]
        elif len(words) > 1 and words[0] == "search":
            search = words[1:]
    return server, search


def hosts(name: str) -> str:
    """The address ``/etc/hosts`` gives a name, or nothing."""
    with contextlib.suppress(OSError):
        for line in _text(HOSTS).splitlines():
            words = line.partition("#")[0].split()
            if name.rstrip(".") in words[1:]:
                return words[0]
    return ""


async def resolve(shot: Shot, host: str) -> str:
    """An address as it is; a name by asking the resolver, so that its response code is not lost.

    The C library would hide REFUSED behind EAI_AGAIN and cannot be interrupted. A name is asked for as it
    is written; only one without any dot, or of a probe that asks for it, is looked up in the search list.
    """
    if address := canonical(host):
        return address
    if address := hosts(host):
        return address
    server, search = resolver()
    plain = "." in host and not shot.spec.get("search")
    names = [host] if plain else [f"{host}.{domain}" for domain in search] + [host]
    rcode, name = "NXDOMAIN", host
    for name in names:
        for record in ("A", "AAAA"):
            try:
                rcode, found = await query(shot, server, PORT, name, record)
            except OSError as error:
                text = f"resolving {name} at {server}: {error}"
                raise OSError(error.errno or errno.ETIMEDOUT, text) from None
            for text in found:
                if address := canonical(text):
                    return address
            if rcode != "NOERROR":
                break
        if rcode not in ("NOERROR", "NXDOMAIN"):
            break
    # NOERROR without an address must not read as an answer of the target.
    raise Ended("dns", f"resolving {name} at {server}", rcode="NODATA" if rcode == "NOERROR" else rcode)
