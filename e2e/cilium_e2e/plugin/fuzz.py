"""``--fuzz N``: random policies as tests, ``fuzz[SEED-0001]`` and so on; they are all that runs.

They stand in a file that holds nothing, :data:`PLACE`, so that reports and the command that runs one again
can name them the same in every repository. A case is made when it runs: to collect many costs nothing, and
each worker makes the same.
"""

from __future__ import annotations

import secrets
from collections.abc import Generator, Iterable
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cilium_e2e.model import Backend, Capability, ClusterStateError
from cilium_e2e.plugin.clusters import CLUSTERS, options_of, plain_id
from cilium_e2e.plugin.options import reproduced
from cilium_e2e.plugin.reporting import harness_version
from cilium_e2e.report import command
from cilium_e2e.scenario import Lab
from cilium_e2e.scenario import runner as runner_module
from cilium_e2e.scenario.fuzz import (
    TRIES,
    Case,
    Finding,
    Telling,
    examine,
    generate,
    name_of_case,
    speaks_of_outside,
)
from cilium_e2e.scenario.stage import Stages
from cilium_e2e.scenario.standard import standard_workload
from cilium_e2e.session.options import default_state

PLACE = Path(str(files("cilium_e2e.suites"))) / "policy" / "random.fuzz"
"""Stands for all random policies."""
NODE = "policy/random.fuzz"
"""What it is called in the names of tests."""
TAG = "fuzz"
TIMEOUT_S = 1500
"""Of one case, in seconds: what finds nothing takes a few, what is shrunk some minutes."""
MOST_SHRUNK = 5
"""How many findings a worker makes smaller: many at once have one cause, and the first ones show it."""
_SEEDS = 1_000_000
_INPUT = "cilium_e2e_seed"
_FOUND = pytest.StashKey[int]()
_JUDGES_ITSELF = (
    "--fuzz: expected a cluster that is not the oracle's own work, the backend is simulated. "
    "Give --backend kind or existing; or --inject FAULT, to see that a fault is found."
)


class Fuzz:
    """The plugin of a run with ``--fuzz``.

    Args:
        config: pytest's. A seed is drawn where none is given, once for all workers.

    Raises:
        pytest.UsageError: the options do not go together.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        if config.getoption("--backend") == Backend.SIMULATED.value and not config.getoption("--inject"):
            raise pytest.UsageError(_JUDGES_ITSELF)
        if config.getoption("--seed") is None:
            handed = getattr(config, "workerinput", {}).get(_INPUT)
            config.option.seed = secrets.randbelow(_SEEDS) if handed is None else handed
        if config.getoption("--seed") < 0:
            raise pytest.UsageError(f"--seed: expected 0 or more, got {config.getoption('--seed')}")
        folder = folder_of(config)
        if folder.exists() and not folder.is_dir():
            raise pytest.UsageError(f"--fuzz-out {folder}: expected a folder, there is a file")
        self._names = frozenset(name for word in config.args if (name := _case_of(word)))
        # In place of whatever was to be collected: the root stands for the cases.
        config.args[:] = [str(config.rootpath)]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the seed to an xdist worker, which has the command line only."""
        node.workerinput[_INPUT] = self._config.getoption("--seed")

    def pytest_report_header(self) -> str:
        """Say which cases these are."""
        return self._said()

    # Around the cluster's own, which makes it.
    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Refuse a cluster that ``auto`` has come to.

        Raises:
            pytest.UsageError: it is simulated.
        """
        result = yield
        made = self._config.stash[CLUSTERS].handles.values()
        simulated = any(handle.info.backend is Backend.SIMULATED for handle in made)
        if simulated and not self._config.getoption("--inject"):
            raise pytest.UsageError(_JUDGES_ITSELF)
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(self, path: Path, parent: pytest.Collector) -> Root | None:
        """Collect the cases in place of the root's files."""
        if path != self._config.rootpath:
            return None
        found: Root = Root.from_parent(parent, path=path)
        found.names = self._names
        return found

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say it once more where whoever reads a failure looks."""
        terminalreporter.line(self._said())

    def _said(self) -> str:
        count, seed = self._config.getoption("--fuzz"), self._config.getoption("--seed")
        return f"fuzz: {count} cases of seed {seed}; minimal scenarios go to {folder_of(self._config)}"


def folder_of(config: pytest.Config) -> Path:
    """Where scenario files are written."""
    given = config.getoption("--fuzz-out")
    return Path(given).absolute() if given else default_state() / "fuzz"


class Root(pytest.Directory):
    """What is collected in place of all folders and files.

    Attributes:
        names: the cases that were asked for by name; empty for all.
    """

    names: frozenset[str] = frozenset()

    def collect(self) -> Iterable[pytest.Collector]:
        """The cases."""
        found: Cases = Cases.from_parent(self, path=PLACE, nodeid=NODE)
        found.names = self.names
        yield found


class Cases(pytest.Module):
    """All random cases of a run; ``names`` as :class:`Root` has them."""

    names: frozenset[str] = frozenset()

    def _getobj(self) -> ModuleType:
        return runner_module  # where fixtures and tracebacks look for a test's module

    def collect(self) -> Iterable[pytest.Item]:
        """One test a case."""
        seed = self.config.getoption("--seed")
        for index in range(1, self.config.getoption("--fuzz") + 1):
            if not self.names or name_of_case(seed, index) in self.names:
                yield CaseItem.of(self, seed, index)


class CaseItem(pytest.Function):
    """One random case."""

    asks_for_flows = False

    @classmethod
    def of(cls, parent: Cases, seed: int, index: int) -> CaseItem:
        """The test of a case."""

        def test(lab: Lab, stages: Stages, request: pytest.FixtureRequest) -> None:
            _run(request.node, generate(seed, index), lab, stages)

        item: CaseItem = cls.from_parent(parent, name=name_of_case(seed, index), callobj=test)
        item.add_marker(pytest.mark.tag(TAG))
        item.add_marker(pytest.mark.timeout(TIMEOUT_S))
        if speaks_of_outside(seed, index):
            item.add_marker(pytest.mark.requires(Capability.WORLD.value))
        return item

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line from 0, and name."""
        return self.path, 0, self.name


def _run(item: pytest.Item, case: Case, lab: Lab, stages: Stages) -> None:
    found = item.config.stash.get(_FOUND, 0)
    finding: Finding | None = None
    try:
        with stages.on(standard_workload(), isolated=True) as stage:
            tries = TRIES if found < MOST_SHRUNK else 0
            finding = examine(case, lab, stage, _telling(item), tries=tries)
            if finding is not None and finding.broken is not None:
                raise finding.broken  # so that the stage is not used again
    except ClusterStateError:
        if finding is None:
            raise
    if finding is not None:
        item.config.stash[_FOUND] = found + 1
        pytest.fail(finding.text, pytrace=False)


def _telling(item: pytest.Item) -> Telling:
    config = item.config
    given = reproduced(config, options_of(item))
    suites = config.rootpath.resolve() == PLACE.parents[1].resolve()
    cases = {str(flag): given.pop(flag) for flag in ("--fuzz", "--seed", "--fuzz-out") if flag in given}
    return Telling(
        folder=folder_of(config),
        again=command(plain_id(item), {**given, **cases}, suites=suites),
        rerun=lambda file: command(str(file), given, suites=False),
        harness=harness_version(),
    )


def _case_of(word: str) -> str:
    """The case that an argument names; empty where it names something else."""
    file, _, name = word.partition("::")
    return name if file == NODE or file.endswith(f"/{NODE}") else ""
