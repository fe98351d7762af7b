"""What the suite asks: servers and clients on each node, probes by every protocol, and who must answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from cilium_e2e.kube import Kube
from cilium_e2e.model import Destination, Expectation, Object, Probe, Protocol, Ref, Request, Target
from cilium_e2e.plugin.fixtures import HTTP, TCP, UDP
from cilium_e2e.probe import Port
from cilium_e2e.probe.places import HOST_HTTP, HOST_TCP, HOST_UDP, WORLD_HTTP, WORLD_TCP, WORLD_UDP
from cilium_e2e.scenario import Check, Lab

CONNECTED = Expectation("connected")
UNANSWERED = Expectation("unanswered")

SERVED = (Port(TCP, "TCP", "main"), Port(UDP, "UDP", "main-udp"), Port(HTTP, "HTTP", "web"))
"""What every agent of the suite serves, by numbers and by names."""

# What is asked of each kind of peer: protocol to port.
Ports = Mapping[Protocol, int]
PODS: Ports = {Protocol.TCP: TCP, Protocol.UDP: UDP, Protocol.HTTP: HTTP, Protocol.ICMP: 0}
SERVICES: Ports = {Protocol.TCP: TCP, Protocol.UDP: UDP, Protocol.HTTP: HTTP}
HOSTS: Ports = {
    Protocol.TCP: HOST_TCP,
    Protocol.UDP: HOST_UDP,
    Protocol.HTTP: HOST_HTTP,
    Protocol.ICMP: 0,
}
WORLD: Ports = {
    Protocol.TCP: WORLD_TCP,
    Protocol.UDP: WORLD_UDP,
    Protocol.HTTP: WORLD_HTTP,
    Protocol.ICMP: 0,
}

DOMAIN = "cluster.local"
PLAIN = Request()

Expose = Callable[..., Object]
TIMEOUT_S = 2.0
LOOKUP_S = 4.0
"""How long a probe may take that looks up a name first, in seconds."""
NAMES_KNOWN_S = 40.0
"""What DNS answers of a name may be thirty seconds old."""
READY_TIMEOUT_S = 60.0
RISK = 1e-9
ROUNDS = 5
_SLICE = Ref("discovery.k8s.io/v1", "EndpointSlice")


@dataclass(frozen=True, slots=True)
class Pod:
    """An agent in a pod: as probe source and target, its node, and its addresses, IPv4 first."""

    target: Target
    node: str
    ips: tuple[str, ...]

    @property
    def ip(self) -> str:
        """Its first address."""
        return self.ips[0]

    def ip_of(self, version: int) -> str:
        """Its address of a family, 4 or 6.

        Raises:
            AssertionError: it has none.
        """
        return address_of(self.ips, version, what=str(self.target))


@dataclass(frozen=True, slots=True)
class Grid:
    """Servers and clients, one of each on every node, and two of each at least.

    Services select the servers, so that nobody who asks one is behind it. Each pod has its name as label
    ``pod``, too.
    """

    namespace: str
    servers: tuple[Pod, ...]
    clients: tuple[Pod, ...]

    @property
    def pods(self) -> tuple[Pod, ...]:
        """All of them."""
        return (*self.servers, *self.clients)


SERVERS = {"role": "server"}
CLIENTS = {"role": "client"}


def only(pod: Pod) -> dict[str, str]:
    """The labels that select one pod of the grid."""
    return {"pod": pod.target.name}


def names(pods: Iterable[Pod]) -> frozenset[str]:
    """What these answer with."""
    return frozenset(str(pod.target) for pod in pods)


def reach(
    source: Target,
    target: Target,
    ports: Ports,
    *,
    by: Collection[str] = (),
    seen_from: Collection[str] = (),
    request: Request = PLAIN,
    timeout_s: float = TIMEOUT_S,
    tag: str = "",
) -> list[Check]:
    """The target is reached by each protocol.

    Args:
        source: who asks.
        target: who is asked.
        ports: by which protocols, and on which ports.
        by: who must answer, by default the target itself. ICMP's answers have no name.
        seen_from: under which addresses the answerer may see the source; empty for any.
        request: payload and name resolution.
        timeout_s: how long silence lasts, in seconds.
        tag: tells apart checks that differ in the request only.
    """
    who = frozenset(by or {str(target)})
    return [
        Check(
            ask(source, target, protocol, port, request=request, timeout_s=timeout_s, tag=tag),
            CONNECTED,
            frozenset() if protocol is Protocol.ICMP else who,
            frozenset() if protocol is Protocol.ICMP else frozenset(seen_from),
        )
        for protocol, port in ports.items()
    ]


def without_icmp(ports: Ports) -> Ports:
    """For sources whose node may not let an agent send echo requests."""
    return {protocol: port for protocol, port in ports.items() if protocol is not Protocol.ICMP}


def nobody(source: Target, target: Target, ports: Ports, *, timeout_s: float = TIMEOUT_S) -> list[Check]:
    """Nobody answers at the target, by any of the protocols."""
    return [
        Check(ask(source, target, protocol, port, timeout_s=timeout_s), UNANSWERED)
        for protocol, port in ports.items()
    ]


def ask(
    source: Target,
    target: Target,
    protocol: Protocol,
    port: int,
    *,
    request: Request = PLAIN,
    timeout_s: float = TIMEOUT_S,
    tag: str = "",
) -> Probe:
    """One probe; the tag is added to its id."""
    probe = Probe.to(source, Destination(target, port, protocol), timeout_s=timeout_s)
    return replace(probe, request=request, id=f"{probe.id} {tag}".rstrip())


def tries(backends: int) -> int:
    """How many fair draws leave one of so many backends out with a probability of less than a billionth.

    One backend is missed by n draws with probability (1 - 1/b)^n, any of them with at most b times that.
    """
    if backends == 1:
        return 1
    return math.ceil(math.log(backends / RISK) / -math.log1p(-1 / backends))


def everyone_answers(
    lab: Lab, sources: Iterable[Target], destination: Destination, backends: frozenset[str]
) -> None:
    """Every source gets answers of every backend, and of nobody else.

    Each probe has a connection, and so a source port, of its own. For TCP Cilium draws a backend at random;
    for UDP it takes the socket's number, which goes round: that is at least as even while nothing but these
    probes opens sockets, so a batch speaks one protocol. The rounds are for what happens beside it.

    Raises:
        AssertionError: a probe came out differently, or a backend did not answer a source in any round.
    """
    missing = {source: set(backends) for source in sources}
    for _ in range(ROUNDS):
        judgement = lab.judge(
            [
                Check(
                    ask(source, destination.target, destination.protocol, destination.port, tag=f"#{number}"),
                    CONNECTED,
                    backends,
                )
                for source, left in missing.items()
                if left
                for number in range(tries(len(backends)))
            ],
            hold=0,
        )
        for entry in judgement.judged:
            missing[entry.check.probe.source].discard(entry.outcome.answered_by)
        if not any(missing.values()):
            return
    lines = [f"{source} never by {', '.join(sorted(left))}" for source, left in missing.items() if left]
    raise AssertionError(
        f"{destination}: expected every backend to answer within {ROUNDS} batches of "
        f"{tries(len(backends))} probes a source: {'; '.join(lines)}"
    )


def target_of(service: Object) -> Target:
    """A Service at its ClusterIP."""
    return Target.service(service["metadata"]["namespace"], service["metadata"]["name"])


def fqdn(service: Object) -> str:
    """A Service's full name in cluster DNS."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.{DOMAIN}"


def node_ports(service: Object) -> Ports:
    """The NodePorts of a Service over the suite's agents, by what is spoken there."""
    given = {(port["protocol"], port["targetPort"]): port["nodePort"] for port in service["spec"]["ports"]}
    return {
        Protocol.TCP: given["TCP", TCP],
        Protocol.UDP: given["UDP", UDP],
        Protocol.HTTP: given["TCP", HTTP],
    }


def address_of(ips: Sequence[str], version: int, *, what: str) -> str:
    """The address of a family, 4 or 6, among some.

    Raises:
        AssertionError: there is none.
    """
    found = next((ip for ip in ips if (":" in ip) == (version == 6)), "")
    assert found, f"{what}: expected an IPv{version} address, got {', '.join(ips) or 'none'}"
    return found


def await_backends(kube: Kube, service: Object, ips: Collection[str]) -> None:
    """Wait until a Service's EndpointSlices list just these addresses as ready.

    Raises:
        WaitTimeout: they do not; the message says what they list.
    """
    meta = service["metadata"]

    def listed(slices: Sequence[Object]) -> set[str]:
        return {
            ip
            for entry in slices
            for endpoint in entry.get("endpoints") or []
            # Absent means ready, by the API's own words.
            if (endpoint.get("conditions") or {}).get("ready") is not False
            for ip in endpoint["addresses"]
        }

    kube.wait(
        replace(_SLICE, namespace=meta["namespace"]),
        lambda slices: True if listed(slices) == set(ips) else None,
        timeout_s=READY_TIMEOUT_S,
        what=f"the backends {', '.join(sorted(ips)) or 'none'} of Service {meta['name']}",
        label_selector=f"kubernetes.io/service-name={meta['name']}",
        describe=lambda slices: ", ".join(sorted(listed(slices))) or "none",
    )
