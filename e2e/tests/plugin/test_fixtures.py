"""What tests get: the running cluster in several forms, namespaces of their own, agents."""

from __future__ import annotations

import contextlib
import threading

import pytest

from cilium_e2e.model import ClusterStateError, SystemClock
from cilium_e2e.plugin import fixtures
from cilium_e2e.scenario import Resident


class FakeCluster:
    """Says when it is closed."""

    relay_is_away = False

    def __init__(self, log):
        self.log = log
        self.api = "the api"
        self.clock = SystemClock()
        self.lock, self.open = threading.Lock(), False

    def relay(self):
        with self.lock:
            if self.open:
                return
            self.log.append("stream")
            if self.relay_is_away:
                raise ClusterStateError("expected a running pod with k8s-app=hubble-relay, found none")
            self.open = True

    def unfollow(self):
        with self.lock:
            if self.open:
                self.log.append("unfollowed")
            self.open = False

    def close(self):
        self.log.append("closed")


@pytest.fixture
def log(monkeypatch):
    """What the fixtures asked for, instead of a cluster's doing it."""
    done = []

    @contextlib.contextmanager
    def namespace(kube, name):
        assert kube == "the api"
        done.append(f"made {name[: name.rindex('-')]}")
        yield name
        done.append(f"gone {name[: name.rindex('-')]}")

    class FakeResidents:
        def __init__(self, cluster, kube, *, image, worker, keep):
            done.append(f"residents of {worker}{', kept' if keep else ''}")
            self.image = image

        def up(self, purpose, layout):
            done.append(f"up {purpose}")
            for quarter in layout.values():
                done.extend(f"{spec.name} on {spec.node}, {self.image}" for spec in quarter.pods)
                done.extend(f"service {service.name}" for service in quarter.services)
            return Resident({name: f"ce2e-main-{name}-0" for name in layout}, "0", purpose, layout)

        def close(self):
            done.append("residents rest")

    monkeypatch.setattr(fixtures, "attach", lambda handle, options: FakeCluster(done))
    monkeypatch.setattr(fixtures, "namespace", namespace)
    monkeypatch.setattr(fixtures, "Residents", FakeResidents)
    return done


def test_agents_on_every_node_in_a_namespace_of_the_workers_own(nested, log):
    nested.tests("""
def test_agents(agents, kube, run_options):
    assert kube == "the api"
    assert run_options.backend == "kind"
    assert agents.namespace.startswith("ce2e-main-agents-")
    assert {node: pod.name for node, pod in agents.pods.items()} == {"n1": "agent-0", "n2": "agent-1"}
    assert str(agents.service) == f"svc:{agents.namespace}/agents"

def test_another_namespace(make_namespace, agents):
    first, second = make_namespace("x"), make_namespace("x")
    assert first != second
""")
    nested.run().assert_outcomes(passed=2)
    assert log == [
        "residents of main",
        "up agents",
        "agent-0 on n1, python:x",
        "agent-1 on n2, python:x",
        "service agents",
        "made ce2e-main-x",
        "made ce2e-main-x",
        "gone ce2e-main-x",
        "gone ce2e-main-x",
        "residents rest",
        "closed",
    ]


def test_the_flow_stream_is_open_before_any_lab_and_once_a_worker(nested, log):
    nested.tests("""
def test_first(cluster, lab):
    assert cluster.log == ["stream"]
    assert lab.evidence.notes == {}

def test_second(cluster, lab):
    assert cluster.log == ["stream"]
""")
    nested.run().assert_outcomes(passed=2)


def test_without_a_lab_no_flow_stream_is_opened(nested, log):
    nested.tests("def test_cluster(cluster): assert cluster.log == []")
    nested.run().assert_outcomes(passed=1)


def test_the_flow_stream_is_opened_while_the_first_test_with_a_lab_begins(nested, log):
    nested.tests("""
import time

@pytest.fixture
def pods(cluster):
    for _ in range(500):
        if cluster.log:
            break
        time.sleep(0.01)
    assert cluster.log == ["stream"]

def test_before(cluster):
    assert cluster.log == []

def test_lab(pods, cluster, lab):
    assert cluster.log == ["stream"]
""")
    nested.run().assert_outcomes(passed=2)


def test_no_flow_stream_is_opened_for_tests_that_are_flowless(nested, log):
    """Not even ahead; and one that was open is closed, also for tests without a lab."""
    nested.tests("""
@pytest.mark.flowless
def test_first(cluster, lab):
    assert cluster.log == []
    assert lab.follow is not None

def test_asks(cluster, lab):
    assert cluster.log == ["stream"]
    assert lab.follow is None

def test_says_nothing(cluster):
    assert cluster.log == ["stream"]

@pytest.mark.flowless
def test_without_a_lab(cluster):
    assert cluster.log == ["stream", "unfollowed"]
""")
    nested.run("--strict-markers").assert_outcomes(passed=4)


def test_a_relay_that_is_away_breaks_no_test_and_is_told_in_each(nested, log, monkeypatch):
    monkeypatch.setattr(FakeCluster, "relay_is_away", True)
    nested.tests("""
@pytest.mark.parametrize("number", [1, 2])
def test_lab(cluster, lab, number):
    assert cluster.log == ["stream", "stream"]  # ahead, and for the first lab
    assert lab.evidence.notes == {
        "hubble": "no flow stream was open from the start: "
        "expected a running pod with k8s-app=hubble-relay, found none"
    }
""")
    nested.run().assert_outcomes(passed=2)


def test_the_flow_stream_rests_while_tests_ask_for_no_flows(nested, log, monkeypatch):
    """As scenarios say of themselves; what fails there opens it again, to be explained."""
    monkeypatch.syspath_prepend(nested.pytester.path)
    (nested.pytester.path / "silent.py").write_text("""
import pytest

class Item(pytest.Function):
    asks_for_flows = False

def pytest_pycollect_makeitem(collector, name, obj):
    if name.startswith("test_asks_not"):
        return Item.from_parent(collector, name=name)
""")
    nested.tests("""
def test_asks(cluster, lab):
    assert cluster.log == ["stream"]
    assert lab.follow is None

def test_asks_not(cluster, lab):
    assert cluster.log == ["stream", "unfollowed"]

def test_asks_not_either(cluster, lab):
    assert cluster.log == ["stream", "unfollowed"]
    assert lab.follow() == ""
    assert cluster.log == ["stream", "unfollowed", "stream"]

def test_asks_again(cluster, lab):
    assert cluster.log == ["stream", "unfollowed", "stream"]
""")
    nested.run("-p", "silent").assert_outcomes(passed=4)


def test_a_release_without_relay_has_no_stream(nested, log):
    nested.tests("""
import dataclasses

@pytest.fixture(scope="session")
def handle(handle):
    return dataclasses.replace(handle, info=dataclasses.replace(handle.info, features=frozenset()))

def test_lab(cluster, lab):
    assert cluster.log == []
    assert lab.evidence.notes == {}
""")
    nested.run().assert_outcomes(passed=1)


def test_the_tree_is_loaded_once(nested, root):
    nested.tests("""
def test_repository(repository, pytestconfig):
    from cilium_e2e.plugin.clusters import CLUSTERS
    assert repository.release.name == "cilium/cilium"
    assert repository.topology.name == "single-node"
    assert pytestconfig.stash[CLUSTERS].tree("single-node") is repository
""")
    nested.run(f"--repository={root}", "--topology=single-node").assert_outcomes(passed=1)


@pytest.fixture
def recording_kind(nested, monkeypatch):
    """A kind on PATH that writes down what it is asked."""
    folder = nested.pytester.path / "bin"
    folder.mkdir()
    kind = folder / "kind"
    kind.write_text(f'#!/bin/sh\necho "kind $*" >> {nested.pytester.path}/events\n')
    kind.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return kind


def test_pytest_kinds_fixture_is_the_running_cluster(nested, recording_kind):
    """pytest-kind is loaded too, and its own fixture would create a second cluster, with a CNI."""
    nested.tests("""
def test_kind_cluster(kind_cluster, handle, request):
    assert request.config.pluginmanager.has_plugin("pytest-kind")
    assert kind_cluster.name == "ce2e-fake"
    assert kind_cluster.kubeconfig_path == handle.kubeconfig
    kind_cluster.load_docker_image("an:image")
""")
    nested.run().assert_outcomes(passed=1)
    assert nested.events == [
        "start",
        "kind load docker-image --name ce2e-fake an:image",
        "deleting",
        "deleted",
    ]


def test_a_conftest_of_the_user_still_has_the_last_word(nested, recording_kind):
    nested.tests("""
@pytest.fixture(scope="session")
def kind_cluster(kind_cluster):
    return f"mine around {kind_cluster.name}"

def test_kind_cluster(kind_cluster):
    assert kind_cluster == "mine around ce2e-fake"
""")
    nested.run().assert_outcomes(passed=1)
    assert nested.events == ["start", "deleting", "deleted"]


def test_the_kubectl_given_is_the_one_used(nested, recording_kind):
    nested.tests("""
def test_kind_cluster(kind_cluster):
    assert str(kind_cluster.kubectl_path) == "/opt/kubectl"
""")
    nested.run("--kind-kubectl-bin=/opt/kubectl").assert_outcomes(passed=1)
