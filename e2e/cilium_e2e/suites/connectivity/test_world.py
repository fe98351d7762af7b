"""README, "CNI Plugin": pods reach what is outside as their node, and are not routed to from there."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Protocol, Target
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.connectivity.reach import (
    PODS,
    WORLD,
    Expose,
    Grid,
    names,
    nobody,
    node_ports,
    only,
    reach,
    without_icmp,
)

pytestmark = [pytest.mark.flowless, pytest.mark.requires("world")]


def test_pods_reach_the_world_masqueraded(lab: Lab, cluster: LiveCluster, grid: Grid) -> None:
    """TCP, UDP, HTTP and ICMP; who answers out there sees the address of the pod's node, not the pod's."""
    addresses = {node.name: node.ips for node in cluster.info.nodes}
    lab.judge(
        [
            check
            for client in grid.clients
            for agent in cluster.info.world
            for check in reach(
                client.target, Target.world(agent.name), WORLD, seen_from=addresses[client.node]
            )
        ]
    )


@pytest.mark.requires("host-agents")
def test_nodes_reach_the_world(lab: Lab, cluster: LiveCluster) -> None:
    """The control: a node's own traffic leaves it as it is."""
    lab.judge(
        [
            check
            for node in cluster.info.nodes
            for agent in cluster.info.world
            for check in reach(
                Target.node(node.name),
                Target.world(agent.name),
                without_icmp(WORLD),
                seen_from=node.ips,
            )
        ]
    )


@pytest.mark.tier("full")
def test_the_world_reaches_pods_through_services_only(
    lab: Lab, cluster: LiveCluster, grid: Grid, expose: Expose
) -> None:
    """Nothing outside routes to a pod's own address; the same pod answers at its node's NodePort.

    By UDP: to the pod's address packets leave by the default route, and out there a proxy may well take a TCP
    connection that was never meant for it.
    """
    server = grid.servers[0]
    ports = node_ports(expose("door", kind="NodePort", selector=only(server), backends=(server,)))
    checks = []
    for agent in cluster.info.world:
        source = Target.world(agent.name)
        checks += reach(source, Target.node(server.node), ports, by=names([server]))
        checks += nobody(source, server.target, {Protocol.UDP: PODS[Protocol.UDP]})
    lab.judge(checks)
