"""The cluster is made once, before anything runs, and deleted once, after everything, whatever happens."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace

import pytest

from cilium_e2e.plugin import lifecycle

EVERY_WORKER = """
@pytest.mark.parametrize("number", range(4))
def test_handle(handle, number):
    event("ran " + os.environ.get("PYTEST_XDIST_WORKER", "main") + " on " + handle.info.name)
    assert number != 3, "this one fails"
"""
FINE = "def test_fine(handle):\n    event('ran')\n"
COLLECTED = """
from pathlib import Path

(Path(__file__).parent / "worker.pid").write_text(str(os.getpid()))
event("collected")
"""
BLOCKED = """
import threading

def test_blocked():
    event("blocked")
    try:
        threading.Event().wait(60)
    finally:
        event("torn down")
"""


def test_workers_share_one_cluster(nested):
    """One of four tests fails, which changes nothing about the cluster."""
    nested.tests(EVERY_WORKER)
    result = nested.run("-n", "2")
    result.assert_outcomes(passed=3, failed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    events = nested.events
    assert events[0] == "start"
    assert events[-2:] == ["deleting", "deleted"]
    assert sorted(events[1:-2]) == ["ran gw0 on ce2e-fake"] * 2 + ["ran gw1 on ce2e-fake"] * 2


def test_workers_collect_while_the_cluster_is_made(nested):
    """Else the start of the cluster would wait for ever."""
    nested.fails("waits for a worker")
    nested.tests("event('collected')\n" + FINE)
    result = nested.run("-n", "1")
    result.assert_outcomes(passed=1)
    assert nested.events == ["start", "collected", "ran", "deleting", "deleted"]


def test_workers_of_a_cluster_that_does_not_come_up_run_nothing_and_end(nested, text_of):
    """They have been started and have tests; their processes do not stay."""
    nested.fails("fails with a worker")
    nested.tests(COLLECTED + FINE)
    result = nested.run("-n", "1")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert text_of(result).count("ERROR: DaemonSet cilium: the agent on node n1 is stuck") == 1
    assert nested.events == ["start", "collected"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((nested.pytester.path / "worker.pid").read_text()), 0)


def test_a_crashed_worker_is_replaced_on_the_same_cluster(nested):
    nested.tests("def test_crash():\n    os._exit(3)\n" + FINE)
    result = nested.run("-n", "1", "--max-worker-restart=1")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*worker 'gw0' crashed*"])
    assert nested.events == ["start", "ran", "deleting", "deleted"]


def test_without_xdist_the_controller_runs_the_tests(nested):
    nested.tests(EVERY_WORKER)
    nested.run("-p", "no:xdist").assert_outcomes(passed=3, failed=1)
    assert nested.events == ["start", *["ran main on ce2e-fake"] * 4, "deleting", "deleted"]


def test_the_summary_says_where_it_ran_and_what_differed(nested):
    nested.tests(FINE)
    result = nested.run()
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[0] == "backend: kind (a fake)"
    result.stdout.fnmatch_lines(
        [
            "*= cluster =*",
            "backend kind, topology default, release cilium/cilium: chart 1.18.12, Kubernetes v1.36.0",
            "  create cluster  1.0 s",
            "1 declared differences from the repository:",
            "  operator.replicas = 1 (topology default: it is small)",
        ]
    )


@pytest.mark.parametrize(
    ("how", "code", "message", "begun"),
    [
        ("input", pytest.ExitCode.USAGE_ERROR, "--chart sock: expected a chart, got a sock", []),
        ("state", pytest.ExitCode.INTERRUPTED, "DaemonSet cilium: the agent on node n1 is stuck", ["start"]),
    ],
)
def test_a_cluster_that_cannot_be_made_is_told_once(nested, text_of, how, code, message, begun):
    nested.fails(how)
    nested.tests(FINE)
    result = nested.run("-n", "2")
    assert result.ret == code
    assert text_of(result).count(message) == 1
    result.stderr.fnmatch_lines([f"ERROR: {message}"])
    assert "Traceback" not in text_of(result)
    assert "INTERNALERROR" not in text_of(result)
    assert nested.events == begun, "no worker ran, and there is nothing to delete"


@pytest.mark.parametrize("given", [["nowhere.py"], ["-n", "1", "nowhere.py::test_x"]])
def test_tests_that_are_not_there_are_told_while_nothing_is_made(nested, text_of, given):
    """By an xdist worker nobody would hear of it."""
    nested.tests(FINE)
    result = nested.run(*given)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text_of(result).count(f"ERROR: file or directory not found: {given[-1]}") == 1
    assert nested.events == []


def test_a_cluster_that_cannot_be_deleted_is_told_once(nested, text_of):
    nested.fails("stop")
    nested.tests(FINE)
    result = nested.run()
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.assert_outcomes(passed=1)
    message = "ERROR: cluster ce2e-fake: the engine is gone. By hand."
    assert text_of(result).count(message) == 1
    assert "Traceback" not in text_of(result)


@pytest.mark.parametrize("wrapper", [False, True], ids=["before it is made", "after"])
def test_a_session_that_never_starts_leaves_no_cluster(nested, wrapper):
    """pytest does not finish a session whose start failed, here in somebody else's hook."""
    nested.tests(FINE)
    (nested.pytester.path / "other.py").write_text(
        "import pytest\n"
        f"@pytest.hookimpl({'wrapper' if wrapper else 'trylast'}=True, tryfirst={wrapper})\n"
        "def pytest_sessionstart(session):\n"
        f"    {'yield' if wrapper else 'pass'}\n"
        "    raise RuntimeError('not today')\n"
    )
    nested.pytester.syspathinsert()
    result = nested.run("-p", "other")
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert nested.events == (["start", "deleting", "deleted"] if wrapper else [])


def test_handlers_are_put_back(nested):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    nested.tests(
        "import signal\n"
        "def test_handler(pytestconfig):\n"
        "    assert 'Controller' in repr(signal.getsignal(signal.SIGTERM))\n"
    )
    nested.run().assert_outcomes(passed=1)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_an_ignored_hangup_stays_ignored(nested):
    """Somebody started the run with nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        nested.tests(
            "import signal\n"
            "def test_handler():\n"
            "    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN\n"
        )
        nested.run().assert_outcomes(passed=1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_in_a_test_deletes_the_cluster(nested):
    nested.tests("def test_interrupted():\n    raise KeyboardInterrupt\n" + FINE)
    result = nested.pytester.runpytest_inprocess(*nested.words(), no_reraise_ctrlc=True)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert nested.events == ["start", "deleting", "deleted"]


@pytest.mark.parametrize(
    ("number", "arguments", "to_all"),
    [
        (signal.SIGINT, ["-n", "2"], True),  # a terminal sends Ctrl-C to every process
        (signal.SIGTERM, ["-n", "1"], False),
        (signal.SIGHUP, [], False),
    ],
    ids=["SIGINT to all", "SIGTERM to the controller", "SIGHUP without workers"],
)
def test_a_signal_deletes_the_cluster_and_a_second_one_does_not_break_that(nested, number, arguments, to_all):
    nested.fails("slow")
    nested.tests(BLOCKED)
    process = nested.popen(*arguments)
    nested.await_event("blocked", process)
    os.killpg(process.pid, number) if to_all else os.kill(process.pid, number)
    nested.await_event("deleting", process)
    os.kill(process.pid, number)
    os.kill(process.pid, signal.SIGTERM)
    (nested.pytester.path / "go").touch()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert nested.events == ["start", "blocked", "torn down", "deleting", "deleted"]
    assert f"{number.name}: deleting cluster ce2e-fake, please wait" in output


@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False)],
    ids=["SIGINT to all", "SIGTERM to the controller"],
)
def test_a_signal_while_the_cluster_is_made_deletes_it_and_ends_the_workers(nested, number, to_all):
    """They have collected, and wait for the cluster."""
    nested.fails("hangs")
    nested.tests(COLLECTED + FINE)
    process = nested.popen("-n", "1")
    nested.await_event("hangs", process)
    nested.await_event("collected", process)
    os.killpg(process.pid, number) if to_all else os.kill(process.pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == pytest.ExitCode.INTERRUPTED, output
    assert sorted(nested.events) == ["collected", "deleted", "deleting", "hangs", "start"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((nested.pytester.path / "worker.pid").read_text()), 0)


def test_an_interruption_reaches_workers_on_this_machine_at_once():
    """xdist itself would leave them to finish, and kill them after ten seconds."""
    sent = []

    def gateway(popen):
        return SimpleNamespace(_io=SimpleNamespace(popen=popen))

    def gone(_):
        raise ProcessLookupError

    workers = [
        gateway(SimpleNamespace(send_signal=gone)),
        gateway(SimpleNamespace(send_signal=sent.append)),
        SimpleNamespace(),
    ]
    xdist = SimpleNamespace(nodemanager=SimpleNamespace(group=workers))
    plugins = SimpleNamespace(get_plugin={"dsession": xdist}.get)
    lifecycle.Controller(SimpleNamespace(pluginmanager=plugins)).pytest_keyboard_interrupt()
    assert sent == [signal.SIGINT]
