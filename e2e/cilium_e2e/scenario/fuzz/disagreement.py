"""A case on a cluster: run like any scenario; where cluster and oracle differ, shrunk to a scenario file.

The file is tried before it is told of: it must be loadable, and fail.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from cilium_e2e.model import ClusterStateError, Object, PolicyError
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.fuzz.generate import DISTRIBUTION, Case
from cilium_e2e.scenario.fuzz.shrink import shrink
from cilium_e2e.scenario.fuzz.suspects import Again, Enough, Refused, SameCells, suspects_of
from cilium_e2e.scenario.fuzz.write import comment, scenario_text, write
from cilium_e2e.scenario.lab import Lab
from cilium_e2e.scenario.runner import Ask, CellsDiffer, live_oracle, run
from cilium_e2e.scenario.stage import Stage

TRIES = 60
"""How many smaller sets of policies are put into force at most."""
SHRINK_S = 600.0
"""How long that may take at most, in seconds."""


@dataclass(frozen=True, slots=True)
class Telling:
    """What a finding is told with.

    Attributes:
        folder: where files go.
        again: the command that makes and runs the case again.
        rerun: the command that runs a file.
        harness: this program's version.
    """

    folder: Path
    again: str
    rerun: Callable[[Path], str]
    harness: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A case in which cluster and oracle differ.

    Attributes:
        text: all of it, for people.
        file: the minimal scenario; None where there is none, and ``text`` says why.
        broken: what broke while it was shrunk; the stage must not be used again then.
    """

    text: str
    file: Path | None = None
    broken: ClusterStateError | None = None


def examine(
    case: Case, lab: Lab, stage: Stage, telling: Telling, *, ask: Ask | None = None, tries: int = TRIES
) -> Finding | None:
    """Run a case, every cell judged by the oracle; None where all are as it says.

    Args:
        case: what to run.
        lab: where; what is seen becomes its evidence.
        stage: the standard workload.
        telling: what a finding is told with.
        ask: makes an oracle of the cluster as it is now; by default of its live objects.
        tries: how many smaller sets of policies are tried at most.

    Raises:
        AssertionError: a denial proves nothing, or the oracle has no word on a cell: the generator's fault.
        ClusterStateError: the cluster, or the way to it, broke.
    """
    ask = ask or (lambda names: live_oracle(lab, names))
    lab.evidence.notes["policies"] = yaml.safe_dump(list(case.policies), sort_keys=False)
    outside = [agent.name for agent in lab.cluster.info.world]
    own = Lab(lab.cluster, lab.kube, image=lab.image, follow=lab.follow)
    until_s = lab.cluster.clock.monotonic() + SHRINK_S
    again: Again
    try:
        untold = run(case.scenario(outside=outside), lab, stage, ask=ask, oracles=True)
    except CellsDiffer as error:
        head = str(error)
        found = suspects_of(error.found, stage)
        until_s = lab.cluster.clock.monotonic() + SHRINK_S
        again = SameCells(case, own, stage, suspects=found, ask=ask, until_s=until_s)
    except PolicyError as error:
        head = f"a policy is refused that the oracle takes: {error}"
        again = Refused(case, own, stage, until_s=until_s)
    else:
        if untold:
            raise AssertionError(f"{case.name}: the oracle has no word on {untold} cells, but should have")
        return None
    finding = _Shrinking(case, own, stage, telling).of(again, head, tries)
    lab.evidence.notes["minimal scenario"] = finding.file.read_text() if finding.file else "none"
    return finding


class _Shrinking:
    """From a failure to a file; see :func:`examine` for the arguments."""

    def __init__(self, case: Case, lab: Lab, stage: Stage, telling: Telling) -> None:
        self._case = case
        self._lab = lab
        self._stage = stage
        self._telling = telling

    def of(self, again: Again, head: str, tries: int) -> Finding:
        """Make it smaller, write it down, try the file."""
        how, broken = self._shrink(again, tries)
        if not again.best:
            text = (
                f"{head}\n\n{how}\nIt fails without any policy, so no file would show it: look at the cluster"
            )
            return Finding(text, broken=broken)
        text = scenario_text(
            f"fuzz {self._case.seed}-{self._case.index:04}",
            again.best,
            again.suspects,
            remarks=self._remarks(how),
        )
        try:
            file = write(self._telling.folder, f"fuzz-{self._case.seed}-{self._case.index:04}", text)
        except OSError as error:
            lines = [head, "", how, f"it could not be written to {self._telling.folder}: {error}", text]
            return Finding("\n".join(lines), broken=broken)
        lines = [head, "", how, *map(str, again.suspects[:1]), f"minimal scenario: {file}"]
        if broken is None:
            try:
                lines.append(self._tried(file))
            except ClusterStateError as error:
                broken = error
                lines.append(f"it could not be tried: {error}")
        lines.append(f"run it: {self._telling.rerun(file)}")
        return Finding("\n".join(lines), file, broken)

    def _shrink(self, again: Again, tries: int) -> tuple[str, ClusterStateError | None]:
        """How it went, and what broke."""
        before = len(self._case.policies)
        spent = 0

        def fails(policies: Sequence[Object]) -> bool:
            nonlocal spent
            same = again(policies)
            spent += 1
            return same

        broken: ClusterStateError | None = None
        try:
            shrunk = shrink(self._case.policies, fails, tries=tries)
            end = "nothing more can be left out"
            if not shrunk.minimal:
                end = "more might be left out, but that is the most that is tried"
        except Enough:
            end = f"more might be left out, but {SHRINK_S:g} s are up"
        except ClusterStateError as error:
            broken = error
            end = f"ended early, because the cluster broke: {error}"
        tried = f"{spent} {'try' if spent == 1 else 'tries'}"
        return f"shrunk from {_policies(before)} to {len(again.best)} in {tried}; {end}", broken

    def _tried(self, file: Path) -> str:
        """Load and run the file: it must fail, too."""
        (scenario,) = load_scenarios(file)
        try:
            run(scenario, self._lab, self._stage, oracles=False)
        except (CellsDiffer, PolicyError):
            return "the file was run, too, and fails in the same way"
        line = "It passed when it was run once more: what it shows does not always happen."
        file.write_text(comment([line]) + file.read_text(encoding="utf-8"), encoding="utf-8")
        return f"BUT: {line}"

    def _remarks(self, how: str) -> list[str]:
        info = self._lab.cluster.info
        versions = ", ".join(f"{name} {version}" for name, version in info.versions)
        return [
            f"Found by: {self._telling.again}",
            f"Case: seed {self._case.seed}, index {self._case.index}, distribution {DISTRIBUTION}; {how}.",
            f"Cluster: {info.backend.value}, topology {info.topology}, release {info.release}: {versions}",
            f"Harness: cilium-e2e {self._telling.harness or 'of an unknown version'}",
            "",
        ]


def _policies(count: int) -> str:
    return "1 policy" if count == 1 else f"{count} policies"
