"""The client library's port forward, that closes its socket however the connection ends.

When the server ends it, as it does with the pod at its other end, the library's own thread returns and leaves
the TLS socket to the garbage collector, which says so at any later moment, in whatever test that is.
"""

from __future__ import annotations

from typing import Any

from kubernetes.stream import ws_client

_Library: Any = ws_client.PortForward


class ClosingPortForward(_Library):  # type: ignore[misc]  # untyped in the library
    """A forward whose websocket is closed when its thread has ended."""

    def _proxy(self) -> None:
        """Run the library's loop; it is the thread's whole work."""
        try:
            super()._proxy()
        except OSError:
            # The connection broke rather than ended; whoever reads the other end sees its end, too.
            for port in self.local_ports.values():
                port.python.close()
        finally:
            self.websocket.shutdown()


def install() -> None:
    """Have the library make such forwards: it knows no other way to choose."""
    ws_client.PortForward = ClosingPortForward  # type: ignore[misc]  # that is what is wanted
