"""An exec stream over the container engine: a command in a container beside the nodes, line by line."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Sequence

from cilium_e2e.cluster.engine import Attached, Engine
from cilium_e2e.model import BackendUnavailable, EngineError, StreamLost, WaitTimeout

_STDOUT, _STDERR = 1, 2
_HEADER = struct.Struct(">BxxxL")
"""What precedes each piece of output: its stream, and how many bytes follow."""
_SEND_S = 30.0
_PIECE = 1 << 16


class ContainerExec:
    """:class:`~cilium_e2e.model.ExecStream` over a connection of the engine.

    Args:
        attached: the running command.
        place: what runs where, for messages.
    """

    def __init__(self, attached: Attached, *, place: str) -> None:
        self._attached = attached
        self._place = place
        self._raw = attached.early
        self._out = b""
        self._err = b""
        self._returncode: int | None = None
        self._lost: StreamLost | None = None
        self._split()

    def send_line(self, line: str) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        try:
            self._attached.socket.settimeout(_SEND_S)
            self._attached.socket.sendall(line.encode() + b"\n")
        except OSError as error:
            raise StreamLost(f"the connection broke while writing: {error}", place=self._place) from error

    def read_line(self, *, timeout_s: float) -> str | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._out:
            if self._lost is not None:
                raise self._lost
            if self._returncode is not None:
                last, self._out = self._out, b""
                return last.decode(errors="replace") if last else None
            left = deadline - time.monotonic()
            if left <= 0:
                raise WaitTimeout(f"no line came within {timeout_s:g} s", place=self._place)
            self._receive(left)
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
        """See :class:`~cilium_e2e.model.ExecStream`; the end of its standard input ends an agent."""
        if self._returncode is None and self._lost is None:
            self._lost = StreamLost("the stream was closed on this side", place=self._place)
        self._attached.close()

    def _receive(self, timeout_s: float) -> None:
        """Take what comes, or what its end means."""
        try:
            self._attached.socket.settimeout(timeout_s)
            piece = self._attached.socket.recv(_PIECE)
        except TimeoutError:
            return
        except OSError as error:
            self._lost = StreamLost(f"the connection broke while reading: {error}", place=self._place)
            return
        if piece:
            self._raw += piece
            self._split()
        else:
            self._end()

    def _split(self) -> None:
        """Sort whole frames, and what has come of the last one stays for later."""
        while len(self._raw) >= _HEADER.size:
            stream, length = _HEADER.unpack_from(self._raw)
            if stream not in {_STDOUT, _STDERR}:
                self._lost = StreamLost(
                    f"expected output in the engine's frames, got {self._raw[:40]!r}", place=self._place
                )
                return
            end = _HEADER.size + length
            if len(self._raw) < end:
                return
            content, self._raw = self._raw[_HEADER.size : end], self._raw[end:]
            if stream == _STDOUT:
                self._out += content
            else:
                self._err += content

    def _end(self) -> None:
        """The connection was closed: by a command that has ended, or by something that came between."""
        if self._raw:
            self._lost = StreamLost("the connection was closed in the middle of output", place=self._place)
            return
        try:
            self._returncode = self._attached.exit_code()
        except EngineError as error:
            self._lost = StreamLost(
                f"the connection was closed, and how the command ended cannot be asked: {error}",
                place=self._place,
            )
            return
        if self._returncode is None:
            self._lost = StreamLost(
                "the connection was closed before the command had ended", place=self._place
            )


class Containers:
    """The engine's containers; the engine is not looked for before one is needed.

    Args:
        connect: finds the engine.
    """

    def __init__(self, connect: Callable[[], Engine]) -> None:
        self._connect = connect
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    def exec(self, container: str, command: Sequence[str]) -> ContainerExec:
        """Start a command in a running container.

        Raises:
            EngineError: it cannot be started, or no engine answers (any more).
        """
        with self._lock:
            if self._engine is None:
                try:
                    self._engine = self._connect()
                except BackendUnavailable as error:
                    # There was one when the run began: its end is the cluster's trouble, no wrong input.
                    raise EngineError(
                        error.message, place=f"container {container}", hint=error.hint
                    ) from error
            engine = self._engine
        place = f"exec {' '.join(command[:3])} in container {container}"
        return ContainerExec(engine.attach(container, command), place=place)

    def close(self) -> None:
        """Release connections."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
