"""A scripted cluster with a virtual clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from cilium_e2e.model import Outcome, Probe, Target
from support.cluster import WallClock


@dataclass
class ScriptedCluster:
    """Answers each round of probes as ``answer(round, probe)`` says; a round takes ``round_s``."""

    answer: Callable[[int, Probe], Outcome]
    round_s: float = 1.0
    clock: WallClock = field(default_factory=WallClock)
    batches: list[tuple[Target, list[str]]] = field(default_factory=list)
    proven: list[tuple[tuple, list[str]]] = field(default_factory=list)
    awake: list[Target] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rounds: dict[Target, int] = {}
        self._lock = threading.Lock()

    def prober(self, source: Target) -> ScriptedProber:
        return ScriptedProber(self, source)

    def prove(self, policies, endpoints, *, gone=False, absent=(), timeout_s=30.0) -> None:
        self.proven.append((tuple(policies), list(endpoints)))


@dataclass
class ScriptedProber:
    cluster: ScriptedCluster
    source: Target

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        if not batch:
            self.cluster.awake.append(self.source)  # its agent runs from now on
            return []
        with self.cluster._lock:
            number = self.cluster.rounds.get(self.source, 0)
            self.cluster.rounds[self.source] = number + 1
            self.cluster.batches.append((self.source, [probe.id for probe in batch]))
            self.cluster.clock.sleep(self.cluster.round_s)
        return [self.cluster.answer(number, probe) for probe in batch]


@pytest.fixture
def scripted() -> type[ScriptedCluster]:
    return ScriptedCluster
