"""A teardown that signals do not break off."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a run from outside: Ctrl-C, a CI system that cancels, a terminal that is closed."""

_STDERR = 2


@contextmanager
def uninterrupted(what: str) -> Iterator[None]:
    """Let a block run to its end: signals in it are answered with a line and otherwise ignored.

    The block must be the last thing a run does, and must end by itself. SIGKILL is beyond this.

    Args:
        what: what is being done, for that line.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread only
        return

    def answer(number: int, frame: FrameType | None) -> None:
        del frame
        # Not print(): the signal may have interrupted one, and buffered streams cannot be entered twice.
        with suppress(OSError):
            os.write(_STDERR, f"{signal.Signals(number).name}: {what}, please wait\n".encode())

    previous: dict[signal.Signals, Any] = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, answer)
        yield
    finally:
        for number, handler in previous.items():
            # None stands for a handler that was not installed by Python and cannot be put back by it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
