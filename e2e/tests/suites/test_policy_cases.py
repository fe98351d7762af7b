"""The policy suite's cases: read strictly, true by the oracle, and wide enough."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import ScenarioError, TargetKind
from cilium_e2e.plugin.requirements import known_names
from cilium_e2e.policy import parse_policy, require_agent, require_schema
from cilium_e2e.scenario import live_policies, live_world
from cilium_e2e.suites.policy.cases import DENIALS, FOLDER, Case, load, parse
from support.stage import OracleView, lab, stage

CASES = load()
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p", "namespace": "x"},
}
DROP = {"verdict": "DROPPED", "reason": "POLICY_DENIED", "direction": "INGRESS"}
ROW = {"from": "x/near", "to": "x/server:8080/TCP", "outcome": "denied", "flow": DROP}
CASE = {"name": "c", "policies": [POLICY], "expect": [ROW]}


def by_id(case: Case) -> str:
    return case.id


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_each_policy_is_taken_by_schema_and_agent(case):
    for policy in stage().policies(case):
        require_schema(policy, file=case.file)
        require_agent(parse_policy(policy, file=case.file), file=case.file)


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_the_oracle_agrees_with_each_row(case):
    """On the stage's own pods, with the agents' identities, before any cluster is asked."""
    set_up, place = lab(), stage()
    for policy in place.policies(case):
        set_up.kube.apply(policy)
    names = place.dns_names(case)
    view = OracleView(live_world(set_up.cluster, set_up.kube, dns_names=names), live_policies(set_up.kube))
    assert not view.oracle.refused
    for row in place.rows(case):
        saying = view.says(row.check.probe)
        assert saying.agrees(row.check.expected), f"{row.id}: {saying.words}"
        if row.row.denial:
            reason = saying.reason.value if saying.reason else ""
            assert (row.row.flow.direction, row.row.flow.reason) == (saying.denied_at, reason), row.id


@pytest.mark.parametrize("case", CASES, ids=by_id)
def test_no_row_stands_twice(case):
    pairs = {(row.source, row.destination, row.request) for row in case.rows}
    assert len(pairs) == len(case.rows)


def test_what_is_used_is_required():
    for case in CASES:
        text = f"{case.policies}{[(row.source, row.destination) for row in case.rows]}"
        for used, needed in (("world:", "world"), ("${world.", "world"), ("node:", "host-agents")):
            if used in text:
                assert needed in case.requires, f"{case.name} uses {used}"
        if any("403" in row.expected.text for row in case.rows):
            assert "envoy-daemonset" in case.requires
        if any(row.expected.text == "dns(REFUSED)" for row in case.rows):
            assert "l7-proxy" in case.requires
        assert set(case.requires) <= known_names()


def test_what_the_suite_covers():
    """The list of what a first cut must have; a case that is taken out is missed."""
    kinds = {policy["kind"] for case in CASES for policy in case.policies}
    assert kinds == {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"}
    text = "".join(file.read_text() for file in FOLDER.glob("*.yaml"))
    parts = (
        *("ingressDeny", "egressDeny", "enableDefaultDeny", "toCIDRSet", "except", "toCIDR:", "toFQDNs"),
        *("rules: {dns", "rules: {http", "icmps", "endPort", "port: web", "toServices", "serviceaccount"),
        *("world", "cluster", "host", "remote-node", "kube-apiserver", "all", "fromEntities", "ipBlock"),
        *("podSelector", "namespaceSelector", "policyTypes: [Ingress, Egress]", "matchExpressions"),
    )
    assert [part for part in parts if part not in text] == []
    reasons = {row.flow.reason for case in CASES for row in case.rows if row.denial}
    assert reasons == {"POLICY_DENIED", "POLICY_DENY", ""}
    nodes = [stage().node(stage()._target(row_target)) for row_target in stage().pods]
    assert len(set(nodes)) == 2, "one node would prove nothing about the way between nodes"


def test_lists_are_spread_and_denials_marked():
    case = parse(
        {**CASE, "expect": [{**ROW, "from": ["x/near", "x/far"], "to": ["a/b:1/TCP", "a/b:2/UDP"]}]}, "f"
    )
    assert [(row.source, row.destination) for row in case.rows] == [
        ("x/near", "a/b:1/TCP"),
        ("x/near", "a/b:2/UDP"),
        ("x/far", "a/b:1/TCP"),
        ("x/far", "a/b:2/UDP"),
    ]
    assert all(row.denial for row in case.rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expects": []}, "expected only the fields expect, name, policies, requires, tier, got expects"),
        ({"policies": []}, "expected a list 'policies' that is not empty"),
        ({"expect": None}, "expected a list 'expect' that is not empty"),
        ({"expect": [{**ROW, "outcome": "connected"}]}, "expected at least one denial, got none"),
        ({"expect": [{**ROW, "port": 1}]}, "got port"),
        ({"expect": [{**ROW, "flow": {**DROP, "node": "w1"}}]}, "got node"),
        ({"expect": [{**ROW, "flow": {**DROP, "event": "trace"}}]}, "expected one of the events"),
        ({"expect": [{**ROW, "flow": {**DROP, "policy": "q"}}]}, "expected one of the policies p, got 'q'"),
        ({"expect": [{**ROW, "request": {"path": "/", "cookie": ""}}]}, "got cookie"),
    ],
)
def test_what_is_wrong_is_named(changes, message):
    with pytest.raises(ScenarioError, match=message.replace("[", r"\[")) as error:
        parse({**CASE, **changes}, "f.yaml")
    assert str(error.value).startswith("f.yaml: c: ")


@given(outcome=st.sampled_from(sorted(DENIALS)))
def test_a_denial_without_its_flow_is_refused(outcome):
    row = {key: value for key, value in ROW.items() if key != "flow"}
    with pytest.raises(ScenarioError, match="expected the flow of a denial"):
        parse({**CASE, "expect": [{**row, "outcome": outcome}]}, "f.yaml")


def test_names_are_unique(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(json.dumps({"cases": [CASE]}))
    with pytest.raises(ScenarioError, match="got twice: c"):
        load(tmp_path)


def test_targets_are_bound_to_the_workers_own():
    place = stage()
    case = parse(
        {
            **CASE,
            "expect": [
                {**ROW, "to": ["x/server:8080/TCP", "svc:x/server:8080/TCP", "node:far:18080/TCP"]},
                {**ROW, "from": "node:near", "to": ["svc:default/kubernetes:443/TCP", "x/server:ICMP"]},
            ],
        },
        "f",
    )
    bound = place.rows(case)
    assert [str(row.check.probe.destination) for row in bound] == [
        "ce2e-w0-policy-x/server:8080/TCP",
        "svc:ce2e-w0-policy-x/server:8080/TCP",
        "node:cp:18080/TCP",
        "svc:default/kubernetes:443/TCP",
        "ce2e-w0-policy-x/server:ICMP",
    ]
    assert str(bound[3].check.probe.source) == "node:w1"
    assert [bool(row.answered_by) for row in bound] == [True, False, False, False, False]
    assert {row.check.probe.target.kind for row in bound} == {
        TargetKind.POD,
        TargetKind.SERVICE,
        TargetKind.NODE,
    }


def test_templates_are_filled():
    place = stage()
    spec = {"a": ["${world.two.cidr}", "${world.one.ip}"], "b": "${namespace.x}"}
    [policy] = place.policies(parse({**CASE, "policies": [{**POLICY, "spec": spec}]}, "f"))
    assert policy["spec"] == {"a": ["172.18.0.10/32", "172.18.0.9"], "b": "ce2e-w0-policy-x"}


@pytest.mark.parametrize("text", ["${world.three.ip}", "${world.one.port}", "${namespace.z}", "${}"])
def test_unknown_templates_are_refused(text):
    with pytest.raises(ScenarioError, match=r"f: c: expected world\.NAME\.ip"):
        stage().policies(parse({**CASE, "policies": [{**POLICY, "spec": {"a": text}}]}, "f"))


def test_cluster_wide_policies_get_names_of_their_own():
    wide = {**POLICY, "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "p"}}
    [policy] = stage().policies(parse({**CASE, "policies": [wide]}, "f"))
    assert policy["metadata"] == {"name": "p-ce2e-w0-policy-x"}
