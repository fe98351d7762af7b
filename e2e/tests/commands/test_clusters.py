"""``cilium-e2e clusters list|delete|sweep``, with recorders in place of kind and Docker."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from cilium_e2e import cli
from cilium_e2e.commands import clusters
from cilium_e2e.model import EXIT_INTERRUPTED, EXIT_USAGE, BackendUnavailable, EngineError
from cilium_e2e.session import teardown
from cilium_e2e.session.registry import Record, Registry


@dataclass
class Made:
    """What there is, and what was done to it."""

    registry: Registry
    log: list[str] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    kind_bins: list[str] = field(default_factory=list)

    def step(self, name):
        self.log.append(name)
        if name in self.fails:
            raise self.fails[name]

    def record(self, name, *, engine="", keep=False, **handle):
        self.registry.write(Record(name, "default", engine, keep, handle))


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    found = Made(Registry(tmp_path / "cilium-e2e"))

    class KindCluster:
        def __init__(self, name, *, state, kind_path=None):
            self.name, self.path, self.kind_path = name, state, kind_path
            found.kind_bins.append(str(kind_path))

        def ensure_kind(self):
            found.step("ensure kind")

        def delete(self):
            found.step(f"delete {self.name}")

    class Engine:
        def __init__(self):
            found.step("engine")

        def nodes(self, cluster):
            return []

        def ours(self, cluster):
            return [f"{cluster}-artifacts"]

        def remove(self, container):
            found.step(f"remove {container}")

        def close(self):
            found.step("closed")

    for module in (clusters, teardown):
        monkeypatch.setattr(module, "KindCluster", KindCluster)
    monkeypatch.setattr(clusters, "Engine", Engine)
    monkeypatch.setattr(clusters, "adopt_context", lambda: None)
    return found


@pytest.fixture
def run(capsys):
    """Runs a command line; answers exit code, output and errors."""

    def call(*words):
        code = cli.main(["clusters", *words])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err)

    return call


class TestList:
    def test_none_and_no_engine_is_asked(self, made, run):
        assert vars(run("list")) == {"code": 0, "out": "no clusters\n", "err": ""}
        assert made.log == []

    def test_each_with_its_state(self, made, run):
        made.record("ce2e-dead")
        made.record("ce2e-elsewhere", engine="tcp://x:1", keep=True)
        made.record("ce2e-kept", keep=True, kubeconfig="/state/ce2e-kept.kubeconfig")
        made.record("ce2e-used", kubeconfig="/state/ce2e-used.kubeconfig")
        with made.registry.claim("ce2e-used"):
            done = run("list")
        assert done.out.splitlines() == [
            "ce2e-dead: topology default, left behind, never ready",
            "ce2e-elsewhere: topology default, kept, never ready, on tcp://x:1",
            "ce2e-kept: topology default, kept",
            "  KUBECONFIG=/state/ce2e-kept.kubeconfig",
            "ce2e-used: topology default, in use",
            "  KUBECONFIG=/state/ce2e-used.kubeconfig",
        ]
        assert made.log == []

    def test_from_another_engine_the_default_one_is_elsewhere(self, made, run, monkeypatch):
        made.record("ce2e-kept", keep=True)
        monkeypatch.setenv("DOCKER_HOST", "tcp://x:1")
        assert run("list").out.endswith("kept, never ready, on the default engine\n")

    def test_the_user_s_docker_context_is_no_other_engine(self, made, run, monkeypatch):
        """A run records the context's address; listing must not take it for somewhere else."""
        made.record("ce2e-kept", engine="unix:///home/me/docker.sock", keep=True)
        address = "unix:///home/me/docker.sock"
        monkeypatch.setattr(clusters, "adopt_context", lambda: monkeypatch.setenv("DOCKER_HOST", address))
        assert run("list").out == "ce2e-kept: topology default, kept, never ready\n"


class TestDelete:
    def test_those_that_are_named(self, made, run):
        for name in ("ce2e-a", "ce2e-b", "ce2e-c"):
            made.record(name, keep=name != "ce2e-b")
        done = run("delete", "ce2e-a", "ce2e-b", "--kind-bin", "own-kind")
        assert (done.code, done.err) == (0, "")
        assert done.out == "deleting cluster ce2e-a …\ndeleting cluster ce2e-b …\n"
        assert [step for step in made.log if step.startswith(("delete", "remove"))] == [
            "delete ce2e-a",
            "remove ce2e-a-artifacts",
            "delete ce2e-b",
            "remove ce2e-b-artifacts",
        ]
        assert made.log[-1] == "closed"
        assert [record.name for record in made.registry.records()] == ["ce2e-c"]
        assert set(made.kind_bins) == {"own-kind"}

    def test_an_unknown_name(self, made, run):
        made.record("ce2e-a")
        done = run("delete", "kind")
        assert done.code == EXIT_USAGE
        assert done.err == "cilium-e2e: cluster kind: no cluster of ours, expected one of: ce2e-a\n"
        assert made.log == ["engine", "closed"]

    @pytest.mark.parametrize("name", ["../ce2e-a", "ce2e-a.cluster", "", "*"])
    def test_a_name_that_is_a_trick(self, made, run, name):
        made.record("ce2e-a")
        assert run("delete", name).code == EXIT_USAGE
        assert [record.name for record in made.registry.records()] == ["ce2e-a"]

    def test_one_in_use_is_refused(self, made, run):
        made.record("ce2e-a")
        with made.registry.claim("ce2e-a"):
            done = run("delete", "ce2e-a")
        assert done.code == EXIT_USAGE
        assert "cluster ce2e-a: another run is using this cluster" in done.err
        assert made.log == ["engine", "closed"]
        assert made.registry.find("ce2e-a") is not None

    def test_one_on_another_engine_is_refused_and_remembered(self, made, run):
        made.record("ce2e-a", engine="tcp://x:1")
        done = run("delete", "ce2e-a")
        assert done.code == EXIT_USAGE
        assert done.err == (
            "cilium-e2e: cluster ce2e-a: it is on another engine, tcp://x:1. "
            "Set DOCKER_HOST as it was when the cluster was made.\n"
        )
        assert made.registry.find("ce2e-a") is not None

    def test_what_fails_says_how_to_do_it_by_hand(self, made, run):
        made.record("ce2e-a")
        made.fails = {"delete ce2e-a": EngineError("device busy")}
        done = run("delete", "ce2e-a")
        assert done.code == EXIT_INTERRUPTED
        by_hand = "docker ps -aq --filter label=io.cilium-e2e.run=ce2e-a |"
        assert f"kind delete cluster --name ce2e-a; {by_hand}" in done.err
        assert made.log[-1] == "closed"
        assert made.registry.find("ce2e-a") is not None

    def test_without_a_name(self, made, run):
        done = run("delete")
        assert done.code == EXIT_USAGE
        assert "delete needs at least one" in done.err
        assert made.log == []

    def test_without_kind(self, made, run):
        made.record("ce2e-a")
        made.fails = {"ensure kind": BackendUnavailable("kind is not on PATH", place="kind")}
        done = run("delete", "ce2e-a")
        assert (done.code, done.err) == (EXIT_USAGE, "cilium-e2e: kind: kind is not on PATH\n")
        assert made.registry.find("ce2e-a") is not None


class TestSweep:
    def test_what_dead_runs_left(self, made, run):
        made.record("ce2e-dead")
        made.record("ce2e-kept", keep=True)
        done = run("sweep")
        assert done.code == 0
        assert done.out.splitlines() == [
            "sweeping cluster ce2e-dead, which a run that is dead left behind",
            "swept: ce2e-dead",
        ]
        assert [record.name for record in made.registry.records()] == ["ce2e-kept"]
        assert made.log[-1] == "closed"

    def test_nothing(self, made, run):
        assert vars(run("sweep")) == {"code": 0, "out": "swept: nothing\n", "err": ""}

    def test_what_stays_is_a_failure_of_the_command(self, made, run):
        made.record("ce2e-dead")
        made.fails = {"remove ce2e-dead-artifacts": EngineError("device busy")}
        done = run("sweep")
        assert done.code == EXIT_INTERRUPTED
        assert "label=io.cilium-e2e.run=ce2e-dead |" in done.err

    def test_names_are_not_for_it(self, made, run):
        made.record("ce2e-a")
        assert run("sweep", "ce2e-a").code == EXIT_USAGE
        assert made.registry.find("ce2e-a") is not None

    def test_without_an_engine(self, made, run):
        made.fails = {"engine": BackendUnavailable("no container engine answers", place="backend kind")}
        done = run("sweep")
        assert done.code == EXIT_USAGE
        assert done.err.count("\n") == 1
