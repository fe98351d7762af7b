"""One case from its positive control to the last flow, and everything it is compared with."""

from __future__ import annotations

from collections.abc import Sequence

from cilium_e2e.hubble.matching import POLICY_VERDICT, Wanted
from cilium_e2e.model import (
    Direction,
    Flow,
    FlowVerdict,
    Object,
    PolicyRef,
    Protocol,
    Target,
    TargetKind,
)
from cilium_e2e.scenario import Judgement, Lab, OracleView, Saying, live_policies, live_world
from cilium_e2e.suites.policy.cases import Case, FlowWish
from cilium_e2e.suites.policy.stage import Bound, Stage

HOLD = 0
"""Rounds beyond the one that met everything: enforcement is proven before it, and the flows of its very
probes show that policy made the outcomes, so that luck has no part in them."""

# Hubble looks policies up by port; for a ping it names none.
_UNNAMED = {Protocol.ICMP}


def run_case(lab: Lab, stage: Stage, case: Case) -> None:
    """Prove a case: control, policies in force, outcomes, the oracle's word, flows.

    Raises:
        AssertionError: an outcome, the oracle or a flow contradicts the case.
    """
    rows = stage.rows(case)
    control(lab, rows)
    policies = stage.policies(case)
    with lab.in_force(policies, stage.pods) as held:
        world = live_world(lab.cluster, lab.kube, dns_names=stage.dns_names(case))
        view = OracleView(world, live_policies(lab.kube))
        sayings = {row.id: view.says(row.check.probe) for row in rows}
        words = {probe: saying.words for probe, saying in sayings.items()}
        judgement, flows = lab.witness([row.check for row in rows], hold=HOLD, oracle=words)
        refs = dict(zip((_written(policy, stage) for policy in policies), held.refs, strict=True))
        wrong = contradictions(rows, sayings, judgement)
        wrong += [
            text
            for row in rows
            for wanted, node in wanted_flows(row, sayings[row.id], stage, refs)
            if (text := _missing(lab, judgement, row, wanted, node, flows))
        ]
    if wrong:
        raise AssertionError("\n".join([f"{case.name} ({case.file}):", *(f"  {text}" for text in wrong)]))


def control(lab: Lab, rows: Sequence[Bound]) -> None:
    """Without the case's policies, all that they are to stop gets through; else a denial means nothing.

    Raises:
        AssertionError: no positive control.
    """
    try:
        lab.judge([row.control() for row in rows if row.row.denial], hold=0)
    except AssertionError as error:
        raise AssertionError(f"no positive control, before any policy of the case: {error}") from None


def contradictions(rows: Sequence[Bound], sayings: dict[str, Saying], judgement: Judgement) -> list[str]:
    """Where the case and the oracle differ, one line each; what was seen stands beside."""
    found = []
    for row in rows:
        saying, probe, flow = sayings[row.id], row.check.probe, row.row.flow
        seen = judgement.outcome(probe.id)
        if not saying.agrees(row.check.expected):
            found.append(
                f"{probe.id}: the case expects {row.check.expected}, seen {seen}, "
                f"the oracle says {saying.words}"
            )
        elif row.row.denial and flow is not None:
            reason = saying.reason.value if saying.reason else ""
            if (flow.direction, flow.reason) != (saying.denied_at, reason):
                found.append(
                    f"{probe.id}: the case expects a drop at {flow.direction} "
                    f"({flow.reason or 'no reason'}), seen {seen}, the oracle says {saying.words}"
                )
    return found


def wanted_flows(
    row: Bound, saying: Saying, stage: Stage, refs: dict[str, PolicyRef]
) -> list[tuple[Wanted, str]]:
    """The flows of a row, each with the node that must have seen it.

    The case says those of denials; those of what passes follow from the rules that let it through: on each
    such side a policy verdict that names the policies.
    """
    found: list[tuple[Wanted, str]] = []
    if row.row.flow is not None:
        found.append((_wish(row.row.flow, refs), _observer(row, row.row.flow.direction, stage)))
    probe = row.check.probe
    # What a node sends may have another address on the wire, and its agent's source port with it.
    if row.row.denial or probe.source.kind is not TargetKind.POD:
        return found
    for side in saying.allowed:
        verdict = FlowVerdict.REDIRECTED if side.redirected else FlowVerdict.FORWARDED
        unnamed = probe.protocol in _UNNAMED or not row.row.named
        named = (None,) if unnamed else side.policies[:1]
        found += [
            (
                Wanted(verdict=verdict, direction=side.direction, policy=policy, event_type=POLICY_VERDICT),
                _observer(row, side.direction, stage),
            )
            for policy in named
        ]
    return found


def _wish(wish: FlowWish, refs: dict[str, PolicyRef]) -> Wanted:
    return Wanted(
        verdict=FlowVerdict(wish.verdict) if wish.verdict else None,
        direction=Direction(wish.direction) if wish.direction else None,
        reason=wish.reason,
        policy=refs[wish.policy] if wish.policy else None,
        event_type=wish.event_type,
    )


def _observer(row: Bound, direction: str, stage: Stage) -> str:
    """The node whose agent decides: the source's at egress, the destination's at ingress."""
    probe = row.check.probe
    place: Target = probe.source if direction == Direction.EGRESS else probe.target
    # The Service of the stage has one backend, the pod of its name.
    return stage.node(place) if place.namespace in stage.namespaces.values() else ""


def _missing(
    lab: Lab, judgement: Judgement, row: Bound, wanted: Wanted, node: str, flows: Sequence[Flow]
) -> str:
    """What is wrong with a row's flow; empty where it is there."""
    try:
        flow = lab.flow(judgement, row.id, wanted, flows=flows)
    except AssertionError as error:
        return str(error)
    seen_by = flow.node.rpartition("/")[2]
    return f"{row.id}: expected {node} to see it, got {flow}" if node and seen_by != node else ""


def _written(policy: Object, stage: Stage) -> str:
    """A policy's name as its case has it."""
    name: str = policy["metadata"]["name"]
    return name if "namespace" in policy["metadata"] else name.removesuffix(f"-{stage.namespaces['x']}")
