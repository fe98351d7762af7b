"""Evidence gets from the test, through xdist's workers, into JUnit XML, JSON Lines and the terminal."""

from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import cilium_e2e
from cilium_e2e.plugin import reporting

TESTS = Path(__file__).parents[1]
PACKAGE = Path(cilium_e2e.__file__).parents[1]

# A lab's work without a cluster: what `lab.judge` and `lab.in_force` leave behind.
SUITE = r"""
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    CheckRecord, Destination, EndpointProof, Flow, FlowPeer, FlowVerdict, KubeError, Outcome, OutcomeKind,
    PolicyRef, Probe, Proof, Protocol, Target,
)
from cilium_e2e.plugin.evidence import evidence_of
from support.memory import MemoryTransport, pod

A, B = Target.pod("ce2e-x", "a"), Target.pod("ce2e-x", "b")
FLOW = Flow(1.0, FlowVerdict.DROPPED, FlowPeer(pod="a", namespace="ce2e-x"), FlowPeer(ip="10.0.0.9"), "TCP",
            drop_reason="POLICY_DENIED", node="n1")

@pytest.fixture(scope="session")
def transport():
    return MemoryTransport(pod("a", "ce2e-x", phase="Running"))

@pytest.fixture(scope="session")
def kube(transport):
    return Kube(transport)

@pytest.fixture
def workload(kube, transport):
    yield
    transport.missing_kinds.add("Pod")  # cleaned up: nothing is there any more

def leave(request, met, kind):
    evidence = evidence_of(request.node)
    probe = Probe.to(A, Destination(B, 80, Protocol.TCP))
    outcome = Outcome(probe.id, kind, answered_by="ce2e-x/b" if kind is OutcomeKind.CONNECTED else "")
    says = "denied: no rule"
    evidence.checks.append(CheckRecord(probe, "denied", frozenset(), outcome, met, 2, 0.75, says))
    policy = PolicyRef("CiliumNetworkPolicy", "ce2e-x", "p", "uid-1")
    evidence.proofs.append(Proof((policy,), False, (EndpointProof("ce2e-x/b", "n1", 12, frozenset()),), 0.25))
    evidence.flows.append(FLOW)
    evidence.notes["odd"] = "\x00 \ud800"  # execnet cannot carry the one, XML not the other

def test_met(request):
    leave(request, True, OutcomeKind.TIMEOUT)

def test_unmet(request, workload):
    leave(request, False, OutcomeKind.CONNECTED)
    assert False, "1 of 1 probes came out differently"

@pytest.mark.requires("l7-proxy")
def test_lacks():
    event("never")

@pytest.mark.xfail(reason="known")
def test_known():
    assert False

@pytest.fixture
def broken():
    raise RuntimeError("no pods")

def test_broken(broken):
    event("never")
"""


@pytest.fixture
def suite(nested, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{PACKAGE}{os.pathsep}{TESTS}")
    nested.tests(SUITE)
    return nested


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def by_name(path: Path) -> dict[str, dict]:
    return {r["nodeid"].partition("::")[2]: r for r in lines(path) if r["type"] == "test"}


@pytest.fixture(params=[("-p", "no:xdist"), ("-n", "2")], ids=["alone", "workers"])
def reported(suite, request):
    """A run with both files."""
    result = suite.run(*request.param, "--evidence=e.jsonl", "--junit-xml=j.xml")
    result.assert_outcomes(passed=1, failed=1, skipped=1, xfailed=1, errors=1)
    return suite.pytester.path, result, request.param[0] == "-n"


def test_the_evidence_file(reported):
    folder, result, workers = reported
    first, *tests, last = lines(folder / "e.jsonl")
    assert (first["type"], first["format"], first["backend"]) == ("run", 1, "kind")
    assert first["topology"] == "default"
    assert first["release"] == "cilium/cilium"
    assert first["versions"] == {"chart": "1.18.12", "Kubernetes": "v1.36.0"}
    assert first["differences"] == ["operator.replicas = 1 (topology default: it is small)"]
    assert first["timeline"] == ["create cluster  1.0 s"]
    assert len(tests) == 5
    assert {record["backend"] for record in [first, *tests, last]} == {"kind"}
    assert last["exit"] == result.ret == pytest.ExitCode.TESTS_FAILED
    assert last["counts"] == {"error": 1, "failed": 1, "passed": 1, "skipped": 1, "xfailed": 1}
    found = by_name(folder / "e.jsonl")
    assert {name: r["outcome"] for name, r in found.items()} == {
        "test_met": "passed",
        "test_unmet": "failed",
        "test_lacks": "skipped",
        "test_known": "xfailed",
        "test_broken": "error",
    }
    assert all(("worker" in record) is workers for record in tests)
    assert found["test_lacks"]["reason"] == "topology default with this release has no l7-proxy"
    assert found["test_known"]["reason"] == "known"
    assert found["test_broken"]["reason"] == "RuntimeError: no pods"
    assert set(found["test_met"]["durations_s"]) == {"setup", "call", "teardown"}
    assert "reason" not in found["test_met"]
    unmet = found["test_unmet"]
    assert unmet["reason"].startswith("AssertionError: 1 of 1 probes")
    assert "1 of 1 probes came out differently" in unmet["longrepr"]
    check = unmet["evidence"]["checks"][0]
    assert (check["met"], check["expected"], check["flaps"]) == (False, "denied", 2)
    assert check["seen"].startswith("connected by ce2e-x/b")
    assert unmet["evidence"]["proofs"][0]["endpoints"] == {"ce2e-x/b": 12}
    assert "POLICY_DENIED" in unmet["evidence"]["flows"][0]
    # The state is from before the clean-up.
    notes = found["test_unmet"]["evidence"]["notes"]
    assert notes["state of pods"] == "ce2e-x/a Running, not ready, on no node"
    assert set(found["test_met"]["evidence"]["notes"]) == {"odd"}, "what went well needs no explanation"
    assert notes["odd"] == "\x00 \ud800"


def test_the_junit_file_and_the_terminal(reported):
    folder, result, _ = reported
    root = ET.parse(folder / "j.xml").getroot()  # noqa: S314 - our own file
    suite = {p.get("name"): p.get("value") for p in root.findall("./testsuite/properties/property")}
    assert suite == {
        "backend": "kind",
        "topology": "default",
        "release": "cilium/cilium",
        "version: chart": "1.18.12",
        "version: Kubernetes": "v1.36.0",
        "differences": "1",
    }
    cases = {
        case.get("name"): [(p.get("name"), p.get("value")) for p in case.findall("properties/property")]
        for case in root.iter("testcase")
    }
    assert all(("backend", "kind") in pairs for pairs in cases.values()), cases
    unmet = dict(cases["test_unmet"])
    assert unmet["expected"] == "ce2e-x/a → ce2e-x/b:80/TCP: denied"
    assert unmet["seen"].startswith("ce2e-x/a → ce2e-x/b:80/TCP: connected by ce2e-x/b")
    assert (unmet["checks"], unmet["unmet"], unmet["flaps"]) == ("1", "1", "2")
    assert unmet["slowest-convergence-s"] == "0.750"
    assert unmet["proof"] == (
        "CiliumNetworkPolicy ce2e-x/p (uid-1): enforced after 0.250 s; endpoints: ce2e-x/b at revision 12"
    )
    assert "POLICY_DENIED" in unmet["flow"]
    assert unmet["reason"].startswith("AssertionError: 1 of 1 probes")
    assert unmet["note: odd"] == r"#x00 \ud800"
    assert unmet["reproduce"] == "python -m pytest test_nested.py::test_unmet --backend=kind"
    assert dict(cases["test_lacks"])["reason"] == "topology default with this release has no l7-proxy"
    assert "reason" not in dict(cases["test_met"])
    assert "expected" not in dict(cases["test_met"])
    assert len(cases["test_met"]) == len(dict(cases["test_met"])), "each property once"
    # The terminal says what the assertion does not.
    result.stdout.fnmatch_lines(
        [
            "*_ test_unmet _*",
            "*- evidence -*",
            "ce2e-x/a → ce2e-x/b:80/TCP: expected denied, seen connected by ce2e-x/b*",
            "  the oracle says denied: no rule",
            "proof: CiliumNetworkPolicy ce2e-x/p: enforced at 1 endpoints after 0.25 s",
            "flow: *POLICY_DENIED on n1",
            "state of pods: ce2e-x/a Running, not ready, on no node",
            "just this again: python -m pytest test_nested.py::test_unmet --backend=kind",
        ]
    )


def test_a_test_that_fails_and_breaks_its_clean_up_has_its_evidence_in_both(suite):
    suite.tests(
        SUITE
        + """
@pytest.fixture
def untidy():
    yield
    raise RuntimeError("still there")

def test_twice(request, untidy):
    leave(request, False, OutcomeKind.CONNECTED)
    assert False, "the test itself"
"""
    )
    suite.run("-p", "no:xdist", "-k", "test_twice", "--evidence=e.jsonl", "--junit-xml=j.xml")
    record = by_name(suite.pytester.path / "e.jsonl")["test_twice"]
    assert record["outcome"] == "failed"
    assert record["reason"].startswith("AssertionError: the test itself")
    assert record["reason"].endswith("RuntimeError: still there")
    root = ET.parse(suite.pytester.path / "j.xml").getroot()  # noqa: S314 - our own file
    properties = [{p.get("name") for p in case.iter("property")} for case in root.iter("testcase")]
    assert len(properties) == 2
    assert all({"backend", "expected", "seen"} <= names for names in properties)


BROKEN_API = """
@pytest.fixture(scope="session")
def transport():
    found = MemoryTransport()
    found.fail("list", {error}, times=1000)
    return found

def test_api(request, kube):
    leave(request, False, OutcomeKind.CONNECTED)
    assert False, "the failure itself"
"""


@pytest.mark.parametrize(
    ("error", "note", "calls"),
    [
        ('KubeError(0, "", "nobody answers")', "Node in the cluster: nobody answers", 2),
        ('ValueError("odd")', "ValueError: odd", 1),
    ],
)
def test_a_broken_cluster_is_a_note_and_not_another_failure(suite, error, note, calls):
    suite.tests(
        SUITE + BROKEN_API.format(error=error) + "\ndef test_calls(transport):\n"
        f"    assert len(transport.calls) == {calls}, transport.calls\n"
    )
    result = suite.run("-p", "no:xdist", "-k", "test_api or test_calls", "--evidence=e.jsonl")
    result.assert_outcomes(failed=1, passed=1, deselected=5)
    record = by_name(suite.pytester.path / "e.jsonl")["test_api"]
    assert record["reason"].startswith("AssertionError: the failure itself")
    assert record["evidence"]["notes"]["state that could not be read"] == note
    assert not any(name.startswith("state of") for name in record["evidence"]["notes"])


def test_the_state_is_captured_while_the_policy_is_still_in_force(suite):
    """The lab's block ends before pytest knows of the failure."""
    suite.tests(
        SUITE
        + """
from types import SimpleNamespace

@pytest.fixture(scope="session")
def cluster(kube, handle):
    def prove(refs, endpoints, *, gone=False, absent=(), timeout_s=30.0):
        return Proof(tuple(refs), gone, tuple(EndpointProof(e, "n1", 2, frozenset()) for e in endpoints), 0.1)
    return SimpleNamespace(info=handle.info, clock=kube.clock, prove=prove, relay=lambda: None)

def test_inside(lab):
    policy = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy",
              "metadata": {"name": "p", "namespace": "ce2e-x"}, "spec": {}}
    with lab.in_force([policy], ["ce2e-x/a"]):
        assert False, "inside"
"""
    )
    suite.run("-p", "no:xdist", "-k", "test_inside", "--evidence=e.jsonl").assert_outcomes(
        failed=1, deselected=5
    )
    record = by_name(suite.pytester.path / "e.jsonl")["test_inside"]
    assert record["reason"].startswith("AssertionError: inside")
    assert "CiliumNetworkPolicy ce2e-x/p: Valid unknown" in record["evidence"]["notes"]["state of policies"]
    assert record["evidence"]["proofs"][0]["policies"] == ["CiliumNetworkPolicy ce2e-x/p (uid-p)"]


def test_a_worker_that_dies_leaves_a_record(suite):
    suite.tests("def test_dies():\n    os._exit(3)\ndef test_fine(handle):\n    pass\n")
    suite.run("-n", "1", "--max-worker-restart=1", "--evidence=e.jsonl")
    found = by_name(suite.pytester.path / "e.jsonl")
    assert found["test_dies"]["outcome"] == "crashed"
    assert found["test_dies"]["worker"] == "gw0"
    assert "worker 'gw0' crashed" in found["test_dies"]["reason"]
    assert found["test_fine"]["outcome"] == "passed"
    assert lines(suite.pytester.path / "e.jsonl")[-1]["counts"] == {"crashed": 1, "passed": 1}


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_cut_off_keeps_what_it_had(suite, how):
    suite.tests(
        "import threading\ndef test_first():\n    pass\n"
        "def test_blocked():\n    event('blocked')\n    threading.Event().wait(60)\n"
    )
    process = suite.popen("-p", "no:xdist", "--evidence=e.jsonl")
    suite.await_event("blocked", process)
    process.send_signal(how)
    process.communicate(timeout=60)
    first, *rest = lines(suite.pytester.path / "e.jsonl")
    assert first["type"] == "run"
    assert (rest[0]["nodeid"], rest[0]["outcome"]) == ("test_nested.py::test_first", "passed")
    if how is signal.SIGKILL:
        assert len(rest) == 1, "no summary: it was cut off"
    else:
        assert (rest[1]["nodeid"], rest[1]["outcome"]) == ("test_nested.py::test_blocked", "unfinished")
        assert rest[2]["exit"] == pytest.ExitCode.INTERRUPTED


@pytest.mark.parametrize(("how", "code"), [("input", 4), ("state", 2)])
def test_a_cluster_that_does_not_come_up_is_on_record(suite, how, code):
    suite.fails(how)
    suite.run("-n", "2", "--evidence=e.jsonl")
    first, last = lines(suite.pytester.path / "e.jsonl")
    assert "cluster" not in first
    assert (last["exit"], last["counts"]) == (code, {})


def test_a_cluster_that_cannot_be_deleted_is_on_record(suite):
    suite.fails("stop")
    result = suite.run("-p", "no:xdist", "-k", "test_met", "--evidence=e.jsonl")
    assert lines(suite.pytester.path / "e.jsonl")[-1]["exit"] == result.ret == pytest.ExitCode.INTERRUPTED


def test_what_cannot_be_collected_is_on_record(suite):
    suite.tests("import nothing_of_this_name\n")
    result = suite.run("-n", "2", "--evidence=e.jsonl")
    records = [r for r in lines(suite.pytester.path / "e.jsonl") if r["type"] == "collection"]
    assert [record["outcome"] for record in records] == ["error"]
    assert "nothing_of_this_name" in records[0]["longrepr"]
    assert lines(suite.pytester.path / "e.jsonl")[-1]["exit"] == result.ret


@pytest.mark.parametrize("path", ["no/such/folder/e.jsonl", "."])
def test_a_file_that_cannot_be_written_is_told_before_anything_starts(suite, text_of, path):
    result = suite.run(f"--evidence={path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"--evidence {path}: cannot be written: " in text_of(result)
    assert suite.events == []


def test_without_a_backend_there_is_no_evidence_and_that_is_said(suite, text_of):
    result = suite.run("--evidence=e.jsonl", backend="")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "--evidence: there is none without --backend" in text_of(result)


def test_listing_leaves_an_older_file_alone(suite):
    file = suite.pytester.path / "e.jsonl"
    file.write_text("older")
    suite.run("--collect-only", "--evidence=e.jsonl")
    assert file.read_text() == "older"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_file_that_could_not_be_completed_is_no_success(suite, text_of):
    result = suite.run("-p", "no:xdist", "-k", "test_met", "--evidence=/dev/full")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert "--evidence /dev/full: the file is not complete: " in text_of(result)


def test_options_of_the_run_are_in_the_command_and_secrets_are_not(suite):
    (suite.pytester.path / "values.yaml").touch()
    suite.run(
        *("-p", "no:xdist", "-k", "test_unmet", "--evidence=e.jsonl"),
        *("--topology=ha", "--values=values.yaml", "--external=a/b=skip", "--feature-gate=A=false"),
        *("--chart-repository=https://me:hunter2@c.example/charts?token=hunter3", "--keep-cluster"),
    )
    again = by_name(suite.pytester.path / "e.jsonl")["test_unmet"]["evidence"]["reproduce"]
    assert again == (
        "python -m pytest test_nested.py::test_unmet --backend=kind --topology=ha --values=values.yaml "
        "'--chart-repository=https://REDACTED@c.example/charts?REDACTED' --external=a/b=skip "
        "--feature-gate=A=false --keep-cluster"
    )
    assert "hunter" not in (suite.pytester.path / "e.jsonl").read_text()


def test_a_subtest_is_no_test_of_its_own(suite):
    suite.tests(
        "def test_parts(subtests):\n"
        "    with subtests.test('fine'):\n        pass\n"
        "    with subtests.test('lacks'):\n        pytest.skip('no such part')\n"
        "def test_bad(subtests):\n"
        "    with subtests.test('bad'):\n        assert False, 'the part'\n"
    )
    suite.run("-n", "1", "--evidence=e.jsonl")
    found = by_name(suite.pytester.path / "e.jsonl")
    assert found["test_parts"]["outcome"] == "passed"
    assert found["test_bad"]["outcome"] == "failed"
    assert "the part" in found["test_bad"]["reason"]


def test_the_suites_own_tests_are_run_again_by_the_command(pytester, monkeypatch):
    folder = Path(cilium_e2e.__file__).parent / "suites"
    config = pytester.parseconfig("-p", "cilium_e2e.plugin", "--backend=kind", f"--rootdir={folder}")
    assert reporting.Reporting(config)._suites
    assert not reporting.Reporting(pytester.parseconfig("-p", "cilium_e2e.plugin"))._suites
