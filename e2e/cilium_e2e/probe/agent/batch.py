"""Batches of probes over standard input and output.

A probe that was itself not scheduled for long after its deadline is an ``infra_error``: silence that
nobody listened to is no denial.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from collections import deque

from . import CONCURRENT, VERSION
from .loop import READ, WRITE, Loop, ready_fd
from .names import dns
from .probes import http, icmp, sctp, stream, udp
from .shot import Ended, Infra, Shot

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs as much as a batch does
    from typing import Any

STDIN, STDOUT = 0, 1
CHUNK = 4096
"""As much as a pipe that is ready takes without blocking, on Linux."""
STARVED_S = 1.0

KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ENOPROTOOPT: "unreachable",
    errno.EACCES: "unreachable",
    errno.EPERM: "unreachable",
}

PROBES = {"tcp": stream, "sctp": sctp, "udp": udp, "icmp": icmp, "http": http, "dns": dns}


async def probe(spec: dict[str, Any]) -> dict[str, Any]:
    """Make one probe; every way it can end is an outcome."""
    report: dict[str, Any] = {"kind": "infra_error"}
    try:
        shot = Shot(spec)
        run = PROBES[spec["protocol"]]
    except (KeyError, TypeError, ValueError) as error:
        return {**report, "detail": f"malformed probe: {error!r}"}
    try:
        await run(shot)
    except Ended as end:
        report = end.report
    except OSError as error:  # TimeoutError is one, without a number
        kind = "timeout" if isinstance(error, TimeoutError) else KINDS.get(error.errno or 0, "infra_error")
        report = {"kind": kind, "detail": error.strerror or str(error)}
    except Exception as error:  # noqa: BLE001 - whatever it is, the other probes have outcomes
        report["detail"] = str(error) if isinstance(error, Infra) else repr(error)
    late_s = time.monotonic() - shot.deadline
    if report["kind"] == "timeout" and late_s > STARVED_S:
        report = {"kind": "infra_error", "detail": f"not scheduled for {late_s:.1f} s after the deadline"}
    return {
        "elapsed_s": round(shot.elapsed(), 6),
        **shot.seen,
        **{k: v for k, v in report.items() if v != ""},
    }


class Batches:
    """Batches under way; several may be, and all their probes share one limit.

    Args:
        name: the agent's.
        concurrent: how many probes are under way at once.
    """

    def __init__(self, name: str, *, concurrent: int = CONCURRENT) -> None:
        self._name = name
        self._loop = Loop()
        self._free = concurrent
        self._queue: deque[tuple[_Batch, int]] = deque()
        self._output: deque[bytes] = deque()
        self._writing = False

    def once(self, line: bytes) -> None:
        """Answer one line."""
        self._take(line)
        self._loop.run()

    def serve(self) -> None:
        """Read batches until standard input ends, and answer all of them."""
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        hello = {"v": VERSION, "hello": self._name, "python": ".".join(map(str, sys.version_info[:3]))}
        self._tell(hello)
        self._loop.spawn(self._read())
        self._loop.run()

    async def _read(self) -> None:
        rest = b""
        while True:
            await ready_fd(STDIN, None, READ)
            data = os.read(STDIN, 65536)
            *lines, rest = (rest + data).split(b"\n") if data else (rest, b"")
            for line in filter(None, lines):
                self._take(line)
            if not data:
                return

    def _take(self, line: bytes) -> None:
        """Begin a line's probes; tell where it is no batch."""
        head: dict[str, Any] = {"v": VERSION, "agent": self._name, "id": None}
        try:
            message = json.loads(line)
            head["id"] = message["id"]
            if message["v"] != VERSION:
                error = f"this agent speaks version {VERSION}, not {message['v']}"
                self._tell({**head, "error": error})
                return
            found = _Batch(head, list(message["probes"]))
        except (ValueError, KeyError, TypeError) as error:
            self._tell({**head, "error": f"malformed batch: {error!r}"})
            return
        if not found.probes:
            self._tell(found.answer())
            return
        self._queue.extend((found, place) for place in range(len(found.probes)))
        self._begin()

    def _tell(self, message: dict[str, Any]) -> None:
        """Have a line written; whoever reads input does not wait for that."""
        self._loop.spawn(self._say(message))

    def _begin(self) -> None:
        while self._queue and self._free:
            self._free -= 1
            self._loop.spawn(self._one(*self._queue.popleft()))

    async def _one(self, batch: _Batch, place: int) -> None:
        batch.outcomes[place] = await probe(batch.probes[place])
        batch.left -= 1
        self._free += 1
        self._begin()
        if not batch.left:
            await self._say(batch.answer())

    async def _say(self, message: dict[str, Any]) -> None:
        """Write a line; a slow reader at the other end does not stop the clocks of running probes."""
        self._output.append(json.dumps(message).encode() + b"\n")
        if self._writing:
            return
        self._writing = True
        while self._output:
            line = self._output.popleft()
            for start in range(0, len(line), CHUNK):
                chunk = line[start : start + CHUNK]
                while chunk:
                    await ready_fd(STDOUT, None, WRITE)
                    try:
                        chunk = chunk[os.write(STDOUT, chunk) :]
                    except OSError:
                        os._exit(1)  # nobody is left to read what else there may be
        self._writing = False


class _Batch:
    """The probes of one line, and their outcomes in order."""

    def __init__(self, head: dict[str, Any], probes: list[dict[str, Any]]) -> None:
        self.head = head
        self.probes = probes
        self.left = len(probes)
        self.outcomes: list[dict[str, Any] | None] = [None] * self.left

    def answer(self) -> dict[str, Any]:
        """The line that tells them."""
        return {**self.head, "outcomes": self.outcomes}
