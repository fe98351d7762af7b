"""Workloads: created in order, awaited, explained when they do not come, gone afterwards."""

from __future__ import annotations

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, KubeError, Ref, Target, WaitTimeout
from cilium_e2e.probe import Port
from cilium_e2e.scenario import PodSpec, ServiceSpec, deploy, namespace, remove
from support.memory import MemoryTransport, obliging, pod

POD = Ref("v1", "Pod", "demo", "ns")


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def kube(api) -> Kube:
    return Kube(api, clock=api.clock)


def test_a_namespace_is_usable_restricted_and_deleted(api, kube):
    obliging(api)
    ref = Ref("v1", "Namespace", "ce2e-a")
    with namespace(kube, "ce2e-a") as name:
        assert name == "ce2e-a"
        labels = api.stored(ref)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert api.stored(ref) is None


def test_a_namespace_is_deleted_when_its_user_fails(api, kube):
    obliging(api)
    with pytest.raises(ZeroDivisionError), namespace(kube, "ce2e-a"):
        raise ZeroDivisionError
    assert api.stored(Ref("v1", "Namespace", "ce2e-a")) is None


def test_a_namespace_that_never_becomes_usable_is_told_and_deleted(api, kube):
    with (
        pytest.raises(WaitTimeout, match="the default service account of ce2e-a within 120 s"),
        namespace(kube, "ce2e-a"),
    ):
        pytest.fail("entered a namespace that is not usable")
    assert [obj["kind"] for obj in api.applied] == ["Namespace"]
    assert api.stored(Ref("v1", "Namespace", "ce2e-a")) is None


def test_agents_are_deployed_awaited_and_known_to_cilium(api, kube, scripted):
    cluster = scripted(lambda *_: None)
    obliging(api)
    ports = (Port(8080),)
    pods = [PodSpec("demo", {"app": "demo"}, ports, "node-1"), PodSpec("other")]
    targets = deploy(
        cluster, kube, "ns", pods, [ServiceSpec("svc", {"app": "demo"}, ports)], image="python:x"
    )
    assert targets == [Target.pod("ns", "demo"), Target.pod("ns", "other")]
    assert [obj["kind"] for obj in api.applied] == ["ConfigMap", "Pod", "Pod", "Service"]
    spec = api.stored(POD)["spec"]
    assert spec["containers"][0]["image"] == "python:x"
    assert "node-1" in str(spec["affinity"])
    assert api.stored(Ref("v1", "Service", "svc", "ns"))["spec"]["selector"] == {"app": "demo"}
    assert cluster.proven == [((), ["ns/demo", "ns/other"])]


def test_pods_that_do_not_come_up_are_explained(api, kube, scripted):
    def stuck(obj):
        status = {
            "demo": {
                "phase": "Pending",
                "containerStatuses": [
                    {
                        "name": "agent",
                        "state": {"waiting": {"reason": "ErrImagePull", "message": "no such tag"}},
                    }
                ],
            },
            "other": {
                "phase": "Pending",
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/2 nodes are available",
                    }
                ],
            },
        }
        if obj["kind"] == "Pod" and (found := status.get(obj["metadata"]["name"])):
            api.put({**obj, "status": found})

    cluster = scripted(lambda *_: None)
    api.on_apply = stuck
    with pytest.raises(WaitTimeout) as caught:
        deploy(cluster, kube, "ns", [PodSpec("demo"), PodSpec("other"), PodSpec("new")], image="python:x")
    text = str(caught.value)
    assert "expected the pods demo, new, other to be ready within 120 s" in text
    assert "demo Pending (agent ErrImagePull no such tag)" in text
    assert "other Pending (Unschedulable 0/2 nodes are available)" in text
    assert "new unknown" in text
    assert cluster.proven == []


def test_removal_waits_until_it_is_gone(api, kube, monkeypatch):
    api.put(pod("demo", "ns"))
    monkeypatch.setattr(api, "delete", lambda ref, **_: api.later(5.0, lambda: api.remove(ref)))
    remove(kube, POD)
    assert api.stored(POD) is None
    assert api.clock.now == 1005.0, "not before, and not much later"


def test_removing_what_is_not_there_is_fine(api, kube):
    remove(kube, POD)
    assert ("delete", str(POD)) in api.calls


def test_what_does_not_go_away_is_told(api, kube, monkeypatch):
    api.put(pod("demo", "ns"))
    monkeypatch.setattr(api, "delete", lambda *_, **__: None)
    with pytest.raises(
        ClusterStateError, match="Pod ns/demo: deleted, but still there: expected Pod ns/demo"
    ):
        remove(kube, POD)


def test_a_refused_deletion_is_no_removal(api, kube):
    api.fail("delete", KubeError(403, "Forbidden", "no", place=str(POD)))
    with pytest.raises(KubeError, match="no"):
        remove(kube, POD)
