"""README, "DNS Compatibility": pods resolve what is in the cluster and, through it, what is outside."""

import ipaddress

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Destination, Expectation, Probe, Protocol, Request, Target
from cilium_e2e.probe.places import ZONE
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.lookups import PORT, Settles, lookup, resolve
from cilium_e2e.suites.connectivity.reach import (
    CONNECTED,
    DOMAIN,
    LOOKUP_S,
    NAMES_KNOWN_S,
    WORLD,
    Expose,
    Grid,
    ask,
    fqdn,
    reach,
)

pytestmark = pytest.mark.flowless

SERVER = Target.service("kube-system", "kube-dns")
NXDOMAIN = Expectation("dns(NXDOMAIN)")


def test_a_service_has_its_address_and_back(lab: Lab, grid: Grid, expose: Expose, settles: Settles) -> None:
    """From every node: the name of a Service gives its ClusterIP, and that address gives the name."""
    service = expose("forward", backends=grid.servers)
    ip, name = service["spec"]["clusterIP"], fqdn(service)
    reverse = ipaddress.ip_address(ip).reverse_pointer
    wanted: dict[Check, set[str]] = {}
    for client in grid.clients:
        wanted[lookup(client.target, name)] = {ip}
        wanted[lookup(client.target, reverse, record="PTR")] = {name}
    resolve(lab, settles, wanted)


def test_the_name_server_is_a_service_itself(lab: Lab, grid: Grid) -> None:
    """Asked at its ClusterIP, from every node, without the pods' configuration between."""
    name = f"kubernetes.default.svc.{DOMAIN}"
    probes = [
        ask(client.target, SERVER, Protocol.DNS, PORT, request=Request(name=name), timeout_s=LOOKUP_S)
        for client in grid.clients
    ]
    lab.judge([Check(probe, CONNECTED) for probe in probes])


def test_what_is_not_there_does_not_exist(lab: Lab, grid: Grid) -> None:
    """No Service of that name in the cluster: NXDOMAIN, from every node; a probe of it says just that."""
    name = f"nobody.{grid.namespace}.svc.{DOMAIN}"
    checks = [lookup(client.target, name, NXDOMAIN) for client in grid.clients]
    tcp = Destination(Target.dns(name), 80, Protocol.TCP)
    checks += [Check(Probe.to(client.target, tcp, timeout_s=LOOKUP_S), NXDOMAIN) for client in grid.clients]
    lab.judge(checks)


@pytest.mark.requires("world", "outside-zone")
@pytest.mark.parametrize(
    ("name", "agent"),
    [("one", "one"), ("two", "two"), ("some.any", "one"), ("some.deep.any", "one")],
)
def test_a_name_outside_is_resolved_and_reached(lab: Lab, grid: Grid, name: str, agent: str) -> None:
    """A zone that cluster DNS forwards: its names, wildcards too, lead to the agents they stand for."""
    target = Target.dns(f"{name}.{ZONE}")
    lab.judge(
        [
            check
            for client in grid.clients
            for check in reach(
                client.target, target, WORLD, by={str(Target.world(agent))}, timeout_s=LOOKUP_S
            )
        ],
        converge_s=NAMES_KNOWN_S,
    )


@pytest.mark.requires("world", "outside-zone")
def test_a_zone_outside_answers_as_it_is(
    lab: Lab, cluster: LiveCluster, grid: Grid, settles: Settles
) -> None:
    """All addresses of a name with several, by family; NXDOMAIN of one that the zone does not have."""
    addresses = {ip for agent in cluster.info.world for ip in agent.ips}
    wanted: dict[Check, set[str]] = {}
    for client in grid.clients:
        for record, version in (("A", 4), ("AAAA", 6)):
            family = {ip for ip in addresses if ipaddress.ip_address(ip).version == version}
            wanted[lookup(client.target, f"both.{ZONE}", record=record)] = family
        wanted[lookup(client.target, f"nobody.{ZONE}", NXDOMAIN)] = set()
    resolve(lab, settles, wanted)
