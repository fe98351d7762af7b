"""Scenarios whose every row Hubble must witness: on a cluster that does it right, and on spoiled ones."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

import cilium_e2e
from cilium_e2e.model import (
    Backend,
    Direction,
    DropReason,
    Evidence,
    Expectation,
    FlowsLost,
    FlowVerdict,
    PolicyRef,
    ScenarioError,
)
from cilium_e2e.scenario import Lab, Saying
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.residents import Residents
from cilium_e2e.scenario.runner import run
from cilium_e2e.scenario.stage import Stages
from support.enforcing import EnforcingCluster

FOLDER = Path(cilium_e2e.__file__).parent / "suites/policy/scenarios"
SCENARIOS = {
    scenario.name: scenario
    for file in sorted(FOLDER.glob("witnessed-*.scenario.yaml"))
    for scenario in load_scenarios(file, place=file.name)
}
NAMED = SCENARIOS["named ports and a range"]
DENY = SCENARIOS["a broad deny wins over a specific allow at ingress"]
DNS = SCENARIOS["one name may be asked for, and reached"]


def stages_of(cluster, worker):
    residents = Residents(cluster, cluster.api, image="python:x", worker=worker, keep=False)
    return Stages(cluster, cluster.api, residents, image="python:x", worker=worker)


@pytest.fixture(scope="module")
def stages():
    cluster = EnforcingCluster(strict=True)
    with_stages = stages_of(cluster, "gw0")
    yield cluster, with_stages
    with_stages.close()


@pytest.fixture
def play(stages):
    """Runs a scenario, with what is wrong with the cluster once its policies are in force."""
    cluster, shared = stages

    def call(scenario, *, bend=None, spoil=None):
        lab = Lab(cluster, cluster.api, image="python:x", evidence=Evidence())
        if bend is not None:
            cluster.bend = lambda probe, saying: bend(probe, saying) if cluster.policies else saying
        if spoil is not None:
            cluster.spoil = spoil
        with shared.on(scenario.workload, isolated=True) as stage:
            run(scenario, lab, stage, ask=cluster.oracle)
        return lab

    yield call
    cluster.bend, cluster.spoil = (lambda _, saying: saying), (lambda flow: flow)
    cluster.backend, cluster.found_flows = Backend.KIND, None


def failure(play, scenario, **faults) -> str:
    with pytest.raises(AssertionError) as caught:
        play(scenario, **faults)
    return str(caught.value)


def test_they_have_what_a_first_cut_must_have():
    """A scenario that is taken out is missed."""
    policies = [policy.object for s in SCENARIOS.values() for step in s.steps for policy in step.apply]
    kinds = {policy["kind"] for policy in policies}
    assert kinds == {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"}
    text = str(policies)
    parts = (
        *("ingressDeny", "egressDeny", "enableDefaultDeny", "toCIDRSet", "except", "toCIDR'", "toFQDNs"),
        *("'dns': [", "'http': [", "icmps", "endPort", "'port': 'web'", "toServices", "serviceaccount"),
        *("'world'", "'cluster'", "'host'", "'remote-node'", "'kube-apiserver'", "'all'", "fromEntities"),
        *("ipBlock", "podSelector", "namespaceSelector", "['Ingress', 'Egress']", "matchExpressions"),
    )
    assert [part for part in parts if part not in text] == []
    flows = [row.flow for s in SCENARIOS.values() for step in s.steps for row in step.expect if row.flow]
    assert {flow.reason for flow in flows} == {"POLICY_DENIED", "POLICY_DENY", ""}
    assert {flow.event for flow in flows} == {"", "verdict", "l7"}
    assert all(scenario.every_flow for scenario in SCENARIOS.values())


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_on_the_simulated_cluster_rows_are_still_compared_with_the_oracle(play, stages, scenario):
    stages[0].backend = Backend.SIMULATED
    lab = play(scenario)
    rows = scenario.steps[0].expect
    judged = lab.evidence.checks[-len(rows) :]
    assert all(record.oracle and record.met for record in judged)
    denied = sum(bool(row.flow) for row in rows)
    assert sum(flow.verdict is FlowVerdict.DROPPED for flow in lab.evidence.flows) == denied
    assert [proof.gone for proof in lab.evidence.proofs] == [False, True]


def test_what_never_worked_is_no_denial(play, stages):
    """A port nobody serves would look like a denied one for ever."""
    cluster = stages[0]
    fresh = stages_of(cluster, "gw1")
    cluster.bend = lambda probe, saying: (
        dataclasses.replace(saying, passes=False, looks="timeout") if probe.port == 8084 else saying
    )
    lab = Lab(cluster, cluster.api, image="python:x", evidence=Evidence())
    with (
        pytest.raises(AssertionError, match="denials prove nothing") as caught,
        fresh.on(NAMED.workload, isolated=True) as stage,
    ):
        run(NAMED, lab, stage, ask=cluster.oracle)
    fresh.close()
    assert "server:8084/TCP: then timeout" in str(caught.value)


def test_a_policy_that_is_not_enforced_fails_with_all_three(play):
    def open_door(probe, saying):
        return Saying(passes=True, sentence="not enforced") if probe.port == 8081 else saying

    text = failure(play, NAMED, bend=open_door)
    assert re.search(r"server:8081/TCP: expected denied by \S+/server, seen connected", text)
    assert "oracle: denied, seen as timeout" in text
    assert "enforced at 4 endpoints" in text


def test_a_row_that_the_oracle_contradicts_fails_although_the_cluster_agrees(play):
    """Scenario and cluster may be wrong together."""

    def open_door(probe, saying):
        return Saying(passes=True, sentence="") if probe.port == 8084 else saying

    text = failure(play, with_rows(NAMED, opened, "x/server:8084/TCP"), bend=open_door)
    assert "the oracle disagrees with 2 expectations of the scenario" in text
    assert "came out differently" not in text


def with_rows(scenario, change, destination=""):
    rows = tuple(
        change(row) if destination in ("", row.destination) else row for row in scenario.steps[0].expect
    )
    return dataclasses.replace(scenario, steps=(dataclasses.replace(scenario.steps[0], expect=rows),))


def opened(row):
    return dataclasses.replace(row, outcome=Expectation("connected"), flow=None)


def spoiled(**changes):
    def spoil(flow):
        return dataclasses.replace(flow, **changes) if flow.verdict is FlowVerdict.DROPPED else flow

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (
            spoiled(drop_reason="CT_MAP_INSERTION_FAILED"),
            "reason CT_MAP_INSERTION_FAILED instead of POLICY_DENIED",
        ),
        (spoiled(direction=Direction.EGRESS), "direction EGRESS instead of INGRESS"),
        (spoiled(node="default/other"), "expected n2 to see it"),
        (spoiled(verdict=FlowVerdict.FORWARDED), "verdict FORWARDED instead of DROPPED"),
        (
            lambda flow: None if flow.verdict is FlowVerdict.DROPPED else flow,
            "expected a flow DROPPED INGRESS",
        ),
    ],
)
def test_a_denial_without_its_flow_fails(play, spoil, words):
    assert words in failure(play, NAMED, spoil=spoil)


def test_an_allowed_flow_must_name_its_policy(play):
    def misnamed(flow):
        other = PolicyRef("CiliumNetworkPolicy", "default", "another")
        return dataclasses.replace(flow, policies=(other,)) if flow.verdict is FlowVerdict.FORWARDED else flow

    assert "named CiliumNetworkPolicy default/another instead of" in failure(play, NAMED, spoil=misnamed)


def test_a_deny_rule_is_told_from_a_missing_rule(play):
    def confused(probe, saying):
        if saying.reason is DropReason.POLICY_DENY:
            return dataclasses.replace(saying, reason=DropReason.POLICY_DENIED)
        return saying

    assert "reason POLICY_DENIED instead of POLICY_DENY" in failure(play, DENY, bend=confused)


def test_a_row_that_names_the_wrong_reason_is_contradicted(play):
    def wrong(row):
        if row.flow is None:
            return row
        return dataclasses.replace(row, flow=dataclasses.replace(row.flow, reason="POLICY_DENIED", policy=""))

    text = failure(play, with_rows(DENY, wrong))
    assert "expected a drop at INGRESS (POLICY_DENIED), the oracle says denied" in text


def test_silence_is_no_refusal(play):
    def silent(probe, saying):
        return dataclasses.replace(saying, looks="SERVFAIL") if saying.looks == "REFUSED" else saying

    assert "expected dns(REFUSED), seen timeout" in failure(play, DNS, bend=silent)


def test_where_flows_are_lost_the_same_is_asked_again(play, stages):
    cluster = stages[0]
    lost = []

    def sometimes():
        if len(lost) < 2:
            lost.append(1)
            raise FlowsLost("one event lost", place="n1")
        return list(cluster.seen)

    cluster.found_flows = sometimes
    lab = play(NAMED)
    notes = [name for name in lab.evidence.notes if "flows lost" in name]
    assert notes == ["as applied: flows lost, attempt 1", "as applied: flows lost, attempt 2"]


TEXT = """
name: w
flows: every
policies:
  - {kind: NetworkPolicy, metadata: {name: p, namespace: x}, spec: {podSelector: {}, policyTypes: [Ingress]}}
expect:
  - {from: x/a, to: "x/b:80/TCP", outcome: OUTCOME}
"""


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        ("connected", "w.scenario.yaml:3: expected at least one denial, got none"),
        *(
            (outcome, "w.scenario.yaml:7: expected the flow of a denial, got none for x/a → x/b:80/TCP")
            for outcome in ("denied", "timeout", "http(403)", "dns(REFUSED)")
        ),
    ],
)
def test_a_witnessed_scenario_gives_the_flow_of_each_denial(tmp_path, outcome, message):
    file = tmp_path / "w.scenario.yaml"
    file.write_text(TEXT.replace("OUTCOME", outcome))
    with pytest.raises(ScenarioError) as caught:
        load_scenarios(file, place="w.scenario.yaml")
    assert str(caught.value).startswith(message)
