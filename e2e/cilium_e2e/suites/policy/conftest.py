"""The stage of the policy suite: deployed once for each worker, shared by all cases."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Target
from cilium_e2e.scenario import Quarter, Residents
from cilium_e2e.session import Handle
from cilium_e2e.suites.policy.stage import SERVICE, Stage, X, nodes_of, pods


@pytest.fixture(scope="session")
def stage(cluster: LiveCluster, handle: Handle, residents: Residents) -> Stage:
    """Three pods in one namespace and one in another, on two nodes where there are two; no policy."""
    if "hubble-relay" in handle.info.features:
        cluster.relay()  # before the first probe: the stream starts with what comes after it
    nodes = nodes_of(handle.info)
    layout = {space: Quarter(specs, [SERVICE] if space == X else []) for space, specs in pods(*nodes).items()}
    names = residents.up("policy", layout).names
    deployed = tuple(
        Target.pod(names[space], spec.name) for space, quarter in layout.items() for spec in quarter.pods
    )
    return Stage(handle.info, names, nodes, deployed)
