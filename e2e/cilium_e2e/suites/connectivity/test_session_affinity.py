"""README, "Load Balancing": with session affinity a client stays with one backend, and clients are spread."""

import math
import random
from collections import defaultdict
from typing import Any

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import Destination, Protocol, Target
from cilium_e2e.plugin.fixtures import TCP, UDP
from cilium_e2e.probe import Port, service
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.lookups import Settles
from cilium_e2e.suites.connectivity.reach import (
    CONNECTED,
    RISK,
    SERVERS,
    Expose,
    Grid,
    ask,
    everyone_answers,
    names,
    target_of,
)

pytestmark = [pytest.mark.flowless, pytest.mark.tier("full")]

REPEATS = 8
FIRST_PORT = 9000


def frontends(clients: int, backends: int) -> int:
    """How many Service ports make it sure that clients differ at one of them, but for a billionth.

    Each port has an affinity of its own. At one port all clients draw the same backend with probability
    (1/b)^(c-1).
    """
    return math.ceil(math.log(1 / RISK) / ((clients - 1) * math.log(backends)))


@pytest.mark.parametrize(
    ("protocol", "target"),
    [(Protocol.TCP, TCP), (Protocol.UDP, UDP)],
    ids=["TCP", "UDP"],
)
def test_a_client_stays_with_one_backend(
    lab: Lab, kube: Kube, grid: Grid, expose: Expose, settles: Settles, protocol: Protocol, target: int
) -> None:
    """ClientIP: at every port each client has one backend, in every connection; not all have the same.

    The Service starts without affinity, as the control: there each client gets answers of all backends. They
    come in one EndpointSlice, so nobody is bound to the only backend that was known at first.
    """
    clients, backends = [client.target for client in grid.clients], names(grid.servers)
    numbers = range(FIRST_PORT, FIRST_PORT + frontends(len(clients), len(backends)))
    settings: dict[str, Any] = {
        "selector": SERVERS,
        "ports": tuple(Port(number, protocol.value) for number in numbers),
        "target_ports": dict.fromkeys(numbers, target),
    }
    plain = expose("affinity", backends=grid.servers, **settings)
    everyone_answers(lab, clients, Destination(target_of(plain), FIRST_PORT, protocol), backends)
    kube.apply(service(grid.namespace, plain["metadata"]["name"], session_affinity=True, **settings))
    checks = [
        Check(ask(client, target_of(plain), protocol, number, tag=f"#{again}"), CONNECTED, backends)
        for client in clients
        for number in numbers
        for again in range(REPEATS)
    ]
    # For UDP Cilium goes round by the socket's number. In this order each port's first socket, which binds
    # the client, has a number that tells nothing about another client's.
    checks = random.sample(checks, len(checks))

    def answers() -> dict[tuple[Target, int], set[str]]:
        found: dict[tuple[Target, int], set[str]] = defaultdict(set)
        for entry in lab.judge(checks, hold=0).judged:
            found[entry.check.probe.source, entry.check.probe.port].add(entry.outcome.answered_by)
        return found

    def look() -> list[str]:
        return [
            f"{client} at port {number} was answered by {', '.join(sorted(who))}"
            for (client, number), who in answers().items()
            if len(who) > 1
        ]

    settles(look)
    first, again = answers(), answers()
    assert first == again, "expected each client to stay with its backend from one batch to the next"
    assert {len(who) for who in first.values()} == {1}
    spread = [len(set.union(*(first[client, number] for client in clients))) for number in numbers]
    assert max(spread) > 1, f"expected clients to differ at one of {len(numbers)} ports at least"
