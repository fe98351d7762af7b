"""Cells on which cluster and oracle differ, asked again under other policies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from cilium_e2e.model import Destination, Object, PolicyError, Target
from cilium_e2e.scenario.cells import Cell, ask_oracle, asked_cells
from cilium_e2e.scenario.changes import Changes
from cilium_e2e.scenario.fuzz.generate import Case
from cilium_e2e.scenario.judgement import Judged
from cilium_e2e.scenario.lab import Lab
from cilium_e2e.scenario.runner import HOLD, NO_NAMES, Ask, require_made
from cilium_e2e.scenario.stage import Stage

PATIENCE_S = 3.0
"""How long a cell may take to come out as the oracle has it, in seconds, while policies are made smaller.
They are proven enforced before; what a run waits for longer is waited for again when the file is tried."""


class Enough(Exception):
    """The time for making policies smaller is up."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A cell on which the two differ.

    Attributes:
        source, destination: as a scenario file writes them.
        expected: what the oracle says, ``connected`` or ``denied``.
        why: its sentence.
        seen: what came of it.
    """

    source: str
    destination: str
    expected: str
    why: str
    seen: str

    @property
    def question(self) -> tuple[str, str]:
        """Who asks whom."""
        return self.source, self.destination

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}: the oracle says {self.expected}, seen {self.seen}"


class Again(Protocol):
    """Whether other policies fail in the same way.

    Attributes:
        best: the smallest policies so far that do.
        suspects: the cells in which they do; none where it is no cell.
    """

    best: tuple[Object, ...]
    suspects: tuple[Suspect, ...]

    def __call__(self, policies: Sequence[Object], /) -> bool:
        """Put them into force and look.

        Raises:
            ClusterStateError: that could not be done.
            Enough: it has taken long enough.
        """
        ...


def suspects_of(found: Iterable[tuple[Cell, Judged]], stage: Stage) -> tuple[Suspect, ...]:
    """Cells with what came of them, by the names of scenario files."""
    names = {real: declared for declared, real in stage.namespaces.items()}
    return tuple(
        Suspect(
            str(_declared(entry.check.probe.source, names)),
            str(_destination(entry.check.probe.destination, names)),
            cell.check.expected.text,
            _by_file(cell.oracle, names),
            _by_file(str(entry.outcome), names),
        )
        for cell, entry in found
    )


class SameCells:
    """Whether at least one of the same cells still differs, in the same sense.

    Args:
        case: whose policies.
        lab: a lab of its own, so that tries are no evidence of the test's.
        stage: where.
        suspects: the cells.
        ask: makes an oracle of the cluster as it is.
        until_s: when it is enough, by the cluster's monotonic clock.
    """

    def __init__(
        self,
        case: Case,
        lab: Lab,
        stage: Stage,
        *,
        suspects: Sequence[Suspect],
        ask: Ask,
        until_s: float,
    ) -> None:
        self._case = case
        self._lab = lab
        self._stage = stage
        self._ask = ask
        self._until_s = until_s
        self.best = case.policies
        self.suspects = tuple(suspects)
        self._wanted = {suspect.question: suspect.expected for suspect in suspects}

    def __call__(self, policies: Sequence[Object], /) -> bool:
        """See :class:`Again`."""
        _in_time(self._lab, self._until_s)
        try:
            found = _tried(self._lab, self._stage, self._case, policies, self._look)
        except PolicyError:
            return False  # another failure than the one looked for
        same = [one for one in found if self._wanted[one.question] == one.expected]
        if same:
            self.best, self.suspects = tuple(policies), tuple(same)
        return bool(same)

    def _look(self, policies: Sequence[Object]) -> tuple[Suspect, ...]:
        (step,) = self._case.scenario(policies).steps
        cells = list(asked_cells(replace(step, asks=tuple(self._wanted)), self._stage))
        oracle = self._ask(NO_NAMES)
        told = [cell for cell in (ask_oracle(cell, oracle) for cell in cells) if cell is not None]
        if not told:
            return ()
        judgement = self._lab.observe([cell.check for cell in told], converge_s=PATIENCE_S, hold=HOLD)
        require_made(judgement)
        differing = [
            (cell, entry) for cell, entry in zip(told, judgement.judged, strict=True) if not entry.met
        ]
        return suspects_of(differing, self._stage)


class Refused:
    """Whether the cluster still refuses policies that the oracle takes.

    Args:
        case: whose policies.
        lab: a lab of its own.
        stage: where.
        until_s: when it is enough, by the cluster's monotonic clock.
    """

    def __init__(self, case: Case, lab: Lab, stage: Stage, *, until_s: float) -> None:
        self._case = case
        self._lab = lab
        self._stage = stage
        self._until_s = until_s
        self.best = case.policies
        self.suspects: tuple[Suspect, ...] = ()

    def __call__(self, policies: Sequence[Object], /) -> bool:
        """See :class:`Again`."""
        _in_time(self._lab, self._until_s)
        try:
            _tried(self._lab, self._stage, self._case, policies, lambda _: ())
        except PolicyError:
            self.best = tuple(policies)
            return True
        return False


def _in_time(lab: Lab, until_s: float) -> None:
    if lab.cluster.clock.monotonic() > until_s:
        raise Enough


def _tried(
    lab: Lab,
    stage: Stage,
    case: Case,
    policies: Sequence[Object],
    look: Callable[[Sequence[Object]], tuple[Suspect, ...]],
) -> tuple[Suspect, ...]:
    """Have a look under policies, and take them away again."""
    (step,) = case.scenario(policies).steps
    changes = Changes(lab, stage)
    try:
        changes.make(step)
        return look(policies)
    finally:
        changes.undo()


def _declared(target: Target, names: dict[str, str]) -> Target:
    return replace(target, namespace=names.get(target.namespace, target.namespace))


def _destination(destination: Destination, names: dict[str, str]) -> Destination:
    return replace(destination, target=_declared(destination.target, names))


def _by_file(text: str, names: dict[str, str]) -> str:
    """A sentence with the file's names for namespaces in place of the worker's."""
    for real, declared in names.items():
        text = text.replace(real, declared)
    return text
