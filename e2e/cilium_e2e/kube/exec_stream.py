"""An exec stream over the client's websocket, that never takes a lost connection for an end."""

from __future__ import annotations

import contextlib
import json
import ssl
import time
from typing import Any

from websocket import WebSocketException

from cilium_e2e.model import StreamLost, WaitTimeout

_STDIN, _STDOUT, _STDERR, _STATUS = 0, 1, 2, 3
_LOST = (WebSocketException, OSError, ssl.SSLError)
# One poll's length; only bounds how late a timeout is noticed, data wakes it at once.
_POLL_S = 0.5


class WebSocketExec:
    """:class:`~cilium_e2e.model.ExecStream` over a ``WSClient`` opened with ``binary=True``.

    Args:
        websocket: the client library's websocket.
        place: what runs where, for messages.
    """

    def __init__(self, websocket: Any, *, place: str) -> None:
        self._ws = websocket
        self._place = place
        self._out = b""
        self._err = b""
        self._status = b""
        self._returncode: int | None = None
        self._lost: StreamLost | None = None

    def send_line(self, line: str) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        try:
            self._ws.write_channel(_STDIN, line.encode() + b"\n")
        except _LOST as error:
            raise StreamLost(f"the connection broke while writing: {error}", place=self._place) from error

    def read_line(self, *, timeout_s: float) -> str | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._out:
            if self._at_end():
                last, self._out = self._out, b""
                return last.decode(errors="replace") if last else None
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"no line came within {timeout_s:g} s", place=self._place)
            self._receive(min(left, _POLL_S))
        line, _, self._out = self._out.partition(b"\n")
        return line.decode(errors="replace")

    @property
    def returncode(self) -> int | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return self._returncode

    def stderr(self) -> str:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return self._err.decode(errors="replace")

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        with contextlib.suppress(*_LOST):  # it may be gone already, which is what was asked for
            self._ws.close()
        # After the server's own close frame the library thinks it is done, and leaves the socket open.
        self._ws.sock.shutdown()

    def _receive(self, timeout_s: float) -> None:
        try:
            self._ws.update(timeout=timeout_s)
        except _LOST as error:
            self._lost = StreamLost(f"the connection broke while reading: {error}", place=self._place)
            raise self._lost from error
        self._out += self._take(_STDOUT)
        self._err += self._take(_STDERR)
        self._status += self._take(_STATUS)

    def _take(self, channel: int) -> bytes:
        # Not read_channel: it would poll the socket again for each channel that has nothing.
        data: bytes = self._ws._channels.pop(channel, b"")  # noqa: SLF001
        return data

    def _at_end(self) -> bool:
        """Whether the command has ended and nothing more will come.

        That is a closed connection: output frames may still be under way behind the status. Closed without
        a status it is a lost one, and so is one that broke, whatever came before.
        """
        if self._lost is not None:
            raise self._lost
        if self._ws.is_open():
            return False
        if not self._status:
            raise StreamLost("the connection was closed before the command had ended", place=self._place)
        self._returncode = _exit_code(self._status, self._place)
        return True


def _exit_code(status: bytes, place: str) -> int:
    """The exit code in the API's Status object on the error channel."""
    try:
        answer = json.loads(status)
        if answer.get("status") == "Success":
            return 0
        for cause in (answer.get("details") or {}).get("causes") or []:
            if cause.get("reason") == "ExitCode":
                return int(cause["message"])
    except (ValueError, AttributeError, KeyError):
        raise StreamLost(f"unreadable end of the stream: {status[:200]!r}", place=place) from None
    raise StreamLost(f"the command could not be run: {answer.get('message', status)}", place=place)
