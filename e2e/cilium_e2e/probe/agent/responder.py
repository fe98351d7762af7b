"""The answering half of the agent: whoever asks is told its name.

* TCP and SCTP: one line, ``cilium-e2e-agent/1 NAME ADDRESS``, as soon as a connection stands: who answers,
  and whom it sees asking; then a line
  ``ECHO n`` is answered with the n bytes that follow it, any other line with nothing;
* UDP: the same line, with the second word of the datagram's first line repeated at its end, then
  everything after that first line as it came;
* DNS: the addresses of the zone it was given, NXDOMAIN for other names below the zone's, REFUSED beyond;
* HTTP: the name as body and as ``x-agent`` header, the asking address as ``x-seen-from``;
  ``/status/NNN`` answers with that status, ``/echo`` with the request's headers as JSON.

Everything is bound for IPv4 and IPv6 alike. ``ready`` exits 0 once ``serve`` listens. It asks over an
abstract Unix socket, so that a readiness check is no flow and no policy can make it fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http
import json
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from . import BANNER
from .zone import Zone

IDLE_S = 60.0
LIMIT = 65536
# The socket module does not name these in every Python version.
IP_PKTINFO, IPPROTO_SCTP = 8, 132


def listen(family: int, kind: int, proto: int, port: int) -> socket.socket | None:
    """A bound socket, None where the machine does not have the address family."""
    try:
        sock = socket.socket(family, kind, proto)
    except OSError:
        if family == socket.AF_INET6:
            return None
        raise
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        sock.bind(("", port))
    except OSError as error:
        sock.close()
        if family == socket.AF_INET6 and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            return None
        raise SystemExit(f"cannot listen on port {port}: {error}") from None
    return sock


class Responder:
    """Answers with one name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def line(self, address: str) -> bytes:
        """Who answers, and from which address it was asked."""
        return f"{BANNER} {self.name} {address}".encode()

    async def stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One TCP or SCTP connection."""
        with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError, asyncio.IncompleteReadError):
            writer.write(self.line(asking(writer)) + b"\n")
            while line := await asyncio.wait_for(reader.readline(), IDLE_S):
                words = line.split()
                if words[:1] != [b"ECHO"]:
                    continue
                left = int(words[1])
                while left:
                    data = await asyncio.wait_for(reader.read(min(left, LIMIT)), IDLE_S)
                    if not data:
                        return
                    left -= len(data)
                    writer.write(data)
                    await asyncio.wait_for(writer.drain(), IDLE_S)
        writer.close()

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One HTTP request; the connection is closed after it."""
        errors = (OSError, ValueError, IndexError, asyncio.TimeoutError, asyncio.IncompleteReadError)
        with contextlib.suppress(*errors, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_S)
            first, *rest = head.decode("latin-1").rstrip().split("\r\n")
            method, path = first.split(" ")[:2]
            headers = {
                key.strip().lower(): value.strip() for key, _, value in (x.partition(":") for x in rest)
            }
            await asyncio.wait_for(
                reader.readexactly(min(int(headers.get("content-length", 0)), LIMIT)), IDLE_S
            )
            status, body, kind = 200, self.name + "\n", "text/plain"
            if path.startswith("/status/"):
                status = int(path.split("/")[2][:3])
            elif path.split("?")[0] == "/echo":
                echo = {"agent": self.name, "method": method, "path": path, "headers": headers}
                body, kind = json.dumps(echo) + "\n", "application/json"
            with contextlib.suppress(ValueError):
                status = http.HTTPStatus(status)
            phrase = getattr(status, "phrase", "Status")
            lines = [
                f"HTTP/1.1 {int(status)} {phrase}",
                f"content-type: {kind}",
                f"content-length: {len(body.encode())}",
                f"x-agent: {self.name}",
                f"x-seen-from: {asking(writer)}",
                "connection: close",
            ]
            writer.write(("\r\n".join([*lines, "", ""]) + ("" if method == "HEAD" else body)).encode())
            await asyncio.wait_for(writer.drain(), IDLE_S)
        writer.close()

    def echo(self, data: bytes, address: str) -> bytes:
        """The answer to a datagram from an address."""
        first, _, rest = data.partition(b"\n")
        return b" ".join([self.line(address), *first.split()[1:2]]) + b"\n" + rest


def asking(writer: asyncio.StreamWriter) -> str:
    """The address at the other end; nothing where it has gone already."""
    peer = writer.get_extra_info("peername")
    return plain(peer[0]) if peer else ""


def plain(address: str) -> str:
    """An address without IPv6's zone, which means something on this machine only."""
    return address.partition("%")[0]


def datagrams(sock: socket.socket, answer: Callable[[bytes, str], bytes | None]) -> None:
    """Answer what has arrived, each from the address it was sent to."""
    with contextlib.suppress(OSError):
        while True:
            data, extra, _, peer = sock.recvmsg(LIMIT, 256)
            reply = answer(data, plain(peer[0]))
            if reply is not None:
                with contextlib.suppress(OSError):
                    sock.sendmsg([reply], [own(*item) for item in extra], 0, peer)


def own(level: int, kind: int, data: bytes) -> tuple[int, int, bytes]:
    """The packet information that makes the address a datagram was sent to the source of the answer."""
    if level == socket.IPPROTO_IP:  # struct in_pktinfo: interface, local address, header's address
        return level, kind, bytes(4) + data[4:8] + bytes(4)
    return level, kind, data[:16] + bytes(4)  # struct in6_pktinfo: address, interface


def door(name: str) -> str:
    """The abstract address that says: all ports are open."""
    return f"\0cilium-e2e-agent/{name}"


async def serve(
    name: str,
    *,
    tcp: Sequence[int],
    udp: Sequence[int],
    sctp: Sequence[int],
    http_ports: Sequence[int],
    dns: Sequence[int] = (),
    zone: Zone | None = None,
) -> None:
    """Open every port, then the door, then answer until the process is ended."""
    responder, loop, servers = Responder(name), asyncio.get_running_loop(), []
    known = zone or Zone({})
    streams: list[tuple[Sequence[int], int, Any]] = [
        (tcp, socket.IPPROTO_TCP, responder.stream),
        (sctp, IPPROTO_SCTP, responder.stream),
        (http_ports, socket.IPPROTO_TCP, responder.http),
    ]

    def names(data: bytes, _: str) -> bytes | None:
        return known.answer(data)

    for family in (socket.AF_INET, socket.AF_INET6):
        for ports, proto, answer in streams:
            socks = [listen(family, socket.SOCK_STREAM, proto, port) for port in ports]
            servers += [await asyncio.start_server(answer, sock=s, backlog=4096) for s in socks if s]
        for port in [*udp, *dns]:
            if (sock := listen(family, socket.SOCK_DGRAM, 0, port)) is not None:
                if family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                answer_to = names if port in dns else responder.echo
                loop.add_reader(sock.fileno(), datagrams, sock, answer_to)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(door(name))
        sock.listen(16)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        print(f"{name} is ready", flush=True)  # noqa: T201 - the container's log
        while True:
            # Taken, though nothing is said: in a full queue whoever asks would wait for ever.
            visitor, _ = await loop.sock_accept(sock)
            visitor.close()


def ready(name: str, *, timeout_s: float) -> int:
    """0 as soon as the door is open, 1 if it is not within the time."""
    end = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(max(0.02, end - time.monotonic()))
            sock.connect(door(name))
            return 0
        if time.monotonic() >= end:
            return 1
        time.sleep(0.02)
