"""Where a run's time goes: phases, which of them waited for which, and the longest way through them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from cilium_e2e.model import Clock

_HEARTBEAT_S = 15.0
"""How often a phase that says nothing new is told to be still under way, in seconds of the machine's own."""

Say = Callable[[str], None]
"""Tells the user a line."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A finished phase.

    Attributes:
        name: what was done.
        start_s: when it started, in seconds after the timeline did.
        took_s: how long it took, in seconds.
        after: the phases that had to be finished first.
    """

    name: str
    start_s: float
    took_s: float
    after: tuple[str, ...] = ()


class Timeline:
    """Phases of one run; several may be under way at once, each in a thread of its own.

    Args:
        clock: what they are measured with.
        say: told each phase's start, progress and end, one call at a time.
    """

    def __init__(self, clock: Clock, say: Say) -> None:
        self._clock = clock
        self._tell = say
        self._lock = threading.Lock()
        self._start = clock.monotonic()
        self.phases: list[Phase] = []

    @contextmanager
    def phase(self, name: str, *, after: tuple[str, ...] = ()) -> Iterator[Callable[[str], None]]:
        """Measure a block; what it yields tells progress within it, each state once.

        A phase that does not come to its end is told, and stands in no timeline.

        Args:
            name: unique within the timeline.
            after: the phases without which this one could not start.
        """
        start = self._clock.monotonic()
        last = ""

        def progress(state: str) -> None:
            nonlocal last
            if state != last:
                last = state
                self._say(f"  {name}, {self._clock.monotonic() - start:5.1f} s: {state}")

        def heartbeat() -> None:
            while not over.wait(_HEARTBEAT_S):
                waited = self._clock.monotonic() - start
                self._say(f"  {name}, {waited:5.1f} s: still {last or 'under way'}")

        over = threading.Event()
        self._say(f"{name} …")
        threading.Thread(target=heartbeat, daemon=True, name=f"heartbeat {name}").start()
        try:
            yield progress
        except BaseException as error:
            how = "interrupted" if isinstance(error, (KeyboardInterrupt, CancelledError)) else "failed"
            self._say(f"{name}: {how} after {self._clock.monotonic() - start:.1f} s")
            raise
        finally:
            over.set()
        took = self._clock.monotonic() - start
        with self._lock:
            self.phases.append(Phase(name, start - self._start, took, after))
        self._say(f"{name}: {took:.1f} s")

    @property
    def total_s(self) -> float:
        """From the start to the end of the last finished phase."""
        return max((phase.start_s + phase.took_s for phase in self.phases), default=0.0)

    def critical_path(self) -> tuple[list[str], float]:
        """The longest way through the phases by what waited for what, and how long it is, in seconds.

        A run that takes longer than that has waited for nothing.
        """
        known = {phase.name: phase for phase in self.phases}
        ways: dict[str, tuple[float, list[str]]] = {}

        def way(phase: Phase) -> tuple[float, list[str]]:
            """The longest way that ends with a phase."""
            if phase.name not in ways:
                before = (way(known[name]) for name in phase.after if name in known)
                length, names = max(before, default=(0.0, []))
                ways[phase.name] = (length + phase.took_s, [*names, phase.name])
            return ways[phase.name]

        length, names = max((way(phase) for phase in self.phases), default=(0.0, []))
        return names, length

    def lines(self) -> list[str]:
        """The timeline as a small table, with the critical path below it."""
        width = max((len(phase.name) for phase in self.phases), default=0)
        rows = [
            f"{p.name:<{width}}  {p.start_s:6.1f} s + {p.took_s:5.1f} s"
            for p in sorted(self.phases, key=lambda p: p.start_s)
        ]
        rows.append(f"{'total':<{width}}  {self.total_s:17.1f} s")
        way, length = self.critical_path()
        if length:
            ratio = self.total_s / length
            rows.append(f"critical path {length:.1f} s (total is {ratio:.2f} times that): {' → '.join(way)}")
        return rows

    def to_json(self) -> str:
        """Phases, total and critical path as one JSON object, times in seconds."""
        way, length = self.critical_path()
        with self._lock:
            phases = [asdict(phase) for phase in self.phases]
        return json.dumps(
            {"phases": phases, "total_s": self.total_s, "critical_path": way, "critical_path_s": length},
            indent=1,
        )

    def _say(self, line: str) -> None:
        with self._lock:
            self._tell(line)
