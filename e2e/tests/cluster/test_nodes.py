"""What is put into every node: images and the local endpoint of the API."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import docker
import docker.errors
import pytest

from cilium_e2e.cluster import images, node_endpoint
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.model import EngineError
from support.docker import FakeDocker

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
        return (1, b"", b"it broke here") if name == node and word in command else (0, b"", b"")

    fake.on_exec = run


def imports(fake: FakeDocker, node: str) -> list[list[str]]:
    return [command for command in fake.by_name[node].ran if "import" in command]


class TestImages:
    def test_each_is_saved_once_and_imported_everywhere(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"], "b:2": [b"B", b"B"]}
        images.load(engine, "x", ["a:1", "b:2", "a:1"])
        assert fake.saved == ["a:1", "b:2"]
        for name in ("x-control-plane", "x-worker"):
            assert fake.by_name[name].fed == [b"A", b"BB"]
            assert all("--namespace=k8s.io" in command for command in imports(fake, name))

    def test_nothing_else_gets_them(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        images.load(engine, "x", ["a:1"])
        for name in ("x-external-load-balancer", "y-worker"):
            assert not fake.by_name[name].ran

    @pytest.mark.parametrize(
        ("image", "listed"),
        [
            ("python:3.13", "docker.io/library/python:3.13"),
            ("kindest/node:v1", "docker.io/kindest/node:v1"),
            ("quay.io/cilium/cilium:v1", "quay.io/cilium/cilium:v1"),
            ("localhost/a:1", "localhost/a:1"),
            ("mirror:5000/a:1", "mirror:5000/a:1"),
        ],
    )
    def test_what_every_node_has_is_not_loaded(
        self, engine: Engine, fake: FakeDocker, image: str, listed: str
    ) -> None:
        fake.local_images = {image: [b"A"]}
        fake.on_exec = lambda name, command: (0, f"{listed}\n".encode() if "list" in command else b"", b"")
        images.load(engine, "x", [image])
        assert fake.saved == []
        assert not imports(fake, "x-worker")

    def test_what_only_one_node_has_is_loaded(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"quay.io/a:1": [b"A"]}
        fake.on_exec = lambda name, command: (
            0,
            b"quay.io/a:1\n" if "list" in command and name == "x-worker" else b"",
            b"",
        )
        images.load(engine, "x", ["quay.io/a:1"])
        assert fake.saved == ["quay.io/a:1"]

    def test_large_ones_in_pieces(self, engine: Engine, fake: FakeDocker) -> None:
        pieces = [bytes([number]) * 100_000 for number in range(40)]
        fake.local_images = {"a:1": pieces}
        images.load(engine, "x", iter(["a:1"]))
        assert fake.by_name["x-worker"].fed == fake.by_name["x-control-plane"].fed == [b"".join(pieces)]

    def test_a_node_that_refuses(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        fail_on(fake, "x-worker", "import")
        with pytest.raises(EngineError, match="loading image a:1 into x-worker: exit code 1: it broke here"):
            images.load(engine, "x", ["a:1"])

    def test_a_node_that_stops_reading_holds_nobody_up(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"x" * 500_000] * 10}
        fake.deaf = {"x-worker"}
        fail_on(fake, "x-worker", "import")
        with pytest.raises(EngineError, match=r"into x-worker: it stopped reading .*exit code 1"):
            images.load(engine, "x", ["a:1"])
        assert len(fake.by_name["x-control-plane"].fed[0]) == 5_000_000

    def test_an_image_that_cannot_be_saved(self, engine: Engine, fake: FakeDocker) -> None:
        fake.failures["get_image"] = docker.errors.APIError("no such image")
        with pytest.raises(EngineError, match="saving image a:1"):
            images.load(engine, "x", ["a:1"])

    def test_giving_up(self, engine: Engine, fake: FakeDocker) -> None:
        fake.local_images = {"a:1": [b"A"]}
        stop = threading.Event()
        stop.set()
        images.load(engine, "x", ["a:1"], stop=stop)
        assert fake.saved == []

    def test_none(self, engine: Engine, fake: FakeDocker) -> None:
        images.load(engine, "x", [])
        assert not imports(fake, "x-worker")


class TestEndpoint:
    def test_every_node_gets_it_started_and_tried(self, engine: Engine, fake: FakeDocker) -> None:
        node_endpoint.install(engine, "x")
        for name in ("x-control-plane", "x-worker"):
            node = fake.by_name[name]
            assert node.files[SCRIPT][0] == 0o755
            assert node.files[UNIT][0] == 0o644
            assert [command[0] for command in node.ran] == ["systemctl", "systemctl", "curl"]
            assert node.ran[1][1:] == ["enable", "--now", UNIT.rpartition("/")[2]]
            assert node.ran[2][-1] == "https://127.0.0.1:7445/livez"
        assert not fake.by_name["x-external-load-balancer"].ran
        assert not fake.by_name["y-worker"].ran

    @pytest.mark.parametrize("word", ["enable", "--insecure"])
    def test_one_that_does_not_start_or_leads_nowhere(
        self, engine: Engine, fake: FakeDocker, word: str
    ) -> None:
        fail_on(fake, "x-worker", word)
        with pytest.raises(EngineError, match="in container x-worker: exit code 1: it broke here"):
            node_endpoint.install(engine, "x")

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
