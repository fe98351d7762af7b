"""Phases wait for what they need and for nothing else: shown by events, not by times."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from concurrent import futures

import pytest

from cilium_e2e.model import EngineError, ReconcileError, SystemClock
from cilium_e2e.session import install, ready
from cilium_e2e.session.install import Installation
from cilium_e2e.session.timeline import Timeline

LOADS = ("flux", "cilium", "agent")
PATIENCE_S = 10


@pytest.fixture
def timeline(world):
    return Timeline(SystemClock(), world.said.append)


@pytest.fixture
def run(world, prepared, timeline, tmp_path):
    """Runs an installation to its end."""
    world.clusters = ["x"]

    def call(*, again=False):
        made = call.made = Installation(prepared, world.engine(), "x", timeline, world.said.append)
        call.installed = made.run(tmp_path / "kubeconfig", again=again)
        call.installed.kube.transport.close()
        return call.installed.differences

    return call


def before(world, first, then):
    return world.log.index(first) < world.log.index(then)


class TestOrder:
    def test_flux_starts_while_cilium_s_images_load(self, world, run):
        """They are not there before Flux's controllers are, and yet nobody waits for ever."""
        world.gates = {"cilium": threading.Event()}
        world.fails = {"controllers": world.gates["cilium"].set}
        run()
        assert before(world, "load cilium", "controllers")
        assert before(world, "install", "loaded cilium")
        assert before(world, "apply others", "loaded cilium")
        assert before(world, "controllers", "loaded cilium")

    def test_the_release_is_not_applied_before_cilium_s_images_are_there(self, world, run):
        world.gates = {"cilium": threading.Event()}
        there = []
        world.fails = {
            "controllers": world.gates["cilium"].set,
            "apply release": lambda: there.append("loaded cilium" in world.log),
        }
        run()
        assert there == [True]

    def test_flux_is_not_installed_before_its_images_and_the_endpoint_are_there(self, world, run):
        """Both end only after the tree has been published, which waits for neither."""
        world.gates = {"flux": threading.Event()}
        published = threading.Event()

        def put():
            world.gates["flux"].set()
            published.set()

        def endpoint():
            assert published.wait(PATIENCE_S)
            world.log.append("endpoint there")

        world.fails = {"put": put, "endpoint": endpoint}
        run()
        assert before(world, "put", "loaded flux")
        assert before(world, "loaded flux", "install")
        assert before(world, "endpoint there", "install")

    def test_endpoint_and_publishing_are_under_way_at_the_same_time(self, world, run):
        met = threading.Barrier(2)
        world.fails = {
            "endpoint": lambda: met.wait(PATIENCE_S),
            "serve": lambda: met.wait(PATIENCE_S),
        }
        run()
        assert not met.broken

    def test_the_agents_image_loads_while_the_release_is_reconciled(self, world, run):
        world.gates = {"agent": threading.Event()}
        world.fails = {"layers": world.gates["agent"].set}
        run()
        assert before(world, "layers", "loaded agent")

    def test_images_load_one_after_the_other(self, world, run):
        run()
        loads = [step for step in world.log if step.startswith("load")]
        assert loads == [
            f"{word} {name}" for name in ("flux", "cilium", "agent") for word in ("load", "loaded")
        ]

    def test_layers_wait_for_the_release_and_come_last(self, world, run):
        run()
        assert before(world, "release", "layers")

    def test_the_agents_outside_start_while_flux_s_images_load(self, world, run):
        world.gates = {"flux": threading.Event()}
        world.fails = {"world": world.gates["flux"].set}
        run()
        assert before(world, "world", "loaded flux")

    def test_the_zone_is_there_before_anything_brings_a_network(self, world, run):
        """And while Cilium's images are still on their way."""
        world.gates = {"cilium": threading.Event()}
        world.fails = {"zone": world.gates["cilium"].set}
        run()
        assert before(world, "zone", "loaded cilium")
        assert before(world, "zone", "apply release")
        assert world.forwarded == ("e2e.test", world.agents[0].ips[0])

    def test_agents_on_nodes_start_beside_the_waiting_for_relay_and_layers(self, world, run):
        met = threading.Barrier(2)
        world.fails = {"hosts": lambda: met.wait(PATIENCE_S), "layers": lambda: met.wait(PATIENCE_S)}
        run()
        assert not met.broken
        assert before(world, "loaded agent", "hosts")
        assert before(world, "list Pod", "hosts"), "nodes and agents are ready before"

    def test_nothing_ends_before_agents_on_nodes_and_dns_are_there(self, world, run):
        there = threading.Event()
        world.fails = {"dns": there.set, "hosts": lambda: there.wait(PATIENCE_S)}
        run()
        assert there.is_set()
        assert run.installed.host_agents == (("b", "ce2e-hosts/b"), ("a", "ce2e-hosts/a"))
        assert run.installed.world == world.agents

    @pytest.mark.parametrize("again", [True, False])
    def test_whether_the_release_was_there_before_is_handed_on(self, world, run, again):
        run(again=again)
        assert world.again is again

    def test_what_differs_is_declared(self, world, run):
        whats = {difference.what for difference in run()}
        assert {"image.useDigest", "chart repository", "kube-system/coredns"} <= whats


def test_the_timeline_s_critical_path_is_a_way_through_all_of_it(world, run, timeline):
    run()
    way, length = timeline.critical_path()
    after = {phase.name: phase.after for phase in timeline.phases}
    assert len(way) > 3
    assert all(first in after[then] for first, then in itertools.pairwise(way))
    assert length <= timeline.total_s + 1e-6
    known = {phase.name for phase in timeline.phases} | {install.CREATE}
    assert all(set(phase.after) <= known for phase in timeline.phases), "every phase that is named exists"


class TestFailures:
    @pytest.mark.parametrize("load", ["flux", "cilium", "agent"])
    def test_a_loader_that_fails_ends_the_run_with_its_error(self, world, run, load):
        error = EngineError("no space left on device", place=f"loading image of {load}")
        world.fails = {f"load {load}": error}
        with pytest.raises(EngineError) as caught:
            run()
        assert caught.value is error
        assert world.log.count("connect") == world.log.count("disconnect")
        assert ("apply release" in world.log) is (load == "agent")

    @pytest.mark.parametrize("load", ["cilium", "agent"])
    def test_what_could_not_be_loaded_is_told_and_not_what_it_caused(self, world, run, load):
        """A release that does not come up, because an image of it never came."""
        error = EngineError("no space left on device", place="loading image r.example/cilium")

        def time_out():
            done, _ = futures.wait([run.made._loads[LOADS.index(load)]], timeout=PATIENCE_S)
            assert done
            raise ReconcileError("Helm install failed: context deadline exceeded")

        world.fails = {f"load {load}": error, "controllers" if load == "cilium" else "release": time_out}
        with pytest.raises((EngineError, ReconcileError)) as caught:
            run()
        assert caught.value is error

    def test_a_failure_of_its_own_is_told_as_it_is(self, world, run):
        world.fails = {"release": ReconcileError("no such chart")}
        with pytest.raises(ReconcileError, match="no such chart"):
            run()

    def test_an_endpoint_that_cannot_be_installed(self, world, run):
        world.fails = {"endpoint": EngineError("exit code 1", place="systemctl in container x-worker")}
        with pytest.raises(EngineError, match="systemctl in container x-worker"):
            run()
        assert "install" not in world.log

    def test_a_cluster_that_this_engine_does_not_have(self, world, run, monkeypatch):
        """kind made it somewhere else."""
        monkeypatch.setattr(world.engine, "nodes", lambda engine, cluster: [])
        with pytest.raises(EngineError, match="Do kind and DOCKER_HOST speak of the same engine"):
            run()
        assert world.log == ["engine"]

    def test_nodes_that_never_become_ready(self, world, run, monkeypatch):
        def never(*_, **__):
            raise ReconcileError("expected 2 nodes to be ready")

        monkeypatch.setattr(ready, "nodes_and_agents", never)
        with pytest.raises(ReconcileError, match="2 nodes"):
            run()
        assert "layers" not in world.log
        assert world.log[-1] != "connect"
        assert "disconnect" in world.log

    @pytest.mark.parametrize("step", ["world", "zone", "dns", "hosts"])
    def test_agents_and_zone_that_fail_end_the_run_with_their_error(self, world, run, step):
        error = EngineError("no", place=step)
        world.fails = {step: error}
        with pytest.raises(EngineError) as caught:
            run()
        assert caught.value is error
        assert world.log.count("connect") == world.log.count("disconnect")


class TestCancelled:
    def test_agents_on_nodes_give_up_when_the_run_has_ended(self, world, run):
        """Nobody waits for them: their cluster is about to go."""
        started, over = threading.Event(), threading.Event()

        def hosts():
            started.set()
            assert over.wait(PATIENCE_S)

        def fail():
            assert started.wait(PATIENCE_S)
            raise ReconcileError("no")

        world.fails = {"hosts": hosts, "layers": fail}
        with pytest.raises(ReconcileError):
            run()
        with pytest.raises(futures.CancelledError):
            world.check()
        over.set()

    @pytest.mark.parametrize("error", [ReconcileError("no"), KeyboardInterrupt(), RuntimeError("a bug")])
    def test_the_load_under_way_is_stopped_and_the_next_never_begins(self, world, run, error):
        world.gates = {"cilium": threading.Event()}
        world.fails = {"controllers": error}
        with pytest.raises(type(error)):
            run()
        assert world.idle.wait(PATIENCE_S)
        assert "stopped cilium" in world.log
        assert "load agent" not in world.log

    def test_it_is_told_as_interrupted_and_stands_in_no_timeline(self, world, run, timeline):
        world.gates = {"cilium": threading.Event()}
        world.fails = {"controllers": ReconcileError("no")}
        told = threading.Event()
        say, lines = world.said.append, []

        def listen(line):
            say(line)
            lines.append(line)
            if line.startswith(f"{install.CILIUM_IMAGES}: "):
                told.set()

        timeline._tell = listen
        with pytest.raises(ReconcileError):
            run()
        assert told.wait(PATIENCE_S)
        assert any(line.startswith(f"{install.CILIUM_IMAGES}: interrupted after ") for line in lines)
        assert install.CILIUM_IMAGES not in [phase.name for phase in timeline.phases]

    def test_nobody_waits_for_a_load_that_does_not_stop(self, world, run):
        """It hangs in the engine; the cluster under it is about to go, and only then will it end."""
        hangs, let_go = threading.Event(), threading.Event()

        def hang():
            hangs.set()
            let_go.wait(PATIENCE_S)

        def fail():
            assert hangs.wait(PATIENCE_S)
            raise ReconcileError("no")

        world.fails = {"load cilium": hang, "controllers": fail}
        with pytest.raises(ReconcileError):
            run()
        assert not let_go.is_set()
        let_go.set()
        assert world.idle.wait(PATIENCE_S)

    def test_ctrl_c_while_the_main_thread_waits_for_images(self, world, run):
        world.gates = {"flux": threading.Event()}
        main_waits = threading.Event()
        world.fails = {
            "put": main_waits.set,
            "load flux": lambda: threading.Thread(target=interrupt, args=(main_waits,)).start(),
        }
        with pytest.raises(KeyboardInterrupt):
            run()
        assert world.idle.wait(PATIENCE_S)
        assert "stopped flux" in world.log
        assert "install" not in world.log


def interrupt(when):
    assert when.wait(PATIENCE_S)
    os.kill(os.getpid(), signal.SIGINT)
