"""Several topologies in one run: clusters side by side, each test once on each, failures stay apart."""

from __future__ import annotations

import json
import os
import signal
import xml.etree.ElementTree as ET
from collections import Counter

import pytest

from cilium_e2e.plugin import copies, fleet
from cilium_e2e.session import member

LOADED = (copies, fleet, member)
"""Imported here, so that nested runs in this process find them."""

TWO = ("--topology=ha", "--topology=single-node")
ALONE = ("-p", "no:xdist")
WHERE = """
def where(handle):
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    event(f"{worker} {os.environ['PYTEST_CURRENT_TEST'].split()[0]} on {handle.info.topology}")
"""
PLAIN = (
    WHERE
    + """
@pytest.mark.parametrize("number", range(4))
def test_where(handle, number):
    where(handle)

def test_without_a_cluster():
    pass

@pytest.mark.requires("multi-node")
def test_two_nodes(handle):
    where(handle)

def test_fails_on_one(handle):
    assert handle.info.topology != "ha", "this one fails"
"""
)


@pytest.fixture
def pair(nested, root):
    """Runs tests on two topologies of this repository."""

    def run(text: str, *arguments: str) -> pytest.RunResult:
        nested.tests(text)
        return nested.run(*TWO, f"--repository={root}", *arguments)

    return run


def ended(nested) -> list[str]:
    return sorted(line for line in nested.events if line.startswith(("delet", "kept")))


BOTH_DELETED = ["deleted ha", "deleted single-node", "deleting ha", "deleting single-node"]


def seen(nested) -> list[tuple[str, str, str]]:
    """Worker, test's id, cluster: of each test that said where it was."""
    lines = [line.split() for line in nested.events if " on " in line]
    return [(worker, nodeid, topology) for worker, nodeid, _, topology in lines]


def test_workers_belong_to_one_cluster_and_each_test_runs_once_on_each(nested, pair):
    """All of it in one run, because a run takes seconds: ids, affinity, skips, reports, the summary."""
    result = pair(PLAIN, "-n", "3", "-rs", "--evidence=e.jsonl", "--junit-xml=j.xml")
    result.assert_outcomes(passed=12, failed=1, skipped=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert ended(nested) == BOTH_DELETED

    where = seen(nested)
    assert Counter(nodeid for _, nodeid, _ in where) == Counter(
        [
            *(
                f"test_nested.py::test_where[{n}]@{topology}"
                for n in range(4)
                for topology in ("ha", "single-node")
            ),
            "test_nested.py::test_two_nodes@ha",
        ]
    )
    assert all(nodeid.endswith(f"@{topology}") for _, nodeid, topology in where)
    homes = {worker: {topology for one, _, topology in where if one == worker} for worker, _, _ in where}
    assert all(len(topologies) == 1 for topologies in homes.values())
    assert homes.keys() <= {"gw0", "gw1", "gw2"}
    assert homes["gw1"] == {"single-node"}, "in turn: gw0 and gw2 are for ha"

    result.stdout.fnmatch_lines(["*test_fails_on_one@ha*", "*= topologies =*"])
    result.stdout.fnmatch_lines(
        ["ha: 1 failed, 6 passed", "single-node: 6 passed, 1 skipped"], consecutive=True
    )
    result.stdout.fnmatch_lines(["*= cluster ha =*", "*= cluster single-node =*"])
    result.stdout.fnmatch_lines(["*topology single-node with this release has no multi-node"])
    result.stdout.fnmatch_lines(["*just this again: *test_nested.py::test_fails_on_one*--topology=ha*"])
    assert not any(
        "single-node" in line or "@" in line for line in result.outlines if "just this again" in line
    )

    records = [json.loads(line) for line in (nested.pytester.path / "e.jsonl").read_text().splitlines()]
    assert [record["type"] for record in records[:3]] == ["run", "cluster", "cluster"]
    assert "topology" not in records[0]
    assert [record["cluster"] for record in records[1:3]] == ["ce2e-ha", "ce2e-single-node"]
    tests = [record for record in records if record["type"] == "test"]
    assert Counter(test["topology"] for test in tests) == {"ha": 7, "single-node": 7}
    assert all(test["nodeid"].endswith(f"@{test['topology']}") for test in tests)

    suite = ET.parse(nested.pytester.path / "j.xml").getroot()[0]  # noqa: S314 - our own file
    assert suite.find("properties/property[@name='topology']").get("value") == "ha, single-node"
    assert suite.find("properties/property[@name='ha: version: chart']").get("value") == "1.18.12"
    of = Counter(p.get("value") for p in suite.findall("testcase/properties/property[@name='topology']"))
    assert of == {"ha": 7, "single-node": 7}


FIXTURES = (
    WHERE
    + """
import unittest

@pytest.fixture(scope="session")
def of_session(handle):
    event(f"up {handle.info.topology}")
    yield handle.info.topology
    event(f"down {handle.info.topology}")

@pytest.fixture(scope="module")
def of_module(of_session):
    return of_session

@pytest.fixture(scope="session")
def of_no_cluster():
    event("once")

class TestThings:
    def test_first(self, of_module, handle, of_no_cluster, run_options, repository):
        assert not hasattr(self, "mark")
        self.mark = True
        assert of_module == handle.info.topology == run_options.topology == repository.topology.name
        where(handle)

    def test_marks(self, request, handle):
        if handle.info.topology == "ha":
            request.node.add_marker(pytest.mark.xfail(reason="there it fails"))
        assert handle.info.topology != "ha"

    def test_later(self, request):
        assert request.getfixturevalue("handle").info.topology == request.getfixturevalue("of_module")

class TestOld(unittest.TestCase):
    def test_old(self):
        assert not hasattr(self, "mark")
        self.mark = True
"""
)


def test_in_one_process_one_topology_comes_after_the_other(nested, pair):
    """What depends on a cluster is set up once for each, and down before the next; the rest stays."""
    pair(FIXTURES, *ALONE).assert_outcomes(passed=7, xfailed=1)
    told = [line for line in nested.events if not line.startswith(("start", "delet"))]
    first = "main test_nested.py::TestThings::test_first@"
    assert told == [
        *("up ha", "once", f"{first}ha on ha", "down ha"),
        *("up single-node", f"{first}single-node on single-node", "down single-node"),
    ]
    assert ended(nested) == BOTH_DELETED


def test_clusters_are_made_at_the_same_time(nested, pair, monkeypatch):
    """Each waits until the other has begun, too: one after the other they would wait in vain."""
    nested.fails("meets")
    monkeypatch.setenv("FAKE_MEETS", "ha single-node")
    result = pair("def test_fine(handle): pass", *ALONE)
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines_random(["ha: backend: kind (a fake)", "single-node: backend: kind (a fake)"])


STUCK = "DaemonSet cilium: the agent on node n1 is stuck"


@pytest.mark.parametrize("how", [("-n", "2"), ALONE], ids=["workers", "alone"])
def test_a_topology_that_does_not_come_up_costs_only_its_own_tests(nested, pair, text_of, how):
    nested.fails("state", on="ha")
    result = pair(PLAIN, *how, "--evidence=e.jsonl", "--junit-xml=j.xml")
    result.assert_outcomes(passed=6, skipped=1, errors=7)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.stderr.str().count(f"ERROR: topology ha: {STUCK}") == 1
    result.stdout.fnmatch_lines([f"*topology ha has no cluster: {STUCK}*"])
    result.stdout.fnmatch_lines(
        ["ha: 7 error", f"  topology ha has no cluster: {STUCK}", "single-node: 6 passed*"]
    )
    assert {topology for _, _, topology in seen(nested)} == {"single-node"}
    assert "INTERNALERROR" not in text_of(result)
    assert ended(nested) == ["deleted single-node", "deleting single-node"]

    records = [json.loads(line) for line in (nested.pytester.path / "e.jsonl").read_text().splitlines()]
    assert [record.get("error", "") for record in records[1:3]] == [STUCK, ""]
    errors = [record for record in records if record.get("outcome") == "error"]
    assert {record["topology"] for record in errors} == {"ha"}
    reasons = {record["reason"].removeprefix("Failed: ") for record in errors}
    assert reasons == {f"topology ha has no cluster: {STUCK}"}
    assert records[-1]["counts"] == {"error": 7, "passed": 6, "skipped": 1}
    suite = ET.parse(nested.pytester.path / "j.xml").getroot()[0]  # noqa: S314 - our own file
    assert (suite.get("errors"), suite.get("tests")) == ("7", "14")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("bug", "topology ha: ValueError: nobody has thought of this"),
        ("dies", "topology ha: the process of its cluster ended by itself, with exit code 7*"),
    ],
)
def test_whatever_ends_the_making_of_a_cluster_is_named(nested, pair, how, message):
    nested.fails(how, on="ha")
    result = pair("def test_fine(handle): pass", *ALONE)
    result.assert_outcomes(passed=1, errors=1)
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert ended(nested) == ["deleted single-node", "deleting single-node"]


def test_without_any_cluster_there_is_no_run(nested, pair):
    nested.fails("state")
    result = pair("def test_fine(handle): pass", "-n", "2")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stderr.fnmatch_lines_random([f"ERROR: topology {name}: {STUCK}" for name in ("ha", "single-node")])
    assert sorted(nested.events) == ["start ha", "start single-node"]


def test_wrong_input_on_one_topology_ends_the_run_and_leaves_no_cluster(nested, pair, text_of):
    """The other is still being made."""
    nested.fails("input", on="ha")
    result = pair("def test_fine(handle): pass", "-n", "2")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text_of(result).count("expected a chart, got a sock") == 1
    made = [line for line in nested.events if line.startswith("delet")]
    assert made in ([], ["deleting single-node", "deleted single-node"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("-n", "1"),
            "*-n 1: the 2 topologies ha, single-node need a worker each. Give -n 2 or more, or -n 0 *",
        ),
        (
            ("-n", "2", "--dist=loadfile"),
            "*--dist loadfile: with several topologies *expected load or worksteal",
        ),
        (("--topology=ha",), "*--topology ha: expected each topology once"),
        (("--topology=none-such", *ALONE), "*unknown topology 'none-such'*"),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_made(nested, pair, text_of, words, message):
    result = pair("def test_fine(handle): pass", *words)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([message])
    assert "Traceback" not in text_of(result)
    assert nested.events == []


def test_an_existing_cluster_is_one(nested):
    nested.tests("def test_fine(handle): pass")
    result = nested.run(*TWO, backend="existing")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--topology: an existing cluster is one, asked for are *ha, single-node. *"]
    )


CRASH = (
    WHERE
    + """
def test_crash(handle):
    if handle.info.topology == "ha":
        os._exit(3)

@pytest.mark.parametrize("number", range(4))
def test_where(handle, number):
    where(handle)
"""
)


def test_a_worker_that_dies_is_replaced_on_its_own_cluster(nested, pair):
    result = pair(CRASH, "-n", "2")
    result.assert_outcomes(passed=9, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed while running *test_crash@ha*"])
    homes = {(worker, topology) for worker, _, topology in seen(nested)}
    assert homes == {("gw2", "ha"), ("gw1", "single-node")}


def test_without_a_replacement_its_tests_are_errors_and_not_lost(pair):
    result = pair(CRASH, "-n", "2", "--max-worker-restart=0")
    outcomes = result.parseoutcomes()
    assert (outcomes["failed"], sum(outcomes.get(what, 0) for what in ("passed", "errors"))) == (1, 9)
    assert outcomes["errors"] >= 4
    result.stdout.fnmatch_lines(["*not run: no worker of topology ha is left*"])


def test_disruptive_tests_have_their_own_cluster_alone_and_no_other(nested, pair):
    """Each is in while the other cluster's is: with one lock for both that could not be."""
    text = """
from conftest import saw

@pytest.mark.disruptive
def test_alone(handle):
    other = {"ha": "single-node", "single-node": "ha"}[handle.info.topology]
    event(f"in {handle.info.topology}")
    assert saw(f"in {other}")
"""
    pair(text, "-n", "2").assert_outcomes(passed=2)


def test_they_come_last_on_each_topology(pair):
    text = "@pytest.mark.disruptive\ndef test_a(): pass\ndef test_b(): pass\n"
    result = pair(text, "--collect-only", "-q")
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert names == ["test_b@ha", "test_a@ha", "test_b@single-node", "test_a@single-node"]


def test_kept_clusters_are_named_by_topology(nested, pair):
    result = pair("def test_fine(handle): pass", *ALONE, "--keep-cluster", "--cluster-name=mine")
    result.assert_outcomes(passed=2)
    assert ended(nested) == ["kept mine-ha", "kept mine-single-node"]


def test_what_cannot_be_deleted_is_told_and_the_other_is_deleted(nested, pair):
    nested.fails("stop", on="ha")
    result = pair("def test_fine(handle): pass", *ALONE)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stderr.fnmatch_lines(["ERROR: cluster ce2e-ha: the engine is gone. By hand."])
    assert "deleted single-node" in nested.events


BLOCKED = """
import threading

def test_blocked(handle):
    event(f"blocked on {handle.info.topology}")
    try:
        threading.Event().wait(60)
    finally:
        event("torn down")
"""


@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False)], ids=["SIGINT to all", "SIGTERM"]
)
def test_a_signal_in_the_tests_deletes_all_clusters_after_them(nested, root, number, to_all):
    nested.tests(BLOCKED)
    process = nested.popen(*TWO, f"--repository={root}", "-n", "2")
    for topology in ("ha", "single-node"):
        nested.await_event(f"blocked on {topology}", process)
    os.killpg(process.pid, number) if to_all else os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert ended(nested) == BOTH_DELETED
    assert max(i for i, line in enumerate(nested.events) if line == "torn down") < nested.events.index(
        "deleting ha"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_while_clusters_are_made_deletes_what_there_is(nested, root, number):
    """Of SIGKILL the run itself knows nothing: its clusters' processes see that it is gone."""
    nested.fails("hangs", on="ha")
    nested.tests("def test_fine(handle): pass")
    process = nested.popen(*TWO, f"--repository={root}", "-n", "2")
    nested.await_event("hangs ha", process)
    nested.await_event("start single-node", process)
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)  # the clusters' processes write there, too: it ends with them
    assert process.returncode == (-number if number is signal.SIGKILL else pytest.ExitCode.INTERRUPTED), (
        output
    )
    assert "deleted ha" in nested.events
    assert nested.events.count("deleting single-node") == nested.events.count("deleted single-node")
    assert "blocked" not in nested.events


def test_a_test_is_chosen_by_the_name_it_has_everywhere(pair):
    result = pair(PLAIN, "--collect-only", "-q", "test_nested.py::test_where[2]")
    names = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert names == ["test_where[2]@ha", "test_where[2]@single-node"]
