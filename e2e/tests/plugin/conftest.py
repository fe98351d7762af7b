"""Nested runs of pytest with a session that only writes down what it is asked to do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import cilium_e2e

# Imported here, so that nested runs in this process find them: they cannot be imported twice.
from cilium_e2e.plugin import fixtures, lifecycle, requirements

ROOT = Path(__file__).parents[3]
PACKAGE = Path(cilium_e2e.__file__).parents[1]
DEADLINE_S = 60.0

# Of the nested run: everything that happens is a line of one file, written by all its processes.
CONFTEST = """
import os
import time
from pathlib import Path

from cilium_e2e.model import (
    Backend, Capability, ClusterInfo, ClusterStateError, Difference, InputError, NodeInfo
)
from cilium_e2e.plugin import lifecycle
from cilium_e2e.session import Handle
from cilium_e2e.session.shield import uninterrupted

HERE = Path(__file__).parent
FAILS = os.environ.get("FAKE_FAILS", "")


def event(text):
    with (HERE / "events").open("a") as file:
        file.write(text + "\\n")


def saw(text, within_s=20.0):
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if text in (HERE / "events").read_text().splitlines():
            return True
        time.sleep(0.01)
    return False


class FakeSession:
    backend = Backend.SIMULATED  # for which workers import no clients
    # FAKE_FAILS says how it fails, FAKE_FAILS_ON on which topology if not on all.
    def __init__(self, options, say):
        self.say = say
        self.made = False
        only = os.environ.get("FAKE_FAILS_ON", options.topology)
        self.fails = FAILS if only == options.topology else ""
        self.topology = options.topology
        self.of = "" if options.topology == "default" else f" {options.topology}"
        self.keep = options.keep
        self.name = options.cluster_name or f"ce2e-{options.topology}".replace("default", "fake")

    def prepare(self):
        self.say("backend: kind (a fake)")
        if self.fails == "input":
            raise InputError("expected a chart, got a sock", place="--chart sock")

    def start(self):
        event(f"start{self.of}")
        if self.of:  # of several: nobody has prepared it
            self.prepare()
        if "a worker" in self.fails:
            assert saw("collected")
        if self.fails in ("state", "fails with a worker"):
            raise ClusterStateError("the agent on node n1 is stuck", place="DaemonSet cilium")
        if self.fails == "bug":
            raise ValueError("nobody has thought of this")
        if self.fails == "dies":
            os._exit(7)
        if self.fails == "hangs":
            self.made = True
            try:
                event(f"hangs{self.of}")
                time.sleep(60)
            finally:
                self.stop()
        if self.fails == "meets":  # at the same time as the others, or never
            assert all(saw(f"start {other}") for other in os.environ["FAKE_MEETS"].split())
        self.made = True
        info = ClusterInfo(
            name=self.name,
            backend=Backend.KIND,
            topology=self.topology,
            nodes=(NodeInfo("n1", "control-plane", ("10.0.0.1",)), NodeInfo("n2", "worker", ("10.0.0.2",))),
            release="cilium/cilium",
            cilium_namespace="cilium",
            capabilities=frozenset() if "single" in self.topology else frozenset({Capability.MULTI_NODE}),
            features=frozenset({"hubble-relay"}),
            versions=(("chart", "1.18.12"), ("Kubernetes", "v1.36.0")),
            differences=(Difference("operator.replicas", "1", "it is small", "topology default"),),
        )
        return Handle(info, HERE / f"{self.name}.kubeconfig", "python:x", ("create cluster  1.0 s",))

    def stop(self):
        if not self.made:
            return
        with uninterrupted(f"deleting cluster {self.name}"):
            self.made = False
            if self.keep:
                event(f"kept {self.name}")
                return
            event(f"deleting{self.of}")
            if self.fails == "slow":
                end = time.monotonic() + 30
                while not (HERE / "go").exists() and time.monotonic() < end:
                    time.sleep(0.02)
            if self.fails == "stop":
                raise ClusterStateError("the engine is gone", place=f"cluster {self.name}", hint="By hand.")
            event(f"deleted{self.of}")


lifecycle.session_for = FakeSession
"""


class Nested:
    """A folder to run pytest in."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self._monkeypatch = monkeypatch
        # Whatever the nested conftest puts there is taken away again.
        monkeypatch.setattr(lifecycle, "session_for", lifecycle.session_for)
        monkeypatch.setenv("PYTHONPATH", str(PACKAGE))
        monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
        pytester.makeconftest(CONFTEST)

    def fails(self, how: str, *, on: str = "") -> None:
        self._monkeypatch.setenv("FAKE_FAILS", how)
        if on:
            self._monkeypatch.setenv("FAKE_FAILS_ON", on)

    def tests(self, text: str) -> None:
        self.pytester.makepyfile(test_nested=f"from conftest import event\nimport os, pytest\n{text}")

    @staticmethod
    def words(*arguments: str, backend: str = "kind") -> list[str]:
        chosen = [f"--backend={backend}"] if backend else []
        # Plugins of ours that only cost time here: nested runs would import them anew each time.
        without = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "pytest_cov")]
        return ["-p", "cilium_e2e.plugin", *without, *chosen, *arguments]

    def run(self, *arguments: str, backend: str = "kind") -> pytest.RunResult:
        """Run in this process (xdist's workers are processes of their own)."""
        return self.pytester.runpytest_inprocess(*self.words(*arguments, backend=backend))

    def popen(self, *arguments: str) -> subprocess.Popen[str]:
        """Run as a process group of its own, as a terminal would."""
        return subprocess.Popen(
            [sys.executable, "-m", "pytest", *self.words(*arguments)],
            cwd=self.pytester.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    @property
    def events(self) -> list[str]:
        file = self.pytester.path / "events"
        return file.read_text().splitlines() if file.exists() else []

    def await_event(self, text: str, process: subprocess.Popen[str], *, count: int = 1) -> None:
        """Wait for a line in the file; give up at the deadline or when the run has ended without it."""
        end = time.monotonic() + DEADLINE_S
        while self.events.count(text) < count:
            ended = process.poll() is not None
            if (ended and self.events.count(text) < count) or time.monotonic() > end:
                os.killpg(process.pid, signal.SIGKILL) if not ended else None
                pytest.fail(f"never saw {count} × {text!r} in {self.events}:\n{process.communicate()[0]}")
            time.sleep(0.02)


@pytest.fixture
def nested(pytester, monkeypatch) -> Nested:
    return Nested(pytester, monkeypatch)


@pytest.fixture
def root() -> Path:
    """This repository."""
    return ROOT


@pytest.fixture
def plugin_modules() -> tuple[object, object]:
    return fixtures, requirements


@pytest.fixture
def text_of() -> Callable[[pytest.RunResult], str]:
    """All that a run said."""
    return lambda result: f"{result.stdout.str()}\n{result.stderr.str()}"


@pytest.fixture
def no_cluster(monkeypatch):
    """Nested runs get a cluster and a lab that do nothing, for tests of what is run on them."""

    class FakeCluster:
        api = "the api"

        def relay(self):
            return None

        def unfollow(self):
            pass

        def close(self):
            pass

    monkeypatch.setattr(fixtures, "attach", lambda handle, options: FakeCluster())
    monkeypatch.setattr(fixtures, "Lab", lambda *args, **options: "lab")
