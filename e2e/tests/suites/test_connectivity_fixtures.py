"""The fixtures of the connectivity suite: what they put on a cluster, and what they take away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import Ref, Target
from cilium_e2e.scenario import Residents
from cilium_e2e.suites.connectivity import conftest
from support.memory import MemoryTransport
from support.network import NODES, grid

expose, make_grid = conftest.expose.__wrapped__, conftest.grid.__wrapped__


def kubelet(api: MemoryTransport):
    """Gives each new pod an address and makes it ready."""

    def act(obj):
        if obj["kind"] == "Pod":
            number = len(api.applied)
            status = {
                "conditions": [{"type": "Ready", "status": "True"}],
                "podIPs": [{"ip": f"10.0.0.{number}"}, {"ip": f"fd00::{number}"}],
            }
            api.put({**obj, "status": status})
        if obj["kind"] == "Namespace":
            account = {"name": "default", "namespace": obj["metadata"]["name"]}
            api.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})

    return act


@pytest.fixture
def api() -> MemoryTransport:
    made = MemoryTransport()
    made.on_apply = kubelet(made)
    return made


@pytest.mark.parametrize("nodes", [NODES, NODES[:1]], ids=["two nodes", "one node"])
def test_the_grid_has_pairs_on_every_node_and_two_of_each_at_least(api, nodes):
    kube = Kube(api, clock=api.clock)
    handle = SimpleNamespace(info=SimpleNamespace(nodes=nodes), agent_image="python:x")
    proven = []
    cluster = SimpleNamespace(prove=lambda policies, names: proven.extend(names))
    look = conftest.pod_of.__wrapped__(kube)
    residents = Residents(cluster, kube, image="python:x", worker="gw0", keep=False)
    found = make_grid(handle, residents, look)
    assert [pod.target.name for pod in found.pods] == ["server-0", "server-1", "client-0", "client-1"]
    assert {pod.node for pod in found.servers} == {pod.node for pod in found.clients}
    assert {pod.node for pod in found.pods} == {node.name for node in nodes}
    assert all(pod.ip_of(4) and pod.ip_of(6) for pod in found.pods)
    assert proven == [str(pod.target) for pod in found.pods]
    stored = api.stored(Ref("v1", "Pod", "server-1", found.namespace))
    assert stored["metadata"]["labels"] == {"role": "server", "pod": "server-1"}


def test_a_service_is_awaited_with_the_addresses_of_all_its_families_and_deleted(api):
    kube, pods = Kube(api, clock=api.clock), grid()
    made = expose(kube, pods)
    make = next(made)
    server = pods.servers[0]

    def listed() -> None:
        (service,) = api.list(Ref("v1", "Service")).items
        api.put(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": "slice",
                    "namespace": "ns",
                    "labels": {"kubernetes.io/service-name": service["metadata"]["name"]},
                },
                "endpoints": [{"addresses": [ip]} for ip in server.ips],
            }
        )

    api.last(3.0, listed)
    service = make("plain", backends=(server,), ip_families=("IPv4", "IPv6"))
    assert service["metadata"]["name"].startswith("plain-")
    assert service["spec"]["selector"] == {"role": "server"}
    assert make("plain")["metadata"]["name"] != service["metadata"]["name"]
    assert next(made, None) is None
    assert api.list(Ref("v1", "Service")).items == []


def test_hosts_are_the_nodes():
    cluster = SimpleNamespace(info=SimpleNamespace(nodes=NODES))
    assert conftest.hosts.__wrapped__(cluster) == [Target.node("n1"), Target.node("n2")]
