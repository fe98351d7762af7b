"""The runner of the policy suite: on a cluster that does as the oracle says, and on spoiled ones."""

from __future__ import annotations

import dataclasses

import pytest

from cilium_e2e.model import Direction, DropReason, FlowVerdict, PolicyRef
from cilium_e2e.scenario import Saying
from cilium_e2e.suites.policy.cases import load
from cilium_e2e.suites.policy.run import run_case
from support.stage import lab, stage

CASES = {case.id: case for case in load()}
NAMED = CASES["named-ports-and-a-range"]
DENY = CASES["a-broad-deny-wins-over-a-specific-allow-at-ingress"]
DNS = CASES["one-name-may-be-asked-for-and-reached"]


def failure(case, **faults) -> str:
    with pytest.raises(AssertionError) as error:
        run_case(lab(**faults), stage(), case)
    return str(error.value)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.id)
def test_each_case_passes_on_a_cluster_that_does_it_right(case):
    place = lab()
    run_case(place, stage(), case)
    denied = sum(row.denial for row in case.rows)
    records = place.evidence.checks
    assert len(records) == denied + len(case.rows), "each denial has a positive control"
    assert [record.expected for record in records[:denied]] == ["connected"] * denied
    assert all(record.oracle for record in records[denied:])
    assert sum(flow.verdict is FlowVerdict.DROPPED for flow in place.evidence.flows) == denied
    assert [proof.gone for proof in place.evidence.proofs] == [False, True]


def test_what_never_worked_is_no_denial():
    """A port nobody serves would look like a denied one for ever."""

    def dead(probe, saying):
        return dataclasses.replace(saying, passes=False, looks="timeout") if probe.port == 8084 else saying

    text = failure(NAMED, bend=dead)
    assert text.startswith("no positive control, before any policy of the case:")
    assert "server:8084/TCP: expected connected by ce2e-w0-policy-x/server, seen timeout" in text


def test_a_policy_that_is_not_enforced_fails_with_all_three():
    def open_door(probe, saying):
        return Saying(passes=True, sentence="not enforced") if probe.port == 8081 else saying

    text = failure(NAMED, bend=open_door)
    assert "server:8081/TCP: expected denied, seen connected" in text
    assert "the oracle says denied, seen as timeout" in text
    assert "enforced at 4 endpoints" in text


def test_a_case_that_the_oracle_contradicts_fails_although_the_cluster_agrees():
    """Case and cluster may be wrong together."""
    wrong = dataclasses.replace(
        NAMED,
        rows=tuple(
            dataclasses.replace(row, expected=type(row.expected)("connected"), flow=None)
            if row.destination == "x/server:8084/TCP"
            else row
            for row in NAMED.rows
        ),
    )

    def open_door(probe, saying):
        return Saying(passes=True, sentence="") if probe.port == 8084 else saying

    text = failure(wrong, bend=open_door)
    assert "server:8084/TCP: the case expects connected, seen connected" in text
    assert "the oracle says denied, seen as timeout" in text


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
        (spoiled(node="default/cp"), "expected w1 to see it"),
        (spoiled(verdict=FlowVerdict.FORWARDED), "verdict FORWARDED instead of DROPPED"),
        (
            lambda flow: None if flow.verdict is FlowVerdict.DROPPED else flow,
            "expected a flow DROPPED INGRESS",
        ),
    ],
)
def test_a_denial_without_its_flow_fails(spoil, words):
    assert words in failure(NAMED, spoil=spoil)


def test_an_allowed_flow_must_name_its_policy():
    def misnamed(flow):
        other = PolicyRef("CiliumNetworkPolicy", "default", "another")
        return dataclasses.replace(flow, policies=(other,)) if flow.verdict is FlowVerdict.FORWARDED else flow

    assert "named CiliumNetworkPolicy default/another instead of" in failure(NAMED, spoil=misnamed)


def test_a_deny_rule_is_told_from_a_missing_rule():
    def confused(probe, saying):
        if saying.reason is DropReason.POLICY_DENY:
            return dataclasses.replace(saying, reason=DropReason.POLICY_DENIED)
        return saying

    assert "reason POLICY_DENIED instead of POLICY_DENY" in failure(DENY, bend=confused)


def test_a_case_that_names_the_wrong_reason_is_contradicted():
    rows = tuple(
        dataclasses.replace(row, flow=dataclasses.replace(row.flow, reason="POLICY_DENIED", policy=""))
        if row.denial
        else row
        for row in DENY.rows
    )
    text = failure(dataclasses.replace(DENY, rows=rows))
    assert "the case expects a drop at INGRESS (POLICY_DENIED)" in text
    assert "POLICY_DENY" in text


def test_silence_is_no_refusal():
    def silent(probe, saying):
        return dataclasses.replace(saying, looks="SERVFAIL") if saying.looks == "REFUSED" else saying

    assert "expected dns(REFUSED), seen dns(SERVFAIL)" in failure(DNS, bend=silent)
