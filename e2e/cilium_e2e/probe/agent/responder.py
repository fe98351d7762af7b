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

import contextlib
import errno
import json
import socket
import time

from . import BANNER
from .door import door
from .loop import Loop, complain, ready
from .shot import receive, send
from .zone import Zone

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs as much as a batch does
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

IDLE_S = 60.0
EXHAUSTED_S = 0.05
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

    async def stream(self, peer: Peer) -> None:
        """One TCP or SCTP connection."""
        await peer.send(self.line(peer.address) + b"\n")
        while line := await peer.line():
            words = line.split()
            if words[:1] != [b"ECHO"]:
                continue
            left = int(words[1])
            while left:
                data = await peer.some(left)
                if not data:
                    return
                left -= len(data)
                await peer.send(data)

    async def http(self, peer: Peer) -> None:
        """One HTTP request; the connection is closed after it."""
        head = await peer.until(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").rstrip().split("\r\n")
        method, path = first.split(" ")[:2]
        headers = {key.strip().lower(): value.strip() for key, _, value in (x.partition(":") for x in rest)}
        left = min(int(headers.get("content-length", 0)), LIMIT)
        while left > 0:
            data = await peer.some(left)
            if not data:
                return
            left -= len(data)
        status, body, kind = 200, self.name + "\n", "text/plain"
        if path.startswith("/status/"):
            status = int(path.split("/")[2][:3])
        elif path.split("?")[0] == "/echo":
            echo = {"agent": self.name, "method": method, "path": path, "headers": headers}
            body, kind = json.dumps(echo) + "\n", "application/json"
        lines = [
            f"HTTP/1.1 {status} {phrase(status)}",
            f"content-type: {kind}",
            f"content-length: {len(body.encode())}",
            f"x-agent: {self.name}",
            f"x-seen-from: {peer.address}",
            "connection: close",
        ]
        await peer.send(("\r\n".join([*lines, "", ""]) + ("" if method == "HEAD" else body)).encode())

    def echo(self, data: bytes, address: str) -> bytes:
        """The answer to a datagram from an address."""
        first, _, rest = data.partition(b"\n")
        return b" ".join([self.line(address), *first.split()[1:2]]) + b"\n" + rest


class Peer:
    """A connection, and the address at its other end.

    Its reads and writes raise OSError where the peer is gone or silent for too long.
    """

    def __init__(self, sock: socket.socket, address: str) -> None:
        self.sock = sock
        self.address = plain(address)
        self._read = bytearray()

    async def until(self, end: bytes) -> bytes:
        """What comes until these bytes, with them; ValueError where they do not come in time."""
        while (at := self._read.find(end)) < 0:
            if len(self._read) > LIMIT or not await self._more():
                raise ValueError(f"no {end!r} in {len(self._read)} bytes")
        return self._take(at + len(end))

    async def line(self) -> bytes:
        """The next line; what there is at the end of the stream; ValueError for one without end."""
        while (at := self._read.find(b"\n")) < 0:
            if len(self._read) > LIMIT:
                raise ValueError("a line without end")
            if not await self._more():
                return self._take(len(self._read))
        return self._take(at + 1)

    async def some(self, most: int) -> bytes:
        """What is there, as soon as something is; nothing at the end of the stream."""
        if not self._read:
            await self._more()
        return self._take(min(most, LIMIT))

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await send(self.sock, data, time.monotonic() + IDLE_S)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._read[:size])
        del self._read[:size]
        return taken

    async def _more(self) -> bool:
        data = await receive(self.sock, time.monotonic() + IDLE_S, LIMIT)
        self._read += data
        return bool(data)


def phrase(status: int) -> str:
    """A status code's words."""
    from http import HTTPStatus  # noqa: PLC0415 - only who asks by HTTP pays for it

    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Status"


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


async def attend(answer: Callable[[Peer], Coroutine[Any, Any, None]], peer: Peer) -> None:
    """One connection, to its end."""
    with peer.sock:
        try:
            await answer(peer)
        except (OSError, ValueError, IndexError):
            return  # the peer's doing
        except Exception as error:  # noqa: BLE001 - whatever it is, others are waiting for answers
            complain(error)


def exhausted(error: OSError) -> None:
    """Wait where the machine has nothing left; of what was a peer's doing nothing is said."""
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
        complain(error)
        time.sleep(EXHAUSTED_S)  # everybody waits, or the same would be asked for ever


async def accept(
    loop: Loop, listener: socket.socket, answer: Callable[[Peer], Coroutine[Any, Any, None]]
) -> None:
    """Attend to whoever connects."""
    while True:
        await ready(listener)
        try:
            while True:
                sock, address = listener.accept()
                sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
                if sock.proto == socket.IPPROTO_TCP:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                loop.spawn(attend(answer, Peer(sock, address[0])))
        except BlockingIOError:
            continue
        except OSError as error:
            exhausted(error)


async def answer_datagrams(sock: socket.socket, answer: Callable[[bytes, str], bytes | None]) -> None:
    """Answer whatever arrives."""
    while True:
        await ready(sock)
        try:
            datagrams(sock, answer)
        except Exception as error:  # noqa: BLE001 - whatever one datagram does, others are waiting
            complain(error)


async def open_door(name: str) -> None:
    """Say that all ports are open, for as long as the agent serves."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(door(name))
        sock.listen(16)
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        print(f"{name} is ready", flush=True)  # noqa: T201 - the container's log
        while True:
            await ready(sock)
            # Taken, though nothing is said: in a full queue whoever asks would wait for ever.
            try:
                sock.accept()[0].close()
            except OSError as error:
                exhausted(error)


def serve(
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
    responder, loop = Responder(name), Loop()
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
            for port in ports:
                if (sock := listen(family, socket.SOCK_STREAM, proto, port)) is not None:
                    sock.listen(4096)
                    loop.spawn(accept(loop, sock, answer))
        for port in [*udp, *dns]:
            if (sock := listen(family, socket.SOCK_DGRAM, 0, port)) is not None:
                if family == socket.AF_INET:
                    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
                else:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                loop.spawn(answer_datagrams(sock, names if port in dns else responder.echo))
    loop.spawn(open_door(name))
    loop.run()
