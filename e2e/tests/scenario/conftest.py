"""A scripted cluster with a virtual clock, and an API in memory."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    EventType,
    KubeError,
    Object,
    ObjectList,
    Outcome,
    Probe,
    Ref,
    Target,
    WatchEvent,
)


class VirtualClock:
    """Time passes only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now + 1_700_000_000

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class ScriptedCluster:
    """Answers each round of probes as ``answer(round, probe)`` says; a round takes ``round_s``."""

    answer: Callable[[int, Probe], Outcome]
    round_s: float = 1.0
    clock: VirtualClock = field(default_factory=VirtualClock)
    batches: list[tuple[Target, list[str]]] = field(default_factory=list)
    proven: list[tuple[tuple, list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rounds: dict[Target, int] = {}
        self._lock = threading.Lock()

    def prober(self, source: Target) -> ScriptedProber:
        return ScriptedProber(self, source)

    def prove(self, policies, endpoints, *, gone=False, timeout_s=30.0) -> None:
        self.proven.append((tuple(policies), list(endpoints)))


@dataclass
class ScriptedProber:
    cluster: ScriptedCluster
    source: Target

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        with self.cluster._lock:
            number = self.cluster.rounds.get(self.source, 0)
            self.cluster.rounds[self.source] = number + 1
            self.cluster.batches.append((self.source, [probe.id for probe in batch]))
            self.cluster.clock.sleep(self.cluster.round_s)
        return [self.cluster.answer(number, probe) for probe in batch]


class MemoryTransport:
    """As much of an API server as workloads ask for: apply, list, delete, and watches that end at once.

    ``react`` is called with the transport before each list: the controllers of this cluster.
    """

    def __init__(self, clock: VirtualClock, react: Callable[[MemoryTransport], None]) -> None:
        self.objects: dict[Ref, Object] = {}
        self.applied: list[Ref] = []
        self.deleted: list[Ref] = []
        self.version = 0
        self._clock = clock
        self._react = react

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        ref = Ref.of(obj)
        self.applied.append(ref)
        self.objects[ref] = copy.deepcopy(obj)
        return self.objects[ref]

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        if ref not in self.objects:
            raise KubeError(404, "NotFound", "not found", place=str(ref))
        self.deleted.append(ref)

    def list(self, ref: Ref, *, label_selector: str = "", field_selector: str = "") -> ObjectList:
        self._react(self)
        name = field_selector.removeprefix("metadata.name=")
        self.version += 1
        items = [
            obj
            for key, obj in self.objects.items()
            if (key.kind, key.namespace) == (ref.kind, ref.namespace) and name in ("", key.name)
        ]
        return ObjectList(copy.deepcopy(items), str(self.version))

    def watch(self, ref, *, resource_version, timeout_s, label_selector="", field_selector=""):
        self._clock.sleep(1.0)
        no_events: Iterator[WatchEvent] = iter([WatchEvent(EventType.BOOKMARK, {})])
        return no_events


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def scripted() -> type[ScriptedCluster]:
    return ScriptedCluster


@pytest.fixture
def api(clock) -> Callable[..., Kube]:
    """A façade over an API in memory whose controllers are a function."""

    def make(react: Callable[[MemoryTransport], None] = lambda _: None) -> Kube:
        return Kube(MemoryTransport(clock, react), clock=clock)  # type: ignore[arg-type]

    return make
