"""What an agent can ask: TCP, SCTP, UDP, ICMP and HTTP."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct

from . import BANNER
from .loop import READ, WRITE, ready_fd
from .names import canonical, resolve
from .shot import Ended, Infra, Shot, exchange, receive, send

# The socket module does not name this in every Python version.
IPPROTO_SCTP = 132


def named(line: bytes) -> str | None:
    """The name in an agent's answer, None where the peer is no agent."""
    words = line.decode("utf-8", "replace").split()
    return words[1] if len(words) > 1 and words[0] == BANNER else None


def introduced(shot: Shot, line: bytes) -> str | None:
    """Like :func:`named`, and note both what the peer is called and whom it saw."""
    name = named(line)
    if name is not None:
        shot.seen["answered_by"] = name
        words = line.decode("utf-8", "replace").split()
        if address := canonical(words[2]) if len(words) > 2 else "":
            shot.seen["seen_from"] = address
    return name


def broken(error: OSError) -> Exception:
    """What an agent's silence after the handshake is: no denial, for what policy drops shakes no hands."""
    if error.errno in {None, errno.ETIMEDOUT}:
        return Infra("after the handshake: the agent there did not say its name in time")
    return OSError(error.errno, f"after the handshake: {error}")


async def stream(shot: Shot, proto: int = socket.IPPROTO_TCP) -> None:
    """Connect and read the peer's name.

    Of a peer that is known to be an agent (``"agent": true``) only its name counts: a proxy in between
    may shake hands on its own. Of any other peer the handshake is the answer, whatever follows.
    """
    spec, size = shot.spec, shot.spec.get("payload", 0)
    address = await resolve(shot, spec["host"])
    with await shot.dial(address, spec["port"], socket.SOCK_STREAM, proto) as sock:
        shaken_s = shot.elapsed()
        try:
            if not spec.get("agent"):
                # A server that waits for the client speaks, or hangs up, only after some bytes.
                await send(sock, b"agent?\r\n\r\n", shot.deadline)
            line = b""
            while b"\n" not in line and len(line) < 1024:
                data = await receive(sock, shot.deadline, 1024)
                if not data:
                    break
                line += data
            name = introduced(shot, line)
        except OSError as error:
            if spec.get("agent"):
                raise broken(error) from None
            line, name = b"", None
        if name is None and spec.get("agent") and not line:
            raise Ended("reset", "closed after the handshake, before a name")
        if name is None:
            if size:
                raise Ended("reset", "who answered is no agent: the payload did not come back")
            raise Ended("connected", "the peer is no agent", elapsed_s=round(shaken_s, 6))
        if size:
            await echo(shot, sock, size)
    raise Ended("connected")


async def echo(shot: Shot, sock: socket.socket, size: int) -> None:
    """Send random bytes and expect the same ones back, both at once: neither end holds all of them."""
    payload, back = os.urandom(size), bytearray()
    rest = memoryview(b"ECHO %d\n" % size + payload)
    late = False
    while len(back) < size:
        stuck = True
        with contextlib.suppress(BlockingIOError):
            while rest:
                rest = rest[sock.send(rest) :]
                stuck = False
        with contextlib.suppress(BlockingIOError):
            data = sock.recv(65536)
            if not data:
                raise Ended("reset", f"closed after {len(back)} of {size} bytes")
            back += data
            stuck = False
        if stuck and late:
            raise TimeoutError(f"{len(back)} of {size} bytes came back")
        if stuck:
            late = await ready_fd(sock.fileno(), shot.deadline, READ | WRITE if rest else READ)
    if back != payload:
        raise Infra("the payload came back changed")


async def sctp(shot: Shot) -> None:
    """Like TCP."""
    await stream(shot, IPPROTO_SCTP)


async def udp(shot: Shot) -> None:
    """Send a datagram and await the answer to it."""
    address = await resolve(shot, shot.spec["host"])
    nonce = os.urandom(8).hex().encode()
    padding = os.urandom(shot.spec.get("payload", 0))

    def accept(answer: bytes) -> bytes | None:
        head, _, rest = answer.partition(b"\n")
        if named(head) is None:
            return answer  # no agent, but an answer
        return answer if head.endswith(nonce) and rest == padding else None

    with await shot.dial(address, shot.spec["port"], socket.SOCK_DGRAM) as sock:
        answer = await exchange(shot, sock, b"agent? " + nonce + b"\n" + padding, accept)
    introduced(shot, answer.partition(b"\n")[0])
    raise Ended("connected")


async def icmp(shot: Shot) -> None:
    """Send an echo request and await its reply."""
    address = await resolve(shot, shot.spec["host"])
    v6 = ":" in address
    proto = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
    payload = os.urandom(max(16, shot.spec.get("payload", 0)))
    # Identifier and checksum are the kernel's, which also hands over only answers to this socket.
    request = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, 0, 1) + payload
    with await shot.dial(address, 0, socket.SOCK_DGRAM, proto) as sock:
        await exchange(shot, sock, request, lambda answer: True if answer[8:] == payload else None)
    raise Ended("connected")


async def http(shot: Shot) -> None:
    """Make one request on a connection of its own and read the answer's header."""
    spec = shot.spec
    address = await resolve(shot, spec["host"])
    host = f"[{spec['host']}]" if ":" in spec["host"] else spec["host"]
    fields = {"host": f"{host}:{spec['port']}", "connection": "close", "user-agent": BANNER}
    fields.update((key.lower(), value) for key, value in spec.get("headers", ()))
    lines = [f"{spec.get('method', 'GET')} {spec.get('path', '/')} HTTP/1.1"]
    lines += [f"{key}: {value}" for key, value in fields.items()]
    answer = b""
    with await shot.dial(address, spec["port"], socket.SOCK_STREAM) as sock:
        await send(sock, "\r\n".join([*lines, "", ""]).encode(), shot.deadline)
        while b"\r\n\r\n" not in answer:
            data = await receive(sock, shot.deadline)
            if not data:
                raise Ended("reset", f"closed after {len(answer)} bytes, before the end of the header")
            answer += data
            if len(answer) > 65536:
                raise Infra("the answer's header is longer than 64 KiB")
    first, *rest = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not words[0].startswith("HTTP/") or not words[1:] or not words[1].isdigit():
        raise Infra(f"no HTTP answer: {first[:80]!r}")
    headers = {line.partition(":")[0].strip().lower(): line.partition(":")[2].strip() for line in rest}
    server = f"server: {headers['server']}" if "server" in headers else ""
    if address := canonical(headers.get("x-seen-from", "")):
        shot.seen["seen_from"] = address
    raise Ended("http", server, status=int(words[1]), answered_by=headers.get("x-agent", ""))
