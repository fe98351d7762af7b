"""Where a run's time goes."""

from __future__ import annotations

import json

import pytest

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
    with timeline.phase("install Flux"):
        hand.sleep(3)
    assert timeline.phases == [Phase("create", 1.0, 20.5), Phase("install Flux", 22.0, 3.0)]
    assert timeline.lines()[:3] == [
        "create           1.0 s +  20.5 s",
        "install Flux    22.0 s +   3.0 s",
        "total                     25.0 s",
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


@pytest.mark.parametrize(
    ("error", "word"), [(ValueError("x"), "failed"), (KeyboardInterrupt(), "interrupted")]
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


def test_an_empty_timeline_has_a_total(hand, said):
    assert Timeline(hand, said.append).lines()[0].split() == ["total", "0.0", "s"]


def test_the_critical_path_is_the_longest_way_of_what_waited_for_what(hand, said):
    timeline = Timeline(hand, said.append)
    with timeline.phase("create"):
        hand.sleep(10)
    with timeline.phase("images", after=("create",)):
        hand.sleep(5)
    with timeline.phase("flux", after=("create",)):
        hand.sleep(2)
    with timeline.phase("release", after=("flux", "images")):
        hand.sleep(1)
    assert timeline.critical_path() == (["create", "images", "release"], 16.0)
    assert timeline.total_s == 18.0
    assert timeline.lines()[-1] == (
        "critical path 16.0 s (total is 1.12 times that): create → images → release"
    )
    kept = json.loads(timeline.to_json())
    assert (kept["total_s"], kept["critical_path_s"]) == (18.0, 16.0)
    assert kept["phases"][1] == {"name": "images", "start_s": 10.0, "took_s": 5.0, "after": ["create"]}
