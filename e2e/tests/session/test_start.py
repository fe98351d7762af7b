"""A cluster from nothing and back to nothing: what happens in which order, and what is left when it fails."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
from pathlib import Path

import docker.errors
import pytest

from cilium_e2e.model import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Backend,
    BackendUnavailable,
    Capability,
    ClusterStateError,
    EngineError,
    InputError,
    NodeInfo,
    ReconcileError,
)
from cilium_e2e.session import Options, start
from cilium_e2e.session.attach import attach
from cilium_e2e.session.registry import Registry
from cilium_e2e.session.start import KindSession, choose_backend

NAME = "ce2e-test"
BEFORE = ["engine", "prepare", "ensure kind", "names"]
MAKING = [
    "create",
    "endpoint",
    "serve",
    "put",
    "connect",
    "install",
    "apply without release",
    "controllers",
    "apply release",
    "release",
    "list Pod",
    "layers",
]
ANYTIME = [*MAKING, "load", "list Node"]
ERRORS = [EngineError("out of order"), KeyboardInterrupt(), RuntimeError("a bug")]


@pytest.fixture
def session(world, tmp_path):
    def make(**given):
        options = Options(**{"cluster_name": NAME, "state": tmp_path / "state", "timeout_s": 1.0, **given})
        return KindSession(options, world.said.append)

    return make


def test_the_phases_come_in_order(world, session):
    handle = session().start()
    assert [step for step in world.log if step in BEFORE] == BEFORE
    order = [world.log.index(step) for step in MAKING]
    assert order == sorted(order), world.log
    assert world.log[-1] == "disconnect"
    named = [line.split("  ")[0] for line in handle.timeline]
    assert named[0] == "create cluster"
    assert {"API endpoint on every node", "install Flux", "reconcile the release", "total"} <= set(named)


def test_the_first_line_says_which_backend_and_why(world, session):
    session(backend="auto").start()
    assert world.said[0] == "backend: kind (a container engine answers: Docker 99.1)"


def test_the_handle_says_what_the_cluster_is(world, session, tmp_path):
    handle = session(agent_image="python:x").start()
    info = handle.info
    assert (info.name, info.backend, info.topology, info.release) == (
        NAME,
        Backend.KIND,
        "default",
        "cilium/cilium",
    )
    assert info.nodes == (
        NodeInfo("a", "control-plane", ("10.0.0.2",)),
        NodeInfo("b", "worker", ("10.0.0.2",)),
    )
    assert info.capabilities == {Capability.MULTI_NODE}
    assert "hubble-relay" in info.features
    assert info.versions == (("chart", "1.18.9"), ("Kubernetes", "v1.36.0"), ("kernel", "6.1"))
    assert handle.kubeconfig == tmp_path / "state" / f"{NAME}.kubeconfig"
    assert handle.agent_image == "python:x"
    whats = {difference.what: difference.origin for difference in info.differences}
    assert whats["image.useDigest"] == "loaded images"
    assert any("--chart" in origin for origin in whats.values())


def test_images_at_hand_are_loaded_and_no_others(world, session):
    session(agent_image="python:absent").start()
    assert sorted(world.loaded) == ["flux.example/helm-controller:v1", "r.example/cilium:v1.18.9"]


def test_the_tree_the_chart_and_the_external_folder_are_served(world, session):
    session().start()
    roots = {"/".join(path.split("/")[:2]) for path in world.served}
    assert {"v2/tree", "v2/external-flux-system-outside", "charts/index.yaml"} <= roots
    assert world.plan.release.name == "cilium"


def test_kind_reads_a_configuration_that_is_gone_afterwards(world, session, tmp_path):
    session().start()
    assert "hostPath: /" in world.kind_config
    assert not (tmp_path / f"state/{NAME}.kind.yaml").exists()


def test_nothing_is_left_of_a_run_in_the_state(world, session, tmp_path):
    run = session()
    run.start()
    names = sorted(file.name for file in (tmp_path / "state").iterdir())
    assert names == [f"{NAME}.cluster.json", f"{NAME}.lock", f"{NAME}.timeline.json"]
    run.stop()
    assert list((tmp_path / "state").iterdir()) == []


def test_names_are_chosen_apart_and_say_their_topology(world, session):
    names = {session(cluster_name="", keep=True).start().info.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("ce2e-default-") for name in names)


def test_stopping_deletes_containers_and_cluster_once(world, session):
    world.containers = [f"{NAME}-artifacts"]
    run = session()
    run.start()
    made = len(world.log)
    run.stop()
    run.stop()
    assert world.log[made:] == ["ours", f"remove {NAME}-artifacts", "delete", "engine closed"]


def test_stopping_what_never_started_does_nothing(world, session):
    session().stop()
    assert world.log == []


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ANYTIME)
def test_whatever_fails_the_cluster_is_deleted(world, session, step, error):
    world.fails = {step: error}
    run = session()
    with pytest.raises(type(error)) as caught:
        run.start()
    assert caught.value is error
    assert world.log.count("delete") == 1
    assert world.log[-2:] == ["delete", "engine closed"] or step == "load"
    assert world.clusters == []
    assert world.log.count("connect") == world.log.count("disconnect") + (step == "connect")
    run.stop()
    assert world.log.count("delete") == 1


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", BEFORE)
def test_before_anything_is_made_nothing_is_deleted(world, session, step, error):
    world.fails = {step: error}
    run = session()
    with pytest.raises(type(error)):
        run.start()
    run.stop()
    assert "delete" not in world.log
    assert world.log.count("engine closed") == (step != "engine"), "connections are given back"


def test_a_cluster_of_that_name_is_refused_and_left_alone(world, session):
    world.clusters = ["other", NAME]
    run = session()
    with pytest.raises(BackendUnavailable) as caught:
        run.start()
    run.stop()
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value) == (
        f"--cluster-name: a kind cluster '{NAME}' exists already, and it is no kept one of ours. "
        f"Choose another name, or delete it: kind delete cluster --name {NAME}"
    )
    assert "create" not in world.log
    assert world.clusters == ["other", NAME]


def test_a_kept_cluster_stays_and_its_owner_is_told_how_to_delete_it(world, session, tmp_path):
    run = session(keep=True)
    run.start()
    run.stop()
    assert "delete" not in world.log
    assert world.log[-1] == "engine closed"
    assert world.said[-3:] == [
        f"kept: cluster {NAME}, KUBECONFIG={tmp_path / 'state' / NAME}.kubeconfig",
        f"  to use it again: --cluster-name {NAME} --keep-cluster",
        f"  to delete it: cilium-e2e clusters delete {NAME}",
    ]


def test_a_failed_cluster_is_kept_for_its_owner_to_look_at(world, session):
    world.fails = {"release": ReconcileError("no")}
    with pytest.raises(ReconcileError):
        session(keep=True).start()
    assert "delete" not in world.log
    assert any(line.startswith("kept: ") for line in world.said)


def test_a_container_that_stays_does_not_keep_the_cluster(world, session):
    world.containers = ["stuck", "next"]
    world.fails = {"remove stuck": EngineError("device busy", place="removing stuck")}
    run = session()
    run.start()
    with pytest.raises(ClusterStateError) as caught:
        run.stop()
    assert caught.value.exit_code == EXIT_INTERRUPTED
    text = str(caught.value)
    assert text.startswith(f"cluster {NAME}: not all of it could be deleted: removing stuck: device busy. ")
    assert text.endswith(f"kind delete cluster --name {NAME}; docker rm -f {NAME}-artifacts")
    assert world.log[-2:] == ["delete", "engine closed"]


def test_the_first_error_is_the_one_that_counts(world, session):
    world.fails = {"release": ReconcileError("no such chart"), "delete": EngineError("kind is gone")}
    with pytest.raises(ReconcileError, match="no such chart"):
        session().start()
    assert "kind is gone" in world.said[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_signals_do_not_break_off_a_deletion(world, session, capfd, number):
    before = signal.getsignal(number)
    world.containers = ["a"]
    world.fails = {
        "remove a": lambda: os.kill(os.getpid(), number),
        "delete": lambda: os.kill(os.getpid(), number),
    }
    run = session()
    run.start()
    run.stop()
    assert world.log[-2:] == ["delete", "engine closed"]
    assert signal.getsignal(number) is before
    told = f"{number.name}: deleting cluster {NAME}, please wait\n"
    assert capfd.readouterr().err == 2 * told


def test_a_second_ctrl_c_does_not_break_off_the_deletion_after_the_first(world, session):
    world.fails = {"release": KeyboardInterrupt(), "delete": lambda: os.kill(os.getpid(), signal.SIGINT)}
    with pytest.raises(KeyboardInterrupt):
        session().start()
    assert world.log[-2:] == ["delete", "engine closed"]


def test_a_session_may_be_stopped_by_another_thread(world, session):
    run = session()
    run.start()
    thread = threading.Thread(target=run.stop)
    thread.start()
    thread.join()
    assert world.log[-1] == "engine closed"


@pytest.mark.parametrize(
    ("backend", "why"),
    [("auto", "a container engine answers: Docker 99.1"), ("kind", "asked for: Docker 99.1")],
)
def test_an_engine_means_kind(world, backend, why):
    chosen, engine, reason = choose_backend(Options(backend=backend))
    assert chosen is Backend.KIND
    assert reason == why
    assert engine is not None


@pytest.mark.parametrize("backend", ["simulated"])
def test_a_backend_that_is_named_is_never_replaced(world, backend):
    with pytest.raises(BackendUnavailable, match="--backend: the backend"):
        choose_backend(Options(backend=backend))
    assert world.log == []


@pytest.mark.parametrize("ci", ["", "true"])
@pytest.mark.parametrize("backend", ["auto", "kind"])
def test_no_engine_is_one_sentence_and_exit_4(monkeypatch, tmp_path, backend, ci):

    def nobody(**_):
        raise docker.errors.DockerException("Connection refused\nwith a long tail")

    monkeypatch.setattr(docker, "from_env", nobody)
    monkeypatch.setenv("CI", ci)
    said = []
    with pytest.raises(BackendUnavailable) as caught:
        KindSession(Options(backend=backend, repository=tmp_path, state=tmp_path), said.append).start()
    assert caught.value.exit_code == EXIT_USAGE
    text = str(caught.value)
    assert text.startswith("backend kind: no container engine answers. Start Docker (or set DOCKER_HOST)")
    assert "\n" not in text
    assert said == []


def test_bad_input_is_told_before_anything_is_made(world, session):
    world.fails = {"prepare": InputError("no such thing", place="--chart x")}
    with pytest.raises(InputError):
        session().start()
    assert world.log == ["engine", "prepare", "engine closed"]


def test_a_worker_attaches_and_publishes_again(world, session, tmp_path):
    handle = session().start()
    options = Options(state=tmp_path / "state")
    world.log.clear()
    attached = attach(handle, options)
    assert attached.info == handle.info
    assert world.log == ["connect"]
    world.served.clear()
    revision = attached.publish()
    assert revision.digest.startswith("sha256:")
    assert revision.files > 0
    assert world.log == [
        "connect",
        "prepare",
        "engine",
        "put",
        "put",
        "put",
        "engine closed",
        "apply",
        "layers",
    ]
    attached.close()
    assert world.log[-1] == "disconnect"


def test_publishing_the_same_tree_again_is_the_same_revision(world, session, prepared):
    handle = session().start()
    attached = attach(handle, Options())
    first = attached.publish()
    assert attached.publish() == first
    file = Path(prepared.repository.root) / "crds/more.yaml"
    try:
        file.write_text("{}\n")
        assert attached.publish().digest != first.digest
    finally:
        file.unlink()


@pytest.fixture
def kept(session):
    """A cluster that an earlier run has kept."""
    run = session(keep=True)
    handle = run.start()
    run.stop()
    return handle


def test_a_kept_cluster_is_used_again(world, session, kept):
    world.log.clear()
    run = session()
    handle = run.start()
    assert handle.info == kept.info
    assert "create" not in world.log
    assert "apply release" in world.log
    assert f"cluster {NAME} was kept, and is used again" in world.said
    run.stop()
    assert world.clusters == []


def test_a_kept_cluster_of_another_topology_is_refused_and_left_alone(world, session, kept, tmp_path):
    record = Registry(tmp_path / "state").find(NAME)
    Registry(tmp_path / "state").write(dataclasses.replace(record, topology="ha"))
    with pytest.raises(BackendUnavailable, match="has the topology ha, asked for is default"):
        session().start()
    assert world.clusters == [NAME]
    assert world.deleted == []


def test_what_a_dead_run_left_is_swept_by_the_next(world, session, tmp_path):
    dead = session()
    dead.start()
    dead._claims.close()  # as the kernel does
    world.log.clear()
    run = session(cluster_name="ce2e-next")
    run.start()
    assert world.deleted == [NAME]
    assert world.clusters == ["ce2e-next"]
    assert [record.name for record in Registry(tmp_path / "state").records()] == ["ce2e-next"]


def test_what_cannot_be_swept_is_told_and_keeps_nobody_from_running(world, session):
    dead = session()
    dead.start()
    dead._claims.close()
    world.fails = {"delete": EngineError("kind is gone")}
    session(cluster_name="ce2e-next").start()
    assert "create" in world.log
    assert any("not swept" in line and "kind is gone" in line for line in world.said)


def test_the_cluster_of_a_living_run_is_neither_swept_nor_taken(world, session):
    living = session()
    living.start()
    with pytest.raises(BackendUnavailable, match="another run is using this cluster"):
        session().start()
    session(cluster_name="ce2e-next").start()
    assert world.deleted == []


def test_a_host_that_cannot_run_it_is_told_before_anything_is_made(world, session, monkeypatch):
    monkeypatch.setattr(
        start.preflight, "look", lambda info, *, local: start.preflight.Host(2, "5.4.0", None, None)
    )
    with pytest.raises(BackendUnavailable, match=r"expected Linux 5\.10 or newer"):
        session().start()
    assert world.log == ["engine", "prepare", "engine closed"]
