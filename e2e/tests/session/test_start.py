"""A cluster from nothing and back to nothing: what happens in which order, and what is left when it fails."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import docker.errors
import pytest

from cilium_e2e.cluster.engine import NodeContainer
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
    Target,
)
from cilium_e2e.session import Handle, Options
from cilium_e2e.session.attach import attach
from cilium_e2e.session.options import default_state
from cilium_e2e.session.registry import Record, Registry
from cilium_e2e.session.start import KindSession, choose_backend

NAME = "ce2e-test"
BEFORE = ["engine", "prepare", "info", "ensure kind", "names"]
# What the main thread does, in order, and the load that is under way meanwhile at the latest.
MAKING = [
    ("create", None),
    ("serve", "flux"),
    ("put", "flux"),
    ("world", "flux"),
    ("connect", "cilium"),
    ("install", "cilium"),
    ("apply others", "cilium"),
    ("controllers", "cilium"),
    ("zone", "cilium"),
    ("apply release", "agent"),
    ("release", "agent"),
    ("list Pod", "agent"),
    ("layers", "agent"),
    ("dns", "agent"),
    ("list Node", None),
]
AT_ANY_TIME = ["endpoint", "load flux", "load cilium", "load agent", "hosts"]
ERRORS = [EngineError("out of order"), KeyboardInterrupt(), RuntimeError("a bug")]
END = ["delete", "ours", "engine closed"]
by_type = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def session(world, state):
    def make(**given):
        options = Options(**{"cluster_name": NAME, "state": state, "timeout_s": 1.0, **given})
        return KindSession(options, world.said.append)

    return make


def ended(world):
    """The log from the deletion on, without what other threads still say."""
    rest = world.log[world.log.index("delete") :]
    return [step for step in rest if step in END or step.startswith("remove ")]


def test_the_phases_come_in_order(world, session):
    handle = session().start()
    assert [step for step in world.log if step in BEFORE] == [*BEFORE, "info"], "room is looked at once more"
    order = [world.log.index(step) for step, _ in MAKING[:-2]]
    assert order == sorted(order), world.log
    for first, then in (
        ("loaded flux", "load cilium"),
        ("loaded cilium", "load agent"),
        ("create", "load flux"),
        ("create", "endpoint"),
        ("loaded flux", "install"),
        ("endpoint", "install"),
        ("loaded cilium", "apply release"),
        ("zone", "apply release"),
        ("loaded agent", "hosts"),
    ):
        assert world.log.index(first) < world.log.index(then), (first, then, world.log)
    assert world.log[-1] == "disconnect"
    assert world.again is False
    assert sorted(line.split("  ")[0] for line in handle.timeline[:-2]) == sorted(
        [
            "create cluster",
            "API endpoint on every node",
            "load Flux's images",
            "load Cilium's images",
            "load the agents' image",
            "install Flux",
            "publish the tree",
            "Flux's controllers",
            "reconcile the release",
            "nodes and agents",
            "relay",
            "remaining layers",
            "agents outside",
            "zone outside",
            "cluster DNS",
            "agents on nodes",
        ]
    )
    assert handle.timeline[-2].startswith("total ")
    assert handle.timeline[-1].startswith("critical path ")


def test_the_timeline_is_written_where_asked_for(session, state, tmp_path):
    run = session(timeline=tmp_path / "timeline.json")
    run.start()
    written = json.loads((tmp_path / "timeline.json").read_text())
    assert {phase["name"] for phase in written["phases"]} >= {"create cluster", "install Flux"}
    assert written["critical_path"][0] == "create cluster"
    assert 0 < written["critical_path_s"] <= written["total_s"] + 1e-6
    run.stop()
    assert list(state.iterdir()) == []


def test_the_first_line_says_which_backend_and_why(world, session):
    session(backend="auto").start()
    assert world.said[0] == "backend: kind (a container engine answers: Docker 99.1)"


def test_the_handle_says_what_the_cluster_is(world, session, state):
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
    assert info.capabilities == {
        Capability.MULTI_NODE,
        Capability.WORLD,
        Capability.HOST_AGENTS,
        Capability.OUTSIDE_ZONE,
    }
    assert info.world == world.agents
    assert info.host_agents == (("b", "ce2e-hosts/b"), ("a", "ce2e-hosts/a"))
    assert world.world_of == (NAME, Options().agent_image, "ipv4")
    assert world.forwarded == ("e2e.test", "172.18.0.101")
    assert "hubble-relay" in info.features
    assert info.versions == (("chart", "1.18.9"), ("Kubernetes", "v1.36.0"), ("kernel", "6.1"))
    assert handle.kubeconfig == state / f"{NAME}.kubeconfig"
    assert handle.agent_image == "python:x"
    whats = {difference.what: difference.origin for difference in info.differences}
    assert whats["image.useDigest"] == "loaded images"
    assert whats["kube-system/coredns"] == "agents outside"
    assert any("--chart" in origin for origin in whats.values())


def test_images_at_hand_are_loaded_and_no_others(world, session):
    session(agent_image="python:absent").start()
    assert world.loaded == ["flux.example/helm-controller:v1", "r.example/cilium:v1.18.9"]


def test_the_tree_the_chart_and_the_external_folder_are_served(world, session):
    session().start()
    roots = {"/".join(path.split("/")[:2]) for path in world.served}
    assert {"v2/tree", "v2/external-flux-system-outside", "charts/index.yaml"} <= roots
    assert world.plan.release.name == "cilium"


def test_kind_reads_a_configuration_that_is_gone_afterwards(world, session, state):
    session().start()
    assert "hostPath: /" in world.kind_config
    assert sorted(file.name for file in state.iterdir()) == [
        f"{NAME}.cluster.json",
        f"{NAME}.lock",
    ]


def test_the_state_is_the_user_s_and_in_no_working_tree(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state() == tmp_path / "cilium-e2e"
    monkeypatch.setenv("XDG_STATE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_state() == tmp_path / "home/.local/state/cilium-e2e"
    assert Options().state == default_state()


def test_names_are_chosen_apart_and_say_their_topology(world, session):
    names = {session(cluster_name="").start().info.name for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("ce2e-default-") for name in names)


def test_a_running_session_s_cluster_is_known_and_owned(session, state):
    run = session()
    handle = run.start()
    registry = Registry(state)
    (record,) = registry.records()
    assert (record.name, record.topology, record.engine, record.keep) == (NAME, "default", "", False)
    assert Handle.from_data(record.handle) == handle
    assert registry.owned(NAME)
    assert registry.left_over("") == []
    run.stop()
    assert registry.records() == []
    assert not registry.owned(NAME)


def test_a_cluster_is_recorded_before_it_is_made(world, session, state):
    world.fails = {"create": lambda: world.said.append(Registry(state).find(NAME))}
    session().start()
    assert Record(NAME, "default", "", keep=False, handle={}) in world.said


def test_stopping_deletes_containers_and_cluster_once(world, session):
    world.containers = [f"{NAME}-artifacts"]
    run = session()
    run.start()
    made = len(world.log)
    run.stop()
    run.stop()
    assert world.log[made:] == ["delete", "ours", f"remove {NAME}-artifacts", "engine closed"]


def test_stopping_what_never_started_does_nothing(world, session):
    session().stop()
    assert world.log == []


@by_type
@pytest.mark.parametrize(("step", "load"), MAKING, ids=[step for step, _ in MAKING])
def test_whatever_fails_the_cluster_is_deleted(world, session, state, step, load, error):
    """Also while a load is under way: it is told to stop and not waited for."""
    world.fails = {step: error}
    if load is not None:
        world.gates = {load: threading.Event()}
    run = session()
    with pytest.raises(type(error)) as caught:
        run.start()
    assert caught.value is error
    assert ended(world) == END
    assert world.log.count("connect") == world.log.count("disconnect") + (step == "connect")
    assert list(state.iterdir()) == []
    if load is not None:
        assert world.idle.wait(10), "the load went on"
        assert f"stopped {load}" in world.log
        assert f"loaded {load}" not in world.log
    run.stop()
    assert world.log.count("delete") == 1


@pytest.mark.parametrize("error", [ERRORS[0], ERRORS[2]], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", AT_ANY_TIME)
def test_whatever_fails_in_another_thread_the_cluster_is_deleted(world, session, state, step, error):
    world.fails = {step: error}
    with pytest.raises(type(error)) as caught:
        session().start()
    assert caught.value is error
    assert ended(world) == END
    assert list(state.iterdir()) == []


@pytest.mark.parametrize("step", ["create", *AT_ANY_TIME, "put", "controllers", "release"])
def test_ctrl_c_while_others_work(world, session, state, step):
    """The signal comes while a thread is at that step; the main thread may be anywhere."""
    gate = threading.Event()
    name = step.removeprefix("load ")
    world.gates = {name if name != step else "cilium": gate}
    world.fails = {step: lambda: os.kill(os.getpid(), signal.SIGINT)}
    if step in {"release", "load agent"}:
        world.gates = {"agent": gate}
    if step == "hosts":
        world.gates = {}  # it comes after all loads
    with pytest.raises(KeyboardInterrupt):
        session().start()
    assert ended(world) == END
    assert list(state.iterdir()) == []


@by_type
@pytest.mark.parametrize("step", BEFORE)
def test_before_anything_is_made_nothing_is_deleted(world, session, state, step, error):
    world.fails = {step: error}
    run = session()
    with pytest.raises(type(error)):
        run.start()
    run.stop()
    assert "delete" not in world.log
    assert world.log.count("engine closed") == (step != "engine"), "connections are given back"
    assert not state.exists() or list(state.iterdir()) == [], "nothing is claimed"


def test_a_cluster_of_that_name_is_refused_and_left_alone(world, session, state):
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
    assert "delete" not in world.log
    assert world.clusters == ["other", NAME]
    assert list(state.iterdir()) == []


def test_a_cluster_that_a_living_run_uses_is_refused_and_left_alone(world, session):
    first = session()
    first.start()
    made = len(world.log)
    with pytest.raises(BackendUnavailable, match=f"cluster {NAME}: another run is using this cluster"):
        session().start()
    assert "delete" not in world.log[made:]
    assert world.log[-1] == "engine closed"
    first.stop()
    assert world.clusters == []


def test_a_host_that_cannot_work_is_told_before_anything_is_made(world, session):
    world.host = {"CgroupVersion": "2", "KernelVersion": "4.4.0-generic"}
    with pytest.raises(BackendUnavailable, match=r"expected Linux 5\.10 or newer") as caught:
        session().start()
    assert caught.value.exit_code == EXIT_USAGE
    assert world.log == ["engine", "prepare", "info", "engine closed"]


def test_what_is_prepared_only_is_not_deleted(world, session, state):
    run = session()
    run.prepare()
    assert Registry(state).owned(NAME)
    run.stop()
    assert "create" not in world.log
    assert "delete" not in world.log
    assert world.log[-1] == "engine closed"
    assert not Registry(state).owned(NAME)


@pytest.fixture
def no_room(monkeypatch):
    def refuse(host, topology):
        raise BackendUnavailable("expected 4 GiB of free disk", place=topology.name)

    monkeypatch.setattr("cilium_e2e.session.start.preflight.check_room", refuse)


class TestKept:
    @pytest.fixture
    def kept(self, world, session):
        """A cluster that an earlier run has kept."""
        run = session(keep=True)
        handle = run.start()
        run.stop()
        world.log.clear()
        world.said.clear()
        return handle

    def test_it_stays_and_its_owner_is_told_how_to_delete_it(self, world, session, state):
        run = session(keep=True)
        run.start()
        run.stop()
        assert "delete" not in world.log
        assert world.log[-1] == "engine closed"
        assert world.said[-3:] == [
            f"kept: cluster {NAME}, KUBECONFIG={state / NAME}.kubeconfig",
            f"  to use it again: --cluster-name {NAME} --keep-cluster",
            f"  to delete it: cilium-e2e clusters delete {NAME}",
        ]
        registry = Registry(state)
        assert [record.keep for record in registry.records()] == [True]
        assert not registry.owned(NAME)
        assert registry.left_over("") == []

    def test_a_failed_cluster_is_kept_for_its_owner_to_look_at(self, world, session, state):
        world.fails = {"release": ReconcileError("no")}
        with pytest.raises(ReconcileError):
            session(keep=True).start()
        assert "delete" not in world.log
        assert any(line.startswith("kept: ") for line in world.said)
        assert Registry(state).left_over("") == []

    def test_it_is_used_again(self, world, session, kept):
        handle = session(keep=True).start()
        assert handle.info == kept.info
        assert handle.kubeconfig == kept.kubeconfig
        assert "create" not in world.log
        assert world.again is True
        assert f"cluster {NAME} was kept, and is used again" in world.said
        assert [line for line in handle.timeline if line.startswith("create")] == []
        assert "release" in world.log

    def test_it_needs_no_further_room(self, world, session, kept, no_room):
        """It fills the disk itself; only another one would be refused."""
        session(keep=True).start()
        with pytest.raises(BackendUnavailable, match="free disk"):
            session(cluster_name="another").start()

    def test_what_is_prepared_only_leaves_it_alone(self, world, session, kept, state):
        run = session()
        run.prepare()
        assert Registry(state).owned(NAME)
        run.stop()
        assert "delete" not in world.log
        assert not Registry(state).owned(NAME)

    def test_used_again_by_a_run_that_does_not_keep_it(self, world, session, kept, state):
        run = session()
        run.start()
        run.stop()
        assert ended(world) == END
        assert list(state.iterdir()) == []

    @pytest.mark.parametrize("keep", [True, False])
    def test_what_fails_on_it_does_not_delete_it(self, world, session, kept, state, keep):
        world.fails = {"release": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            session(keep=keep).start()
        assert "delete" not in world.log
        assert any(line.startswith("kept: ") for line in world.said)
        (record,) = Registry(state).records()
        assert (record.keep, Handle.from_data(record.handle)) == (True, kept)

    def test_another_topology_is_refused_and_the_cluster_left_alone(self, world, session, kept, state):
        with pytest.raises(BackendUnavailable) as caught:
            session(topology="big").start()
        assert str(caught.value) == (
            f"--cluster-name {NAME}: the kept cluster has the topology default, asked for is big. "
            "Choose another name, or the same topology."
        )
        assert "delete" not in world.log
        assert world.clusters == [NAME]
        assert len(Registry(state).records()) == 1

    def test_one_that_was_never_ready_is_refused_and_left_alone(self, world, session, state):
        world.clusters = [NAME]
        Registry(state).write(Record(NAME, "default", "", keep=True, handle={}))
        with pytest.raises(BackendUnavailable, match=f"cilium-e2e clusters delete {NAME}"):
            session(keep=True).start()
        assert "delete" not in world.log
        assert world.clusters == [NAME]

    def test_one_that_somebody_deleted_is_made_anew(self, world, session, kept):
        world.clusters = []
        session(keep=True).start()
        assert "create" in world.log
        assert world.again is False

    def test_one_on_another_engine_is_refused_and_remembered(self, world, session, kept, state, monkeypatch):
        monkeypatch.setenv("DOCKER_HOST", "tcp://elsewhere:1")
        world.clusters = []
        with pytest.raises(BackendUnavailable, match="is on another engine, the default one"):
            session().start()
        assert [record.engine for record in Registry(state).records()] == [""]


class TestSwept:
    def test_what_a_dead_run_left_goes_first(self, world, session, state):
        Registry(state).write(Record("ce2e-dead", "default", "", keep=False, handle={}))
        world.clusters = ["ce2e-dead"]
        session().start()
        assert world.log.index("delete ce2e-dead") < world.log.index("create")
        assert "sweeping cluster ce2e-dead, which a run that is dead left behind" in world.said
        assert [record.name for record in Registry(state).records()] == [NAME]

    def test_one_of_the_same_name_too(self, world, session, state):
        Registry(state).write(Record(NAME, "default", "", keep=False, handle={}))
        world.clusters = [NAME]
        assert session().start().info.name == NAME
        assert world.log.index("delete") < world.log.index("create")

    def test_one_that_stays_is_told_and_keeps_nobody_from_working(self, world, session, state):
        Registry(state).write(Record("ce2e-dead", "default", "", keep=False, handle={}))
        world.fails = {"delete ce2e-dead": EngineError("device busy")}
        session().start()
        (line,) = [line for line in world.said if "device busy" in line]
        assert "kind delete cluster --name ce2e-dead" in line
        assert "create" in world.log
        assert {record.name for record in Registry(state).records()} == {NAME, "ce2e-dead"}


def test_a_container_that_stays_keeps_nothing_else(world, session):
    world.containers = ["stuck", "next"]
    world.fails = {"remove stuck": EngineError("device busy", place="removing stuck")}
    run = session()
    run.start()
    with pytest.raises(ClusterStateError) as caught:
        run.stop()
    assert caught.value.exit_code == EXIT_INTERRUPTED
    text = str(caught.value)
    assert text.startswith(f"cluster {NAME}: not all of it could be deleted: removing stuck: device busy. ")
    by_hand = f"docker ps -aq --filter label=io.cilium-e2e.run={NAME} | xargs docker rm -f"
    assert text.endswith(f"kind delete cluster --name {NAME}; {by_hand}")
    assert world.log[-5:] == ["delete", "ours", "remove stuck", "remove next", "engine closed"]


def test_a_kind_that_fails_keeps_no_container(world, session):
    world.containers = [f"{NAME}-artifacts"]
    world.fails = {"delete": EngineError("kind is gone")}
    run = session()
    run.start()
    with pytest.raises(ClusterStateError, match="kind is gone"):
        run.stop()
    assert world.log[-2:] == [f"remove {NAME}-artifacts", "engine closed"]


def test_a_node_that_came_to_be_after_kind_had_gone_is_removed(world, session):
    world.nodes = [NodeContainer(f"{NAME}-worker2", "worker")]
    world.fails = {"create": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        session().start()
    assert ended(world) == ["delete", "ours", f"remove {NAME}-worker2", "engine closed"]


def test_what_could_not_be_deleted_is_swept_by_the_next_run(world, session, state):
    world.fails = {"delete": EngineError("kind is gone")}
    run = session()
    run.start()
    with pytest.raises(ClusterStateError):
        run.stop()
    assert [record.name for record in Registry(state).left_over("")] == [NAME]


def test_the_first_error_is_the_one_that_counts(world, session):
    world.fails = {"release": ReconcileError("no such chart"), "delete": EngineError("kind is gone")}
    with pytest.raises(ReconcileError, match="no such chart"):
        session().start()
    assert any("kind is gone" in line for line in world.said)


@pytest.mark.parametrize("step", [step for step, _ in MAKING] + AT_ANY_TIME)
def test_an_engine_that_dies_is_one_error_with_exit_2(world, session, step):
    """From then on every call fails; what was made is tried to be deleted all the same, and remembered."""
    gone = EngineError("the container engine failed: connection refused", place="listing containers")

    def die():
        world.fails = dict.fromkeys(("ours", "delete"), gone)
        raise gone

    world.fails = {step: die}
    with pytest.raises(EngineError) as caught:
        session().start()
    assert caught.value is gone
    assert caught.value.exit_code == EXIT_INTERRUPTED
    (line,) = [line for line in world.said if "not all of it could be deleted" in line]
    assert f"kind delete cluster --name {NAME}" in line
    assert {"delete", "ours", "engine closed"} <= set(world.log)


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
    assert ended(world) == ["delete", "ours", "remove a", "engine closed"]
    assert signal.getsignal(number) is before
    told = f"{number.name}: deleting cluster {NAME}, please wait\n"
    assert capfd.readouterr().err == 2 * told


def test_a_second_ctrl_c_does_not_break_off_the_deletion_after_the_first(world, session):
    world.fails = {"release": KeyboardInterrupt(), "delete": lambda: os.kill(os.getpid(), signal.SIGINT)}
    with pytest.raises(KeyboardInterrupt):
        session().start()
    assert ended(world) == END


def test_a_session_may_be_stopped_by_another_thread(world, session, state):
    run = session()
    run.start()
    thread = threading.Thread(target=run.stop)
    thread.start()
    thread.join()
    assert world.log[-1] == "engine closed"
    with Registry(state).claim(NAME):
        pass


@pytest.mark.parametrize(
    ("backend", "why"),
    [("auto", "a container engine answers: Docker 99.1"), ("kind", "asked for: Docker 99.1")],
)
def test_an_engine_means_kind(world, backend, why):
    chosen, engine, reason = choose_backend(Options(backend=backend))
    assert chosen is Backend.KIND
    assert reason == why
    assert engine is not None


@pytest.mark.parametrize("backend", ["existing", "simulated"])
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
        KindSession(Options(backend=backend, repository=tmp_path), said.append).start()
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


def test_a_worker_attaches_and_publishes_again(world, session, state):
    handle = session().start()
    options = Options(state=state)
    world.log.clear()
    attached = attach(handle, options)
    assert attached.info == handle.info
    attached.prober(Target.world("one"))
    assert world.log == ["connect"], "no engine is looked for before a probe needs one"
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
        "release",
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
