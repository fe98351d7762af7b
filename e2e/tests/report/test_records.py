"""The lines of an evidence file; nothing that did not pass counts as passed."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import Backend, Capability, ClusterInfo, Difference, NodeInfo
from cilium_e2e.report import FORMAT, Phase, TestRecord, cluster_record, header, outcome_of, summary

SETUP, CALL, TEARDOWN = (Phase(when, "passed", 0.5) for when in ("setup", "call", "teardown"))


@pytest.mark.parametrize(
    ("phases", "outcome"),
    [
        ([SETUP, CALL, TEARDOWN], "passed"),
        ([SETUP, Phase("call", "failed"), TEARDOWN], "failed"),
        ([SETUP, Phase("call", "failed"), Phase("teardown", "failed")], "failed"),
        ([SETUP, CALL, Phase("teardown", "failed")], "error"),
        ([Phase("setup", "failed"), TEARDOWN], "error"),
        ([Phase("setup", "skipped"), TEARDOWN], "skipped"),
        ([SETUP, Phase("call", "skipped"), TEARDOWN], "skipped"),
        ([SETUP, Phase("call", "skipped", expected_failure=True), TEARDOWN], "xfailed"),
        ([SETUP, Phase("call", "passed", expected_failure=True), TEARDOWN], "xpassed"),
        ([SETUP, Phase("???", "failed")], "crashed"),
        ([SETUP], "unfinished"),
        ([SETUP, CALL], "unfinished"),
        ([SETUP, TEARDOWN], "unfinished"),
        ([], "unfinished"),
    ],
)
def test_what_a_test_came_to(phases, outcome):
    assert outcome_of(phases) == outcome


_PHASES = st.builds(
    Phase,
    st.sampled_from(["setup", "call", "teardown", "???"]),
    st.sampled_from(["passed", "failed", "skipped"]),
    expected_failure=st.booleans(),
)


@given(st.lists(_PHASES, max_size=5))
def test_passed_means_that_all_phases_passed(phases):
    outcome = outcome_of(phases)
    if outcome == "passed":
        assert {phase.outcome for phase in phases} == {"passed"}
        assert {"call", "teardown"} <= {phase.when for phase in phases} <= {"setup", "call", "teardown"}
    if any(phase.outcome == "failed" for phase in phases):
        assert outcome in {"crashed", "failed", "error"}


def test_a_record_adds_up_and_leaves_out_what_is_empty():
    record = TestRecord("t.py::t", "gw1", [SETUP, CALL, CALL, TEARDOWN])
    assert record.ended
    assert record.to_data("kind") == {
        "type": "test",
        "nodeid": "t.py::t",
        "outcome": "passed",
        "backend": "kind",
        "worker": "gw1",
        "durations_s": {"setup": 0.5, "call": 1.0, "teardown": 0.5},
    }


def test_reasons_and_failures_of_all_phases_are_kept():
    failed = [
        Phase("call", "failed", 0.1, "one", "long one"),
        Phase("teardown", "failed", 0.1, "two", "long two"),
    ]
    data = TestRecord("t", "", [SETUP, *failed], {"notes": {"a": "b"}}).to_data("kind")
    assert data["reason"] == "one; two"
    assert data["longrepr"] == "long one\nlong two"
    assert data["evidence"] == {"notes": {"a": "b"}}
    assert "worker" not in data


def test_a_long_failure_is_bounded():
    data = TestRecord("t", "", [Phase("call", "failed", 0.1, "r", "x" * 100_000)]).to_data("kind")
    assert len(data["longrepr"]) < 21_000
    assert "80000 characters left out" in data["longrepr"]


def test_a_test_has_ended_with_its_tear_down_or_its_workers_death():
    record = TestRecord("t", "", [SETUP])
    assert not record.ended
    record.phases.append(Phase("???", "failed"))
    assert record.ended


def test_the_header_says_what_was_tested():
    info = ClusterInfo(
        name="c",
        backend=Backend.EXISTING,
        topology="as it is",
        nodes=(NodeInfo("n1", "worker", ("10.0.0.1",)),),
        release="cilium/cilium",
        cilium_namespace="cilium",
        capabilities=frozenset({Capability.MULTI_NODE}),
        features=frozenset({"b", "a"}),
        versions=(("chart", "1.18.12"),),
        differences=(Difference("x", "1", "why", "where"),),
    )
    data = header(backend="existing", harness="1", started_s=1.00049, info=info, timeline=["a", "b"])
    assert json.loads(json.dumps(data)) == {
        "type": "run",
        "format": FORMAT,
        "backend": "existing",
        "harness": "1",
        "started_s": 1.0,
        "cluster": "c",
        "topology": "as it is",
        "release": "cilium/cilium",
        "versions": {"chart": "1.18.12"},
        "nodes": [{"name": "n1", "role": "worker", "ips": ["10.0.0.1"]}],
        "capabilities": ["multi-node"],
        "features": ["a", "b"],
        "differences": [str(info.differences[0])],
        "timeline": ["a", "b"],
    }
    only_a_runs = ("format", "harness", "started_s")
    assert cluster_record("as it is", info=info, timeline=["a", "b"]) == {
        name: "cluster" if name == "type" else value
        for name, value in data.items()
        if name not in only_a_runs
    }
    assert set(header(backend="auto", harness="1", started_s=1.0, info=None)) == {
        *("type", "format", "backend", "harness", "started_s")
    }


def test_a_cluster_that_did_not_come_up_says_why():
    assert cluster_record("ha", info=None, error="no disk") == {
        "type": "cluster",
        "topology": "ha",
        "error": "no disk",
    }
    assert cluster_record("ha", info=None) == {"type": "cluster", "topology": "ha"}


def test_a_record_names_its_topology_where_there_are_several():
    phases = [SETUP, CALL, TEARDOWN]
    assert TestRecord("t@ha", phases=phases, topology="ha").to_data("kind")["topology"] == "ha"
    assert "topology" not in TestRecord("t", phases=phases).to_data("kind")


def test_the_summary():
    data = summary(backend="kind", exit_code=1, counts={"passed": 2, "failed": 1}, took_s=1.23456)
    assert data == {
        "type": "summary",
        "backend": "kind",
        "exit": 1,
        "counts": {"failed": 1, "passed": 2},
        "took_s": 1.235,
    }
