"""An exec stream over a connection as the engine has it, and what comes between."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import docker.errors
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster import engine as engine_module
from cilium_e2e.cluster.container_exec import ContainerExec, Containers
from cilium_e2e.cluster.engine import Attached, Engine
from cilium_e2e.model import BackendUnavailable, EngineError, StreamLost, WaitTimeout
from support.docker import FakeDocker, frame, read_all

COMMAND = ["python3", "-m", "agent", "batch"]
PLACE = "exec python3 -m agent in container x-world-one"
Act = Callable[[socket.socket], int | None]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    found = FakeDocker()
    found.node("x-world-one")
    monkeypatch.setattr(docker, "from_env", lambda timeout: found)
    monkeypatch.setattr(engine_module, "_CODE_POLL_S", 0.0)
    return found


@pytest.fixture
def containers(fake: FakeDocker) -> Iterator[Containers]:
    found = Containers(Engine)
    yield found
    found.close()


@pytest.fixture
def start(fake: FakeDocker, containers: Containers) -> Iterator[Callable[[Act], ContainerExec]]:
    """Starts a command that does as the test says with its connection, and answers an exit code."""
    with contextlib.ExitStack() as opened:

        def go(act: Act) -> ContainerExec:
            fake.on_feed = lambda name, command, connection: act(connection)
            stream = containers.exec("x-world-one", COMMAND)
            opened.callback(stream.close)
            return stream

        yield go


def says(*pieces: bytes, code: int | None = 0) -> Act:
    """A command that writes this and ends."""

    def act(connection: socket.socket) -> int | None:
        for piece in pieces:
            connection.sendall(piece)
        return code

    return act


def lines(stream: ContainerExec) -> list[str | None]:
    read: list[str | None] = []
    while (line := stream.read_line(timeout_s=10)) is not None:
        read.append(line)
    return read


def echo(connection: socket.socket) -> int:
    """Answers line by line, and ends with its input."""
    with connection.makefile("rb") as source:
        for line in source:
            connection.sendall(frame(b"got " + line))
    return 0


def test_lines_go_there_and_back(start: Callable[[Act], ContainerExec], fake: FakeDocker) -> None:
    stream = start(echo)
    for text in ("one", "zwei ✓", "x" * 300_000):
        stream.send_line(text)
        assert stream.read_line(timeout_s=10) == f"got {text}"
    assert stream.returncode is None
    assert [(e.container, e.command) for e in fake.execs] == [("x-world-one", COMMAND)]


def test_both_outputs_are_kept_apart(start: Callable[[Act], ContainerExec]) -> None:
    stream = start(says(frame(b"a\nb"), frame(b"warning\n", stream=2), frame(b"c\nlast"), code=3))
    assert lines(stream) == ["a", "bc", "last"]
    assert stream.stderr() == "warning\n"
    assert stream.returncode == 3
    assert stream.read_line(timeout_s=0) is None


@given(
    st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=40)), max_size=8),
    st.integers(1, 64),
    st.data(),
)
def test_however_it_is_cut_into_pieces(
    output: list[tuple[int, bytes]], size: int, data: st.DataObject
) -> None:
    """Frames end anywhere in what arrives, and some of it may have come with the engine's first answer."""
    raw = b"".join(frame(content, stream=stream) for stream, content in output)
    early = data.draw(st.integers(0, len(raw)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = ContainerExec(Attached(ours, raw[:early], lambda: 0, ours.close), place="x")
        for at in range(early, len(raw), size):
            theirs.sendall(raw[at : at + size])
        theirs.shutdown(socket.SHUT_WR)
        out = b"".join(content for number, content in output if number == 1)
        text = [line.decode(errors="replace") for line in out.split(b"\n")]
        assert lines(stream) == (text if text[-1] else text[:-1])
        assert stream.stderr() == b"".join(c for number, c in output if number == 2).decode(errors="replace")
        assert stream.returncode == 0


def test_no_line_in_time(start: Callable[[Act], ContainerExec]) -> None:
    """What has come of it is not lost, nor is the stream."""
    go_on = threading.Event()

    def slow(connection: socket.socket) -> int:
        connection.sendall(frame(b"half a "))
        assert go_on.wait(10)
        connection.sendall(frame(b"line\n"))
        return 0

    stream = start(slow)
    with pytest.raises(WaitTimeout, match=f"{PLACE}: no line came within 0.05 s"):
        stream.read_line(timeout_s=0.05)
    go_on.set()
    assert stream.read_line(timeout_s=10) == "half a line"


class TestLost:
    """Never an end, and never silence."""

    def test_closed_while_the_command_runs(self, start: Callable[[Act], ContainerExec]) -> None:
        stream = start(says(frame(b"hello\nhalf"), code=None))
        assert stream.read_line(timeout_s=10) == "hello"
        for _ in range(2):
            with pytest.raises(
                StreamLost, match=f"{PLACE}: the connection was closed before the command had"
            ):
                stream.read_line(timeout_s=10)
        assert stream.returncode is None

    def test_closed_in_the_middle_of_a_frame(self, start: Callable[[Act], ContainerExec]) -> None:
        """Although the command may have ended well: what it said last is missing."""
        stream = start(says(frame(b"a long answer\n")[:-4], code=0))
        with pytest.raises(StreamLost, match="closed in the middle of output"):
            stream.read_line(timeout_s=10)

    def test_reset(self, start: Callable[[Act], ContainerExec]) -> None:
        def hang_up(connection: socket.socket) -> int:
            connection.recv(1, socket.MSG_PEEK)  # what is unread when it is closed resets the connection
            return 0

        stream = start(hang_up)
        stream.send_line("a batch")
        with pytest.raises(StreamLost, match=f"{PLACE}: the connection broke while reading: .*reset"):
            stream.read_line(timeout_s=10)

    def test_the_engine_went_away(self, start: Callable[[Act], ContainerExec], fake: FakeDocker) -> None:
        stream = start(says())
        fake.failures["exec_inspect"] = docker.errors.DockerException("connection refused")
        with pytest.raises(StreamLost, match=r"how the command ended cannot be asked: .*connection refused"):
            stream.read_line(timeout_s=10)

    def test_what_is_no_frame(self, start: Callable[[Act], ContainerExec]) -> None:
        stream = start(says(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"))
        with pytest.raises(StreamLost, match=r"expected output in the engine's frames, got b'HTTP/1\.1 502"):
            stream.read_line(timeout_s=10)

    def test_writing(self, start: Callable[[Act], ContainerExec], fake: FakeDocker) -> None:
        stream = start(says())
        thread = fake.execs[0].thread
        assert thread is not None
        thread.join(10)
        with pytest.raises(StreamLost, match=f"{PLACE}: the connection broke while writing"):
            stream.send_line("x")

    def test_closed_on_this_side(self, start: Callable[[Act], ContainerExec], fake: FakeDocker) -> None:
        """The command's input ends, and so does an agent."""
        read: list[bytes] = []

        def wait(connection: socket.socket) -> int:
            read.append(read_all(connection))
            return 0

        stream = start(wait)
        stream.send_line("x")
        stream.close()
        stream.close()
        thread = fake.execs[0].thread
        assert thread is not None
        thread.join(10)
        assert read == [b"x\n"]
        with pytest.raises(StreamLost, match="closed on this side"):
            stream.read_line(timeout_s=1)


class TestContainers:
    def test_the_engine_is_looked_for_when_it_is_needed_and_once(self, fake: FakeDocker) -> None:
        made: list[Engine] = []

        def connect() -> Engine:
            made.append(Engine())
            return made[-1]

        found = Containers(connect)
        found.close()
        assert made == []
        fake.on_feed = lambda name, command, connection: 0
        for _ in range(2):
            found.exec("x-world-one", COMMAND).close()
        assert len(made) == 1
        found.close()
        assert fake.closed

    def test_an_engine_that_has_gone_is_no_wrong_input(self) -> None:
        def connect() -> Engine:
            raise BackendUnavailable(
                "no container engine answers", place="backend kind", hint="Start Docker."
            )

        with pytest.raises(EngineError) as caught:
            Containers(connect).exec("x-world-one", COMMAND)
        assert str(caught.value) == "container x-world-one: no container engine answers. Start Docker."

    def test_a_container_that_is_not_there(self, containers: Containers) -> None:
        with pytest.raises(EngineError, match="no container ghost"):
            containers.exec("ghost", COMMAND)


def answer(status: bytes, body: bytes) -> bytes:
    """An answer of the engine's API."""
    kind = b"content-type: application/json\r\ncontent-length: %d" % len(body)
    return b"HTTP/1.1 " + status + b"\r\n" + kind + b"\r\n\r\n" + body


def test_output_that_comes_with_the_engine_s_first_answer_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real library: its HTTP client reads ahead, and drops what it has read."""
    path = tmp_path / "engine.sock"
    answers = {
        b"/version": answer(b"200 OK", b'{"Version":"27.0","ApiVersion":"1.44","Os":"x"}'),
        b"/exec": answer(b"201 Created", b'{"Id":"1"}'),
        b"/start": b"HTTP/1.1 101 UPGRADED\r\nconnection: Upgrade\r\nupgrade: tcp\r\n\r\n"
        + frame(b"hello\n"),
        b"/json": answer(b"200 OK", b'{"ExitCode":0}'),
    }

    def talk(connection: socket.socket) -> None:
        with connection:
            asked = b""
            while piece := connection.recv(1 << 16):
                asked += piece
                head, found, _ = asked.partition(b"\r\n\r\n")
                if not found:
                    continue
                target = head.split()[1]
                asked = b""
                key = next(key for key in answers if target.endswith(key))
                connection.sendall(answers[key])
                if key == b"/start":
                    return

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=talk, args=(listener.accept()[0],), daemon=True).start()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        threading.Thread(target=serve, daemon=True).start()
        monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
        containers = Containers(Engine)
        stream = containers.exec("x", COMMAND)
        assert lines(stream) == ["hello"]
        assert stream.returncode == 0
        stream.close()
        containers.close()
        listener.shutdown(socket.SHUT_RDWR)
