"""Dual stack: pods, nodes, Services and the world by IPv6, as the rest of the suite reaches them by IPv4."""

import itertools

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Destination, Object, Protocol, Target
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.lookups import Settles, lookup, resolve
from cilium_e2e.suites.connectivity.reach import (
    HOSTS,
    LOOKUP_S,
    NAMES_KNOWN_S,
    PODS,
    SERVICES,
    WORLD,
    Expose,
    Grid,
    address_of,
    everyone_answers,
    fqdn,
    names,
    node_ports,
    only,
    reach,
)

pytestmark = [pytest.mark.flowless, pytest.mark.requires("dual-stack", "ipv6")]

DUAL = "RequireDualStack"


def _at(ips: tuple[str, ...], what: str) -> Target:
    return Target.address(address_of(ips, 6, what=what))


def _cluster_ip(service: Object) -> Target:
    return _at(tuple(service["spec"]["clusterIPs"]), f"Service {service['metadata']['name']}")


def test_pods_reach_each_other(lab: Lab, grid: Grid) -> None:
    """Every pair, on the same and on other nodes, by TCP, UDP, HTTP and ICMP; under their own addresses."""
    lab.judge(
        [
            check
            for source, target in itertools.permutations(grid.pods, 2)
            for check in reach(
                source.target,
                Target.address(target.ip_of(6)),
                PODS,
                by=names([target]),
                seen_from={source.ip_of(6)},
            )
        ]
    )


def test_a_service_has_both_families(lab: Lab, grid: Grid, expose: Expose) -> None:
    """A dual-stack Service is reached at both of its ClusterIPs, and every backend answers at the second."""
    service = expose("dual", ip_family_policy=DUAL, backends=grid.servers)
    first, second = (Target.address(ip) for ip in service["spec"]["clusterIPs"])
    lab.judge(
        [
            check
            for client in grid.clients
            for target, ip in ((first, client.ip_of(4)), (second, client.ip_of(6)))
            for check in reach(client.target, target, SERVICES, by=names(grid.servers), seen_from={ip})
        ]
    )
    everyone_answers(
        lab,
        [client.target for client in grid.clients],
        Destination(_cluster_ip(service), SERVICES[Protocol.TCP], Protocol.TCP),
        names(grid.servers),
    )


def test_names_have_addresses_of_both_families(
    lab: Lab, grid: Grid, expose: Expose, settles: Settles
) -> None:
    """A and AAAA records: of a Service its ClusterIPs, of a headless one its pods' addresses."""
    service = expose("named", ip_family_policy=DUAL, backends=grid.servers)
    headless = expose("bare", ip_family_policy=DUAL, headless=True, backends=grid.servers)
    wanted: dict[Check, set[str]] = {}
    for client in grid.clients:
        for record, version in (("A", 4), ("AAAA", 6)):
            own = {address_of(service["spec"]["clusterIPs"], version, what="the Service")}
            wanted[lookup(client.target, fqdn(service), record=record)] = own
            pods = {server.ip_of(version) for server in grid.servers}
            wanted[lookup(client.target, fqdn(headless), record=record)] = pods
    resolve(lab, settles, wanted)


def test_a_service_of_ipv6_alone_is_reached_by_name(lab: Lab, grid: Grid, expose: Expose) -> None:
    """Its name has no IPv4 address, and leads to the servers all the same."""
    service = expose("six", ip_family_policy="SingleStack", ip_families=("IPv6",), backends=grid.servers)
    lab.judge(
        [
            check
            for client in grid.clients
            for check in reach(
                client.target,
                Target.dns(fqdn(service)),
                SERVICES,
                by=names(grid.servers),
                seen_from={client.ip_of(6)},
                timeout_s=LOOKUP_S,
            )
        ],
        converge_s=NAMES_KNOWN_S,
    )


def test_a_pod_reaches_itself_through_its_service(lab: Lab, grid: Grid, expose: Expose) -> None:
    """Hairpin, as with IPv4."""
    server = grid.servers[0]
    service = expose("hairpin", ip_family_policy=DUAL, selector=only(server), backends=(server,))
    lab.judge(reach(server.target, _cluster_ip(service), SERVICES, by=names([server])))


@pytest.mark.requires("host-agents")
def test_pods_reach_every_node(lab: Lab, cluster: LiveCluster, grid: Grid) -> None:
    """The own node and the others, at their IPv6 addresses."""
    lab.judge(
        [
            check
            for client in grid.clients
            for node in cluster.info.nodes
            for check in reach(
                client.target, _at(node.ips, node.name), HOSTS, by={str(Target.node(node.name))}
            )
        ]
    )


@pytest.mark.requires("world")
def test_pods_reach_the_world_masqueraded(lab: Lab, cluster: LiveCluster, grid: Grid) -> None:
    """As with IPv4: who answers outside sees an address of the pod's node."""
    addresses = {node.name: node.ips for node in cluster.info.nodes}
    lab.judge(
        [
            check
            for client in grid.clients
            for agent in cluster.info.world
            for check in reach(
                client.target,
                _at(agent.ips, agent.name),
                WORLD,
                by={str(Target.world(agent.name))},
                seen_from=addresses[client.node],
            )
        ]
    )


@pytest.mark.requires("world")
def test_the_world_reaches_node_ports(lab: Lab, cluster: LiveCluster, grid: Grid, expose: Expose) -> None:
    """At every node's IPv6 address, whether the only backend is there or not."""
    server = grid.servers[0]
    service = expose(
        "outside", kind="NodePort", ip_family_policy=DUAL, selector=only(server), backends=(server,)
    )
    lab.judge(
        [
            check
            for agent in cluster.info.world
            for node in cluster.info.nodes
            for check in reach(
                Target.world(agent.name),
                _at(node.ips, node.name),
                node_ports(service),
                by=names([server]),
            )
        ]
    )
