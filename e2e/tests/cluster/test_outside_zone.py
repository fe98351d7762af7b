"""CoreDNS taught a zone: before it starts, or with a restart that is awaited."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster.corefile import with_zone
from cilium_e2e.cluster.outside_zone import difference, forward, wait_dns
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, Object, PatchType, WaitTimeout
from support.memory import MemoryTransport, pod

ZONE, IP = "e2e.test", "172.18.0.5"
PLAIN = ".:53 {\n    errors\n}\n"


def config(corefile: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "coredns", "namespace": "kube-system"},
        "data": {"Corefile": corefile},
    }


def deployment(*, generation: int = 2, observed: int = 2, **counts: int) -> Object:
    status = {"updatedReplicas": 2, "replicas": 2, "availableReplicas": 2, **counts}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "generation": generation},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": observed, **status},
    }


def dns_pod(*, node: str) -> Object:
    found = pod("coredns-1", "kube-system")
    found["metadata"]["labels"] = {"k8s-app": "kube-dns"}
    found["spec"] = {"nodeName": node} if node else {}
    return found


def kube(*objects: Object) -> tuple[MemoryTransport, Kube]:
    api = MemoryTransport(*objects)
    return api, Kube(api, clock=api.clock)


def patched(api: MemoryTransport) -> list[str]:
    return [str(ref) for ref, *_ in api.patched]


def test_a_new_cluster_s_dns_reads_it_when_it_starts() -> None:
    api, found = kube(config(PLAIN), dns_pod(node=""))
    assert forward(found, ZONE, IP) is True
    ((ref, body, kind, subresource),) = api.patched
    assert (str(ref), kind, subresource) == ("ConfigMap kube-system/coredns", PatchType.MERGE, "")
    assert body == {"data": {"Corefile": with_zone(PLAIN, ZONE, IP)}}


def test_where_it_is_right_nothing_is_touched() -> None:
    api, found = kube(config(with_zone(PLAIN, ZONE, IP)), dns_pod(node="n1"))
    assert forward(found, ZONE, IP) is False
    assert api.patched == []


def test_a_dns_that_has_started_is_restarted_once_per_address() -> None:
    digests = set()
    for before, address in ((PLAIN, IP), (with_zone(PLAIN, ZONE, IP), "172.18.0.6")):
        api, found = kube(config(before), deployment(), dns_pod(node="n1"))
        assert forward(found, ZONE, address) is True
        assert patched(api) == ["ConfigMap kube-system/coredns", "Deployment kube-system/coredns"]
        body = api.patched[1][1]
        assert list(body) == ["spec"]
        digests.add(body["spec"]["template"]["metadata"]["annotations"]["cilium-e2e/corefile"])
    assert len(digests) == 2


def test_pods_of_others_restart_nothing() -> None:
    other = pod("etcd", "kube-system")
    other["spec"] = {"nodeName": "n1"}
    api, found = kube(config(PLAIN), dns_pod(node=""), other)
    forward(found, ZONE, IP)
    assert patched(api) == ["ConfigMap kube-system/coredns"]


@pytest.mark.parametrize("objects", [[], [{**config(""), "data": {}}]])
def test_a_cluster_without_it(objects: list[Object]) -> None:
    _, found = kube(*objects)
    with pytest.raises(ClusterStateError, match="expected CoreDNS' configuration with a Corefile") as caught:
        forward(found, ZONE, IP)
    assert caught.value.place == "ConfigMap kube-system/coredns"


UNFINISHED = {
    "not looked at": (deployment(generation=3), "not yet looked at by its controller"),
    "old pods": (deployment(replicas=3), "updatedReplicas 2, replicas 3, availableReplicas 2, wanted 2"),
    "not available": (deployment(availableReplicas=1), "availableReplicas 1, wanted 2"),
    "not updated": (deployment(updatedReplicas=1), "updatedReplicas 1"),
}


@pytest.mark.parametrize("case", UNFINISHED)
def test_a_rollout_is_awaited_to_its_end(case: str) -> None:
    state, words = UNFINISHED[case]
    api, found = kube(state)
    with pytest.raises(
        WaitTimeout, match=f"expected the cluster's DNS to be rolled out within 5 s, .*{words}"
    ):
        wait_dns(found, timeout_s=5)
    api.later(2.0, lambda: api.put(deployment(generation=3, observed=3)))
    wait_dns(found, timeout_s=5)


def test_no_deployment_is_never_rolled_out() -> None:
    _, found = kube()
    with pytest.raises(WaitTimeout, match="no such Deployment"):
        wait_dns(found, timeout_s=1)


def test_it_is_declared() -> None:
    said = str(difference(ZONE, IP, "world:one"))
    assert said.startswith("kube-system/coredns = forwards e2e.test to 172.18.0.5 (agents outside: ")
