"""Virtual time: it passes only when somebody sleeps or waits, and then at once.

One lock guards the whole simulated cluster. Whoever waits for a state runs the events that are due next,
in the order of their times, until the state is there; time is then where the last of these events was.
Threads share the clock: it never goes back, and nobody skips an event. Where a wait can only end by its time
limit because nothing is scheduled any more, it first gives other threads a moment of real time to act.
"""

from __future__ import annotations

import datetime as dt
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import TypeVar

START_S = 1_767_225_600.0
"""Where virtual time starts: 2026-01-01T00:00:00Z, so that two runs show the same times."""

_GRACE_S = 0.03
"""Real seconds that other threads get to act before a wait is given up."""

_COURTESY_S = 0.0005
"""Real seconds in which threads that start together may all begin, before time passes for one of them."""

_HARD_LIMIT = 200_000

T = TypeVar("T")


class VirtualClock:
    """A :class:`~cilium_e2e.model.Clock` over a queue of events."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._activity = 0

    def monotonic(self) -> float:
        """Virtual seconds since the cluster was made."""
        with self.lock:
            return self._now

    def time(self) -> float:
        """Virtual seconds since the epoch."""
        with self.lock:
            return START_S + self._now

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass, and everything happen that is due meanwhile."""
        with self.lock:
            self._advance(self._now + max(seconds, 0.0))
            self.wake()

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Have something happen later; actions run with the lock held, by whoever lets time pass."""
        with self.lock:
            due = self._now + max(delay_s, 0.0)
            heapq.heappush(self._events, (due, next(self._numbers), action))

    def wake(self) -> None:
        """Tell those who wait that something has changed."""
        with self.lock:
            self._activity += 1
            self._changed.notify_all()

    def wait(self, look: Callable[[], T | None], *, end_s: float) -> T | None:
        """Wait until ``look`` has something to tell; None when ``end_s`` (monotonic) comes first."""
        with self.lock:
            for _ in range(_HARD_LIMIT):
                if (found := look()) is not None:
                    return found
                if self._now >= end_s:
                    return None
                if self._events and self._events[0][0] <= end_s:
                    self._advance(self._events[0][0])
                    continue
                before = self._activity
                if threading.active_count() > 1:
                    self._changed.wait(_GRACE_S)
                if before == self._activity and not (self._events and self._events[0][0] <= end_s):
                    self._advance(end_s)
            raise RuntimeError("the simulated cluster does not come to rest")

    def courtesy(self) -> None:
        """Let threads that have been started together act before time passes for this one."""
        if threading.active_count() > 1:
            with self.lock:
                before = -1
                while before != self._activity:
                    before = self._activity
                    self._changed.wait(_COURTESY_S)

    def stamp(self) -> str:
        """The time as Kubernetes writes it, in whole seconds."""
        when = dt.datetime.fromtimestamp(self.time(), tz=dt.UTC)
        return when.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _advance(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            due, _, action = heapq.heappop(self._events)
            self._now = max(self._now, due)
            action()
        self._now = max(self._now, until)
