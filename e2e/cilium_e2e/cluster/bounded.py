"""Calls bounded in time by whoever waits: a node that hangs must not hang the run.

Opening an exec to a frozen node has no time limit of its own. So such calls are made in threads that are left
behind when their time is up.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from typing import TypeVar

from cilium_e2e.model import HarnessError

T = TypeVar("T")


def at_once(calls: Mapping[str, Callable[[], T]], budget_s: float) -> tuple[dict[str, T], dict[str, str]]:
    """Make calls in parallel; answers the results by name, and why the others have none."""
    pending: dict[str, Future[T]] = {name: started(call, name) for name, call in calls.items()}
    wait(pending.values(), timeout=budget_s)
    done: dict[str, T] = {}
    failed: dict[str, str] = {}
    for name, future in pending.items():
        if not future.done():
            failed[name] = f"no answer within {budget_s:.1f} s"
        elif (error := future.exception()) is not None:
            failed[name] = str(error) if isinstance(error, HarnessError) else repr(error)
        else:
            done[name] = future.result()
    return done, failed


def started(call: Callable[[], T], name: str) -> Future[T]:
    """A call in a thread of its own, which does not keep the process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told and hides nothing
            future.set_exception(error)

    threading.Thread(target=run, name=f"ask-{name}", daemon=True).start()
    return future
