"""README, "eBPF Data Plane": payloads below, at and above the MTU come back whole, byte by byte.

Pods have an MTU of 1500, and with a tunnel of VXLAN 50 less on the way to other nodes. Headers of IPv4 and
UDP or ICMP take 28 bytes, so 1422 and 1472 are the largest payloads that fit into one packet.
"""

import itertools

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Expectation, Protocol, Request, Target
from cilium_e2e.plugin.fixtures import TCP, UDP
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.reach import (
    WORLD,
    Expose,
    Grid,
    ask,
    names,
    reach,
    target_of,
)

pytestmark = pytest.mark.flowless

SIZES: dict[Protocol, tuple[int, ...]] = {
    Protocol.TCP: (1, 1400, 1422, 1450, 1472, 1500, 8000, 60_000),
    # From 1423 (1473) on a datagram travels in fragments.
    Protocol.UDP: (1, 1400, 1422, 1423, 1450, 1472, 1473, 1500, 4000, 8000),
    # Below the MTU of every kind of tunnel and encryption.
    Protocol.ICMP: (16, 512, 1280),
}
PORTS = {Protocol.TCP: TCP, Protocol.UDP: UDP, Protocol.ICMP: 0}
FRAGMENTED = 8000
PATIENCE_S = 5.0
HOLD = 1
"""Each size comes back twice; more rounds of so many packets only keep the nodes busy."""


def _payloads(
    source: Target, target: Target, ports: dict[Protocol, int], *, by: frozenset[str]
) -> list[Check]:
    return [
        check
        for protocol, port in ports.items()
        for size in SIZES[protocol]
        for check in reach(
            source,
            target,
            {protocol: port},
            by=by,
            request=Request(payload_bytes=size),
            timeout_s=PATIENCE_S,
            tag=f"{size} bytes",
        )
    ]


def _between(grid: Grid, *, same_node: bool) -> list[Check]:
    return [
        check
        for client, server in itertools.product(grid.clients, grid.servers)
        if (client.node == server.node) is same_node
        for check in _payloads(client.target, server.target, PORTS, by=names([server]))
    ]


def test_between_pods_of_a_node(lab: Lab, grid: Grid) -> None:
    """TCP up to 60,000 bytes, UDP up to 8,000 in fragments, ICMP: nothing is lost, cut or changed."""
    lab.judge(_between(grid, same_node=True), hold=HOLD)


@pytest.mark.requires("multi-node")
def test_between_nodes(lab: Lab, grid: Grid) -> None:
    """The same through the tunnel, whose MTU is smaller."""
    lab.judge(_between(grid, same_node=False), hold=HOLD)


@pytest.mark.tier("full")
def test_through_a_service(lab: Lab, grid: Grid, expose: Expose) -> None:
    """The same through a ClusterIP: what belongs to one datagram goes to one backend."""
    service = target_of(expose("large", backends=grid.servers))
    ports = {Protocol.TCP: TCP, Protocol.UDP: UDP}
    lab.judge(
        [
            check
            for client in grid.clients
            for check in _payloads(client.target, service, ports, by=names(grid.servers))
        ],
        hold=HOLD,
    )


@pytest.mark.requires("world")
def test_to_the_world(lab: Lab, cluster: LiveCluster, grid: Grid) -> None:
    """The same to outside the cluster, with the pod's address translated on the way."""
    lab.judge(
        [
            check
            for client in grid.clients
            for agent in cluster.info.world
            for check in _payloads(
                client.target,
                Target.world(agent.name),
                {protocol: WORLD[protocol] for protocol in (Protocol.TCP, Protocol.UDP)},
                by=frozenset({str(Target.world(agent.name))}),
            )
        ],
        hold=HOLD,
    )


@pytest.mark.tier("full")
def test_fragmented_echoes_are_dropped(lab: Lab, grid: Grid) -> None:
    """Finding: Cilium does not support ICMP echoes that are larger than the MTU, and drops their fragments.

    Should it ever do so, this fails, and the finding is to be taken back.
    """
    request = Request(payload_bytes=FRAGMENTED)
    probes = [
        ask(client.target, server.target, Protocol.ICMP, 0, request=request, timeout_s=1.0, tag="fragmented")
        for client, server in itertools.product(grid.clients, grid.servers)
    ]
    controls = [
        check
        for client, server in itertools.product(grid.clients, grid.servers)
        for check in reach(client.target, server.target, {Protocol.ICMP: 0}, tag="in one packet")
    ]
    lab.judge([Check(probe, Expectation("timeout")) for probe in probes] + controls)
