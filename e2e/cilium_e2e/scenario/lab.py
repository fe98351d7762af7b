"""What a test works with: probes judged, policies in force, flows found; and all of it kept as evidence."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from cilium_e2e.hubble import Wanted, evidence, explain, find
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    CheckRecord,
    Cluster,
    ClusterStateError,
    Evidence,
    Flow,
    FlowFilter,
    Object,
    PolicyRef,
    Proof,
    Ref,
    Target,
    TimeWindow,
)
from cilium_e2e.scenario.judgement import CONVERGE_S, HOLD_ROUNDS, Check, Judged, Judgement, judge, require
from cilium_e2e.scenario.policies import enforce_all
from cilium_e2e.scenario.workload import remove

ALL_FLOWS = FlowFilter()
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class InForce:
    """Policies on the cluster, in the order given, and the proof that they are enforced."""

    refs: tuple[PolicyRef, ...]
    proof: Proof

    @property
    def ref(self) -> PolicyRef:
        """The first policy, where there is one only."""
        return self.refs[0]


class Lab:
    """A test's place of work. One for each test, over the worker's cluster.

    Args:
        cluster: the cluster under test.
        kube: its API.
        image: the agents' image.
        evidence: what the test leaves behind.
    """

    def __init__(self, cluster: Cluster, kube: Kube, *, image: str, evidence: Evidence | None = None) -> None:
        self.cluster = cluster
        self.kube = kube
        self.image = image
        self.evidence = evidence if evidence is not None else Evidence()
        self.in_force_now: list[InForce] = []
        """What explains a failure; whoever puts policies into force by other means adds to it."""

    def judge(
        self, checks: Sequence[Check], *, converge_s: float = CONVERGE_S, hold: int = HOLD_ROUNDS
    ) -> Judgement:
        """Probe until every check is met, hold, and fail where one is not; see :func:`judge`.

        Before the first probe the flow stream is opened, so that flows can be asked for afterwards.

        Raises:
            AssertionError: one was not met; each with the policies in force and the flows of its probe.
        """
        judgement = self.observe(checks, converge_s=converge_s, hold=hold)
        if judgement.failures:
            seen = self.seen(judgement)
            require(judgement, explain=lambda entry: self.explain(entry, seen))
        return judgement

    def observe(
        self,
        checks: Sequence[Check],
        *,
        converge_s: float = CONVERGE_S,
        hold: int = HOLD_ROUNDS,
        oracle: Mapping[str, str] = _NOTHING,
    ) -> Judgement:
        """Probe as :meth:`judge` does and keep the evidence, but leave it to the caller to fail.

        Args:
            checks: the probes.
            converge_s: how long they may take to come out as expected, in seconds.
            hold: how many further rounds they must.
            oracle: probe id to what the oracle says of it.
        """
        judgement = judge(self.cluster, checks, converge_s=converge_s, hold=hold)
        self.evidence.checks += [
            CheckRecord(
                entry.check.probe,
                str(entry.check.expected),
                entry.check.answered_by,
                entry.outcome,
                entry.met,
                entry.flaps,
                judgement.converged_s,
                oracle.get(entry.check.probe.id, ""),
            )
            for entry in judgement.judged
        ]
        return judgement

    @contextmanager
    def in_force(
        self, policies: Sequence[Object], endpoints: Sequence[Target | str], *, timeout_s: float = 30.0
    ) -> Iterator[InForce]:
        """Policies applied and proven enforced for a block; removed, and proven gone, at its end.

        Args:
            policies: the objects, in their final namespaces (:func:`isolate`).
            endpoints: the pods that must enforce them.
            timeout_s: how long each proof may take, in seconds.

        Raises:
            PolicyError: the API server or Cilium refuses one.
            EnforcementNotProven: not enforced, or at the end not gone, in time.
        """
        names = [str(endpoint) for endpoint in endpoints]
        try:
            refs, proof = enforce_all(self.cluster, self.kube, policies, names, timeout_s)
            held = InForce(tuple(refs), proof)
            self.evidence.proofs.append(proof)
            self.in_force_now.append(held)
            try:
                yield held
            finally:
                self.in_force_now.remove(held)
        finally:
            for policy in policies:
                remove(self.kube, Ref.of(policy))
        self.evidence.proofs.append(self.cluster.prove(refs, names, gone=True, timeout_s=timeout_s))

    def flows(self, judgement: Judgement, filter: FlowFilter = ALL_FLOWS) -> list[Flow]:  # noqa: A002 - Hubble's word
        """All flows from the judgement's start until now, none of them late or lost.

        Raises:
            FlowsLost, StreamLost, WaitTimeout: their absence would mean nothing.
        """
        return self.cluster.flows(self._window(judgement), filter)

    def flow(
        self,
        judgement: Judgement,
        probe_id: str,
        wanted: Wanted,
        *,
        flows: Sequence[Flow] | None = None,
        aliases: Collection[str] = (),
        destinations: Collection[str] = (),
    ) -> Flow:
        """The flow of one judged probe that is wanted.

        Args:
            judgement: in which the probe was judged.
            probe_id: which one.
            wanted: what the flow must show.
            flows: from :meth:`flows`, where several probes are looked up; asked for when None.
            aliases: further addresses the source may be seen under (masquerading).
            destinations: addresses the target may be seen under (a Service's backends).

        Raises:
            AssertionError: no such flow; the message names the nearest and what is different about them.
        """
        entry = next(one for one in judgement.judged if one.check.probe.id == probe_id)
        seen = self.flows(judgement) if flows is None else flows
        probe, outcome = entry.check.probe, entry.outcome
        mine = evidence(seen, outcome, probe, aliases=aliases, destinations=destinations)
        found = find(mine, wanted)
        if found is None:
            raise AssertionError(
                explain(wanted, seen, outcome, probe, aliases=aliases, destinations=destinations)
            )
        self.evidence.flows.append(found)
        return found

    def _window(self, judgement: Judgement) -> TimeWindow:
        # The nodes of a kind cluster share this machine's clock, so the window needs no slack.
        return TimeWindow(judgement.started_s, self.cluster.clock.time())

    def seen(self, judgement: Judgement) -> list[Flow] | str:
        """Flows that explain a failure, or why there are none: that must not hide the failure itself."""
        if "hubble-relay" not in self.cluster.info.features:
            return "no flows: the release has no Hubble relay"
        try:
            return self.flows(judgement)
        except ClusterStateError as error:
            return f"no flows: {error}"

    def explain(self, entry: Judged, seen: list[Flow] | str) -> str:
        """The policies in force and the flows of a probe, a line each; ``seen`` is from :meth:`seen`."""
        lines = [str(held.proof) for held in self.in_force_now]
        if isinstance(seen, str):
            return "\n".join([*lines, seen])
        mine = evidence(seen, entry.outcome, entry.check.probe)
        self.evidence.flows += mine
        lines += [f"flow: {flow}" for flow in mine[-_MOST_FLOWS:]]
        return "\n".join(
            lines if mine else [*lines, f"no flow of this probe among the {len(seen)} of its time"]
        )


_MOST_FLOWS = 6
