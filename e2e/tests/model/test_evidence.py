"""A test's evidence as plain data."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import (
    CheckRecord,
    Destination,
    EndpointProof,
    Evidence,
    Flow,
    FlowPeer,
    FlowVerdict,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Probe,
    Proof,
    Protocol,
    Target,
)

PROBE = Probe.to(Target.pod("x", "a"), Destination(Target.pod("x", "b"), 80, Protocol.TCP), id="one")


def record(outcome, *, met=True, by=(), flaps=0, oracle="", converged_s=0.0):
    return CheckRecord(PROBE, "connected", frozenset(by), outcome, met, flaps, converged_s, oracle)


def test_a_check_with_everything():
    outcome = Outcome("one", OutcomeKind.CONNECTED, "x/b", "10.0.0.1", 40000, "10.0.0.2", elapsed_s=0.01234)
    found = record(outcome, met=False, by=["x/c", "x/b"], flaps=2, oracle="denied", converged_s=1.23456)
    assert found.to_data() == {
        "met": False,
        "probe": "one",
        "source": "x/a",
        "destination": "x/b:80/TCP",
        "expected": "connected",
        "must_answer": ["x/b", "x/c"],
        "seen": "connected by x/b after 0.012 s",
        "answered_by": "x/b",
        "from": "10.0.0.1:40000",
        "elapsed_s": 0.0123,
        "flaps": 2,
        "converged_s": 1.235,
        "oracle": "denied",
    }
    assert found.wanted == "connected by x/b or x/c"
    assert record(outcome).wanted == "connected"


def test_what_is_empty_is_left_out_but_never_whether_it_was_met():
    lost = Outcome("one", OutcomeKind.INFRA_ERROR, detail="stream lost")
    assert record(lost, met=False).to_data() == {
        "met": False,
        "probe": "one",
        "source": "x/a",
        "destination": "x/b:80/TCP",
        "expected": "connected",
        "seen": "infra_error after 0.000 s (stream lost)",
    }


def test_nothing_was_done():
    assert Evidence().to_data() == {}


def test_each_test_has_its_own():
    first, second = Evidence(), Evidence()
    first.notes["a"] = "b"
    first.checks.append(record(Outcome("one", OutcomeKind.TIMEOUT)))
    assert second.to_data() == {}


def test_proofs_flows_and_notes():
    policy = PolicyRef("CiliumNetworkPolicy", "x", "p", "uid")
    proven = (EndpointProof("x/a", "n1", 7, frozenset({"uid"})), EndpointProof("x/b", "n2", 9, frozenset()))
    flow = Flow(1.0, FlowVerdict.DROPPED, FlowPeer(ip="10.0.0.1"), FlowPeer(ip="10.0.0.2"), "TCP", node="n1")
    data = Evidence(
        proofs=[
            Proof((policy,), gone=False, endpoints=proven, realized_s=0.25049, detail=("ipcache",)),
            Proof((policy,), gone=True, endpoints=(), realized_s=0.0),
            Proof((policy,), gone=False, endpoints=(), realized_s=0.0, absent=(replace(policy, name="q"),)),
        ],
        flows=[flow],
        notes={"odd": "thing"},
        reproduce="do it again",
    ).to_data()
    assert data == {
        "proofs": [
            {
                "policies": ["CiliumNetworkPolicy x/p (uid)"],
                "gone": False,
                "endpoints": {"x/a": 7, "x/b": 9},
                "realized_s": 0.25,
                "detail": ["ipcache"],
            },
            {"policies": ["CiliumNetworkPolicy x/p (uid)"], "gone": True, "endpoints": {}, "realized_s": 0.0},
            {
                "policies": ["CiliumNetworkPolicy x/p (uid)"],
                "gone": False,
                "absent": ["CiliumNetworkPolicy x/q (uid)"],
                "endpoints": {},
                "realized_s": 0.0,
            },
        ],
        "flows": [str(flow)],
        "notes": {"odd": "thing"},
        "reproduce": "do it again",
    }


@given(
    st.sampled_from(OutcomeKind),
    st.booleans(),
    st.sets(st.sampled_from(["x/a", "x/b", "x/c"])),
    st.integers(0, 9),
    st.floats(0, 99),
)
def test_json_carries_it(kind, met, by, flaps, converged_s):
    outcome = Outcome("one", kind, status=200 * (kind is OutcomeKind.HTTP), rcode="NOERROR")
    data = Evidence([record(outcome, met=met, by=by, flaps=flaps, converged_s=converged_s)]).to_data()
    assert json.loads(json.dumps(data)) == data
    (check,) = data["checks"]
    assert check["met"] is met
    assert check.get("flaps", 0) == flaps
