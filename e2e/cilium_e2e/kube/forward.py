"""A port of a pod as a port of this machine, for clients that want an address (gRPC)."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from cilium_e2e.model import HarnessError, KubeTransport, Ref

_CHUNK = 65536


class LocalForward:
    """Listens on the loopback address and carries each connection to a pod's port.

    Use as a context manager; ``address`` is ``127.0.0.1:PORT``. A connection that cannot be carried is
    closed, which its client sees as a connection error; ``error`` then says why.
    """

    def __init__(self, transport: KubeTransport, pod: Ref, port: int) -> None:
        self._transport = transport
        self._pod = pod
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name=f"forward {pod}", daemon=True)
        self.error = ""
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the listener and every connection."""
        # shutdown wakes the accept that close alone would leave waiting.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            self._closed = True
            for end in self._open:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                local, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                remote = self._transport.connect(self._pod, port=self._port)
            except HarnessError as error:
                self.error = str(error)
                local.close()
                continue
            with self._lock:
                if self._closed:  # meanwhile: whoever closes has not seen these two
                    local.close()
                    remote.close()
                    return
                self._open |= {local, remote}
            for source, sink in ((local, remote), (remote, local)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Carry bytes one way until either end is closed, then end both ways."""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            both_done = source not in self._open
            self._open -= {source, sink}
        if both_done:
            source.close()
            sink.close()
