"""README, "CNI Plugin": pods and their nodes reach each other, and nodes reach Services as pods do."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Target
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.connectivity.reach import (
    HOSTS,
    SERVICES,
    Expose,
    Grid,
    names,
    reach,
    target_of,
    without_icmp,
)

pytestmark = [pytest.mark.flowless, pytest.mark.requires("host-agents")]


def test_pods_reach_every_node(lab: Lab, grid: Grid, hosts: list[Target]) -> None:
    """A pod on each node reaches its own node and the others, by TCP, UDP, HTTP and ICMP."""
    lab.judge(
        [check for client in grid.clients for host in hosts for check in reach(client.target, host, HOSTS)]
    )


def test_nodes_reach_every_pod(lab: Lab, grid: Grid, hosts: list[Target]) -> None:
    """Each node reaches the pods on it and those on the others."""
    lab.judge(
        [check for host in hosts for server in grid.servers for check in reach(host, server.target, SERVICES)]
    )


def test_nodes_reach_each_other(lab: Lab, hosts: list[Target]) -> None:
    """The control: what is between nodes is there without Cilium, and Cilium leaves it alone."""
    lab.judge(
        [check for source in hosts for host in hosts for check in reach(source, host, without_icmp(HOSTS))]
    )


def test_nodes_reach_a_service(lab: Lab, grid: Grid, hosts: list[Target], expose: Expose) -> None:
    """A ClusterIP is translated for processes on the node, too; no kube-proxy does it here."""
    service = target_of(expose("from-hosts", backends=grid.servers))
    lab.judge([check for host in hosts for check in reach(host, service, SERVICES, by=names(grid.servers))])


@pytest.mark.requires("world")
def test_the_world_reaches_every_node(lab: Lab, cluster: LiveCluster, hosts: list[Target]) -> None:
    """The control of NodePorts: nodes are reached from outside, and see who asks."""
    lab.judge(
        [
            check
            for agent in cluster.info.world
            for host in hosts
            for check in reach(Target.world(agent.name), host, HOSTS, seen_from=agent.ips)
        ]
    )
