"""Workloads: created in order, awaited, explained when they do not come, gone afterwards."""

from __future__ import annotations

import pytest

from cilium_e2e.model import ClusterStateError, KubeError, Ref, Target, WaitTimeout
from cilium_e2e.probe import Port
from cilium_e2e.scenario import PodSpec, ServiceSpec, deploy, namespace, remove

POD = Ref("v1", "Pod", "demo", "ns")


def service_accounts(transport):
    """The controller that gives each namespace its default service account."""
    for ref in list(transport.objects):
        if ref.kind == "Namespace":
            obj = {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": ref.name},
            }
            transport.objects[Ref.of(obj)] = obj


def kubelet(transport):
    """Makes pods ready."""
    for ref, obj in transport.objects.items():
        if ref.kind == "Pod":
            obj["status"] = {"conditions": [{"type": "Ready", "status": "True"}]}


def collector(transport):
    """Removes what was deleted."""
    for ref in transport.deleted:
        transport.objects.pop(ref, None)


def test_a_namespace_is_usable_restricted_and_deleted(api):
    kube = api(service_accounts)
    ref = Ref("v1", "Namespace", "ce2e-a")
    with namespace(kube, "ce2e-a") as name:
        assert name == "ce2e-a"
        labels = kube.transport.objects[ref]["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
        assert kube.transport.deleted == []
    assert kube.transport.deleted == [ref]


def test_a_namespace_is_deleted_when_its_user_fails(api):
    kube = api(service_accounts)
    with pytest.raises(ZeroDivisionError), namespace(kube, "ce2e-a"):
        raise ZeroDivisionError
    assert kube.transport.deleted == [Ref("v1", "Namespace", "ce2e-a")]


def test_a_namespace_that_never_becomes_usable_is_told_and_deleted(api):
    kube = api()
    with (
        pytest.raises(WaitTimeout, match="the default service account of ce2e-a within 120 s"),
        namespace(kube, "ce2e-a"),
    ):
        pytest.fail("entered a namespace that is not usable")
    assert kube.transport.deleted == [Ref("v1", "Namespace", "ce2e-a")]


def test_agents_are_deployed_awaited_and_known_to_cilium(api, scripted):
    kube, cluster = api(kubelet), scripted(lambda *_: None)
    ports = (Port(8080),)
    pods = [PodSpec("demo", {"app": "demo"}, ports, "node-1"), PodSpec("other")]
    targets = deploy(
        cluster, kube, "ns", pods, [ServiceSpec("svc", {"app": "demo"}, ports)], image="python:x"
    )
    assert targets == [Target.pod("ns", "demo"), Target.pod("ns", "other")]
    assert [ref.kind for ref in kube.transport.applied] == ["ConfigMap", "Pod", "Pod", "Service"]
    spec = kube.transport.objects[POD]["spec"]
    assert spec["containers"][0]["image"] == "python:x"
    assert "node-1" in str(spec["affinity"])
    assert kube.transport.objects[Ref("v1", "Service", "svc", "ns")]["spec"]["selector"] == {"app": "demo"}
    assert cluster.proven == [((), ["ns/demo", "ns/other"])]


def test_pods_that_do_not_come_up_are_explained(api, scripted):
    def stuck(transport):
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
        for ref, obj in transport.objects.items():
            if ref.kind == "Pod" and ref.name in status:
                obj["status"] = status[ref.name]

    kube, cluster = api(stuck), scripted(lambda *_: None)
    with pytest.raises(WaitTimeout) as caught:
        deploy(cluster, kube, "ns", [PodSpec("demo"), PodSpec("other"), PodSpec("new")], image="python:x")
    text = str(caught.value)
    assert "expected the pods demo, new, other to be ready within 120 s" in text
    assert "demo Pending (agent ErrImagePull no such tag)" in text
    assert "other Pending (Unschedulable 0/2 nodes are available)" in text
    assert "new unknown" in text
    assert cluster.proven == []


def test_removal_waits_until_it_is_gone(api, scripted):
    kube = api(collector)
    kube.transport.objects[POD] = {"metadata": {"name": "demo", "namespace": "ns"}}
    remove(kube, POD)
    assert POD not in kube.transport.objects


def test_removing_what_is_not_there_is_fine(api):
    remove(api(), POD)


def test_what_does_not_go_away_is_told(api):
    kube = api()
    kube.transport.objects[POD] = {"metadata": {"name": "demo", "namespace": "ns"}}
    with pytest.raises(
        ClusterStateError, match="Pod ns/demo: deleted, but still there: expected Pod ns/demo"
    ):
        remove(kube, POD)


def test_a_refused_deletion_is_no_removal(api, monkeypatch):
    kube = api()

    def refuse(ref, **_):
        raise KubeError(403, "Forbidden", "no", place=str(ref))

    monkeypatch.setattr(kube.transport, "delete", refuse)
    with pytest.raises(KubeError, match="no"):
        remove(kube, POD)
