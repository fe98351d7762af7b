"""Where a run's time goes."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import CancelledError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.session import timeline as timeline_module
from cilium_e2e.session.timeline import Phase, Timeline


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 50.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def hand():
    return Hand()


@pytest.fixture
def said():
    return []


def test_phases_are_measured_from_the_start_of_the_timeline(hand, said):
    timeline = Timeline(hand, said.append)
    hand.sleep(1)
    with timeline.phase("create"):
        hand.sleep(20.5)
    hand.sleep(0.5)
    with timeline.phase("install Flux", after=("create",)):
        hand.sleep(3)
    assert timeline.phases == [Phase("create", 1.0, 20.5), Phase("install Flux", 22.0, 3.0, ("create",))]
    assert timeline.lines() == [
        "create           1.0 s +  20.5 s",
        "install Flux    22.0 s +   3.0 s",
        "total                      25.0 s",
        "critical path 23.5 s (total is 1.06 times that): create → install Flux",
    ]
    assert said == ["create …", "create: 20.5 s", "install Flux …", "install Flux: 3.0 s"]


def test_progress_is_told_once_per_state(hand, said):
    timeline = Timeline(hand, said.append)
    with timeline.phase("release") as progress:
        hand.sleep(2)
        progress("pulling")
        progress("pulling")
        hand.sleep(3)
        progress("installing")
        progress("pulling")
    assert said[1:-1] == [
        "  release,   2.0 s: pulling",
        "  release,   5.0 s: installing",
        "  release,   5.0 s: pulling",
    ]


@pytest.mark.parametrize("state", ["pulling", ""])
def test_a_phase_that_says_nothing_new_is_told_to_be_under_way(hand, said, monkeypatch, state):
    """CI systems end jobs that are silent, and people think that they hang."""
    monkeypatch.setattr(timeline_module, "_HEARTBEAT_S", 0.001)
    beaten = threading.Event()

    def say(line):
        said.append(line)
        if "20.0 s: still" in line:
            beaten.set()

    with Timeline(hand, say).phase("release") as progress:
        if state:
            progress(state)
        hand.sleep(20)
        assert beaten.wait(10)
    beats = [line for line in said if "still" in line and "20.0 s" in line]
    assert set(beats) == {f"  release,  20.0 s: still {state or 'under way'}"}


def test_a_phase_that_is_over_is_not_told_any_more(hand, said, monkeypatch):
    monkeypatch.setattr(timeline_module, "_HEARTBEAT_S", 0.001)
    with Timeline(hand, said.append).phase("release"):
        (beating,) = [thread for thread in threading.enumerate() if thread.name == "heartbeat release"]
    beating.join(timeout=10)
    assert not beating.is_alive()


@pytest.mark.parametrize(
    ("error", "word"),
    [(ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted"), (CancelledError(), "interrupted")],
)
def test_a_phase_that_does_not_end_well_says_so_and_is_not_counted(hand, said, error, word):
    timeline = Timeline(hand, said.append)

    def create():
        with timeline.phase("create"):
            hand.sleep(4)
            raise error

    with pytest.raises(type(error)):
        create()
    assert said == ["create …", f"create: {word} after 4.0 s"]
    assert timeline.phases == []
    assert timeline.critical_path() == ([], 0.0)


def test_an_empty_timeline_has_a_total_and_no_path(hand, said):
    timeline = Timeline(hand, said.append)
    hand.sleep(2)
    assert [line.split() for line in timeline.lines()] == [["total", "0.0", "s"]]
    assert json.loads(timeline.to_json()) == {
        "phases": [],
        "total_s": 0.0,
        "critical_path": [],
        "critical_path_s": 0.0,
    }


def test_phases_that_overlap_are_no_waiting(hand, said):
    """Two loads side by side with an installation: the longer way counts, the other is free."""
    timeline = Timeline(hand, said.append)
    timeline.phases = [
        Phase("create", 0, 20),
        Phase("load", 20, 30, ("create",)),
        Phase("install", 20, 10, ("create",)),
        Phase("release", 50, 5, ("install", "load")),
    ]
    assert timeline.total_s == 55
    assert timeline.critical_path() == (["create", "load", "release"], 55.0)
    assert timeline.lines()[-1].startswith("critical path 55.0 s (total is 1.00 times that): ")


def test_waiting_for_nothing_shows(hand, said):
    timeline = Timeline(hand, said.append)
    timeline.phases = [Phase("create", 0, 20), Phase("install", 40, 10, ("create",))]
    assert timeline.critical_path()[1] == 30
    assert "(total is 1.67 times that)" in timeline.lines()[-1]


def test_a_phase_that_never_was_is_waited_for_by_nobody(hand, said):
    """A kept cluster is not created, yet the loads say that they come after that."""
    timeline = Timeline(hand, said.append)
    timeline.phases = [Phase("load", 1, 3, ("create",))]
    assert timeline.critical_path() == (["load"], 3.0)


@st.composite
def runs(draw: st.DrawFn) -> list[Phase]:
    """Phases that start at or after the end of those they wait for."""
    phases: list[Phase] = []
    seconds = st.floats(0, 100, allow_nan=False)
    for number in range(draw(st.integers(1, 9))):
        after = draw(st.lists(st.sampled_from(phases), max_size=3, unique=True)) if phases else []
        earliest = max((p.start_s + p.took_s for p in after), default=0.0)
        start = earliest + draw(st.just(0.0) | seconds)
        phases.append(Phase(f"p{number}", start, draw(seconds), tuple(p.name for p in after)))
    return draw(st.permutations(phases))


@given(runs())
def test_the_critical_path_lies_between_the_longest_phase_and_the_total(phases):
    timeline = Timeline(Hand(), lambda _: None)
    timeline.phases = phases
    way, length = timeline.critical_path()
    assert length <= timeline.total_s + 1e-6
    assert length >= max(phase.took_s for phase in phases)
    by_name = {phase.name: phase for phase in phases}
    assert length == pytest.approx(sum(by_name[name].took_s for name in way))
    assert all(first in by_name[then].after for first, then in itertools.pairwise(way))


@given(runs())
def test_no_way_through_the_phases_is_longer(phases):
    timeline = Timeline(Hand(), lambda _: None)
    timeline.phases = phases
    by_name = {phase.name: phase for phase in phases}

    def longest(phase: Phase) -> float:
        return phase.took_s + max((longest(by_name[name]) for name in phase.after), default=0.0)

    assert timeline.critical_path()[1] == pytest.approx(max(longest(phase) for phase in phases))


@given(runs())
def test_json_holds_all_of_it(phases):
    timeline = Timeline(Hand(), lambda _: None)
    timeline.phases = phases
    data = json.loads(timeline.to_json())
    read = [Phase(p["name"], p["start_s"], p["took_s"], tuple(p["after"])) for p in data["phases"]]
    assert read == phases
    assert data["total_s"] == timeline.total_s
    assert (data["critical_path"], data["critical_path_s"]) == timeline.critical_path()


def test_threads_speak_one_at_a_time(hand):
    """Whoever is told writes to a terminal, which no two may do at once."""
    speaking = threading.Lock()
    met = threading.Barrier(4)
    lines = []

    def say(line):
        assert speaking.acquire(blocking=False)
        lines.append(line)
        speaking.release()

    timeline = Timeline(hand, say)

    def work(number):
        met.wait(timeout=10)
        for step in range(50):
            with timeline.phase(f"{number}.{step}") as progress:
                progress("on its way")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(timeline.phases) == 200
    assert len(lines) == 600
