"""A pod's port as a local one; the pod's end is one end of a socket pair."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from cilium_e2e.kube import LocalForward
from cilium_e2e.model import KubeError, Ref
from support.memory import MemoryTransport

POD = Ref("v1", "Pod", "relay", "cilium")


class Pods:
    """Answers each connection with one end of a pair and keeps the other."""

    def __init__(self) -> None:
        self.api = MemoryTransport()
        self.api.on_connect = self.connect
        self.ends: list[socket.socket] = []
        self.asked: list[tuple[Ref, int]] = []
        self.arrived = threading.Semaphore(0)

    def connect(self, ref: Ref, port: int) -> socket.socket:
        self.asked.append((ref, port))
        ours, theirs = socket.socketpair()
        ours.settimeout(5)
        self.ends.append(ours)
        self.arrived.release()
        return theirs

    def next(self) -> socket.socket:
        assert self.arrived.acquire(timeout=5)
        return self.ends[-1]


@pytest.fixture
def pods() -> Iterator[Pods]:
    found = Pods()
    yield found
    for end in found.ends:
        end.close()


def dial(forward: LocalForward) -> socket.socket:
    host, _, port = forward.address.partition(":")
    return socket.create_connection((host, int(port)), timeout=5)


def test_bytes_go_both_ways(pods: Pods) -> None:
    with LocalForward(pods.api, POD, 4245) as forward, dial(forward) as local:
        remote = pods.next()
        local.sendall(b"ping")
        assert remote.recv(100) == b"ping"
        remote.sendall(b"pong")
        assert local.recv(100) == b"pong"
    assert pods.asked == [(POD, 4245)]


def test_much_data_arrives_whole(pods: Pods) -> None:
    body = bytes(range(256)) * 2000
    with LocalForward(pods.api, POD, 4245) as forward, dial(forward) as local:
        remote = pods.next()
        sender = threading.Thread(target=remote.sendall, args=(body,))
        sender.start()
        seen = b""
        while len(seen) < len(body):
            seen += local.recv(65536)
        sender.join()
    assert seen == body


def test_connections_are_apart(pods: Pods) -> None:
    with LocalForward(pods.api, POD, 4245) as forward, dial(forward) as one:
        first = pods.next()
        with dial(forward) as two:
            second = pods.next()
            first.sendall(b"1")
            second.sendall(b"2")
            assert (one.recv(1), two.recv(1)) == (b"1", b"2")


def test_the_pod_closes(pods: Pods) -> None:
    with LocalForward(pods.api, POD, 4245) as forward, dial(forward) as local:
        remote = pods.next()
        remote.sendall(b"bye")
        remote.close()
        assert local.recv(100) == b"bye"
        assert local.recv(100) == b""


def test_the_client_closes(pods: Pods) -> None:
    with LocalForward(pods.api, POD, 4245) as forward:
        with dial(forward) as local:
            remote = pods.next()
            local.sendall(b"bye")
        assert remote.recv(100) == b"bye"
        assert remote.recv(100) == b""


def test_a_refused_connection_is_closed_and_says_why(pods: Pods) -> None:
    with LocalForward(pods.api, POD, 4245) as forward:
        pods.api.on_connect = None

        def refuse(ref: Ref, port: int) -> socket.socket:
            raise KubeError(500, "InternalError", "no such port", place=str(ref))

        pods.api.on_connect = refuse
        with dial(forward) as local:
            assert local.recv(1) == b""
        assert forward.error == "Pod cilium/relay: no such port"
        pods.api.on_connect = pods.connect  # and it goes on listening
        with dial(forward) as local:
            pods.next().sendall(b"x")
            assert local.recv(1) == b"x"


def test_closing_ends_what_is_open(pods: Pods) -> None:
    forward = LocalForward(pods.api, POD, 4245)
    with forward, dial(forward) as local:
        remote = pods.next()
        remote.sendall(b"x")
        assert local.recv(1) == b"x"
        forward.close()
        assert local.recv(1) == b""
        assert remote.recv(1) == b""
        with pytest.raises(OSError, match="refused"):
            dial(forward)


def test_closing_ends_what_is_only_just_opening(pods: Pods) -> None:
    connecting, go_on = threading.Event(), threading.Event()

    def slow(ref: Ref, port: int) -> socket.socket:
        connecting.set()
        assert go_on.wait(5)
        return pods.connect(ref, port)

    pods.api.on_connect = slow
    forward = LocalForward(pods.api, POD, 4245)
    with forward, dial(forward) as local:
        assert connecting.wait(5)
        closing = threading.Thread(target=forward.close)
        closing.start()
        while forward._listener.fileno() != -1:  # close() has begun
            closing.join(0.001)
        go_on.set()
        closing.join(5)
        assert local.recv(1) == b""
        assert pods.next().recv(1) == b""


def test_closing_twice_and_unused_is_fine(pods: Pods) -> None:
    forward = LocalForward(pods.api, POD, 4245)
    forward.close()
    forward.close()
