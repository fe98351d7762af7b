"""Calls that hang are left behind."""

from __future__ import annotations

import threading
import time

import pytest

from cilium_e2e.cluster.bounded import at_once, started
from cilium_e2e.model import StreamLost


def test_what_answers_what_fails_and_what_hangs() -> None:
    let_go = threading.Event()

    def fails() -> int:
        raise StreamLost("cut off", place="here")

    def surprises() -> int:
        raise ValueError("what")

    start = time.monotonic()
    done, failed = at_once(
        {"good": lambda: 1, "bad": fails, "odd": surprises, "slow": lambda: int(let_go.wait(30.0))}, 0.2
    )
    assert time.monotonic() - start < 5.0
    assert done == {"good": 1}
    assert failed == {
        "bad": "here: cut off",
        "odd": "ValueError('what')",
        "slow": "no answer within 0.2 s",
    }
    let_go.set()


def test_a_failure_is_the_callers() -> None:
    def fails() -> None:
        raise StreamLost("cut off")

    with pytest.raises(StreamLost, match="cut off"):
        started(fails, "x").result(5.0)
