"""Several questions at the same time: all asked, answers in order, errors raised."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.kube import at_once


@given(st.lists(st.tuples(st.integers(), st.integers()), max_size=9))
def test_answers_come_in_the_order_of_the_questions(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    assert at_once(lambda a, b: a - b, first, second) == [a - b for a, b in pairs]


def test_they_are_asked_at_the_same_time():
    both = threading.Barrier(2, timeout=20)
    assert len(at_once(lambda _: both.wait(), "ab")) == 2


def test_one_alone_takes_no_thread():
    assert at_once(lambda _: threading.current_thread(), "a") == [threading.current_thread()]


def test_what_one_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        at_once(lambda number: 1 // number, [1, 0, 2])
