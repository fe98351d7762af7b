"""The stage of the policy suite: deployed once for each worker, shared by all cases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.scenario import deploy
from cilium_e2e.session import Handle
from cilium_e2e.suites.policy.stage import SERVICE, TRUSTED, Stage, X, nodes_of, pods


@pytest.fixture(scope="session")
def stage(cluster: LiveCluster, kube: Kube, handle: Handle, make_namespace: Callable[[str], str]) -> Stage:
    """Three pods in one namespace and one in another, on two nodes where there are two; no policy."""
    if "hubble-relay" in handle.info.features:
        cluster.relay()  # before the first probe: the stream starts with what comes after it
    nodes = nodes_of(handle.info)
    namespaces = {}
    deployed = []
    for space, specs in pods(*nodes).items():
        name = namespaces[space] = make_namespace(f"policy-{space}")
        if space == X:
            kube.apply(
                {
                    "apiVersion": "v1",
                    "kind": "ServiceAccount",
                    "metadata": {"name": TRUSTED, "namespace": name},
                    "automountServiceAccountToken": False,
                }
            )
        services = [SERVICE] if space == X else []
        deployed += deploy(cluster, kube, name, specs, services, image=handle.agent_image)
    return Stage(handle.info, namespaces, nodes, tuple(deployed))
