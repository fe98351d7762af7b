"""What a test works with: probes judged, policies in force, flows found; and all of it kept as evidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.diagnosis import Suspects, diagnose
from cilium_e2e.cluster.symptoms import policies as policy_troubles
from cilium_e2e.hubble import Wanted, evidence, explain, find
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    CheckRecord,
    Cluster,
    ClusterStateError,
    EnforcementNotProven,
    Evidence,
    Flow,
    FlowFilter,
    FlowsLost,
    Object,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Proof,
    Protocol,
    Ref,
    StreamLost,
    Target,
    TargetKind,
    TimeWindow,
)
from cilium_e2e.scenario.judgement import CONVERGE_S, HOLD_ROUNDS, Check, Judged, Judgement, judge, require
from cilium_e2e.scenario.policies import enforce_all
from cilium_e2e.scenario.seen import Seen
from cilium_e2e.scenario.workload import remove

ALL_FLOWS = FlowFilter()
ATTEMPTS = 3
"""How often the same is asked where Hubble loses flows of it."""
LATE_S = 3.0
"""How much later than its probe a flow may be stamped by an agent that is busy, in seconds."""
_LOOK_AGAIN_S = 0.5


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
        on_failure: called with what ends a block with policies in force early, before they are removed.
        follow: opens the flow stream, and says why it could not; None where it is open from the start.
    """

    def __init__(
        self,
        cluster: Cluster,
        kube: Kube,
        *,
        image: str,
        evidence: Evidence | None = None,
        on_failure: Callable[[BaseException], None] = lambda _: None,
        follow: Callable[[], str] | None = None,
    ) -> None:
        self.cluster = cluster
        self.kube = kube
        self.image = image
        self.evidence = evidence if evidence is not None else Evidence()
        self._on_failure = on_failure
        self.follow = follow
        self.in_force_now: list[InForce] = []
        """What explains a failure; whoever puts policies into force by other means adds to it."""
        self._since_s = cluster.clock.time()

    def judge(
        self,
        checks: Sequence[Check],
        *,
        converge_s: float = CONVERGE_S,
        hold: int = HOLD_ROUNDS,
        oracle: Mapping[str, str] = MappingProxyType({}),
    ) -> Judgement:
        """Probe until every check is met, hold, and fail where one is not; see :func:`judge`.

        Flows can be asked for afterwards if the flow stream was open before; the fixture ``lab`` opens it.
        ``oracle`` is what the oracle says, by probe id: for the records, and for whoever reads a failure.

        Raises:
            AssertionError: one was not met; each with the policies in force and the flows of its probe, and
                first of all what is wrong with the cluster.
            EnforcementNotProven: all were met, but a policy believed in force was not there any more, so that
                this proves nothing.
        """
        judgement = self.observe(checks, converge_s=converge_s, hold=hold, oracle=oracle)
        if judgement.failures:
            # The cluster first, as it is now; flows may take long to be had.
            causes = self.causes(judgement.failures)
            seen = self.seen(judgement)
            require(judgement, explain=lambda entry: self.explain(entry, seen, oracle), causes=causes)
        self.still_in_force()
        return judgement

    def observe(
        self,
        checks: Sequence[Check],
        *,
        converge_s: float = CONVERGE_S,
        hold: int = HOLD_ROUNDS,
        oracle: Mapping[str, str] = MappingProxyType({}),
    ) -> Judgement:
        """Probe as :meth:`judge` does and keep the evidence, but leave it to the caller to fail."""
        sources = {check.probe.source for check in checks}
        before = {source: self._reopened(source) for source in sources}
        judgement = judge(self.cluster, checks, converge_s=converge_s, hold=hold)
        if lost := [
            f"{s}: {n} times" for s in sorted(sources, key=str) if (n := self._reopened(s) - before[s])
        ]:
            # Survived, but not hidden.
            self.evidence.notes["streams lost and opened anew"] = ", ".join(lost)
        self.evidence.checks += [
            CheckRecord(
                entry.check.probe,
                str(entry.check.expected),
                entry.check.answered_by,
                entry.outcome,
                entry.met,
                entry.flaps,
                judgement.converged_s,
                oracle=oracle.get(entry.check.probe.id, ""),
                met_after_s=entry.converged_s,
                lost_in=entry.lost_in,
                rounds=entry.asked,
            )
            for entry in judgement.judged
        ]
        return judgement

    def causes(self, failures: Sequence[Judged] = (), *, flows: bool = False) -> list[str]:
        """What is wrong with the cluster just now, in words, most likely cause first; also kept as evidence.

        Args:
            failures: checks that were not met, which say what to look at.
            flows: whether it is flows that could not be had.
        """
        probes = [entry.check.probe for entry in failures]
        ends = [end for probe in probes for end in (probe.source, probe.target)]
        suspects = Suspects(
            self._since_s,
            self._believed(),
            frozenset(str(end) for end in ends if end.kind is TargetKind.POD),
            tuple(e.outcome.detail for e in failures if e.outcome.kind is OutcomeKind.INFRA_ERROR),
            flows,
            any(end.kind is TargetKind.DNS for end in ends)
            or any(p.protocol is Protocol.DNS for p in probes),
        )
        agents = CiliumAgents(self.kube, self.cluster.info.cilium_namespace)
        lines = diagnose(self.kube, agents, suspects).lines()
        self.evidence.notes["diagnosis"] = "\n".join(lines)
        return lines

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
            with self._explained():
                refs, proof = enforce_all(self.cluster, self.kube, policies, names, timeout_s)
            held = InForce(tuple(refs), proof)
            self.evidence.proofs.append(proof)
            self.in_force_now.append(held)
            try:
                yield held
            finally:
                self.in_force_now.remove(held)
        except BaseException as error:
            self._on_failure(error)
            raise
        finally:
            for policy in policies:
                remove(self.kube, Ref.of(policy))
        with self._explained():
            gone = self.cluster.prove(refs, names, gone=True, timeout_s=timeout_s)
        self.evidence.proofs.append(gone)

    def flows(self, judgement: Judgement, filter: FlowFilter = ALL_FLOWS) -> list[Flow]:  # noqa: A002 - Hubble's word
        """All flows from the judgement's start until now, none of them late or lost.

        Raises:
            FlowsLost, StreamLost, WaitTimeout: their absence would mean nothing.
        """
        with self._explained(flows=True):
            return self.cluster.flows(self._window(judgement), filter)

    def witness(
        self,
        checks: Sequence[Check],
        filter: FlowFilter = ALL_FLOWS,  # noqa: A002 - Hubble's word
        *,
        hold: int = HOLD_ROUNDS,
        oracle: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[Judgement, list[Flow]]:
        """Judge, and get all flows of it. Where Hubble lost some, the same is asked again, and that is told.

        A loss says that a node was busy, or its ring small; of the network it says nothing.

        Raises:
            AssertionError: see :meth:`judge`.
            FlowsLost, StreamLost: every time.
            WaitTimeout: see :meth:`flows`.
        """
        return self.seen_whole(lambda: self.judge(checks, hold=hold, oracle=oracle), filter)

    def seen_whole(
        self,
        judging: Callable[[], Judgement],
        filter: FlowFilter = ALL_FLOWS,  # noqa: A002 - Hubble's word
        *,
        what: str = "",
    ) -> tuple[Judgement, list[Flow]]:
        """Have it judged, and get all flows of that; again where Hubble lost some, see :meth:`witness`.

        Args:
            judging: asks and judges; what it raises ends this.
            filter: which flows.
            what: what was judged, where a test judges several things.
        """
        note = f"{what}: flows lost" if what else "flows lost"
        for attempt in range(1, ATTEMPTS + 1):
            judgement = judging()
            try:
                return judgement, self.cluster.flows(self._window(judgement), filter)
            except (FlowsLost, StreamLost) as error:
                self.evidence.notes[f"{note}, attempt {attempt}"] = str(error)
        return judgement, self.flows(judgement, filter)

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

        An agent stamps its events when it reads them, so that a busy one stamps them late, after the window
        that was asked for. What is missing is therefore looked for in later windows too, for a while.

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
        probe, outcome = entry.check.probe, entry.outcome
        deadline = self.cluster.clock.monotonic() + LATE_S
        seen = self.flows(judgement) if flows is None else flows
        while True:
            mine = evidence(seen, outcome, probe, aliases=aliases, destinations=destinations)
            if (found := find(mine, wanted)) is not None:
                break
            if self.cluster.clock.monotonic() >= deadline:
                raise AssertionError(
                    explain(wanted, seen, outcome, probe, aliases=aliases, destinations=destinations)
                )
            self.cluster.clock.sleep(_LOOK_AGAIN_S)
            seen = self.flows(judgement)
        self.evidence.flows.append(found)
        return found

    def _window(self, judgement: Judgement) -> TimeWindow:
        # The nodes of a kind cluster share this machine's clock, so the window needs no slack.
        return TimeWindow(judgement.started_s, self.cluster.clock.time())

    def failed(self, error: BaseException) -> None:
        """Have the cluster's state captured: to be called before anything of it is undone."""
        self._on_failure(error)

    def seen(self, judgement: Judgement) -> Seen:
        """Flows that explain failures, or why there are none: that must not hide the failures themselves.

        Where no flow stream was open, what failed is asked once more with one; the first outcome stands.
        """
        if "hubble-relay" not in self.cluster.info.features:
            return Seen(lack="no flows: the release has no Hubble relay")
        outcomes: dict[str, Outcome] = {}
        try:
            if self.follow is None:
                return Seen(self.cluster.flows(self._window(judgement), ALL_FLOWS))
            if why := self.follow():
                return Seen(lack=why)
            checks = [entry.check for entry in judgement.failures]
            again = judge(self.cluster, checks, converge_s=0.0, hold=0)
            outcomes = {entry.check.probe.id: entry.outcome for entry in again.judged}
            return Seen(self.cluster.flows(self._window(again), ALL_FLOWS), again=outcomes)
        except ClusterStateError as error:
            return Seen(lack=f"no flows: {error}", again=outcomes)

    @contextmanager
    def _explained(self, *, flows: bool = False) -> Iterator[None]:
        """Put the likely causes into the message of an error of the cluster's."""
        try:
            yield
        except ClusterStateError as error:
            error.message = "\n  ".join([error.message, *self.causes(flows=flows)])
            raise

    def _reopened(self, source: Target) -> int:
        """How often a source's stream was lost and opened anew; 0 where its prober has no stream."""
        return int(getattr(self.cluster.prober(source), "reopened", 0))

    def _believed(self) -> tuple[PolicyRef, ...]:
        """The policies in force; of one that was changed in an inner block, the change."""
        return tuple({ref.uid: ref for held in self.in_force_now for ref in held.refs}.values())

    def still_in_force(self) -> None:
        """Raise when a policy believed in force is not there as it was: what was judged proves nothing."""
        believed = self._believed()
        if not believed:
            return
        wrong = self.kube.retry(lambda: policy_troubles(self.kube.transport, believed, refused=False))
        if wrong:
            self.evidence.notes["diagnosis"] = "\n".join(map(str, wrong))
            raise EnforcementNotProven(
                f"all probes came out as expected, but not under the policies: {'; '.join(map(str, wrong))}",
                place=", ".join(map(str, believed)),
                hint="Inside of in_force, only leaving the block removes its policies.",
            )

    def explain(self, entry: Judged, seen: Seen, oracle: Mapping[str, str] = MappingProxyType({})) -> str:
        """The policies in force, the oracle's word and the flows of a probe, a line each.

        Args:
            entry: the check.
            seen: from :meth:`seen`.
            oracle: probe id to what the oracle says.
        """
        lines = [str(held.proof) for held in self.in_force_now]
        if saying := oracle.get(entry.check.probe.id):
            lines.append(f"the oracle says {saying}")
        mine = seen.of(entry)
        self.evidence.flows += mine
        return "\n".join([*lines, *seen.lines(entry, mine)])
