"""What Hubble must have seen of explicit expectations: flows wished for, and those that follow from rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cilium_e2e.hubble import Wanted
from cilium_e2e.hubble.matching import ACCESS_LOG, DROP, POLICY_VERDICT
from cilium_e2e.model import Direction, Flow, FlowVerdict, Protocol, ScenarioError, Target, TargetKind
from cilium_e2e.scenario.cells import Cell
from cilium_e2e.scenario.changes import Changes
from cilium_e2e.scenario.judgement import Judgement
from cilium_e2e.scenario.lab import Lab
from cilium_e2e.scenario.model import Row
from cilium_e2e.scenario.stage import Stage

EVENTS = {"drop": DROP, "verdict": POLICY_VERDICT, "l7": ACCESS_LOG}
# Hubble looks policies up by port; for a ping it names none.
_UNNAMED = {Protocol.ICMP}


def unwitnessed(
    lab: Lab, changes: Changes, cells: Sequence[Cell], judgement: Judgement, flows: Sequence[Flow]
) -> list[str]:
    """The wished flows that Hubble does not have, a text each that begins with the row's ``file:line``."""
    found = []
    for cell in cells:
        if cell.row is not None and cell.row.flow is not None:
            found += _missing(lab, judgement, cell, _wish(cell.row, changes), flows, "")
    return found


def contradicted(cells: Sequence[Cell]) -> list[str]:
    """Denials whose wished flow the oracle expects at another side, or for another reason."""
    found = []
    for cell in cells:
        row, saying = cell.row, cell.saying
        if row is None or row.flow is None or saying is None or saying.passes:
            continue
        reason = saying.reason.value if saying.reason else ""
        if (row.flow.direction, row.flow.reason) != (saying.denied_at, reason):
            found.append(
                f"{row.place}: {cell.check.probe.id}: expected a drop at {row.flow.direction} "
                f"({row.flow.reason or 'no reason'}), the oracle says {saying.words}"
            )
    return found


def unseen(
    lab: Lab,
    changes: Changes,
    stage: Stage,
    cells: Sequence[Cell],
    judgement: Judgement,
    flows: Sequence[Flow],
) -> list[str]:
    """Like :func:`unwitnessed`, for a scenario whose every row must be seen by the node that decides.

    The scenario says the flows of denials; those of what passes follow from the rules that let it through: on
    each such side a policy verdict that names a policy.
    """
    nodes = {endpoint.name: endpoint.node for endpoint in lab.cluster.endpoints()}
    found = []
    for cell in cells:
        if cell.row is None:
            continue
        wishes = []
        if cell.row.flow is not None:
            wishes.append((_wish(cell.row, changes), cell.row.flow.direction))
        if not cell.denied:
            wishes += [(wanted, str(wanted.direction)) for wanted in _allowed(cell)]
        for wanted, direction in wishes:
            node = nodes.get(_decider(cell, direction, stage), "")
            found += _missing(lab, judgement, cell, wanted, flows, node)
    return found


def _allowed(cell: Cell) -> list[Wanted]:
    """The policy verdicts of a probe that rules let through."""
    probe, row, saying = cell.check.probe, cell.row, cell.saying
    # What a node sends may have another address on the wire, and its agent's source port with it.
    if saying is None or row is None or probe.source.kind is not TargetKind.POD:
        return []
    unnamed = probe.protocol in _UNNAMED or not row.named
    return [
        Wanted(
            verdict=FlowVerdict.REDIRECTED if side.redirected else FlowVerdict.FORWARDED,
            direction=side.direction,
            policy=None if unnamed else side.policies[0],
            event_type=POLICY_VERDICT,
        )
        for side in saying.allowed
    ]


def _wish(row: Row, changes: Changes) -> Wanted:
    wish = row.flow
    if wish is None:
        raise ScenarioError("expected a flow to be wished for", place=row.place)
    policy = changes.policy(wish.policy) if wish.policy else None
    if wish.policy and policy is None:
        raise ScenarioError(f"expected one policy in force called {wish.policy}", place=row.place)
    return Wanted(
        verdict=FlowVerdict(wish.verdict) if wish.verdict else None,
        direction=Direction(wish.direction) if wish.direction else None,
        reason=wish.reason,
        policy=policy,
        event_type=EVENTS[wish.event] if wish.event else 0,
    )


def _decider(cell: Cell, direction: str, stage: Stage) -> str:
    """Where it is decided: the source at egress, the destination at ingress; empty for no one pod."""
    probe = cell.check.probe
    place = probe.source if direction == Direction.EGRESS else probe.target
    if place.kind is not TargetKind.SERVICE:
        return str(place)
    behind = _backends(stage, place)
    return behind[0] if len(behind) == 1 else ""


def _backends(stage: Stage, service: Target) -> list[str]:
    real = stage.namespaces
    selectors: list[Mapping[str, str]] = [
        one.selector
        for one in stage.workload.services
        if (real[one.namespace], one.name) == (service.namespace, service.name)
    ]
    return [
        str(stage.pod(pod.key))
        for pod in stage.workload.pods
        for selector in selectors
        if real[pod.namespace] == service.namespace and selector.items() <= pod.labels.items()
    ]


def _missing(
    lab: Lab, judgement: Judgement, cell: Cell, wanted: Wanted, flows: Sequence[Flow], node: str
) -> list[str]:
    """What is wrong with one flow; empty where it is there."""
    place, name = cell.row.place if cell.row else "", cell.check.probe.id
    try:
        flow = lab.flow(judgement, name, wanted, flows=flows)
    except AssertionError as error:
        return [f"{place}: {error}"]
    seen_by = flow.node.rpartition("/")[2]
    return [f"{place}: {name}: expected {node} to see it, got {flow}"] if node and seen_by != node else []
