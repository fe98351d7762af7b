"""A command that ran to its end: its output as an exec stream."""

from __future__ import annotations

from collections.abc import Callable

from cilium_e2e.cluster.simulated.clock import VirtualClock

_RUN_S = 0.02


class Output:
    """A finished command.

    Args:
        clock: the cluster's; the command takes a moment of it.
        text: its standard output.
        code: its exit code.
        error: its standard error.
        before: called before it is read; raises what breaks the stream.
    """

    def __init__(
        self,
        clock: VirtualClock,
        text: str,
        *,
        code: int = 0,
        error: str = "",
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._lines = text.splitlines()
        self._code = code
        self._error = error
        self._ended = False
        self._before = before
        clock.sleep(_RUN_S)

    def send_line(self, line: str) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`; nobody reads it."""
        del line
        self._before()

    def read_line(self, *, timeout_s: float) -> str | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        del timeout_s
        self._before()
        if self._lines:
            return self._lines.pop(0)
        self._ended = True
        return None

    @property
    def returncode(self) -> int | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return self._code if self._ended else None

    def stderr(self) -> str:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return self._error

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        self._ended = True
