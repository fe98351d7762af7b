"""The virtual clock: events in their order, time that never goes back, waits that end, threads beside."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.simulated.clock import START_S, VirtualClock


@given(st.lists(st.floats(0, 100), max_size=20), st.floats(0, 120))
def test_what_is_due_happens_in_order_and_at_its_time(delays, until):
    clock = VirtualClock()
    seen: list[tuple[float, float]] = []
    for delay in delays:
        clock.after(delay, lambda delay=delay: seen.append((clock.monotonic(), delay)))
    clock.sleep(until)
    assert clock.monotonic() == until
    assert [at for at, _ in seen] == sorted(delay for delay in delays if delay <= until)
    assert all(at == delay for at, delay in seen)


def test_a_wait_ends_where_the_state_came_about():
    clock = VirtualClock()
    state: list[str] = []
    clock.after(5, lambda: state.append("there"))
    clock.after(50, lambda: state.append("later"))
    assert clock.wait(lambda: state[0] if state else None, end_s=100) == "there"
    assert clock.monotonic() == 5
    assert clock.time() == START_S + 5


def test_a_wait_without_hope_ends_by_its_limit_and_takes_no_time():
    clock = VirtualClock()
    start = time.monotonic()
    assert clock.wait(lambda: None, end_s=3600) is None
    assert clock.monotonic() == 3600
    assert time.monotonic() - start < 5


def test_another_thread_may_bring_what_is_waited_for():
    clock = VirtualClock()
    state: list[int] = []
    started = threading.Event()

    def bring() -> None:
        started.wait(5)
        with clock.lock:
            state.append(1)
            clock.wake()

    thread = threading.Thread(target=bring)
    thread.start()

    def look() -> int | None:
        started.set()
        return state[0] if state else None

    assert clock.wait(look, end_s=1e9) == 1
    thread.join()


def test_threads_share_a_clock_that_never_goes_back():
    clock = VirtualClock()

    def sleeper(_: int) -> list[float]:
        seen = []
        for _ in range(50):
            clock.sleep(0.1)
            seen.append(clock.monotonic())
        return seen

    with ThreadPoolExecutor(8) as pool:
        every = list(pool.map(sleeper, range(8)))
    assert all(seen == sorted(seen) for seen in every)
    assert abs(clock.monotonic() - 8 * 50 * 0.1) < 1e-6
