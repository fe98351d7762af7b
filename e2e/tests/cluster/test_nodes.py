"""What is put into every node: images and the local endpoint of the API."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import docker.errors
import pytest

from cilium_e2e.cluster import images, node_endpoint
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.model import EXIT_INTERRUPTED, EngineError
from support.docker import FakeDocker, frame, read_all

SCRIPT = "/usr/local/sbin/cilium-e2e-api-endpoint"
UNIT = "/etc/systemd/system/cilium-e2e-api-endpoint.service"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    found = FakeDocker()
    monkeypatch.setattr(docker, "from_env", lambda timeout: found)
    found.node("x-control-plane", "control-plane")
    found.node("x-worker")
    found.node("x-external-load-balancer", "external-load-balancer")
    found.node("y-worker", cluster="y")
    return found


@pytest.fixture
def engine(fake: FakeDocker) -> Iterator[Engine]:
    found = Engine()
    yield found
    found.close()


def fail_on(fake: FakeDocker, node: str, word: str) -> None:
    def run(name: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
        if command[:2] == ["sh", "-c"]:
            return 1, b"", b""  # what is asked about a kept node
        return (1, b"", b"it broke here") if name == node and word in command else (0, b"", b"")

    fake.on_exec = run


NODES = ("x-control-plane", "x-worker")
PIECE = bytes(range(256)) * 1024


def has(fake: FakeDocker, **names: str) -> None:
    """What the nodes say that they have, by the last part of their names."""

    def run(name: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
        listed = names.get(name.rpartition("-")[2], "") if "list" in command else ""
        return 0, "".join(f"{line}\n" for line in listed.split()).encode(), b""

    fake.on_exec = run


class TestImages:
    def test_each_is_read_once_and_imported_everywhere(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"], "b:2": [b"B"]}
        images.load(engine, "x", ["a:1", "b:2", "a:1"])
        assert fake.saved == ["a:1", "b:2"]
        for name in NODES:
            node = fake.by_name[name]
            assert [content for _, content in node.fed] == [b"A", b"B"]
            for command, _ in node.fed:
                assert command[:2] == ["ctr", "--namespace=k8s.io"]
                assert command[2:4] == ["images", "import"]
                assert command[-1] == "-"
            assert node.files == {}, "no copy is left on the node"

    def test_nothing_else_gets_them(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        images.load(engine, "x", ["a:1"])
        for name in ("x-external-load-balancer", "y-worker"):
            assert not fake.by_name[name].ran
            assert not fake.by_name[name].fed
            assert not fake.by_name[name].files

    def test_what_a_node_imports_is_what_was_saved(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"one", b"two"]}
        images.load(engine, "x", iter(["a:1"]))
        assert [content for _, content in fake.by_name["x-worker"].fed] == [b"onetwo"]

    def test_all_nodes_take_it_at_the_same_time(self, engine: Engine, fake: FakeDocker) -> None:
        """Each waits in the middle of its import for the other to be there, too."""
        fake.local_images = {"a:1": [PIECE] * 3}
        met = threading.Barrier(2)

        def meet(name: str, command: list[str], connection: socket.socket) -> int:
            first = connection.recv(1)
            met.wait(timeout=10)
            fake.by_name[name].fed.append((command, first + read_all(connection)))
            return 0

        fake.on_feed = meet
        images.load(engine, "x", ["a:1"])
        assert not met.broken
        assert {fake.by_name[name].fed[0][1] for name in NODES} == {PIECE * 3}

    def test_a_slow_node_loses_nothing_and_fills_no_memory(self, engine: Engine, fake: FakeDocker) -> None:
        count, given = 60, 0
        fast_is_ahead = threading.Event()
        given_when_slow_began = 0

        def pieces() -> Iterator[bytes]:
            nonlocal given
            for number in range(count):
                given += 1
                yield bytes([number]) + PIECE

        def take(name: str, command: list[str], connection: socket.socket) -> int:
            nonlocal given_when_slow_began
            content = bytearray()
            if name == "x-worker":
                assert fast_is_ahead.wait(10)
                given_when_slow_began = given
            while piece := connection.recv(1 << 16):
                content += piece
                if len(content) > 5 * len(PIECE):
                    fast_is_ahead.set()
            fake.by_name[name].fed.append((command, bytes(content)))
            return 0

        fake.get_image = lambda name: pieces()  # type: ignore[method-assign]
        fake.on_feed = take
        images.load(engine, "x", ["a:1"])
        whole = b"".join(bytes([number]) + PIECE for number in range(count))
        assert all(fake.by_name[name].fed[0][1] == whole for name in NODES)
        assert given_when_slow_began <= images._AHEAD + 3

    @pytest.mark.parametrize("reads", [True, False])
    def test_a_node_that_refuses_is_named_and_holds_nobody_up(
        self, engine: Engine, fake: FakeDocker, reads: bool
    ) -> None:
        fake.local_images = {"a:1": [PIECE] * 40}

        def take(name: str, command: list[str], connection: socket.socket) -> int:
            if name != "x-worker":
                return fake.take_all(name, command, connection) or 0
            if reads:
                read_all(connection)
            connection.sendall(frame(b"ctr: it broke here", stream=2))
            return 1

        fake.on_feed = take
        with pytest.raises(EngineError) as caught:
            images.load(engine, "x", ["a:1"])
        assert caught.value.place == "loading image a:1 into x-worker"
        assert "exit code 1: " in str(caught.value)
        assert "it broke here" in str(caught.value) or not reads
        assert fake.by_name["x-control-plane"].fed[0][1] == PIECE * 40

    def test_when_all_refuse_the_first_is_told(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [PIECE] * 40}
        fail_on(fake, "x-control-plane", "import")
        one, fake.on_exec = fake.on_exec, lambda name, command: one("x-control-plane", command)
        with pytest.raises(EngineError, match=r"loading image a:1 into x-control-plane: .*it broke here"):
            images.load(engine, "x", ["a:1"])

    def test_a_full_disk_is_named(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}

        def run(name: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
            full = name == "x-worker" and "import" in command
            return (
                (1, b"", b"ctr: write /var/lib/containerd/x: no space left on device")
                if full
                else (0, b"", b"")
            )

        fake.on_exec = run
        with pytest.raises(EngineError) as caught:
            images.load(engine, "x", ["a:1"])
        assert caught.value.exit_code == EXIT_INTERRUPTED
        text = str(caught.value)
        assert text.startswith("loading image a:1 into x-worker: exit code 1: ctr: write /var/lib")
        assert text.endswith(
            "The disk with the container engine's data is full: free some, "
            "for example with docker image prune."
        )

    def test_a_node_that_cannot_be_asked(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        fail_on(fake, "x-worker", "list")
        with pytest.raises(EngineError, match="ctr in container x-worker: exit code 1: it broke here"):
            images.load(engine, "x", ["a:1"])
        assert fake.saved == []

    def test_an_image_that_cannot_be_saved(self, engine: Engine, fake: FakeDocker) -> None:
        fake.failures["get_image"] = docker.errors.APIError("no such image")
        with pytest.raises(EngineError, match="saving image a:1"):
            images.load(engine, "x", ["a:1"])
        assert all(content == b"" for _, content in fake.by_name["x-worker"].fed)

    def test_an_archive_that_breaks_off_keeps_no_node_waiting(self, engine: Engine, fake: FakeDocker) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"one"
            raise docker.errors.APIError("the engine is going down")

        fake.get_image = lambda name: pieces()  # type: ignore[method-assign]
        with pytest.raises(EngineError, match=r"saving image a:1: .*going down"):
            images.load(engine, "x", ["a:1", "b:2"])
        assert [content for _, content in fake.by_name["x-worker"].fed] == [b"one"]

    def test_none(self, engine: Engine, fake: FakeDocker) -> None:
        images.load(engine, "x", [])
        assert not fake.by_name["x-worker"].fed

    def test_a_cluster_without_nodes(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        images.load(engine, "gone", ["a:1"])


class TestPresentImages:
    @pytest.mark.parametrize(
        ("image", "known"),
        [
            ("a:1", "docker.io/library/a:1"),
            ("org/a:1", "docker.io/org/a:1"),
            ("docker.io/library/a:1", "docker.io/library/a:1"),
            ("r.example/deep/a:1", "r.example/deep/a:1"),
            ("localhost/a:1", "localhost/a:1"),
            ("local:5000/a:1", "local:5000/a:1"),
        ],
    )
    def test_one_that_every_node_has_is_left_as_it_is(
        self, engine: Engine, fake: FakeDocker, image: str, known: str
    ) -> None:
        fake.local_images = {image: [b"A"]}
        has(fake, plane=f"other:1 {known}", worker=f"{known} sha256:0")
        images.load(engine, "x", [image])
        assert fake.saved == []
        assert not fake.by_name["x-worker"].fed

    def test_one_that_some_node_lacks_is_loaded(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        has(fake, plane="docker.io/library/a:1")
        images.load(engine, "x", ["a:1"])
        assert fake.saved == ["a:1"]
        assert fake.by_name["x-worker"].fed

    @pytest.mark.parametrize("known", ["docker.io/library/a:10", "r.example/a:1", "a:1"])
    def test_another_name_is_another_image(self, engine: Engine, fake: FakeDocker, known: str) -> None:
        fake.local_images = {"a:1": [b"A"]}
        has(fake, plane=known, worker=known)
        images.load(engine, "x", ["a:1"])
        assert fake.saved == ["a:1"]


class TestStop:
    def test_before_anything(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        stop = threading.Event()
        stop.set()
        images.load(engine, "x", ["a:1"], stop=stop)
        assert fake.saved == []

    @pytest.mark.parametrize("code", [0, 1])
    def test_in_the_middle_of_an_image(self, engine: Engine, fake: FakeDocker, code: int) -> None:
        """No node waits for the rest, no other image is begun, and half an image is nobody's failure."""
        stop = threading.Event()

        def pieces() -> Iterator[bytes]:
            yield b"one"
            stop.set()
            yield b"two"
            raise AssertionError("read on")

        def run(name: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
            return (code, b"", b"unexpected EOF") if "import" in command else (0, b"", b"")

        fake.get_image = lambda name: pieces()  # type: ignore[method-assign]
        fake.on_exec = run
        images.load(engine, "x", ["a:1", "b:2"], stop=stop)
        assert [content for _, content in fake.by_name["x-worker"].fed] == [b"one"]


class TestEndpoint:
    @pytest.fixture(autouse=True)
    def new(self, fake: FakeDocker) -> None:
        """Nodes on which nothing of it is there."""
        fail_on(fake, "", "")

    def test_every_node_gets_it_started_and_tried(self, engine: Engine, fake: FakeDocker) -> None:
        node_endpoint.install(engine, "x")
        for name in ("x-control-plane", "x-worker"):
            node = fake.by_name[name]
            assert node.files[SCRIPT][0] == 0o755
            assert node.files[UNIT][0] == 0o644
            assert [command[0] for command in node.ran] == ["sh", "systemctl", "systemctl", "curl"]
            service = UNIT.rpartition("/")[2]
            timer = service.replace(".service", ".timer")
            assert node.ran[2][1:] == ["enable", "--now", service, timer], "addresses may change later"
            assert b"OnUnitInactiveSec" in node.files[UNIT.replace(".service", ".timer")][1]
            assert node.ran[3][-1] == "https://127.0.0.1:7445/livez"
        assert not fake.by_name["x-external-load-balancer"].ran
        assert not fake.by_name["y-worker"].ran

    @pytest.mark.parametrize("word", ["enable", "--insecure"])
    def test_one_that_does_not_start_or_leads_nowhere(
        self, engine: Engine, fake: FakeDocker, word: str
    ) -> None:
        fail_on(fake, "x-worker", word)
        with pytest.raises(EngineError, match="in container x-worker: exit code 1: it broke here"):
            node_endpoint.install(engine, "x")

    def test_one_that_is_there_and_works_is_left_alone(self, engine: Engine, fake: FakeDocker) -> None:
        fake.on_exec = lambda name, command: (0, b"", b"")
        node_endpoint.install(engine, "x")
        for name in ("x-control-plane", "x-worker"):
            assert [command[:2] for command in fake.by_name[name].ran] == [["sh", "-c"]]
            assert not fake.by_name[name].files

    @pytest.mark.parametrize("change", ["nothing", "a file", "the timer", "the server"])
    def test_how_a_kept_node_is_asked(
        self, engine: Engine, fake: FakeDocker, tmp_path: Path, change: str
    ) -> None:
        """In a real shell, with the node's own tools replaced."""
        node_endpoint.install(engine, "x")
        node = fake.by_name["x-worker"]
        for name, (_, content) in node.files.items():
            (tmp_path / Path(name).name).write_bytes(content)
        if change == "a file":
            (tmp_path / Path(UNIT).name).write_text("an older one")
        for tool, broken in (("systemctl", "the timer"), ("curl", "the server")):
            (tmp_path / tool).write_text(f"#!/bin/sh\nexit {int(change == broken)}\n")
            (tmp_path / tool).chmod(0o755)
        script = node.ran[0][2]
        for folder in ("/usr/local/sbin", "/etc/systemd/system"):
            script = script.replace(f"  {folder}/", f"  {tmp_path}/")
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-c", script], env={"PATH": path}, capture_output=True, check=False)
        assert (done.returncode == 0) is (change == "nothing"), done.stderr

    def installed(self, engine: Engine, fake: FakeDocker) -> tuple[str, str]:
        node_endpoint.install(engine, "x")
        files = fake.by_name["x-worker"].files
        return files[SCRIPT][1].decode(), files[UNIT][1].decode()

    def test_the_script_is_one(self, engine: Engine, fake: FakeDocker) -> None:
        script, _ = self.installed(engine, fake)
        assert script.startswith("#!/bin/sh\n")
        done = subprocess.run(["sh", "-n"], input=script.encode(), capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")

    def test_the_unit_starts_before_the_kubelet_at_each_boot(self, engine: Engine, fake: FakeDocker) -> None:
        _, unit = self.installed(engine, fake)
        assert "\nBefore=kubelet.service\n" in unit
        assert "\nWantedBy=multi-user.target\n" in unit
        assert f"\nExecStart={SCRIPT}\n" in unit

    @pytest.mark.parametrize(
        ("server", "expected"),
        [("https://x-control-plane:6443", "6443"), ("https://x-external-load-balancer:6443", "6443")],
    )
    def test_what_it_does_on_a_node(
        self, engine: Engine, fake: FakeDocker, tmp_path: Path, server: str, expected: str
    ) -> None:
        """Runs it with the commands of a node replaced by ones that print."""
        script, _ = self.installed(engine, fake)
        script = script.replace("/etc/kubernetes/kubelet.conf", f"{tmp_path}/kubelet.conf")
        (tmp_path / "kubelet.conf").write_text(f"clusters:\n- cluster:\n    server: {server}\n  name: x\n")
        host = re.sub(r"https://(.*):\d+", r"\1", server)
        fakes = (
            f'getent() {{ [ "$2" = {host} ] && echo "172.18.0.7 STREAM"; echo "172.18.0.8 DGRAM"; }}\n'
            'sysctl() { echo "sysctl $*"; }\n'
            'iptables() { case "$*" in *" -C "*) return 1 ;; esac; echo "iptables $*"; }\n'
        )
        head, _, body = script.partition("\n")
        done = subprocess.run(
            ["sh"], input=f"{head}\n{fakes}{body}".encode(), capture_output=True, check=False
        )
        lines = done.stdout.decode().splitlines()
        assert done.returncode == 0, done.stderr
        assert "sysctl -q -w net.ipv4.conf.all.route_localnet=1" in lines
        assert (
            "iptables -w -t nat -A CE2E-DNAT -d 127.0.0.1/32 -p tcp --dport 7445 "
            f"-j DNAT --to-destination 172.18.0.7:{expected}" in lines
        )
        assert any("-j MASQUERADE" in line and "172.18.0.7/32" in line for line in lines)
        assert "iptables -w -t nat -I OUTPUT -j CE2E-DNAT" in lines

    def test_a_name_that_does_not_resolve_is_a_failure_to_start(
        self, engine: Engine, fake: FakeDocker, tmp_path: Path
    ) -> None:
        script, _ = self.installed(engine, fake)
        script = script.replace("/etc/kubernetes/kubelet.conf", f"{tmp_path}/none")
        done = subprocess.run(
            ["sh"],
            input=script.replace("set -eu", "set -eu\ngetent() { return 2; }").encode(),
            capture_output=True,
            check=False,
        )
        assert done.returncode != 0
        assert b"cannot resolve" in done.stderr
