"""Tests share the cluster, and a disruptive one has it alone; seen from outside, with real workers.

Every process writes what it does into one file, so that its lines are in the order of time.
"""

from __future__ import annotations

import pytest

DIST = ("-n", "2", "--dist", "worksteal")
# "TEST=LINE": a test that asks for the lock only when another one has written a line.
CONFTEST = """

import pytest

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    class Asks:
        # Registered last, so it is around the lock.
        @pytest.hookimpl(wrapper=True, tryfirst=True)
        def pytest_runtest_protocol(self, item):
            late, _, line = os.environ.get("ASKS_AFTER", "").partition("=")
            if item.name == late:
                assert saw(line)
            event(f"asks {item.name}")
            return (yield)
    if config.getoption("--backend"):
        config.pluginmanager.register(Asks(), "asks")
"""
HELPERS = "import time\nfrom conftest import saw\n"


@pytest.fixture
def shared(nested):
    conftest = nested.pytester.path / "conftest.py"
    conftest.write_text(conftest.read_text() + CONFTEST)

    def run(text: str, *arguments: str) -> pytest.RunResult:
        nested.tests(HELPERS + text)
        return nested.run(*arguments)

    run.events = lambda: nested.events
    return run


def spans(events: list[str]) -> dict[str, tuple[int, int]]:
    """Test to the positions of its first and last line."""
    names = {line.split()[1] for line in events if line.startswith("in ")}
    return {name: (events.index(f"in {name}"), events.index(f"out {name}")) for name in names}


def test_readers_are_in_at_the_same_time(shared):
    """Each waits for the other to be in: one after the other they would wait in vain."""
    text = "\n".join(
        f"def test_{me}():\n    event('in {me}')\n    assert saw('in {other}')\n"
        for me, other in (("a", "b"), ("b", "a"))
    )
    shared(text, *DIST).assert_outcomes(passed=2)


# Two tests, one a worker: xdist's workers keep back the last of several until no more can come.
READER = """
def test_reader():
    event("in reader")
    {wait}
    event("out reader")
"""
ALONE = {
    "test": """
@pytest.mark.disruptive
def test_alone():
    event("in alone")
    {wait}
    event("out alone")
""",
    "fixture": """
@pytest.fixture
def restart():
    event("in alone")
    yield
    {wait}
    event("out alone")

@pytest.mark.disruptive
def test_alone(restart):
    pass
""",
}
NOT_YET = 'assert saw("asks test_{0}") and not saw("in {0}", within_s=0.5)'


@pytest.mark.parametrize("where", ["test", "fixture"])
def test_a_disruptive_test_waits_for_readers(shared, monkeypatch, where):
    """The reader stays in until the other asks, and a while longer: still that one is not in."""
    monkeypatch.setenv("ASKS_AFTER", "test_alone=in reader")
    text = ALONE[where].format(wait="") + READER.format(wait=NOT_YET.format("alone"))
    shared(text, *DIST).assert_outcomes(passed=2)
    inside = [line for line in shared.events() if line.startswith(("in ", "out "))]
    assert inside == ["in reader", "out reader", "in alone", "out alone"]


@pytest.mark.parametrize("where", ["test", "fixture"])
def test_readers_wait_for_a_disruptive_test_fixtures_included(shared, monkeypatch, where):
    monkeypatch.setenv("ASKS_AFTER", "test_reader=in alone")
    text = ALONE[where].format(wait=NOT_YET.format("reader")) + READER.format(wait="")
    shared(text, *DIST).assert_outcomes(passed=2)
    inside = [line for line in shared.events() if line.startswith(("in ", "out "))]
    assert inside == ["in alone", "out alone", "in reader", "out reader"]


@pytest.mark.parametrize("dist", ["worksteal", "load"])
def test_nobody_is_in_with_a_disruptive_test(shared, dist):
    text = """
@pytest.mark.parametrize("number", range(3))
@pytest.mark.disruptive
def test_alone(number):
    event(f"in alone{number}")
    time.sleep(0.05)
    event(f"out alone{number}")

@pytest.mark.parametrize("number", range(9))
def test_reader(number):
    event(f"in reader{number}")
    time.sleep(0.05)
    event(f"out reader{number}")
"""
    shared(text, "-n", "2", "--dist", dist).assert_outcomes(passed=12)
    found = spans(shared.events())
    assert len(found) == 12
    for name in ("alone0", "alone1", "alone2"):
        start, end = found.pop(name)
        assert all(last < start or first > end for first, last in found.values()), shared.events()


def test_disruptive_tests_come_last_and_the_others_keep_their_order(shared):
    text = "".join(
        f"{'@pytest.mark.disruptive' if name in 'ac' else ''}\ndef test_{name}():\n    event('in {name}')\n"
        for name in "abcd"
    )
    shared(text, "-p", "no:xdist").assert_outcomes(passed=4)
    assert [line for line in shared.events() if line.startswith("in ")] == ["in b", "in d", "in a", "in c"]


@pytest.mark.parametrize("phase", ["setup", "call", "teardown"])
def test_a_failure_lets_go_of_the_lock(shared, phase):
    text = f"""
@pytest.fixture
def broken():
    assert {phase == "setup"} is False
    yield
    assert {phase == "teardown"} is False

@pytest.mark.disruptive
def test_first(broken):
    assert {phase == "call"} is False

@pytest.mark.disruptive
def test_second():
    event("in second")
"""
    result = shared(text, *DIST)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "in second" in shared.events()


@pytest.mark.parametrize("mark", ["@pytest.mark.disruptive", ""])
def test_a_worker_that_dies_lets_go_of_the_lock(shared, monkeypatch, mark):
    """It died as the writer, or as a reader; what has to be alone runs all the same."""
    monkeypatch.setenv("ASKS_AFTER", "test_other=in dies")
    text = f"""
{mark}
def test_dies():
    event("in dies")
    os._exit(3)

@pytest.mark.disruptive
def test_other():
    event("in other")
"""
    result = shared(text, *DIST, "--max-worker-restart=1")
    result.assert_outcomes(passed=1, failed=1)
    assert "in other" in shared.events()
