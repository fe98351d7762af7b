"""A cluster whose nodes, agents and relay are ready; what it is, for reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cilium_e2e.cluster.agents import AGENT_SELECTOR
from cilium_e2e.cluster.relay_link import RELAY_SELECTOR
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import Backend, Capability, ClusterInfo, Difference, NodeInfo, Object, Ref
from cilium_e2e.session.prepare import Prepared

OFFERS = frozenset({Capability.WORLD, Capability.HOST_AGENTS, Capability.OUTSIDE_ZONE})
"""What every cluster has that was made here, beside what its topology says."""


def nodes_and_agents(kube: Kube, prepared: Prepared, *, nodes: int, timeout_s: float) -> None:
    """Wait until every node is ready, and an agent on each.

    Raises:
        WaitTimeout: one did not; the message says what was seen last.
    """

    def all_ready(found: Sequence[Object]) -> bool | None:
        return True if sum(is_true(node, "Ready") for node in found) == nodes else None

    namespace = Ref("v1", "Pod", namespace=prepared.repository.release.target_namespace)
    kube.wait(Ref("v1", "Node"), all_ready, timeout_s=timeout_s, what=f"{nodes} nodes to be ready")
    kube.wait(
        namespace,
        _ready(nodes),
        timeout_s=timeout_s,
        label_selector=AGENT_SELECTOR,
        what=f"{nodes} agents to be ready",
    )


def relay(kube: Kube, prepared: Prepared, *, timeout_s: float) -> None:
    """Wait until relay is ready, where the release has one.

    Raises:
        WaitTimeout: it is not.
    """
    if not prepared.repository.features.hubble_relay:
        return
    kube.wait(
        Ref("v1", "Pod", namespace=prepared.repository.release.target_namespace),
        _ready(1),
        timeout_s=timeout_s,
        label_selector=RELAY_SELECTOR,
        what="relay to be ready",
    )


def _ready(count: int) -> Callable[[Sequence[Object]], bool | None]:
    def judge(found: Sequence[Object]) -> bool | None:
        return True if sum(is_true(pod, "Ready") for pod in found) >= count else None

    return judge


def cluster_info(
    kube: Kube, prepared: Prepared, backend: Backend, name: str, differences: Sequence[Difference]
) -> ClusterInfo:
    """What a run says about its cluster.

    Args:
        kube: its API.
        prepared: what was asked for.
        backend: where it runs.
        name: its name.
        differences: all that deviates from the repository.
    """
    release = prepared.repository.release
    nodes = []
    for node in kube.list_all(Ref("v1", "Node")):
        labels = node["metadata"].get("labels") or {}
        role = "control-plane" if "node-role.kubernetes.io/control-plane" in labels else "worker"
        ips = tuple(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        nodes.append(NodeInfo(node["metadata"]["name"], role, ips))
    kubelet = kube.list_all(Ref("v1", "Node"))[0]["status"]["nodeInfo"]
    return ClusterInfo(
        name=name,
        backend=backend,
        topology=prepared.topology.name,
        nodes=tuple(sorted(nodes, key=lambda node: node.name)),
        release=release.name,
        cilium_namespace=release.target_namespace,
        capabilities=prepared.topology.capabilities,
        features=prepared.repository.features.names,
        versions=(
            ("chart", prepared.chart_version),
            ("Kubernetes", kubelet["kubeletVersion"]),
            ("kernel", kubelet["kernelVersion"]),
        ),
        differences=tuple(dict.fromkeys(differences)),
    )
