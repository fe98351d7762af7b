"""README, "Kube-Proxy Replacement": the API server through its Service, which only Cilium translates."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Destination, Probe, Protocol, Target
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.reach import CONNECTED, LOOKUP_S, Grid

pytestmark = pytest.mark.flowless

PORT = 443
SERVICE = Target.service("default", "kubernetes")
NAME = Target.dns("kubernetes.default.svc.cluster.local")


def _check(source: Target, target: Target) -> Check:
    """The handshake is the answer: the API server is no agent, and speaks only to those it knows."""
    return Check(Probe.to(source, Destination(target, PORT, Protocol.TCP), timeout_s=LOOKUP_S), CONNECTED)


def test_every_pod_reaches_the_api_server(lab: Lab, grid: Grid) -> None:
    """From every node, at the ClusterIP and by name."""
    lab.judge([_check(pod.target, target) for pod in grid.pods for target in (SERVICE, NAME)])


@pytest.mark.requires("host-agents")
def test_every_node_reaches_the_api_server(lab: Lab, cluster: LiveCluster) -> None:
    """Its ClusterIP is translated on the nodes' own network, too."""
    lab.judge([_check(Target.node(node.name), SERVICE) for node in cluster.info.nodes])
