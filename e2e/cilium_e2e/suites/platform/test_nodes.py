"""README, "CNI Plugin" and "IPAM Configuration": nodes have a network, pods have their node's addresses."""

import ipaddress
from typing import Any

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.status import AgentStatus
from cilium_e2e.kube import Kube, condition, is_true
from cilium_e2e.model import Object, Ref

pytestmark = pytest.mark.flowless

NOT_READY_TAINTS = {
    "node.cilium.io/agent-not-ready",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
}


def _pod_cidrs(node: Object) -> list[Any]:
    return [ipaddress.ip_network(cidr) for cidr in node["spec"].get("podCIDRs") or []]


def test_every_node_is_ready(kube: Kube, cluster: LiveCluster) -> None:
    """Claim "CNI Plugin: Provides container networking": every node is Ready, none waits for it."""
    nodes = kube.list_all(Ref("v1", "Node"))
    assert {node["metadata"]["name"] for node in nodes} == {node.name for node in cluster.info.nodes}
    wrong = [
        f"{node['metadata']['name']}: {(condition(node, 'Ready') or {}).get('message', 'no Ready condition')}"
        for node in nodes
        if not is_true(node, "Ready")
    ]
    assert not wrong
    tainted = {
        node["metadata"]["name"]: taints
        for node in nodes
        if (taints := {taint["key"] for taint in node["spec"].get("taints") or []} & NOT_READY_TAINTS)
    }
    assert not tainted


def test_cilium_is_every_nodes_network(kube: Kube) -> None:
    """Claim "CNI Plugin": it is Cilium, and nothing else, that says each node's network is available."""
    reasons = {
        node["metadata"]["name"]: (found.get("status"), found.get("reason"))
        for node in kube.list_all(Ref("v1", "Node"))
        for found in [condition(node, "NetworkUnavailable") or {}]
    }
    assert reasons == dict.fromkeys(reasons, ("False", "CiliumIsUp"))


@pytest.mark.requires("ipam-kubernetes")
def test_pods_have_addresses_of_their_nodes_cidr(kube: Kube) -> None:
    """Claim "ipam.mode=kubernetes as Talos assigns PodCIDRs to v1.Node": so pods are addressed."""
    cidrs = {node["metadata"]["name"]: _pod_cidrs(node) for node in kube.list_all(Ref("v1", "Node"))}
    assert all(cidrs.values()), f"expected every node to have pod CIDRs, got {cidrs}"
    looked_at, outside = 0, []
    for pod in kube.list_all(Ref("v1", "Pod")):
        if pod["spec"].get("hostNetwork") or pod["status"].get("phase") != "Running":
            continue
        looked_at += 1
        outside += [
            f"{pod['metadata']['namespace']}/{pod['metadata']['name']}: {address['ip']} on "
            f"{pod['spec']['nodeName']}, whose pod CIDRs are {cidrs[pod['spec']['nodeName']]}"
            for address in pod["status"].get("podIPs") or []
            if not any(ipaddress.ip_address(address["ip"]) in cidr for cidr in cidrs[pod["spec"]["nodeName"]])
        ]
    assert looked_at, "expected pods with addresses of their own, cluster DNS at least"
    assert not outside


@pytest.mark.requires("ipam-kubernetes")
def test_agents_allocate_from_their_nodes_cidr(kube: Kube, statuses: dict[str, AgentStatus]) -> None:
    """Claim "Native Integration": each agent hands out addresses of v1.Node's CIDR, its own router's too."""
    nodes = {node["metadata"]["name"]: _pod_cidrs(node) for node in kube.list_all(Ref("v1", "Node"))}
    for node, status in statuses.items():
        owners = set(status.addresses.values())
        assert {"router", "health"} <= owners, f"{node}: expected the node's own addresses, got {owners}"
        outside = [
            f"{address} ({owner})"
            for address, owner in status.addresses.items()
            if not any(ipaddress.ip_address(address) in cidr for cidr in nodes[node])
        ]
        assert not outside, f"{node} has {nodes[node]}, and allocated {', '.join(outside)}"
    for ciliumnode in kube.list_all(Ref("cilium.io/v2", "CiliumNode")):
        name = ciliumnode["metadata"]["name"]
        found = [ipaddress.ip_network(cidr) for cidr in ciliumnode["spec"]["ipam"]["podCIDRs"]]
        assert found == nodes[name], f"CiliumNode {name} and v1.Node differ"
