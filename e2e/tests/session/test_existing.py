"""A cluster that is not ours: looked at, waited for, and left exactly as it was."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import pytest

from cilium_e2e.kube.facade import Kube
from cilium_e2e.model import (
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Backend,
    BackendUnavailable,
    Capability,
    ClusterStateError,
    HarnessError,
    KubeError,
    Ref,
    WaitTimeout,
)
from cilium_e2e.session import Handle, Options, existing
from cilium_e2e.session.attach import attach
from cilium_e2e.session.existing import ExistingSession
from support.memory import MemoryTransport, obliging, pod

READY = {"type": "Ready", "status": "True"}


def node(name, *, ready="True", **labels):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1"},
        },
    }


def agent(name, app="cilium"):
    found = pod(name, "cilium", phase="Running", conditions=[READY])
    found["metadata"]["labels"] = {"k8s-app": app}
    return found


def release(**ready):
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": "cilium", "namespace": "cilium", "generation": 2},
        "status": {"conditions": [{**READY, "observedGeneration": 2, **ready}]},
    }


@pytest.fixture
def api():
    return obliging(
        MemoryTransport(
            node("a", **{"node-role.kubernetes.io/control-plane": ""}),
            node("b"),
            agent("cilium-1"),
            agent("cilium-2"),
            agent("relay", app="hubble-relay"),
            release(),
        )
    )


@pytest.fixture
def session(api, prepared, monkeypatch, tmp_path):
    """Makes a session; ``opened`` holds what the transport was opened with."""
    opened = []

    def transport(kubeconfig, *, context=""):
        opened.append((kubeconfig, context))
        return api

    monkeypatch.setitem(sys.modules, "cilium_e2e.kube.live", SimpleNamespace(LiveTransport=transport))
    monkeypatch.setattr(existing, "prepare", lambda options, *, installs: prepared)
    monkeypatch.setattr(existing, "Kube", lambda found: Kube(found, clock=api.clock))
    said = []

    def make(**given):
        options = Options(
            **{
                "backend": "existing",
                "kubeconfig": tmp_path / "kubeconfig",
                "state": tmp_path / "state",
                "timeout_s": 5.0,
                **given,
            }
        )
        return ExistingSession(options, said.append)

    make.opened, make.said = opened, said
    return make


def methods(api):
    return {method for method, _ in api.calls}


def refused(session, api) -> HarnessError:
    run = session()
    with pytest.raises(HarnessError) as caught:
        run.start()
    run.stop()
    assert methods(api) <= {"get", "list", "watch"}, "it only looks"
    assert api.closed, "connections are given back"
    return caught.value


def test_what_it_is(session, api, tmp_path):
    handle = session(context="production", agent_image="python:x").start()
    assert session.opened == [(tmp_path / "kubeconfig", "production")]
    assert session.said[0] == f"backend: existing (asked for: {tmp_path / 'kubeconfig'})"
    info = handle.info
    assert (info.backend, info.name, info.release) == (Backend.EXISTING, "production", "cilium/cilium")
    assert [(found.name, found.role) for found in info.nodes] == [("a", "control-plane"), ("b", "worker")]
    assert (handle.kubeconfig, handle.context) == (tmp_path / "kubeconfig", "production")
    assert handle.agent_image == "python:x"
    assert handle.timeline[0].startswith("look at the cluster")
    assert Handle.from_data(handle.to_data()) == handle


def test_nothing_is_made_but_a_namespace_of_its_own_and_nothing_else_deleted(session, api, tmp_path):
    run = session()
    handle = run.start()
    agents = dict(handle.info.host_agents)
    assert sorted(agents) == ["a", "b"]
    (name,) = {pod.partition("/")[0] for pod in agents.values()}
    assert re.fullmatch("ce2e-hosts-[0-9a-f]{6}", name)
    assert Capability.HOST_AGENTS in handle.info.capabilities
    assert not {Capability.WORLD, Capability.OUTSIDE_ZONE} & handle.info.capabilities
    made = {(obj["kind"], obj["metadata"].get("namespace", obj["metadata"]["name"])) for obj in api.applied}
    assert made == {("Namespace", name), ("ConfigMap", name), ("Pod", name)}
    assert "delete" not in methods(api)
    run.stop()
    run.stop()
    assert [call for call in api.calls if call[0] == "delete"] == [("delete", f"Namespace {name}")]
    assert "patch" not in methods(api)
    assert api.closed
    assert not (tmp_path / "state").exists()


def test_runs_keep_apart(session):
    names = {session()._hosts for _ in range(3)}
    assert len(names) == 3


FORBIDDEN = (
    'pods "a" is forbidden: violates PodSecurity "restricted:latest": host namespaces (hostNetwork=true)'
)


@pytest.mark.parametrize("kind", ["Namespace", "Pod"])
@pytest.mark.parametrize("status", [400, 403, 422])
def test_host_networking_that_is_refused_is_said_and_the_run_goes_on(session, api, kind, status):
    api.fail("apply", KubeError(status, "Forbidden", FORBIDDEN, place="Pod a"), kind=kind, times=99)
    run = session()
    handle = run.start()
    assert handle.info.host_agents == ()
    assert handle.info.capabilities == {Capability.MULTI_NODE}
    (line,) = [line for line in session.said if "no agents on the nodes' own networks" in line]
    assert FORBIDDEN in line
    assert api.calls[-1] == ("delete", f"Namespace {run._hosts}"), "what of it was made is gone at once"
    run.stop()
    assert [call[0] for call in api.calls].count("delete") == 1


def test_agents_that_find_no_place_on_a_node(session, api):
    """Another run has the ports, for one; a pending pod stays pending."""
    oblige = api.on_apply
    api.on_apply = lambda obj: None if obj["metadata"]["name"] == "b" else oblige(obj)
    handle = session().start()
    assert handle.info.host_agents == ()
    (line,) = [line for line in session.said if "no agents on the nodes' own networks" in line]
    assert "expected an agent on the network of each node (a, b) within 5 s" in line
    assert "b unknown" in line


def test_what_cannot_be_cleaned_up_is_said_too(session, api):
    api.fail("apply", KubeError(403, "Forbidden", FORBIDDEN), kind="Pod", times=99)
    api.fail("delete", KubeError(403, "Forbidden", "cannot delete"), kind="Namespace")
    run = session()
    run.start()
    assert f"namespace {run._hosts} may be left behind: cannot delete" in session.said


@pytest.mark.parametrize("error", [KubeError(500, "InternalError", "etcd is gone"), KeyboardInterrupt()])
def test_what_goes_wrong_otherwise_ends_the_run_and_leaves_nothing(session, api, error):
    """An API server that is ill is no admission that refuses."""

    def fail(obj):
        raise error

    api.on_apply = fail
    run = session()
    with pytest.raises(type(error)):
        run.start()
    assert api.calls[-1] == ("delete", f"Namespace {run._hosts}")
    assert api.closed


@pytest.mark.parametrize(
    ("nodes", "addresses", "expected"),
    [
        (1, ["10.0.0.2"], set()),
        (2, ["10.0.0.2"], {Capability.MULTI_NODE}),
        (2, ["10.0.0.2", "fc00::2"], {Capability.MULTI_NODE, Capability.DUAL_STACK}),
    ],
)
def test_what_it_can_do_is_seen_on_itself(session, api, nodes, addresses, expected):
    """No topology speaks of it."""
    for name in ("a", "b"):
        found = node(name)
        found["status"]["addresses"] = [{"type": "InternalIP", "address": ip} for ip in addresses]
        api.put(found)
    if nodes == 1:
        api.remove(Ref("v1", "Node", "b"))
    assert session().start().info.capabilities == expected | {Capability.HOST_AGENTS}


def test_its_tree_is_published_by_its_own_flux(session, api):
    run = session()
    handle = run.start()
    attached = attach(handle, Options())
    with pytest.raises(BackendUnavailable, match="backend existing: the tree of an existing cluster"):
        attached.publish()
    attached.close()


def test_without_a_kubeconfig(session, api):
    with pytest.raises(BackendUnavailable) as caught:
        session(kubeconfig=None).start()
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value) == (
        "--backend existing: an existing cluster needs a kubeconfig. Give --kubeconfig."
    )
    assert session.opened == []


@pytest.mark.parametrize("kind", ["Node", "HelmRelease"])
@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "Unauthorized"),
        (403, 'nodes is forbidden: User "ci" cannot list resource "nodes"'),
        (0, "connection refused"),
    ],
)
def test_no_access_is_one_clear_error(session, api, tmp_path, kind, status, words):
    error = KubeError(status, "x", words)
    for method in ("list", "get"):
        api.fail(method, error, kind=kind, times=99)
    caught = refused(session, api)
    assert isinstance(caught, BackendUnavailable)
    assert caught.exit_code == EXIT_USAGE
    assert str(caught) == (
        f"--kubeconfig {tmp_path / 'kubeconfig'}: the cluster cannot be used: {words}. "
        "The run needs to read nodes and to create namespaces, pods and policies."
    )


def test_an_api_server_that_is_ill_is_no_matter_of_access(session, api):
    api.fail("list", KubeError(500, "InternalError", "etcdserver: no leader"), times=99)
    caught = refused(session, api)
    assert isinstance(caught, KubeError)
    assert caught.exit_code == EXIT_INTERRUPTED


def test_a_release_that_is_not_there(session, api):
    api.remove(Ref("helm.toolkit.fluxcd.io/v2", "HelmRelease", "cilium", "cilium"))
    caught = refused(session, api)
    assert str(caught) == (
        "HelmRelease cilium/cilium: the HelmRelease of the tree is not on the cluster. "
        "Is this the cluster that Flux installs this tree on?"
    )


def test_a_cluster_without_flux(session, api):
    api.missing_kinds.add("HelmRelease")
    assert "is not on the cluster" in str(refused(session, api))


def test_a_release_that_is_not_ready_has_flux_s_own_words(session, api):
    api.put(release(status="False", reason="UpgradeFailed", message="timed out waiting"))
    caught = refused(session, api)
    assert isinstance(caught, ClusterStateError)
    assert caught.exit_code == EXIT_INTERRUPTED
    assert "Ready=False UpgradeFailed: timed out waiting" in str(caught)


def test_a_release_whose_last_change_is_not_reconciled(session, api):
    api.put(release(observedGeneration=1))
    assert "not yet reconciled" in str(refused(session, api))


def test_nodes_that_do_not_become_ready(session, api):
    api.put(node("b", ready="False"))
    caught = refused(session, api)
    assert isinstance(caught, WaitTimeout)
    assert "expected 2 nodes to be ready within 5 s" in str(caught)


def test_it_waits_for_what_is_on_its_way(session, api):
    api.put(node("b", ready="False"))
    api.later(2.0, lambda: api.put(node("b")))
    assert len(session().start().info.nodes) == 2


def test_an_agent_that_is_missing(session, api):
    api.remove(Ref("v1", "Pod", "cilium-2", "cilium"))
    assert "expected 2 agents to be ready" in str(refused(session, api))


def test_relay_that_is_missing(session, api):
    api.remove(Ref("v1", "Pod", "relay", "cilium"))
    assert "expected relay to be ready" in str(refused(session, api))
