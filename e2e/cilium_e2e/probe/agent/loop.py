"""A scheduler of coroutines that wait for sockets, and for nothing else.

An agent is started for every pod that is probed and again for every stream to it, on machines that have
little to spare: asyncio alone takes as long to import as all the rest, and as long for each wait as the
system calls around it.
"""

from __future__ import annotations

import heapq
import select
import sys
import time
import types
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing it costs as much as a batch does
    import socket
    from collections.abc import Coroutine, Generator
    from typing import Any

    Wait = tuple[int, int, float | None]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT
_AT_ONCE = 16
"""How many coroutines begin before sockets are looked at again, so that answers do not wait for all to."""


@types.coroutine
def ready_fd(fd: int, deadline: float | None, events: int) -> Generator[Wait, None, bool]:
    """Wait until a descriptor is ready for one of these events or the deadline has passed; whether it has.

    Only one coroutine may wait for a descriptor at a time.
    """
    yield fd, events, deadline
    return deadline is not None and time.monotonic() >= deadline


async def ready(sock: socket.socket, deadline: float | None = None, *, write: bool = False) -> bool:
    """Like :func:`ready_fd`, of a socket: for reading, or with ``write`` for writing."""
    return await ready_fd(sock.fileno(), deadline, WRITE if write else READ)


class Loop:
    """Runs coroutines until none is left. What one raises ends the loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._new: deque[Coroutine[Wait, None, None]] = deque()
        self._waiting: dict[int, tuple[int, Coroutine[Wait, None, None]]] = {}
        self._timers: list[tuple[float, int, int]] = []
        self._number = 0

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Begin it soon."""
        self._new.append(coroutine)

    def run(self) -> None:
        """Return when every coroutine has ended."""
        while self._new or self._waiting:
            for _ in range(min(_AT_ONCE, len(self._new))):
                self._advance(self._new.popleft())
            if not self._waiting:
                continue
            for fd, _ in self._epoll.poll(0 if self._new else self._patience()):
                self._wake(fd)
            now = time.monotonic()
            while self._timers and self._timers[0][0] <= now:
                _, number, fd = heapq.heappop(self._timers)
                if fd in self._waiting and self._waiting[fd][0] == number:
                    self._wake(fd)

    def _patience(self) -> float:
        """Seconds until the next deadline, be it of a wait that is over; -1 for none."""
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _wake(self, fd: int) -> None:
        waiting = self._waiting.pop(fd, None)
        if waiting is not None:
            self._epoll.unregister(fd)
            self._advance(waiting[1])

    def _advance(self, coroutine: Coroutine[Wait, None, None]) -> None:
        """Let it go on to its next wait."""
        failure: OSError | None = None
        while True:
            try:
                fd, events, deadline = coroutine.throw(failure) if failure else coroutine.send(None)
            except StopIteration:
                return
            failure = None
            try:
                self._epoll.register(fd, events)
            except PermissionError:
                continue  # a plain file, which is always ready
            except OSError as error:
                failure = error  # whoever waits is told, and nobody else
                continue
            self._number += 1
            self._waiting[fd] = (self._number, coroutine)
            if deadline is not None:
                heapq.heappush(self._timers, (deadline, self._number, fd))
            return


def complain(error: BaseException) -> None:
    """Tell whoever reads the container's log."""
    print(f"cilium-e2e agent: {error!r}", file=sys.stderr, flush=True)  # noqa: T201 - its log
