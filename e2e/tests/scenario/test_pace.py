"""A steady pace, kept by whoever is in time and not made up for by a burst."""

from __future__ import annotations

from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.scenario import ticks
from support.memory import VirtualClock


def test_work_that_is_quick_waits_for_its_turn() -> None:
    clock = VirtualClock()
    times = []
    for at_s in islice(ticks(clock, 0.5), 4):
        times.append(at_s)
        clock.now += 0.2
    assert times == pytest.approx([0.0, 0.5, 1.0, 1.5])


def test_one_late_turn_is_made_up_for() -> None:
    clock = VirtualClock()
    times = []
    for at_s in islice(ticks(clock, 0.5), 4):
        times.append(at_s)
        clock.now += 0.9 if at_s == 0 else 0.05
    assert times == pytest.approx([0.0, 0.9, 1.0, 1.5])


def test_a_long_stop_is_no_burst_afterwards() -> None:
    clock = VirtualClock()
    times = []
    for at_s in islice(ticks(clock, 0.5), 5):
        times.append(at_s)
        clock.now += 5.2 if at_s == 0 else 0.0
    assert times == pytest.approx([0.0, 5.2, 5.5, 6.0, 6.5])


@given(st.lists(st.floats(0.0, 3.0), min_size=1, max_size=30), st.floats(0.05, 1.0))
def test_never_faster_than_the_pace_and_never_idle_when_late(work: list[float], every_s: float) -> None:
    clock = VirtualClock()
    done = 0.0
    for number, (at_s, work_s) in enumerate(zip(ticks(clock, every_s), work, strict=False)):
        assert at_s >= number * every_s - 1e-6
        assert at_s <= max(done, done + every_s) + 1e-6
        clock.now += work_s
        done = at_s + work_s
