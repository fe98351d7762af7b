"""kind clusters, with a shell script in kind's place."""

from __future__ import annotations

import hashlib
import http.client
import io
import os
import stat
import subprocess
import threading
import urllib.error
from collections.abc import Callable
from pathlib import Path

import pytest

from cilium_e2e.cluster import kind as kind_module
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.model import EXIT_INTERRUPTED, BackendUnavailable, EngineError

# Logs its working directory and arguments, lists what $CLUSTERS says, and does what $ON_CREATE says.
SCRIPT = """\
#!/bin/sh
echo "$PWD|$*" >> "$LOG"
case "$1 $2" in
  "get clusters") for name in $CLUSTERS; do echo "$name"; done ;;
  "create cluster") eval "$ON_CREATE" ;;
  "delete cluster") eval "$ON_DELETE" ;;
esac
"""


class FakeKind:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.binary = folder / "bin" / "kind"
        self.binary.parent.mkdir()
        self.binary.write_text(SCRIPT)
        self.binary.chmod(0o755)
        self.log = folder / "log"
        self.set = monkeypatch.setenv
        monkeypatch.setenv("LOG", str(self.log))
        monkeypatch.setenv("CLUSTERS", "")
        monkeypatch.setenv("ON_CREATE", "")
        monkeypatch.setenv("ON_DELETE", "")
        monkeypatch.setenv("PATH", f"{self.binary.parent}:/usr/bin:/bin")

    def calls(self) -> list[tuple[str, str]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(line.partition("|")[0], line.partition("|")[2]) for line in lines]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeKind:
    return FakeKind(tmp_path, monkeypatch)


@pytest.fixture
def cluster(fake: FakeKind, tmp_path: Path) -> KindCluster:
    return KindCluster("ce2e-x", state=tmp_path / "state")


class TestName:
    @pytest.mark.parametrize("name", ["a", "ce2e-cgroup-v1-0a1b2c", "x" * 40])
    def test_host_names(self, tmp_path: Path, name: str) -> None:
        assert KindCluster(name, state=tmp_path).name == name

    @pytest.mark.parametrize("name", ["", "A", "a_b", "-a", "a-", "x" * 41, "a.b", "a\n", "../a"])
    def test_others(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(BackendUnavailable, match="--cluster-name: expected a cluster name"):
            KindCluster(name, state=tmp_path)


class TestCreate:
    def test_with_a_configuration(self, cluster: KindCluster, fake: FakeKind, tmp_path: Path) -> None:
        topology = tmp_path / "clusters" / "talos-like"
        topology.mkdir(parents=True)
        cluster.image = "kindest/node:v1.33.0"
        cluster.create(topology / "kind.yaml")
        where, arguments = fake.calls()[-1]
        assert where == str(topology)
        assert arguments == (
            f"create cluster --name ce2e-x --kubeconfig {cluster.kubeconfig_path} "
            f"--image kindest/node:v1.33.0 --config {topology}/kind.yaml"
        )

    def test_without_one(self, cluster: KindCluster, fake: FakeKind) -> None:
        cluster.create()
        assert fake.calls()[-1][1] == f"create cluster --name ce2e-x --kubeconfig {cluster.kubeconfig_path}"

    def test_relative_paths_are_taken_from_here_and_not_from_the_topology(
        self, fake: FakeKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "clusters" / "x").mkdir(parents=True)
        monkeypatch.chdir(tmp_path)
        cluster = KindCluster("ce2e-x", state=Path("state"), kind_path=Path("bin/kind"))
        cluster.create(Path("clusters/x/kind.yaml"))
        where, arguments = fake.calls()[-1]
        assert where == str(tmp_path / "clusters" / "x")
        assert f"--config {tmp_path}/clusters/x/kind.yaml" in arguments
        assert f"--kubeconfig {tmp_path}/state/ce2e-x.kubeconfig" in arguments

    @pytest.mark.parametrize("left_over", [False, True])
    def test_the_kubeconfig_is_private_before_kind_writes_it(
        self, cluster: KindCluster, fake: FakeKind, left_over: bool
    ) -> None:
        if left_over:
            cluster.kubeconfig_path.touch()
            cluster.kubeconfig_path.chmod(0o644)
        fake.set("ON_CREATE", 'stat -c %a "$6" > "$LOG.mode"; echo secret > "$6"')
        cluster.create()
        assert (fake.folder / "log.mode").read_text().strip() == "600"
        assert stat.S_IMODE(cluster.kubeconfig_path.stat().st_mode) == 0o600
        assert cluster.kubeconfig_path.read_text() == "secret\n"

    def test_a_cluster_of_this_name_is_left_alone(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("CLUSTERS", "other ce2e-x")
        with pytest.raises(EngineError, match="exists already") as caught:
            cluster.create()
        assert "kind delete cluster --name ce2e-x" in str(caught.value)
        assert [arguments for _, arguments in fake.calls()] == ["get clusters --quiet"]
        assert not cluster.kubeconfig_path.exists()

    def test_a_failure_has_kind_s_words(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("ON_CREATE", 'echo "ERROR: failed to create cluster: no space left" >&2; exit 1')
        with pytest.raises(EngineError) as caught:
            cluster.create()
        assert str(caught.value) == (
            "kind create cluster: exit code 1: ERROR: failed to create cluster: no space left"
        )

    def test_a_node_image_that_is_not_there(self, cluster: KindCluster, fake: FakeKind) -> None:
        """kind's own words name it; no downloading by us would find it either."""
        cluster.image = "kindest/node:v9.99.9"
        words = 'ERROR: failed to create cluster: failed to pull image "kindest/node:v9.99.9"'
        fake.set("ON_CREATE", f"echo '{words}: command failed with error: exit status 1' >&2; exit 1")
        with pytest.raises(EngineError) as caught:
            cluster.create()
        assert caught.value.exit_code == EXIT_INTERRUPTED
        assert str(caught.value).startswith(f"kind create cluster: exit code 1: {words}")

    def test_a_full_disk_is_named(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("ON_CREATE", "echo 'ERROR: mkdir /x: no space left on device' >&2; exit 1")
        with pytest.raises(EngineError, match="The disk with the container engine's data is full"):
            cluster.create()

    def test_words_in_any_encoding_and_on_either_stream(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("ON_CREATE", r"printf 'caf\351 \342\234\223\n'; exit 2")
        with pytest.raises(EngineError, match=r"exit code 2: caf\ufffd ✓"):
            cluster.create()

    def test_much_output_is_cut_to_its_end(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("ON_CREATE", "seq 1 100000 >&2; exit 1")
        with pytest.raises(EngineError, match=r"100000$") as caught:
            cluster.create()
        assert len(str(caught.value)) < 2000


class TestInterrupted:
    WAIT = "while :; do sleep 0.02; done"

    def interrupt_once(self, monkeypatch: pytest.MonkeyPatch, started: Path) -> None:
        """Raise as Ctrl-C does, when kind is at work."""
        original = subprocess.Popen.communicate

        def communicate(process: subprocess.Popen[str], *args: object, **kwargs: object) -> object:
            if "create" not in process.args:  # type: ignore[operator]
                return original(process, *args, **kwargs)  # type: ignore[arg-type]
            pause = threading.Event()
            while not started.exists():
                pause.wait(0.005)
            raise KeyboardInterrupt

        monkeypatch.setattr(subprocess.Popen, "communicate", communicate)

    def test_kind_has_ended_before_anybody_hears_of_it(
        self, cluster: KindCluster, fake: FakeKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.set(
            "ON_CREATE",
            f"trap 'sleep 0.1; touch {tmp_path}/ended; exit 1' TERM; touch {tmp_path}/started; {self.WAIT}",
        )
        self.interrupt_once(monkeypatch, tmp_path / "started")
        with pytest.raises(KeyboardInterrupt):
            cluster.create()
        assert (tmp_path / "ended").exists()

    def test_one_that_does_not_listen_is_killed(
        self, cluster: KindCluster, fake: FakeKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.set(
            "ON_CREATE",
            f"trap '' TERM; echo $$ > {tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/started; {self.WAIT}",
        )
        monkeypatch.setattr(kind_module, "_END_S", 0.1)
        self.interrupt_once(monkeypatch, tmp_path / "started")
        with pytest.raises(KeyboardInterrupt):
            cluster.create()
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "started").read_text()), 0)


class TestDelete:
    def test_cluster_and_kubeconfig(self, cluster: KindCluster, fake: FakeKind) -> None:
        cluster.create()
        lock = cluster.kubeconfig_path.parent / "ce2e-x.kubeconfig.lock"
        lock.touch()
        cluster.delete()
        assert fake.calls()[-1][1] == f"delete cluster --name ce2e-x --kubeconfig {cluster.kubeconfig_path}"
        assert not cluster.kubeconfig_path.exists()
        assert not lock.exists()
        cluster.delete()  # again is fine

    def test_a_failure_is_told(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("ON_DELETE", "echo 'daemon is gone' >&2; exit 1")
        with pytest.raises(EngineError, match="kind delete cluster: exit code 1: daemon is gone"):
            cluster.delete()


class TestBinary:
    def test_names(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("CLUSTERS", "a b")
        cluster.ensure_kind()
        assert cluster.names() == ["a", "b"]
        fake.set("CLUSTERS", "")
        assert cluster.names() == []

    @pytest.mark.parametrize("what", ["missing", "file", "folder"])
    def test_one_given_that_cannot_be_run(self, fake: FakeKind, tmp_path: Path, what: str) -> None:
        path = tmp_path / what
        if what == "file":
            path.write_text("no program")
        elif what == "folder":
            path.mkdir()
        cluster = KindCluster("x", state=tmp_path / "state", kind_path=path)
        with pytest.raises(BackendUnavailable, match=f"--kind-bin: {path} is not an executable file"):
            cluster.ensure_kind()

    def test_one_that_is_no_program(self, tmp_path: Path) -> None:
        path = tmp_path / "kind"
        path.write_bytes(b"\x7fELF nonsense")
        path.chmod(0o755)
        cluster = KindCluster("x", state=tmp_path / "state", kind_path=path)
        with pytest.raises(BackendUnavailable, match="kind cannot be run"):
            cluster.create()

    def test_the_one_given_goes_first(self, fake: FakeKind, tmp_path: Path) -> None:
        own = tmp_path / "own-kind"
        own.write_text(SCRIPT.replace('"$PWD|$*"', '"own|$*"'))
        own.chmod(0o755)
        KindCluster("x", state=tmp_path / "state", kind_path=own).create()
        assert {where for where, _ in fake.calls()} == {"own"}

    def test_kubectl_for_pytest_kind(self, cluster: KindCluster, fake: FakeKind) -> None:
        fake.set("PATH", str(fake.binary.parent))
        with pytest.raises(BackendUnavailable, match="kubectl is not on PATH"):
            cluster.ensure_kubectl()
        kubectl = fake.binary.parent / "kubectl"
        kubectl.touch(mode=0o755)
        cluster.ensure_kubectl()
        assert cluster.kubectl_path == kubectl


class TestDownload:
    CONTENT = SCRIPT.encode()

    @pytest.fixture(autouse=True)
    def nothing_on_path(self, fake: FakeKind, monkeypatch: pytest.MonkeyPatch) -> None:
        fake.binary.unlink()
        fake.set("PATH", str(fake.binary.parent))
        monkeypatch.setattr(kind_module.platform, "system", lambda: "Linux")
        monkeypatch.setattr(kind_module.platform, "machine", lambda: "x86_64")
        good = hashlib.sha256(self.CONTENT).hexdigest()
        monkeypatch.setitem(kind_module._SHA256, ("linux", "amd64"), good)

    def answer(self, monkeypatch: pytest.MonkeyPatch, read: Callable[[], bytes]) -> list[str]:
        asked: list[str] = []

        class Answer(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return read()

        def urlopen(url: str, timeout: float) -> Answer:
            asked.append(url)
            return Answer()

        monkeypatch.setattr(kind_module.urllib.request, "urlopen", urlopen)
        return asked

    def test_a_good_one_is_kept(self, cluster: KindCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answer(monkeypatch, lambda: self.CONTENT)
        cluster.ensure_kind()
        assert cluster.kind_path is not None
        assert cluster.kind_path.read_bytes() == self.CONTENT
        assert os.access(cluster.kind_path, os.X_OK)
        assert asked[0].startswith("https://")
        assert asked[0].endswith("/kind-linux-amd64")
        cluster.kind_path = None
        cluster.ensure_kind()
        assert len(asked) == 1
        assert len(list(cluster.path.iterdir())) == 1  # nothing half done is left

    def test_one_that_was_changed_since_is_fetched_anew(
        self, cluster: KindCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (cluster.path / f"kind-{kind_module.KIND_VERSION}").write_text("changed")
        self.answer(monkeypatch, lambda: self.CONTENT)
        cluster.ensure_kind()
        assert cluster.kind_path is not None
        assert cluster.kind_path.read_bytes() == self.CONTENT

    def test_another_checksum_is_not_used(
        self, cluster: KindCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.answer(monkeypatch, lambda: b"something else")
        with pytest.raises(BackendUnavailable, match=r"expected sha256 .* got .*not used"):
            cluster.ensure_kind()
        assert list(cluster.path.iterdir()) == []

    @pytest.mark.parametrize(
        "error",
        [
            urllib.error.URLError("no route to host"),
            TimeoutError("timed out"),
            http.client.IncompleteRead(b"half", 100),
        ],
    )
    def test_no_network_is_one_clear_error(
        self, cluster: KindCluster, monkeypatch: pytest.MonkeyPatch, error: Exception
    ) -> None:
        def fail() -> bytes:
            raise error

        self.answer(monkeypatch, fail)
        with pytest.raises(BackendUnavailable, match="not on PATH and cannot be downloaded") as caught:
            cluster.ensure_kind()
        assert "--kind-bin" in caught.value.hint
        assert caught.value.exit_code == 4

    def test_a_machine_without_a_release(self, cluster: KindCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(kind_module.platform, "machine", lambda: "riscv64")
        with pytest.raises(BackendUnavailable, match="no kind release is known for linux on riscv64"):
            cluster.ensure_kind()


class TestPortForward:
    @pytest.fixture
    def kubectl(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Puts a kubectl on PATH that runs the given shell lines."""

        def put(lines: str) -> None:
            program = tmp_path / "bin" / "kubectl"
            program.parent.mkdir(exist_ok=True)
            program.write_text(f"#!/bin/sh\n{lines}\n")
            program.chmod(0o755)
            monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

        return put

    def test_the_port_is_the_one_kubectl_listens_on(
        self, tmp_path: Path, kubectl: Callable[[str], None]
    ) -> None:
        kubectl(
            'echo "$KUBECONFIG $@" > "$0.said"; echo "Forwarding from 127.0.0.1:4711 -> 80"; exec sleep 60'
        )
        cluster = KindCluster("x", state=tmp_path / "state")
        with cluster.port_forward("svc/ui", 80, "-n", "cilium") as port:
            assert port == 4711
        said = (tmp_path / "bin" / "kubectl.said").read_text().split()
        assert said == [str(cluster.kubeconfig_path), "port-forward", "svc/ui", ":80", "-n", "cilium"]

    def test_one_that_does_not_listen_is_told(self, tmp_path: Path, kubectl: Callable[[str], None]) -> None:
        kubectl("echo 'error: services \"ui\" not found' >&2; exit 1")
        cluster = KindCluster("x", state=tmp_path / "state")
        with (
            pytest.raises(EngineError, match='services "ui" not found'),
            cluster.port_forward("svc/ui", 80),
        ):
            pytest.fail("there is no such port")
