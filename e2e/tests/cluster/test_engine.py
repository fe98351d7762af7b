"""The container engine, with its client in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

import docker
import docker.errors
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.cluster.engine import RUN_LABEL, Engine
from cilium_e2e.model import BackendUnavailable, EngineError
from support.docker import FakeDocker

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
        "feed": ("exec_create", lambda e: e.feed("n", ["ctr"], []), "ctr in container n"),
        "feeding": ("exec_start", lambda e: e.feed("n", ["ctr"], []), "ctr in container n"),
        "fed": ("exec_inspect", lambda e: e.feed("n", ["ctr"], []), "ctr in container n"),
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
    @settings(max_examples=40)
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

    def test_save_is_in_pieces(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images["a:1"] = [b"one", b"two"]
        assert list(engine.save("a:1")) == [b"one", b"two"]

    def test_an_engine_that_breaks_off_while_saving(self, engine: Engine, fake: FakeDocker) -> None:
        def broken(name: str) -> Iterator[bytes]:
            yield b"one"
            raise requests.exceptions.ChunkedEncodingError("connection broken")

        fake.get_image = broken  # type: ignore[method-assign]
        pieces = engine.save("a:1")
        assert next(pieces) == b"one"
        with pytest.raises(EngineError, match=r"saving image a:1: .*connection broken"):
            next(pieces)


class TestFeed:
    def test_what_is_fed_arrives(self, engine: Engine, fake: FakeDocker) -> None:
        node = fake.node("n")
        engine.feed("n", ["ctr", "import"], iter([b"one", b"", b"x" * 300_000]))
        assert node.fed == [b"one" + b"x" * 300_000]
        assert node.ran == [["ctr", "import"]]

    def test_a_command_that_fails(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n")
        fake.on_exec = lambda name, command: (7, b"read it all, ", b"no space left\n")
        with pytest.raises(EngineError) as caught:
            engine.feed("n", ["ctr", "import"], [b"data"])
        assert str(caught.value) == "ctr in container n: exit code 7: read it all, no space left"

    def test_a_command_that_stops_reading_is_heard(self, engine: Engine, fake: FakeDocker) -> None:
        fake.node("n")
        fake.deaf = {"n"}
        fake.on_exec = lambda name, command: (1, b"", b"unknown flag")
        with pytest.raises(EngineError, match=r"it stopped reading \(.*\); exit code 1"):
            engine.feed("n", ["ctr"], [b"x" * 500_000] * 10)

    def test_a_container_that_is_not_there(self, engine: Engine) -> None:
        with pytest.raises(EngineError, match="no container ghost"):
            engine.feed("ghost", ["ctr"], [])


class TestAbout:
    def test_its_info(self, engine: Engine) -> None:
        assert engine.info() == {"OperatingSystem": "Linux"}

    @pytest.mark.parametrize(
        ("url", "local"),
        [
            ("http+docker://localhost", True),
            ("http+unix:///var/run/docker.sock", True),
            ("http://10.0.0.1:2375", False),
        ],
    )
    def test_whether_it_is_on_this_machine(
        self, engine: Engine, fake: FakeDocker, url: str, local: bool
    ) -> None:
        fake.base_url = url
        assert engine.local is local
