"""Fixtures of the Hubble suite: one scene for all of a worker's tests."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Ref, Target
from cilium_e2e.scenario import PodSpec, Quarter, Residents, ServiceSpec
from cilium_e2e.session import Handle
from cilium_e2e.suites.hubble.scene import PORTS, SERVICE, WORKLOAD, Scene, deployment, pod_of


@pytest.fixture(scope="session")
def scene(cluster: LiveCluster, kube: Kube, handle: Handle, residents: Residents) -> Scene:
    """A client, servers beside it and on another node, and one that a Deployment owns; no policy."""
    # Workers first: where there is a choice, control planes have enough to do.
    nodes = sorted(cluster.info.nodes, key=lambda node: (node.role != "worker", node.name))
    here, there = nodes[0].name, nodes[min(1, len(nodes) - 1)].name
    servers = {"group": SERVICE}
    specs = [
        PodSpec("client", {"app": "client"}, (), here),
        PodSpec("near", {"app": "near", **servers}, PORTS, here),
        PodSpec("far", {"app": "far", **servers}, PORTS, there),
    ]
    quarter = Quarter(specs, [ServiceSpec(SERVICE, servers, PORTS)])
    namespace = residents.up("hubble", {"hubble": quarter}).names["hubble"]
    client, near, far = (Target.pod(namespace, spec.name) for spec in specs)
    kube.apply(deployment(namespace, WORKLOAD, _hostname(kube, here), image=handle.agent_image))
    web = pod_of(kube, namespace, f"app={WORKLOAD}")
    cluster.prove((), [str(web)])
    placed = {client: here, near: here, far: there, web: here}
    return Scene(namespace, client, near, far, web, Target.service(namespace, SERVICE), placed)


def _hostname(kube: Kube, node: str) -> str:
    """A node's own label, which need not be its name."""
    labels = kube.get(Ref("v1", "Node", node))["metadata"]["labels"]
    return str(labels["kubernetes.io/hostname"])
