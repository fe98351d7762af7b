"""Where a run's time goes: named phases, told as they happen and summed up at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cilium_e2e.model import Clock

Say = Callable[[str], None]
"""Tells the user a line."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A finished phase: when it started, in seconds after the timeline did, and how long it took."""

    name: str
    start_s: float
    took_s: float


class Timeline:
    """Phases of one run.

    Args:
        clock: what they are measured with.
        say: told each phase's start, progress and end.
    """

    def __init__(self, clock: Clock, say: Say) -> None:
        self._clock = clock
        self._say = say
        self._start = clock.monotonic()
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[Callable[[str], None]]:
        """Measure a block; what it yields tells progress within it, each state once.

        A phase that does not come to its end is told, and stands in no timeline.
        """
        start = self._clock.monotonic()
        last = ""

        def progress(state: str) -> None:
            nonlocal last
            if state != last:
                last = state
                self._say(f"  {name}, {self._clock.monotonic() - start:5.1f} s: {state}")

        self._say(f"{name} …")
        try:
            yield progress
        except BaseException as error:
            how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._say(f"{name}: {how} after {self._clock.monotonic() - start:.1f} s")
            raise
        took = self._clock.monotonic() - start
        self.phases.append(Phase(name, start - self._start, took))
        self._say(f"{name}: {took:.1f} s")

    def lines(self) -> list[str]:
        """The timeline as a small table."""
        total = self._clock.monotonic() - self._start
        width = max((len(phase.name) for phase in self.phases), default=0)
        rows = [f"{p.name:<{width}}  {p.start_s:6.1f} s + {p.took_s:5.1f} s" for p in self.phases]
        return [*rows, f"{'total':<{width}}  {total:16.1f} s"]
