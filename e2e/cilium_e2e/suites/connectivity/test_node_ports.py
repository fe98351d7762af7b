"""README, "external traffic management": NodePorts from pods, from nodes and from outside the cluster."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Target
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.connectivity.reach import (
    Expose,
    Grid,
    Pod,
    names,
    nobody,
    node_ports,
    only,
    reach,
)

pytestmark = pytest.mark.flowless

NODE_PORT = "NodePort"


@pytest.fixture
def backend(grid: Grid) -> Pod:
    """One server; it is remote to all nodes but its own."""
    return grid.servers[0]


def test_pods_reach_it_at_every_node(
    lab: Lab, grid: Grid, hosts: list[Target], backend: Pod, expose: Expose
) -> None:
    """TCP, UDP and HTTP, from pods of every node, at the own and at other nodes; the only backend answers."""
    ports = node_ports(expose("inside", kind=NODE_PORT, selector=only(backend), backends=(backend,)))
    lab.judge(
        [
            check
            for client in grid.clients
            for host in hosts
            for check in reach(client.target, host, ports, by=names([backend]))
        ]
    )


@pytest.mark.requires("host-agents")
def test_nodes_reach_it_at_every_node(lab: Lab, hosts: list[Target], backend: Pod, expose: Expose) -> None:
    """From a process on each node, at its own and at other nodes' addresses."""
    ports = node_ports(expose("on-hosts", kind=NODE_PORT, selector=only(backend), backends=(backend,)))
    lab.judge(
        [
            check
            for source in hosts
            for host in hosts
            for check in reach(source, host, ports, by=names([backend]))
        ]
    )


@pytest.mark.requires("world")
def test_the_world_reaches_it_at_every_node(
    lab: Lab, cluster: LiveCluster, hosts: list[Target], backend: Pod, expose: Expose
) -> None:
    """From outside, at every node, whether the only backend is there or must be reached from there."""
    ports = node_ports(expose("outside", kind=NODE_PORT, selector=only(backend), backends=(backend,)))
    lab.judge(
        [
            check
            for agent in cluster.info.world
            for host in hosts
            for check in reach(Target.world(agent.name), host, ports, by=names([backend]))
        ]
    )


@pytest.mark.requires("world")
def test_every_backend_serves_the_world(
    lab: Lab, cluster: LiveCluster, grid: Grid, hosts: list[Target], expose: Expose
) -> None:
    """With a backend on each node, whoever answers at a node is one of them."""
    ports = node_ports(expose("spread", kind=NODE_PORT, backends=grid.servers))
    lab.judge(
        [
            check
            for agent in cluster.info.world
            for host in hosts
            for check in reach(Target.world(agent.name), host, ports, by=names(grid.servers))
        ]
    )


@pytest.mark.requires("world")
def test_a_local_policy_keeps_the_clients_address(
    lab: Lab, cluster: LiveCluster, grid: Grid, expose: Expose
) -> None:
    """externalTrafficPolicy: Local. The node's own backend answers, and sees who really asks."""
    service = expose("local", kind=NODE_PORT, external_traffic_policy="Local", backends=grid.servers)
    ports = node_ports(service)
    lab.judge(
        [
            check
            for agent in cluster.info.world
            for node in {server.node for server in grid.servers}
            for check in reach(
                Target.world(agent.name),
                Target.node(node),
                ports,
                by=names(server for server in grid.servers if server.node == node),
                seen_from=agent.ips,
            )
        ]
    )


@pytest.mark.requires("world", "multi-node")
def test_a_local_policy_is_served_by_nodes_with_a_backend_only(
    lab: Lab, cluster: LiveCluster, hosts: list[Target], backend: Pod, expose: Expose
) -> None:
    """externalTrafficPolicy: Local. Nobody answers at the others; with Cluster, the control, all do."""
    settings = {"kind": NODE_PORT, "selector": only(backend), "backends": (backend,)}
    local = node_ports(expose("local-one", external_traffic_policy="Local", **settings))
    anywhere = node_ports(expose("cluster-one", external_traffic_policy="Cluster", **settings))
    own = Target.node(backend.node)
    checks = []
    for agent in cluster.info.world:
        source = Target.world(agent.name)
        checks += reach(source, own, local, by=names([backend]), seen_from=agent.ips)
        for host in hosts:
            checks += reach(source, host, anywhere, by=names([backend]))
            if host != own:
                checks += nobody(source, host, local)
    lab.judge(checks)
