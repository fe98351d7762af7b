"""An exec stream over a websocket that is played by the test."""

from __future__ import annotations

import itertools
import json
import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket import WebSocketConnectionClosedException, WebSocketTimeoutException

from cilium_e2e.kube.exec_stream import WebSocketExec
from cilium_e2e.model import StreamLost, WaitTimeout

STDOUT, STDERR, STATUS = 1, 2, 3
SUCCESS = json.dumps({"metadata": {}, "status": "Success"}).encode()
CLOSE = "close"
Step = tuple[int, bytes] | str | Exception


def failure(code: str) -> bytes:
    return json.dumps(
        {
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code}]},
        }
    ).encode()


class Socket:
    def __init__(self) -> None:
        self.shut = False

    def shutdown(self) -> None:
        self.shut = True


class FakeWebSocket:
    """The surface of the library's ``WSClient``: each update takes one step of the script."""

    def __init__(self, *steps: Step) -> None:
        self.steps = list(steps)
        self.sent: list[tuple[int, bytes]] = []
        self.sock = Socket()
        self.open = True
        self.updates = 0
        self.broken: Exception | None = None
        self._channels: dict[int, bytes] = {}

    def is_open(self) -> bool:
        return self.open

    def update(self, timeout: float = 0) -> None:
        self.updates += 1
        if not self.open or not self.steps:
            return
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        if isinstance(step, str):
            self.open = False
            return
        channel, data = step
        self._channels[channel] = self._channels.get(channel, b"") + data

    def write_channel(self, channel: int, data: bytes) -> None:
        if self.broken:
            raise self.broken
        self.sent.append((channel, data))

    def close(self) -> None:
        if self.broken:
            raise self.broken
        self.open = False


def stream(*steps: Step) -> WebSocketExec:
    return WebSocketExec(FakeWebSocket(*steps), place="exec agent in Pod ns/a")


def lines(found: WebSocketExec) -> list[str | None]:
    read: list[str | None] = []
    while (line := found.read_line(timeout_s=1)) is not None:
        read.append(line)
    return read


def test_lines_and_then_the_exit_code() -> None:
    found = stream((STDOUT, b"one\ntwo\n"), (STATUS, SUCCESS), CLOSE)
    assert found.returncode is None
    assert lines(found) == ["one", "two"]
    assert found.returncode == 0
    assert found.read_line(timeout_s=0) is None


def test_frames_end_anywhere() -> None:
    text = "zwölf Boxkämpfer → 拳\nzweite\n".encode()
    frames: list[Step] = [(STDOUT, text[i : i + 1]) for i in range(len(text))]
    assert lines(stream(*frames, (STATUS, SUCCESS), CLOSE)) == ["zwölf Boxkämpfer → 拳", "zweite"]


@given(st.lists(st.text(st.characters(exclude_characters="\n", codec="utf-8"))), st.data())
def test_any_lines_in_any_frames(texts: list[str], data: st.DataObject) -> None:
    body = "".join(f"{text}\n" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    frames: list[Step] = [
        (STDOUT, body[start:end]) for start, end in itertools.pairwise([0, *cuts, len(body)]) if start < end
    ]
    frames.insert(data.draw(st.integers(0, len(frames))), (STATUS, SUCCESS))
    assert lines(stream(*frames, CLOSE)) == texts


def test_a_last_line_without_a_newline_is_a_line() -> None:
    found = stream((STDOUT, b"no newline"), (STATUS, SUCCESS), CLOSE)
    assert lines(found) == ["no newline"]
    assert found.returncode == 0


def test_output_behind_the_status_is_not_lost() -> None:
    found = stream((STDOUT, b"a\nb"), (STATUS, SUCCESS), (STDOUT, b"c\n"), (STDOUT, b"d\n"), CLOSE)
    assert lines(found) == ["a", "bc", "d"]


def test_an_exit_code_other_than_zero() -> None:
    found = stream((STDERR, b"no "), (STDERR, b"such file\n"), (STATUS, failure("127")), CLOSE)
    assert lines(found) == []
    assert found.returncode == 127
    assert found.stderr() == "no such file\n"


@pytest.mark.parametrize("before", [[], [(STDOUT, b"half a li")], [(STDOUT, b"whole\n"), (STDERR, b"x")]])
def test_a_close_without_a_status_is_a_lost_stream(before: list[Step]) -> None:
    found = stream(*before, CLOSE)
    with pytest.raises(StreamLost, match=r"^exec agent in Pod ns/a: .*closed before the command had ended"):
        lines(found)
    assert found.returncode is None


@pytest.mark.parametrize(
    "error",
    [
        WebSocketConnectionClosedException("Connection to remote host was lost."),
        WebSocketTimeoutException("timed out"),
        ConnectionResetError("reset by peer"),
        ssl.SSLError("bad record"),
    ],
)
def test_a_broken_connection_is_a_lost_stream(error: Exception) -> None:
    found = stream((STDOUT, b"whole\n"), error)
    assert found.read_line(timeout_s=1) == "whole"
    with pytest.raises(StreamLost, match="broke while reading"):
        found.read_line(timeout_s=1)


def test_a_connection_that_breaks_behind_the_status_may_have_swallowed_output() -> None:
    found = stream((STATUS, SUCCESS), ConnectionResetError("reset by peer"))
    with pytest.raises(StreamLost):
        found.read_line(timeout_s=1)


def test_a_broken_stream_stays_broken() -> None:
    found = stream((STDOUT, b"half"), (STATUS, SUCCESS), ConnectionResetError("reset by peer"))
    for _ in range(2):
        with pytest.raises(StreamLost):
            found.read_line(timeout_s=1)


@pytest.mark.parametrize(
    "status",
    [
        b"not JSON",
        b"[]",
        b'"Success"',
        json.dumps({"status": "Failure", "message": "container not found"}).encode(),
        json.dumps({"status": "Failure", "reason": "InternalError", "details": {"causes": None}}).encode(),
        failure("unknown"),
    ],
)
def test_a_status_without_an_exit_code_is_no_end(status: bytes) -> None:
    found = stream((STATUS, status), CLOSE)
    with pytest.raises(StreamLost):
        found.read_line(timeout_s=1)
    assert found.returncode is None


def test_what_the_api_says_of_it_is_told() -> None:
    status = json.dumps({"status": "Failure", "message": "container agent not found"}).encode()
    with pytest.raises(StreamLost, match="container agent not found"):
        stream((STATUS, status), CLOSE).read_line(timeout_s=1)


def test_silence_is_no_end() -> None:
    found = stream()
    with pytest.raises(WaitTimeout, match=r"within 0\.01 s"):
        found.read_line(timeout_s=0.01)


def test_half_a_line_is_kept_over_a_timeout() -> None:
    found = stream((STDOUT, b"ha"), (STDERR, b""), (STDERR, b""))
    with pytest.raises(WaitTimeout):
        found.read_line(timeout_s=0.001)
    found._ws.steps = [(STDOUT, b"lf\n")]
    assert found.read_line(timeout_s=1) == "half"


def test_a_server_that_never_closes_behind_the_status_does_not_hold_us() -> None:
    class Open(FakeWebSocket):
        def update(self, timeout: float = 0) -> None:
            super().update(timeout)
            assert self.updates < 100_000, "it waits for a close that never comes"

    found = WebSocketExec(Open((STDOUT, b"all\n"), (STATUS, SUCCESS)), place="exec")
    assert found.read_line(timeout_s=1) == "all"
    with pytest.raises(WaitTimeout):
        found.read_line(timeout_s=0.01)


def test_lines_are_sent_with_a_newline() -> None:
    found = stream()
    found.send_line("grüße")
    assert found._ws.sent == [(0, "grüße\n".encode())]


@pytest.mark.parametrize("error", [WebSocketConnectionClosedException("gone"), BrokenPipeError("pipe")])
def test_what_cannot_be_sent_is_a_lost_stream(error: Exception) -> None:
    found = stream()
    found._ws.broken = error
    with pytest.raises(StreamLost, match="broke while writing"):
        found.send_line("hello")


@pytest.mark.parametrize("error", [None, WebSocketConnectionClosedException("gone")])
def test_closing_releases_the_socket_also_when_the_server_was_first(error: Exception | None) -> None:
    found = stream()
    socket: Any = found._ws.sock
    found._ws.broken = error
    found.close()
    assert socket.shut
