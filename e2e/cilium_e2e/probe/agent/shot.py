"""A probe in flight: its socket, its deadline and what is known of it so far.

Every probe has its own deadline, counted from the moment it starts and not from the batch's start. Waits
are for readiness only, and the socket is always looked at once more after a deadline, so that an answer
that came in time is seen even on a starved processor.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time

from .loop import ready

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs as much as a batch does
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

RETRANSMIT_S = 0.2
# The socket module does not name these in every Python version.
IP_RECVERR, IPV6_RECVERR, MSG_ERRQUEUE = 11, 25, 0x2000


class Infra(Exception):
    """The probe could not be made."""


class Ended(Exception):
    """The probe ended with a kind of its own."""

    def __init__(self, kind: str, detail: str = "", **more: Any) -> None:
        super().__init__(detail)
        self.report = {"kind": kind, "detail": detail, **more}


class Shot:
    """A probe in flight: what was asked, when it ends, and what is known of it so far."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.started = time.monotonic()
        self.deadline = self.started + float(spec["timeout"])
        self.seen: dict[str, Any] = {}

    def elapsed(self) -> float:
        """Seconds since the probe started."""
        return time.monotonic() - self.started

    def open(self, address: str, kind: int, proto: int, *, bind: bool = True) -> socket.socket:
        """A socket of the right family, bound to the probe's source port, if any, where ``bind`` is set."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            sock = socket.socket(family, kind, proto)
        except PermissionError as error:
            raise Infra(f"{error}: is the agent's group inside net.ipv4.ping_group_range?") from None
        except OSError as error:
            raise Infra(f"no socket: {error}") from None
        sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
        port = self.spec.get("source_port", 0) if bind else 0
        try:
            if kind == socket.SOCK_DGRAM:
                level, option = (
                    (socket.IPPROTO_IPV6, IPV6_RECVERR)
                    if family == socket.AF_INET6
                    else (socket.IPPROTO_IP, IP_RECVERR)
                )
                sock.setsockopt(level, option, 1)
            if port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(("", port))
                if kind == socket.SOCK_STREAM:
                    # Leaves no TIME_WAIT behind: the same five-tuple can be used again at once.
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError as error:
            sock.close()
            raise Infra(f"source port {port}: {error}") from None
        return sock

    async def dial(
        self, address: str, port: int, kind: int, proto: int = 0, *, bind: bool = True
    ) -> socket.socket:
        """A connected socket; its own address is noted before the peer says anything."""
        with contextlib.ExitStack() as stack:
            sock = stack.enter_context(self.open(address, kind, proto, bind=bind))
            self.seen["destination_ip"] = address
            error = sock.connect_ex((address, port))
            mine = sock.getsockname()
            self.seen["source_ip"] = mine[0]
            self.seen["source_port"] = 0 if proto in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) else mine[1]
            if error in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
                raise Infra(f"no source address or port for {address}: {os.strerror(error)}")
            if error not in (0, errno.EINPROGRESS):
                raise OSError(error, os.strerror(error))
            while error:
                late = await ready(sock, self.deadline, write=True)
                if pending := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(pending, os.strerror(pending))
                with contextlib.suppress(OSError):
                    sock.getpeername()
                    break
                if late:
                    raise TimeoutError("no answer to the connection request")
            stack.pop_all()
            return sock


async def receive(sock: socket.socket, deadline: float, size: int = 65536) -> bytes:
    """What comes next, empty at the end of a stream; ``TimeoutError`` if nothing comes in time."""
    late = False
    while True:
        try:
            return sock.recv(size)
        except BlockingIOError:
            if late:
                raise TimeoutError("no answer") from None
            late = await ready(sock, deadline)


async def send(sock: socket.socket, data: bytes, deadline: float) -> None:
    """Send all of it; ``TimeoutError`` if the peer does not take it in time."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[sock.send(rest) :]
        except BlockingIOError:
            if await ready(sock, deadline, write=True):
                raise TimeoutError(f"{len(rest)} of {len(data)} bytes could not be sent") from None


async def exchange(shot: Shot, sock: socket.socket, request: bytes, accept: Callable[[bytes], T | None]) -> T:
    """Send a datagram, again while nothing comes back, until ``accept`` takes an answer."""
    wait_s = RETRANSMIT_S
    while True:
        with contextlib.suppress(BlockingIOError):  # a full send buffer is a lost datagram: it is sent again
            try:
                sock.send(request)
            except OSError as error:
                if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                    raise Infra(f"{len(request)} bytes: {error}") from None
                raise
        again = min(shot.deadline, time.monotonic() + wait_s)
        wait_s *= 2
        while True:
            try:
                answer = accept(await receive(sock, again))
            except TimeoutError:
                if time.monotonic() >= shot.deadline:
                    raise
                break
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                # A path MTU was learnt: the next datagram is cut to size. While the report of it lies in
                # the error queue, the socket counts as ready.
                with contextlib.suppress(OSError):
                    sock.recv(65536, MSG_ERRQUEUE)
                break
            if answer is not None:
                return answer
