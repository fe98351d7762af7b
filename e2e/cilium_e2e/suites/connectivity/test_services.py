"""README, "Load Balancing": Services by address and by name, their ports, backends and special kinds."""

import pytest

from cilium_e2e.model import Destination, Object, Protocol, Request, Target
from cilium_e2e.plugin.fixtures import HTTP, TCP, UDP
from cilium_e2e.probe import Port
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.connectivity.lookups import Settles, lookup, resolve
from cilium_e2e.suites.connectivity.reach import (
    LOOKUP_S,
    NAMES_KNOWN_S,
    SERVICES,
    Expose,
    Grid,
    Ports,
    everyone_answers,
    fqdn,
    names,
    only,
    reach,
    target_of,
)

pytestmark = pytest.mark.flowless

# How a pod of the same namespace, of another one, and a stranger write a Service's name.
SHORT, QUALIFIED, FULL = "{name}", "{name}.{namespace}", "{name}.{namespace}.svc.cluster.local"


def test_a_service_is_reached_at_its_address(lab: Lab, grid: Grid, expose: Expose) -> None:
    """ClusterIP by TCP, UDP and HTTP, from every node; a server answers, and sees the asker's own address."""
    service = target_of(expose("plain", backends=grid.servers))
    lab.judge(
        [
            check
            for client in grid.clients
            for check in reach(
                client.target, service, SERVICES, by=names(grid.servers), seen_from={client.ip}
            )
        ]
    )


@pytest.mark.parametrize("form", [SHORT, QUALIFIED, FULL], ids=["short", "qualified", "full"])
def test_a_service_is_reached_by_name(lab: Lab, grid: Grid, expose: Expose, form: str) -> None:
    """Its short, its qualified and its full name, as the pod's search domains make them; from every node."""
    meta = expose("named", backends=grid.servers)["metadata"]
    name = Target.dns(form.format(name=meta["name"], namespace=meta["namespace"]))
    # A full name is found as it is; the others only below the search domains.
    request = Request(search=form != FULL)
    lab.judge(
        [
            check
            for client in grid.clients
            for check in reach(
                client.target, name, SERVICES, by=names(grid.servers), request=request, timeout_s=LOOKUP_S
            )
        ],
        converge_s=NAMES_KNOWN_S,
    )


@pytest.mark.parametrize(
    "protocol",
    # A few hundred connections each: one protocol is enough to see that Services are balanced at all.
    [
        Protocol.TCP,
        *(pytest.param(p, marks=pytest.mark.tier("full")) for p in SERVICES if p is not Protocol.TCP),
    ],
    ids=lambda protocol: protocol.value,
)
def test_every_backend_of_a_service_answers(lab: Lab, grid: Grid, expose: Expose, protocol: Protocol) -> None:
    """From every node, each of the servers gets a share of the connections."""
    service = target_of(expose("shared", backends=grid.servers))
    destination = Destination(service, SERVICES[protocol], protocol)
    everyone_answers(lab, [client.target for client in grid.clients], destination, names(grid.servers))


@pytest.mark.parametrize(
    ("targets", "offered"),
    [
        ({80: TCP, 90: UDP, 81: HTTP}, {Protocol.TCP: 80, Protocol.UDP: 90, Protocol.HTTP: 81}),
        ({80: "main", 90: "main-udp", 81: "web"}, {Protocol.TCP: 80, Protocol.UDP: 90, Protocol.HTTP: 81}),
    ],
    ids=["number", "name"],
)
def test_a_service_translates_ports(
    lab: Lab, grid: Grid, expose: Expose, targets: dict[int, int | str], offered: Ports
) -> None:
    """Its ports differ from the pods' ones, which are given by number or by name."""
    ports = tuple(Port(number, protocol.value) for protocol, number in offered.items())
    service = target_of(expose("ports", ports=ports, target_ports=targets, backends=grid.servers))
    lab.judge(
        [
            check
            for client in grid.clients
            for check in reach(client.target, service, offered, by=names(grid.servers))
        ]
    )


def test_a_headless_service_leads_to_its_pods(lab: Lab, grid: Grid, expose: Expose, settles: Settles) -> None:
    """Its name resolves to the servers' addresses, all of them, and each connection ends at one."""
    name = fqdn(expose("headless", headless=True, backends=grid.servers))
    wanted = {server.ip for server in grid.servers}
    resolve(lab, settles, {lookup(client.target, name): wanted for client in grid.clients})
    connections = [
        check
        for client in grid.clients
        for check in reach(
            client.target,
            Target.dns(name),
            SERVICES,
            by=names(grid.servers),
            seen_from={client.ip},
            timeout_s=LOOKUP_S,
        )
    ]
    judgement = lab.judge(connections)
    dialled = {entry.outcome.destination_ip for entry in judgement.judged}
    assert dialled <= wanted, f"expected no address but those of {wanted}, dialled {dialled}"


def test_a_pod_reaches_itself_through_its_service(lab: Lab, grid: Grid, expose: Expose) -> None:
    """Hairpin: on every node, a pod that is the only backend of a Service asks it, and answers itself."""
    services: list[tuple[Object, Target]] = [
        (expose("hairpin", selector=only(server), backends=(server,)), server.target)
        for server in grid.servers
    ]
    lab.judge(
        [
            check
            for service, pod in services
            for check in reach(pod, target_of(service), SERVICES, by={str(pod)})
        ]
    )
