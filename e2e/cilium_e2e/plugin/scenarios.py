"""``*.scenario.yaml`` as tests: each document is one, named by its file and its name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import HarnessError
from cilium_e2e.plugin.clusters import CLUSTERS
from cilium_e2e.plugin.fixtures import worker_name
from cilium_e2e.plugin.options import OWN_SCENARIOS
from cilium_e2e.repository.tree import POLICY_KINDS
from cilium_e2e.scenario import Lab, Residents
from cilium_e2e.scenario import runner as runner_module
from cilium_e2e.scenario.files import SUFFIX, load_scenarios
from cilium_e2e.scenario.model import Scenario
from cilium_e2e.scenario.runner import run
from cilium_e2e.scenario.stage import Stages
from cilium_e2e.session import Handle


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ScenarioFile | None:
    """Collect scenario files."""
    if not file_path.name.endswith(SUFFIX):
        return None
    found: ScenarioFile = ScenarioFile.from_parent(parent, path=file_path)
    return found


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out scenario files of policies that the tree under test does not apply.

    Raises:
        pytest.UsageError: the tree cannot be used.
    """
    chosen = config.getoption(OWN_SCENARIOS)
    if not collection_path.name.endswith(SUFFIX) or not any(map(collection_path.is_relative_to, chosen)):
        return None
    clusters = config.stash[CLUSTERS]
    root = clusters.options[clusters.first].repository
    try:
        objects = clusters.tree(clusters.first).objects()
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    kept = {(root / one.file).parent.resolve() for one in objects if one.object["kind"] in POLICY_KINDS}
    return True if kept.isdisjoint(collection_path.resolve().parents) else None


class ScenarioFile(pytest.Module):
    """A scenario file."""

    def _getobj(self) -> ModuleType:
        return runner_module  # where fixtures and tracebacks look for a test's module

    def collect(self) -> Iterable[pytest.Item]:
        """One test a document.

        Raises:
            CollectError: the file cannot be run as written; one line says where and why.
        """
        try:
            scenarios = load_scenarios(self.path, place=self._shown())
        except HarnessError as error:
            raise self.CollectError(str(error)) from None
        for scenario in scenarios:
            yield ScenarioItem.of(self, scenario)

    def _shown(self) -> str:
        """The file as a user would write it where pytest was called."""
        called_in = self.config.invocation_params.dir
        return (
            os.path.relpath(self.path, called_in) if self.path.is_relative_to(called_in) else str(self.path)
        )


class ScenarioItem(pytest.Function):
    """One scenario."""

    scenario: Scenario
    asks_for_flows: bool

    @classmethod
    def of(cls, parent: ScenarioFile, scenario: Scenario) -> ScenarioItem:
        """The test of a scenario, with the markers that say the same as its fields."""

        def test(lab: Lab, stages: Stages) -> None:
            with stages.on(scenario.workload, isolated=scenario.isolated) as stage:
                run(scenario, lab, stage)

        test.__doc__ = scenario.description or scenario.name
        item: ScenarioItem = cls.from_parent(parent, name=scenario.name, callobj=test)
        item.scenario = scenario
        item.asks_for_flows = scenario.asks_for_flows
        if scenario.requires:
            item.add_marker(pytest.mark.requires(*scenario.requires))
        if scenario.tags:
            item.add_marker(pytest.mark.tag(*scenario.tags))
        if not scenario.isolated:
            item.add_marker(pytest.mark.disruptive)
        item.add_marker(pytest.mark.tier(scenario.tier.value))
        return item

    def reportinfo(self) -> tuple[Path, int, str]:
        """File, line from 0, and name."""
        return self.path, self.scenario.line - 1, self.name


@pytest.fixture(scope="session")
def stages(cluster: LiveCluster, kube: Kube, handle: Handle, residents: Residents) -> Iterator[Stages]:
    """This worker's stages: the workloads of its scenarios."""
    made = Stages(
        cluster,
        kube,
        residents,
        image=handle.agent_image,
        worker=worker_name(),
    )
    yield made
    made.close()
