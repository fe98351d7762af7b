"""What a lab stands on, in memory: a cluster that answers probes and proofs as the test says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    EndpointProof,
    EnforcementNotProven,
    Flow,
    FlowFilter,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Probe,
    Proof,
    Target,
    TimeWindow,
)
from support.cluster import SmallCluster, ready_pod
from support.memory import MemoryTransport, VirtualClock


def with_pods(*pods: Target) -> SmallCluster:
    """The small cluster, all well, with these pods of the test's own on it."""
    found = SmallCluster()
    for pod in pods:
        found.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": pod.namespace}})
        found.put(ready_pod(pod))
    return found


@dataclass
class LabCluster:
    """Enforces what it is told to, and answers probes as the test says; a batch takes a second.

    Attributes:
        api: its API.
        kind: what comes of each probe.
        kinds: by port, what comes of those that differ.
        detail: what outcomes say beside their kind.
        features: of the release.
        seen: the flows Hubble has, or why it has none.
        unproven: the name of a policy that is never enforced; ``gone`` for policies that stay in force.
        log: proofs and flows asked for.
        reopened: how often a stream was lost.
    """

    api: SmallCluster
    kind: OutcomeKind = OutcomeKind.TIMEOUT
    kinds: dict[int, OutcomeKind] = field(default_factory=dict)
    detail: str = ""
    features: frozenset[str] = frozenset({"hubble-relay"})
    seen: Sequence[Flow] | Exception = ()
    unproven: str = ""
    log: list[tuple[object, ...]] = field(default_factory=list)
    reopened: int = 0

    @property
    def info(self) -> ClusterInfo:
        return ClusterInfo(
            "x", Backend.KIND, "default", (), "cilium/cilium", "cilium", features=self.features
        )

    @property
    def clock(self) -> VirtualClock:
        return self.api.clock

    def prober(self, source: Target) -> LabCluster:
        return self

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        self.clock.sleep(1.0 if batch else 0.0)
        return [self._answer(probe) for probe in batch]

    def _answer(self, probe: Probe) -> Outcome:
        kind = self.kinds.get(probe.port, self.kind)
        by = str(probe.target) if kind is OutcomeKind.CONNECTED else ""
        ends = ("10.0.0.1", 40000, "10.0.0.2")
        return Outcome(probe.id, kind, by, *ends, elapsed_s=0.01, detail=self.detail)

    def prove(
        self,
        policies: Sequence[PolicyRef],
        endpoints: Sequence[str],
        *,
        gone: bool = False,
        absent: Sequence[PolicyRef] = (),
        timeout_s: float = 30.0,
    ) -> Proof:
        names = [policy.name for policy in policies]
        self.log.append(("gone" if gone else "proven", names, timeout_s))
        if self.unproven in (["gone"] if gone else names):
            self.clock.sleep(timeout_s)
            raise EnforcementNotProven(f"not within {timeout_s:g} s: n1 is behind", place=names[0])
        self.api.held = set() if gone else {policy.uid for policy in policies}
        shown = tuple(EndpointProof(name, "n1", 7, frozenset()) for name in endpoints)
        return Proof(tuple(policies), gone, shown, 0.5)

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        self.log.append(("flows", window.start_s, window.end_s))
        if isinstance(self.seen, Exception):
            raise self.seen
        return list(self.seen)


@dataclass
class Agents:
    """A cluster whose agents enforce what they hold at a moment of virtual time; None is never.

    Attributes:
        api: the cluster's API.
        enforced_at: when.
        asked: policies, endpoints and timeout of each proof asked for.
        absent: what was to be absent in each.
    """

    api: MemoryTransport
    enforced_at: float | None = None
    asked: list[tuple[list[PolicyRef], list[str], float]] = field(default_factory=list)
    absent: list[list[PolicyRef]] = field(default_factory=list)

    @property
    def clock(self) -> VirtualClock:
        return self.api.clock

    def prove(
        self,
        policies: Sequence[PolicyRef],
        endpoints: Sequence[str],
        *,
        gone: bool = False,
        absent: Sequence[PolicyRef] = (),
        timeout_s: float = 30.0,
    ) -> Proof:
        assert not gone
        self.absent.append(list(absent))
        self.asked.append((list(policies), list(endpoints), timeout_s))
        start = self.clock.now
        if self.enforced_at is not None and self.enforced_at <= start + timeout_s:
            self.clock.now = max(start, self.enforced_at)
            proofs = tuple(EndpointProof(name, "n1", 4, frozenset()) for name in endpoints)
            return Proof(tuple(policies), gone, proofs, self.clock.now - start)
        self.clock.now += timeout_s
        raise EnforcementNotProven(
            f"not enforced within {timeout_s:g} s: the agent on n1 does not hold it at revision 3",
            place=str(policies[0]),
            hint="Look at the agent's log.",
        )
