"""How an agent finds the address of a target that is given by name."""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from cilium_e2e.probe.agent import names
from cilium_e2e.probe.agent.loop import Loop
from cilium_e2e.probe.agent.shot import Ended, Shot

ADDRESSES = {("one.example", 1): "10.1.2.3", ("six.example", 28): "fd00::6", ("short.ns.svc", 1): "10.1.2.4"}
CODES = {"refused.example": 5, "broken.example": 2}


@pytest.fixture
def resolver(tmp_path, monkeypatch):
    """A name server on loopback that the agent takes for its own; gives the names it was asked for."""
    asked = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve():
            while True:
                try:
                    data, peer = sock.recvfrom(4096)
                except OSError:
                    return
                if not data:
                    return
                at, labels = 12, []
                while data[at]:
                    labels.append(data[at + 1 : at + 1 + data[at]].decode())
                    at += 1 + data[at]
                name, (kind,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
                asked.append((name, kind))
                if name == "silent.example":
                    continue
                text = ADDRESSES.get((name, kind), "")
                exists = any(known == name for known, _ in ADDRESSES) or name == "empty.example"
                code = CODES.get(name, 0 if exists else 3)
                packed = (
                    socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
                    if text
                    else b""
                )
                head = data[:2] + bytes([0x81, 0x80 | code]) + struct.pack("!HHHH", 1, bool(packed), 0, 0)
                record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 30, len(packed)) + packed
                sock.sendto(head + data[12 : at + 5] + (record if packed else b""), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        conf, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
        conf.write_text("search ns.svc svc\n# a comment\nnameserver 127.0.0.1\nnameserver 192.0.2.1\n")
        hosts.write_text("127.0.0.9 written.example other # not me\n")
        monkeypatch.setattr(names, "RESOLV_CONF", conf)
        monkeypatch.setattr(names, "HOSTS", hosts)
        monkeypatch.setattr(names, "PORT", sock.getsockname()[1])
        yield asked
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"", sock.getsockname())
        thread.join()


def find(host, *, timeout=2.0, **more):
    found = []

    async def run():
        spec = {"protocol": "tcp", "timeout": timeout, "source_port": 1, **more}
        found.append(await names.resolve(Shot(spec), host))

    loop = Loop()
    loop.spawn(run())
    loop.run()
    return found[0]


@pytest.mark.parametrize(
    ("host", "address", "questions"),
    [
        ("10.9.8.7", "10.9.8.7", []),
        ("FD00::1", "fd00::1", []),
        ("written.example", "127.0.0.9", []),
        ("one.example", "10.1.2.3", [("one.example", 1)]),
        ("six.example.", "fd00::6", [("six.example", 1), ("six.example", 28)]),
        ("short", "10.1.2.4", [("short.ns.svc", 1)]),
    ],
)
def test_found(resolver, host, address, questions):
    assert find(host) == address
    assert resolver == questions


def test_a_name_with_dots_is_searched_for_when_that_is_asked(resolver):
    """``short.ns`` is below ``svc``, as the C library finds it with Kubernetes' ``ndots:5``."""
    assert find("short.ns", search=True) == "10.1.2.4"
    assert resolver == [("short.ns.ns.svc", 1), ("short.ns.svc", 1)]
    resolver.clear()
    with pytest.raises(Ended):
        find("short.ns")
    assert resolver == [("short.ns", 1)]


def test_a_name_that_no_search_domain_has_is_asked_for_as_it_is(resolver):
    assert find("one.example", search=True) == "10.1.2.3"
    assert resolver[-1] == ("one.example", 1)


@pytest.mark.parametrize(
    ("host", "rcode", "questions"),
    [
        ("refused.example", "REFUSED", 1),
        ("broken.example", "SERVFAIL", 1),
        ("none.example", "NXDOMAIN", 1),
        ("empty.example", "NODATA", 2),
        ("nowhere", "NXDOMAIN", 3),
    ],
)
def test_what_the_resolver_says_is_the_outcome(resolver, host, rcode, questions):
    with pytest.raises(Ended) as ended:
        find(host)
    assert (ended.value.report["kind"], ended.value.report["rcode"]) == ("dns", rcode)
    assert len(resolver) == questions


def test_silent_resolver_is_a_timeout_that_names_it(resolver):
    with pytest.raises(TimeoutError, match=r"silent\.example at 127\.0\.0\.1"):
        find("silent.example", timeout=0.5)
    assert len(resolver) > 1


def test_answers_of_every_record_type():
    def record(kind, data):
        return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 30, len(data)) + data

    question = b"\1a\0" + struct.pack("!HH", 1, 1)
    body = record(16, b"\2hi") + record(12, b"\1b\xc0\x0c") + record(28, bytes(16))
    data = bytes(4) + struct.pack("!HHHH", 1, 3, 0, 0) + question + body
    assert names.answers(data) == [(16, "026869"), (12, "b.a"), (28, "::")]
