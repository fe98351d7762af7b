"""A scenario run: policies applied and proven, the matrix probed, every cell judged, everything undone.

Before the first policy every cell that a policy may deny must have connected: silence counts as a denial only
where there was an answer without the policy. That control is made once for each stage and probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from cilium_e2e.model import Backend, Flow, OutcomeKind, Protocol, StreamLost, TargetKind
from cilium_e2e.policy import Oracle
from cilium_e2e.probe.places import zone_agents
from cilium_e2e.scenario.cells import (
    TIMEOUT_S,
    Cell,
    ask_oracle,
    asked_cells,
    matrix_cells,
    resolved_names,
    row_cells,
)
from cilium_e2e.scenario.changes import Changes
from cilium_e2e.scenario.judgement import SILENCE_S, Judged, Judgement, judge
from cilium_e2e.scenario.lab import Lab
from cilium_e2e.scenario.live_world import live_policies, live_world
from cilium_e2e.scenario.model import Scenario, Step
from cilium_e2e.scenario.stage import Stage
from cilium_e2e.scenario.witnesses import contradicted, unseen, unwitnessed

HOLD = 1
"""Further rounds in which cells must come out the same; a denied one costs its time limit in each."""
_MOST = 12
_PROMPT = 10
"""How many times as long as the answer took the silence has to last, where it is shorter than usual."""
_AT_ONCE = {Protocol.TCP, Protocol.UDP, Protocol.SCTP, Protocol.ICMP}

DNSNames = Mapping[str, Sequence[str]]
"""Agents outside the cluster to the names that pods have resolved to them through a DNS proxy."""
NO_NAMES: DNSNames = MappingProxyType({})
Ask = Callable[[DNSNames], Oracle]


class _Oracles:
    """Oracles of the cluster at each step, which know the names resolved so far.

    Only what a DNS proxy sees counts: a name that is resolved past it selects nothing.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._resolved: set[str] = set()

    def of_now(self, cells: Sequence[Cell]) -> Oracle:
        """An oracle that also knows what these cells, all of them asked, resolve."""
        oracle = self._ask(_by_agent(self._resolved))
        new = resolved_names(cells, oracle) - self._resolved
        if not new:
            return oracle
        self._resolved |= new
        return self._ask(_by_agent(self._resolved))


class CellsDiffer(AssertionError):
    """Cells came out differently than expected.

    Attributes:
        found: each of them, with what came of it.
    """

    def __init__(self, message: str, found: Sequence[tuple[Cell, Judged]]) -> None:
        super().__init__(message)
        self.found = tuple(found)


def run(
    scenario: Scenario, lab: Lab, stage: Stage, *, ask: Ask | None = None, oracles: bool | None = None
) -> int:
    """Run every step of a scenario, and leave the stage as it was.

    Args:
        scenario: what to do.
        lab: where; what is seen becomes its evidence.
        stage: the scenario's workload.
        ask: makes an oracle of the cluster as it is now, and of names that were resolved; by default of its
            live objects.
        oracles: whether cells are judged by the oracle; by default on every cluster that is not simulated,
            where the oracle would judge itself.

    Returns:
        how many cells the oracle was to judge, and could not.

    Raises:
        CellsDiffer: a cell came out differently.
        AssertionError: the oracle disagrees with the scenario, or a denial proves nothing.
        PolicyError: a policy is refused that should not be.
        ClusterStateError: the cluster, or the way to it, broke; no cell was judged by that.
    """
    if oracles is None:
        oracles = lab.cluster.info.backend is not Backend.SIMULATED
    changes = Changes(lab, stage)
    ask = ask or (lambda names: live_oracle(lab, names, since_s=changes.changed_s))
    known = _Oracles(ask) if oracles or scenario.every_flow else None
    untold = 0
    control(scenario.steps, lab, stage, oracles=oracles)
    try:
        for step in scenario.steps:
            untold += _step(step, lab, stage, changes, known, matrix=oracles, every_flow=scenario.every_flow)
    except BaseException as error:
        lab.failed(error)
        raise
    finally:
        changes.undo()
    return untold


def live_oracle(lab: Lab, names: DNSNames = NO_NAMES, *, since_s: float | None = None) -> Oracle:
    """An oracle of the cluster as it is now, with every policy on it, and of the names resolved so far.

    ``since_s`` is when something was changed last, if that is known; see :func:`live_world`.
    """
    world = live_world(lab.cluster, lab.kube, dns_names=names, since_s=since_s)
    return Oracle(world, live_policies(lab.kube))


def control(steps: Sequence[Step], lab: Lab, stage: Stage, *, oracles: bool) -> None:
    """Ask, before any policy, what may be denied later; whatever was asked before is not asked again."""
    cells = [cell for step in steps for cell in row_cells(step, stage) if cell.denied]
    if oracles and any(step.oracle for step in steps):
        cells += matrix_cells(stage)
        cells += [cell for step in steps for cell in asked_cells(step, stage)]
    wanted = {cell.check.probe.id: cell.control() for cell in cells}
    asked = stage.reached.keys() | stage.silent.keys()
    checks = [check for name, check in wanted.items() if name not in asked]
    if not checks:
        return
    judgement = lab.observe(checks, hold=0)
    require_made(judgement)
    for entry in judgement.judged:
        name = entry.check.probe.id
        if entry.met:
            stage.reached[name] = entry.outcome.elapsed_s
        else:
            stage.silent[name] = str(entry.outcome)
    # On a busy machine some answers are slow, and every denial would wait for that.
    slow = [
        check
        for check in checks
        if check.probe.protocol in _AT_ONCE and not _prompt(stage.reached.get(check.probe.id, 0.0))
    ]
    if slow:
        again = judge(lab.cluster, slow, converge_s=0.0, hold=0)
        for entry in again.judged:
            if entry.met:
                name = entry.check.probe.id
                stage.reached[name] = min(stage.reached[name], entry.outcome.elapsed_s)


def _step(
    step: Step,
    lab: Lab,
    stage: Stage,
    changes: Changes,
    oracles: _Oracles | None,
    *,
    matrix: bool,
    every_flow: bool,
) -> int:
    if step.refused:
        words = changes.refusal(step)
        if step.refused not in words:
            seen = f"the words {words!r}" if words else "no refusal"
            raise AssertionError(
                f"{step.place}: {step.name}: expected a refusal with the words {step.refused!r}, got {seen}"
            )
        return 0
    changes.make(step)
    # Where Hubble must tell of each drop, half the silence is enough, however long the control took.
    cells = list(row_cells(step, stage, silence_s=SILENCE_S if every_flow else TIMEOUT_S))
    if matrix and step.oracle:
        cells += matrix_cells(stage, cells)
        cells += asked_cells(step, stage)
    if not cells:
        return 0
    untold = 0
    if oracles is not None:
        oracle = oracles.of_now(cells)
        told = [ask_oracle(cell, oracle) for cell in cells]
        untold = told.count(None)
        lab.evidence.notes[f"{step.name}: cells only the oracle could tell, and cannot"] = str(untold)
        cells = [cell for cell in told if cell is not None]
    cells = [_hasty(cell, stage) for cell in cells]
    judgement, flows = _judged(step, lab, stage, cells, every_flow=every_flow)
    if every_flow:
        wrong = [*contradicted(cells), *unseen(lab, changes, stage, cells, judgement, flows)]
    else:
        wrong = unwitnessed(lab, changes, cells, judgement, flows)
    if wrong:
        raise AssertionError("\n".join([f"{step.place}: {step.name}", *(f"  {text}" for text in wrong)]))
    return untold


def _silence_s(took_s: float) -> float:
    """The silence that is as good as a longer one, where the answer took so long without the policies."""
    return max(SILENCE_S, took_s * _PROMPT)


def _prompt(took_s: float) -> bool:
    return _silence_s(took_s) <= SILENCE_S


def _hasty(cell: Cell, stage: Stage) -> Cell:
    """A denied cell with a shorter silence, where the answer was there at once without the policies.

    A scenario waits for nothing as long as for its denials. What still answers is asked for again, and a late
    answer would have to be many times as late as it was, in every round, to be taken for a denial.
    """
    probe = cell.check.probe
    took_s = stage.reached.get(probe.id)
    if not cell.denied or took_s is None:
        return cell
    if probe.protocol not in _AT_ONCE or probe.target.kind is TargetKind.DNS:
        return cell  # with the policies a proxy may answer, which did not before
    probe = replace(probe, timeout_s=min(probe.timeout_s, _silence_s(took_s)))
    return replace(cell, check=replace(cell.check, probe=probe))


def _judged(
    step: Step, lab: Lab, stage: Stage, cells: Sequence[Cell], *, every_flow: bool
) -> tuple[Judgement, list[Flow]]:
    """All cells judged, with the flows where a row needs some; asked again where Hubble lost flows of it.

    Raises:
        AssertionError: a cell came out differently.
        FlowsLost, StreamLost: flows were lost every time.
    """
    needed = every_flow or any(cell.row and cell.row.flow for cell in cells)
    words = {cell.check.probe.id: cell.oracle for cell in cells}
    # Where the flows of the very probes show that policy made the outcomes, luck has no part in them.
    hold = 0 if every_flow else HOLD

    def judging() -> Judgement:
        judgement = lab.observe([cell.check for cell in cells], hold=hold, oracle=words)
        require_made(judgement)
        _require(step, lab, stage, cells, judgement)
        return judgement

    return lab.seen_whole(judging, what=step.name) if needed else (judging(), [])


def _by_agent(names: Iterable[str]) -> DNSNames:
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        for agent in zone_agents(name):
            found.setdefault(agent, []).append(name)
    return found


def require_made(judgement: Judgement) -> None:
    """Raise where a probe could not be made.

    Raises:
        StreamLost: at least one; the message is no verdict on any policy.
    """
    broken = [entry for entry in judgement.judged if entry.outcome.kind is OutcomeKind.INFRA_ERROR]
    if broken:
        raise StreamLost(
            f"{len(broken)} of {len(judgement.judged)} probes could not be made, so nothing is judged; "
            f"the first: {broken[0]}",
            place="scenario",
        )


def _require(step: Step, lab: Lab, stage: Stage, cells: Sequence[Cell], judgement: Judgement) -> None:
    by_id = {cell.check.probe.id: cell for cell in cells}
    lines: list[str] = []
    failures = judgement.failures
    if failures:
        # The cluster first, as it is now; flows may take long to be had.
        lines += lab.causes(failures)
        lines.append(f"{len(failures)} of {len(cells)} cells came out differently:")
        seen = lab.seen(judgement)
        for entry in failures[:_MOST]:
            lines += _told(entry, by_id[entry.check.probe.id])
            lines += [f"      {line}" for line in lab.explain(entry, seen).splitlines()]
        lines += _more(failures)
    disagreeing = [cell for cell in cells if cell.disagrees]
    if disagreeing:
        lines.append(f"the oracle disagrees with {len(disagreeing)} expectations of the scenario:")
        for cell in disagreeing[:_MOST]:
            place = cell.row.place if cell.row else ""
            lines += [f"  {place}: {cell.check.probe.id} is {cell.check.expected}", f"      {cell.oracle}"]
        lines += _more(disagreeing)
    silent = [
        entry
        for entry in judgement.judged
        if entry.met and by_id[entry.check.probe.id].denied and entry.check.probe.id not in stage.reached
    ]
    if silent:
        lines.append(f"{len(silent)} denials prove nothing: without the policies there was no answer either:")
        for entry in silent[:_MOST]:
            name = entry.check.probe.id
            lines.append(f"  {name}: then {stage.silent.get(name, 'not asked')}, now {entry.outcome}")
        lines += _more(silent)
    text = "\n".join([f"{step.place}: {step.name}", *lines])
    if failures:
        raise CellsDiffer(text, [(by_id[entry.check.probe.id], entry) for entry in failures])
    if lines:
        raise AssertionError(text)
    lab.still_in_force()


def _told(entry: Judged, cell: Cell) -> list[str]:
    place = f" ({cell.row.place})" if cell.row else ""
    lines = [f"  {entry}{place}"]
    return [*lines, f"      oracle: {cell.oracle}"] if cell.oracle else lines


def _more(found: Sequence[object]) -> list[str]:
    return [f"  ... and {len(found) - _MOST} more"] if len(found) > _MOST else []
