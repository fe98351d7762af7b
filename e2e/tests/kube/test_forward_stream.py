"""A port forward's socket is closed however the connection ends."""

from __future__ import annotations

import socket
import threading

import pytest
from kubernetes.stream import ws_client
from websocket import WebSocketConnectionClosedException

from cilium_e2e.kube import live
from cilium_e2e.kube.forward_stream import ClosingPortForward


class WebSocket:
    """What the library's loop asks of one, over a socketpair; ``ending`` is how reading it ends."""

    def __init__(self, ending: Exception) -> None:
        self.sock, self.server = socket.socketpair()
        self.connected = True
        self.ending = ending
        self.shut = threading.Event()

    def fileno(self) -> int:
        return self.sock.fileno()

    def recv_data_frame(self, control: bool) -> None:
        self.connected = False
        raise self.ending

    def close(self) -> None:
        self.connected = False

    def shutdown(self) -> None:
        self.sock.close()
        self.server.close()
        self.shut.set()


@pytest.mark.parametrize(
    "ending", [WebSocketConnectionClosedException("gone"), ConnectionResetError(104, "reset")]
)
def test_when_the_server_ends_it(ending: Exception) -> None:
    websocket = WebSocket(ending)
    forward = ClosingPortForward(websocket, [4245])
    with socket.socket(fileno=forward.socket(4245).detach()) as local:
        websocket.server.send(b"bye")
        assert websocket.shut.wait(5)
        local.settimeout(5)
        assert local.recv(1) == b"", "whoever reads sees the end"


def test_when_this_side_ends_it() -> None:
    websocket = WebSocket(ConnectionResetError())
    forward = ClosingPortForward(websocket, [4245])
    forward.socket(4245).close()
    assert websocket.shut.wait(5)


def test_live_transports_make_such_forwards() -> None:
    assert live.forward_stream is not None
    assert ws_client.PortForward is ClosingPortForward
