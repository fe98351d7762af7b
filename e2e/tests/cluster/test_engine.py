"""The container engine, with its client in memory."""

from __future__ import annotations

import gc
import socket
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import docker
import docker.errors
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilium_e2e.cluster import engine as engine_module
from cilium_e2e.cluster.engine import RUN_LABEL, Engine
from cilium_e2e.model import EXIT_INTERRUPTED, BackendUnavailable, EngineError
from support.docker import FakeContainer, FakeDocker, frame, read_all

REFUSED = docker.errors.APIError("500 Server Error\nand a long trace")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    found = FakeDocker()
    monkeypatch.setattr(docker, "from_env", lambda timeout: found)
    return found


@pytest.fixture
def engine(fake: FakeDocker) -> Engine:
    return Engine()


class TestThere:
    def test_its_version(self, engine: Engine) -> None:
        assert engine.version == "27.0"

    @pytest.mark.parametrize(
        "error",
        [
            docker.errors.DockerException("Error while fetching server API version\nsecond line"),
            requests.exceptions.ConnectionError("refused"),
            PermissionError(13, "Permission denied"),
        ],
    )
    def test_none_answers(self, fake: FakeDocker, error: Exception) -> None:
        fake.failures["version"] = error
        with pytest.raises(BackendUnavailable) as caught:
            Engine()
        text = str(caught.value)
        assert caught.value.exit_code == 4
        assert text.startswith("backend kind: no container engine answers. Start Docker")
        assert "--backend existing" in text
        assert "\n" not in text
        assert fake.closed  # its connections are not left behind

    def test_none_can_be_looked_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(timeout: int) -> FakeDocker:
            raise docker.errors.DockerException("Invalid bind address format: nonsense")

        monkeypatch.setattr(docker, "from_env", broken)
        with pytest.raises(BackendUnavailable, match="Invalid bind address"):
            Engine()

    def test_close(self, engine: Engine, fake: FakeDocker) -> None:
        engine.close()
        assert fake.closed


class TestFailures:
    CALLS: ClassVar[dict[str, tuple[str, Callable[[Engine], object], str]]] = {
        "nodes": ("list", lambda e: e.nodes("x"), "listing the nodes of x"),
        "image": ("get", lambda e: e.has_image("a:1"), "looking up image a:1"),
        "save": ("get_image", lambda e: list(e.save("a:1")), "saving image a:1"),
        "feed": ("exec_start", lambda e: e.feed("n", ["ctr", "import"], []), "ctr in container n"),
        "attach": ("exec_start", lambda e: e.attach("n", ["python3"]), "python3 in container n"),
        "labels": ("get", lambda e: e.labels("n"), "looking up container n"),
        "addresses": ("get", lambda e: e.addresses("n", "kind"), "looking up container n"),
        "fed": ("exec_inspect", lambda e: e.feed("n", ["ctr", "import"], []), "ctr in container n"),
        "info": ("info", lambda e: e.info(), "asking for its info"),
        "execute": ("exec_run", lambda e: e.execute("n", ["sh", "-c", "x"]), "sh in container n"),
        "put": ("put_archive", lambda e: e.put("n", "/etc", {"f": b""}), "copying into n:/etc"),
        "create": (
            "create",
            lambda e: e.run("i", [], name="n2", network="kind", labels={}, prepare=lambda _: None),
            "running container n2",
        ),
        "start": (
            "start",
            lambda e: e.run("i", [], name="n2", network="kind", labels={}, prepare=lambda _: None),
            "running container n2",
        ),
        "running": ("get", lambda e: e.running("n"), "looking up container n"),
        "ours": ("list", lambda e: e.ours("x"), "listing containers"),
        "remove": ("remove", lambda e: e.remove("n"), "removing container n"),
    }

    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize(
        "error", [REFUSED, requests.exceptions.ReadTimeout("slow"), OSError("disk full")]
    )
    def test_each_names_what_was_tried(
        self, engine: Engine, fake: FakeDocker, name: str, error: Exception
    ) -> None:
        fake.node("n")
        fake.local_images["a:1"] = [b"x"]
        call, act, place = self.CALLS[name]
        fake.failures[call] = error
        with pytest.raises(EngineError) as caught:
            act(engine)
        assert caught.value.place == place
        assert str(error).splitlines()[0] in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_a_container_that_is_not_there(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match=r"sh in container ghost: .*no container ghost"):
            engine.execute("ghost", ["sh"])

    def test_files_that_are_not_taken(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n")
        fake.takes_files = False
        with pytest.raises(EngineError, match="n:/etc: the engine did not take the files"):
            engine.put("n", "/etc", {"f": b""})


class TestHost:
    def test_info_is_the_engine_s(self, engine: Engine, fake: FakeDocker) -> None:
        fake.about = {"CgroupVersion": "2"}
        assert engine.info() == {"CgroupVersion": "2"}

    @pytest.mark.parametrize(
        ("url", "local"),
        [
            ("http+docker://localhost", True),
            ("http+unix:///run/docker.sock", True),
            ("http://10.0.0.1:2375", False),
            ("https://engine.example:2376", False),
            ("http+docker://ssh", False),
        ],
    )
    def test_whether_its_files_are_ours_to_look_at(
        self, engine: Engine, fake: FakeDocker, url: str, local: bool
    ) -> None:
        fake.base_url = url
        assert engine.local is local


class TestContainers:
    def test_nodes_of_one_cluster_by_name(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("x-worker")
        fake.node("x-control-plane", "control-plane")
        fake.node("y-worker", cluster="y")
        assert [(n.name, n.role) for n in engine.nodes("x")] == [
            ("x-control-plane", "control-plane"),
            ("x-worker", "worker"),
        ]

    def test_run_prepares_before_it_starts(self, engine: Engine, fake: FakeDocker) -> None:
        states: list[str] = []

        def prepare(name: str) -> None:
            states.append(fake.by_name[name].status)
            engine.put(name, "/opt", {"program.py": b"pass"})

        engine.run("img:1", ["python3"], name="s", network="kind", labels={RUN_LABEL: "x"}, prepare=prepare)
        made = fake.by_name["s"]
        assert states == ["created"]
        assert made.status == "running"
        assert made.created["network"] == "kind"
        assert engine.ours("x") == ["s"]
        assert engine.ours("y") == []
        assert engine.running("s")

    def test_one_that_is_gone(self, engine: Engine) -> None:
        assert not engine.running("s")
        engine.remove("s")

    def test_a_stopped_one_does_not_run(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n").status = "exited"
        assert not engine.running("n")


class TestExecute:
    def test_output(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n")
        fake.on_exec = lambda name, command: (0, "grüße".encode(), b"noise")
        assert engine.execute("n", ["echo", "x"]) == "grüße"
        fake.on_exec = lambda name, command: (0, b"", b"")
        assert engine.execute("n", ["true"]) == ""

    @pytest.mark.parametrize(
        ("out", "err", "words"),
        [(b"", b"no such unit\n", "no such unit"), (b"on stdout", b"", "on stdout"), (b"", b"", "")],
    )
    def test_a_failure_has_its_last_words(
        self, engine: Engine, fake: FakeDocker, out: bytes, err: bytes, words: str
    ) -> None:
        fake.node("n")
        fake.on_exec = lambda name, command: (5, out, err)
        with pytest.raises(EngineError) as caught:
            engine.execute("n", ["systemctl", "start", "x"])
        assert str(caught.value) == f"systemctl in container n: exit code 5: {words}"


class TestFiles:
    @given(
        st.dictionaries(
            st.from_regex(r"[a-z0-9]{1,9}(/[a-z0-9.:]{1,120}){0,2}", fullmatch=True),
            st.binary(max_size=2000),
            max_size=5,
        )
    )
    def test_put_carries_any_files(self, files: dict[str, bytes]) -> None:
        fake = FakeDocker()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(docker, "from_env", lambda timeout: fake)
            node = fake.node("n")
            Engine().put("n", "/opt", files, mode=0o755)
        assert node.files == {f"/opt/{path}": (0o755, content) for path, content in files.items()}


class TestImages:
    def test_has_image(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images["a:1"] = []
        assert engine.has_image("a:1")
        assert not engine.has_image("b:1")

    def test_save_gives_all_pieces_in_order_and_no_file(
        self, engine: Engine, fake: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        monkeypatch.chdir(tmp_path)
        fake.local_images["a:1"] = [b"one", b"two"]
        assert list(engine.save("a:1")) == [b"one", b"two"]
        assert list(tmp_path.iterdir()) == []

    def test_save_reads_no_further_than_it_is_asked(self, engine: Engine, fake: FakeDocker) -> None:
        """So a gigabyte never lies in memory, and who gives up is not waited for."""
        given: list[int] = []

        def pieces() -> Iterator[bytes]:
            for number in range(1000):
                given.append(number)
                yield b"x"

        fake.get_image = lambda name: pieces()  # type: ignore[method-assign]
        saved = engine.save("a:1")
        assert given == []
        next(saved)
        next(saved)
        assert given == [0, 1]

    def test_an_archive_that_breaks_off(self, engine: Engine, fake: FakeDocker) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise requests.exceptions.ChunkedEncodingError("Connection broken\nIncompleteRead")

        fake.get_image = lambda name: pieces()  # type: ignore[method-assign]
        saved = engine.save("a:1")
        assert next(saved) == b"one"
        with pytest.raises(EngineError, match="saving image a:1: the container engine failed: Connection"):
            next(saved)


class TestFeed:
    """A command's standard input, over a real connection."""

    COMMAND: ClassVar[list[str]] = ["ctr", "images", "import", "-"]

    @pytest.fixture(autouse=True)
    def node(self, fake: FakeDocker) -> FakeContainer:
        return fake.node("n")

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.lists(st.binary(max_size=300_000), max_size=5))
    def test_every_byte_arrives(
        self, engine: Engine, node: FakeContainer, fake: FakeDocker, pieces: list[bytes]
    ) -> None:
        node.fed.clear()
        engine.feed("n", self.COMMAND, iter(pieces))
        assert node.fed == [(self.COMMAND, b"".join(pieces))]

    def test_more_than_any_buffer_holds(self, engine: Engine, node: FakeContainer) -> None:
        piece = bytes(range(256)) * 4096
        engine.feed("n", self.COMMAND, (piece for _ in range(4)))
        assert node.fed[0][1] == piece * 4

    def test_a_failure_has_the_command_s_words_of_both_streams(
        self, engine: Engine, fake: FakeDocker
    ) -> None:
        fake.on_exec = lambda name, command: (3, b"unpacking a:1\n", b"ctr: content digest: not found\n")
        with pytest.raises(EngineError) as caught:
            engine.feed("n", self.COMMAND, [b"x"])
        assert str(caught.value) == (
            "ctr in container n: exit code 3: unpacking a:1\nctr: content digest: not found"
        )

    def test_output_in_many_frames_and_any_encoding(self, engine: Engine, fake: FakeDocker) -> None:
        def chat(name: str, command: list[str], connection: socket.socket) -> int:
            read_all(connection)
            for piece in (b"caf", b"\xff", b"", b" \xe2\x9c", b"\x93"):
                connection.sendall(frame(piece, stream=2))
            whole = frame(b" in two halves")
            connection.sendall(whole[:3])
            connection.sendall(whole[3:])
            return 1

        fake.on_feed = chat
        with pytest.raises(EngineError, match=r"exit code 1: caf\ufffd ✓ in two halves$"):
            engine.feed("n", self.COMMAND, [b"x"])

    def test_much_output_is_cut_to_its_end(self, engine: Engine, fake: FakeDocker) -> None:
        fake.on_exec = lambda name, command: (1, b"x" * 50_000, b"the end")
        with pytest.raises(EngineError, match=r"the end$") as caught:
            engine.feed("n", self.COMMAND, [b"x"])
        assert len(str(caught.value)) < 700

    def test_a_command_that_stops_reading(self, engine: Engine, fake: FakeDocker) -> None:
        """Its words are told, not only that the rest could not be delivered."""

        def refuse(name: str, command: list[str], connection: socket.socket) -> int:
            connection.recv(10)
            connection.sendall(frame(b"ctr: unrecognized image format", stream=2))
            connection.shutdown(socket.SHUT_RDWR)
            return 1

        fake.on_feed = refuse
        with pytest.raises(EngineError) as caught:
            engine.feed("n", self.COMMAND, (b"x" * 1_000_000 for _ in range(50)))
        text = str(caught.value)
        assert text.startswith("ctr in container n: it stopped reading (")
        assert "exit code 1: " in text

    def test_one_that_stops_reading_and_is_content(self, engine: Engine, fake: FakeDocker) -> None:
        """Half an image is no image, whatever the importer thinks of it."""

        def close(name: str, command: list[str], connection: socket.socket) -> int:
            connection.shutdown(socket.SHUT_RDWR)
            return 0

        fake.on_feed = close
        with pytest.raises(EngineError, match=r"it stopped reading .*; exit code 0: "):
            engine.feed("n", self.COMMAND, (b"x" * 1_000_000 for _ in range(50)))

    def test_an_output_that_breaks_off_is_no_success(self, engine: Engine, fake: FakeDocker) -> None:
        def hang_up(name: str, command: list[str], connection: socket.socket) -> int:
            connection.recv(1, socket.MSG_PEEK)  # what is unread when it is closed resets the connection
            return 0

        fake.on_feed = hang_up
        with pytest.raises(EngineError, match=r"(its output broke off|it stopped reading) \(.*; exit code 0"):
            engine.feed("n", self.COMMAND, [b"x"])

    def test_a_connection_that_breaks_before_the_end(
        self, engine: Engine, fake: FakeDocker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The command's exit code never comes."""
        monkeypatch.setattr(engine_module, "_CODE_POLL_S", 0.0)
        fake.on_feed = lambda name, command, connection: None
        with pytest.raises(EngineError, match="it ended without an exit code"):
            engine.feed("n", self.COMMAND, [])

    def test_an_exit_code_that_comes_late(
        self, engine: Engine, fake: FakeDocker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(engine_module, "_CODE_POLL_S", 0.0)
        codes: list[int | None] = [None, None, 0]
        fake.exec_inspect = lambda number: {"ExitCode": codes.pop(0)}  # type: ignore[method-assign]
        engine.feed("n", self.COMMAND, [b"x"])
        assert codes == []

    def test_pieces_that_break_off_leave_no_connection(self, engine: Engine, fake: FakeDocker) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            engine.feed("n", self.COMMAND, pieces())
        thread = fake.execs[0].thread
        assert thread is not None
        thread.join(timeout=10)
        assert not thread.is_alive(), "the command would wait for the rest for ever"

    @pytest.mark.parametrize("call", ["exec_create", "exec_start"])
    def test_a_command_that_cannot_be_started(self, engine: Engine, fake: FakeDocker, call: str) -> None:
        fake.failures[call] = docker.errors.NotFound("No such container: n")
        with pytest.raises(EngineError, match=r"ctr in container n: .*No such container"):
            engine.feed("n", self.COMMAND, [b"x"])

    def test_a_container_that_is_not_there(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match=r"ctr in container ghost: .*no container ghost"):
            engine.feed("ghost", self.COMMAND, [])


class TestDiskFull:
    HINT = "The disk with the container engine's data is full"

    def test_a_command_that_says_so(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n")
        fake.on_exec = lambda name, command: (1, b"", b"mkdir /x: No space left on device\n")
        for act in (lambda: engine.execute("n", ["mkdir"]), lambda: engine.feed("n", ["mkdir"], [])):
            with pytest.raises(EngineError) as caught:
                act()
            assert caught.value.hint.startswith(self.HINT)

    @pytest.mark.parametrize(
        "error", [OSError(28, "No space left on device"), docker.errors.APIError("disk quota exceeded")]
    )
    def test_the_engine_itself(self, engine: Engine, fake: FakeDocker, error: Exception) -> None:
        fake.failures["list"] = error
        with pytest.raises(EngineError) as caught:
            engine.ours("x")
        assert caught.value.hint.startswith(self.HINT)
        assert caught.value.exit_code == EXIT_INTERRUPTED

    def test_anything_else(self, engine: Engine, fake: FakeDocker) -> None:
        fake.failures["list"] = OSError(5, "Input/output error")
        with pytest.raises(EngineError) as caught:
            engine.ours("x")
        assert caught.value.hint == ""


class TestPaused:
    def test_a_container_is_frozen_and_goes_on(self, engine: Engine, fake: FakeDocker) -> None:
        container = fake.by_name["n1"] = FakeContainer(fake, "n1")
        calls: list[str] = []

        def become(status: str) -> None:
            calls.append(status)
            container.status = status

        container.pause = lambda: become("paused")  # type: ignore[attr-defined]
        container.unpause = lambda: become("running")  # type: ignore[attr-defined]
        engine.pause("n1")
        engine.unpause("n1")
        engine.unpause("n1")
        assert calls == ["paused", "running"], "one that runs is left alone"

    def test_one_that_is_not_there(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match="pausing n9"):
            engine.pause("n9")


def test_where_none_answers_no_socket_is_left_to_the_garbage_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client leaves it open; found later, it was an error at the end of a run that had passed."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(BackendUnavailable):
            Engine()
        gc.collect()
    assert [str(warning.message) for warning in told if warning.category is ResourceWarning] == []
