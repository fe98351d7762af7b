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
from cilium_e2e.policy import Enforcement, Options
from cilium_e2e.probe.places import HOST_TCP, WORLD_TCP
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


def text_of(scenario) -> str:
    return str([(step.apply, step.expect) for step in scenario.steps])


def test_there_are_enough_of_every_kind():
    assert len(SCENARIOS) >= 150
    tags = {tag for scenario in SCENARIOS for tag in scenario.tags}
    assert tags >= {"dns", "http", "hosts", "api-server", "node-policies", "world", "cidr", "icmp", "modes"}
    outcomes = {str(row.outcome) for scenario in SCENARIOS for step in scenario.steps for row in step.expect}
    assert outcomes == {"connected", "denied", "timeout", "http(403)", "dns(REFUSED)"}


@pytest.mark.parametrize(
    ("used", "needed"),
    [
        ("world:", "world"),
        ("${world.", "world"),
        ("node:", "host-agents"),
        (".e2e.test", "outside-zone"),
        ("'http': [", "envoy-daemonset"),
        ("'dns': [", "l7-proxy"),
        ("toFQDNs", "l7-proxy"),
        ("nodeSelector", "host-firewall"),
        ("'family': 'IPv4'", "ipv4"),
    ],
)
def test_what_is_used_is_required(used, needed):
    using = [scenario for scenario in SCENARIOS if used in text_of(scenario)]
    assert using, "nothing of this kind is left"
    assert [scenario.place for scenario in using if needed not in scenario.requires] == []


def test_no_policy_of_nodes_can_cut_a_cluster_off():
    """Each denies one port of the harness's own agents and nothing else, without default deny."""
    specs = [
        spec
        for scenario in SCENARIOS
        for step in scenario.steps
        for policy in step.apply
        for spec in (policy.object.get("spec", {}), *policy.object.get("specs", ()))
        if "nodeSelector" in spec
    ]
    assert specs
    ours = {str(HOST_TCP), str(WORLD_TCP)}
    for spec in specs:
        assert spec["enableDefaultDeny"] == {"ingress": False, "egress": False}
        rules = [
            rule
            for key, found in spec.items()
            if key not in {"nodeSelector", "enableDefaultDeny"}
            for rule in found
            if key in {"ingressDeny", "egressDeny"} or pytest.fail(f"{key} in a policy of nodes")
        ]
        assert rules
        for rule in rules:
            assert {port["port"] for entry in rule["toPorts"] for port in entry["ports"]} <= ours


def options_for(scenario) -> Options:
    """Agents that have what a scenario requires."""
    modes = {f"policy-enforcement-{mode.value}": mode for mode in Enforcement}
    wanted = [modes[name] for name in scenario.requires if name in modes]
    return Options(
        host_firewall="host-firewall" in scenario.requires,
        enforcement=wanted[0] if wanted else Enforcement.DEFAULT,
    )


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
    cluster.options = options_for(scenario)
    with stages.on(scenario.workload, isolated=scenario.isolated) as stage:
        run(scenario, lab, stage, ask=cluster.oracle)
    judged = [check for check in evidence.checks if check.oracle]
    assert judged or all(step.refused for step in scenario.steps)
    assert all(check.met for check in judged)
    assert cluster.policies == []
