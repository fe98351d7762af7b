"""The scenarios that are shipped: readable, named once, and of one opinion with the oracle.

Each runs on a cluster in memory that enforces policies as the oracle understands them. That cannot show what
Cilium does; it shows that no explicit expectation contradicts the oracle, and that every step can be made.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import cilium_e2e
from cilium_e2e.model import Evidence
from cilium_e2e.plugin.requirements import known_names
from cilium_e2e.scenario import Lab
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.residents import Residents
from cilium_e2e.scenario.runner import run
from cilium_e2e.scenario.stage import Stages
from support.enforcing import EnforcingCluster

FOLDER = Path(cilium_e2e.__file__).parent / "suites/policy/scenarios"
FILES = sorted(FOLDER.glob("*.scenario.yaml"))
SCENARIOS = [scenario for file in FILES for scenario in load_scenarios(file, place=file.name)]


def test_none_is_there_twice():
    names = [scenario.name for scenario in SCENARIOS]
    assert sorted(set(names)) == sorted(names)


def test_each_has_tags_and_requires_what_exists():
    assert [scenario.place for scenario in SCENARIOS if not scenario.tags] == []
    wanted = {name for scenario in SCENARIOS for name in scenario.requires}
    assert [name for name in wanted if not any(fnmatchcase(name, known) for known in known_names())] == []


def test_each_step_expects_something_of_its_own():
    """What only the oracle says is judged live only; the simulated run would have nothing to check."""
    bare = [step.place for s in SCENARIOS for step in s.steps if not (step.expect or step.refused)]
    assert bare == []


@pytest.fixture(scope="module")
def worker():
    cluster = EnforcingCluster(strict=True)
    residents = Residents(cluster, cluster.api, image="python:x", worker="gw0", keep=False)
    stages = Stages(cluster, cluster.api, residents, image="python:x", worker="gw0")
    yield cluster, stages
    stages.close()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.place} {scenario.name}")
def test_no_expectation_contradicts_the_oracle(worker, scenario):
    cluster, stages = worker
    evidence = Evidence()
    lab = Lab(cluster, cluster.api, image="python:x", evidence=evidence)
    with stages.on(scenario.workload, isolated=scenario.isolated) as stage:
        run(scenario, lab, stage, ask=cluster.oracle)
    assert all(check.met for check in evidence.checks if check.oracle)
    assert cluster.policies == []
