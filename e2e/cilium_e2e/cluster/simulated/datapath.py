"""What becomes of a connection: Service translation, policy at both ends, the way between, who answers."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.places import Listener, Place, Places
from cilium_e2e.cluster.simulated.recorder import Connection, Recorder
from cilium_e2e.cluster.simulated.services import Frontend, Services
from cilium_e2e.cluster.simulated.verdicts import Verdicts
from cilium_e2e.model import Decision, Direction
from cilium_e2e.policy import DNSQuery, HTTPRequest, Oracle, Side, request_verdict

TIMEOUT, REFUSED, UNREACHABLE, OPEN = "timeout", "refused", "unreachable", "open"
_MTU = 1450 - 28
"""What an echo request can carry in one packet through the tunnel."""
_ECHO = {4: ("ICMP", 8), 6: ("ICMPv6", 128)}
_SERVICE_NETWORKS = (ipaddress.ip_network("10.96.0.0/16"), ipaddress.ip_network("fd00:10:96::/112"))


@dataclass(frozen=True, slots=True)
class Asked:
    """A side that lets a flow through, and may have its proxy look at requests."""

    side: Side
    oracle: Oracle


@dataclass(frozen=True, slots=True)
class Way:
    """Where a connection got to.

    Attributes:
        end: ``open``, ``refused``, ``timeout`` or ``unreachable``.
        connection: after Service translation.
        listener: who answers, where it is open.
        sides: the sides that were asked and let it through.
        detail: the operating system's words, where it did not get through.
        through: the node at whose port a Service was reached from outside.
    """

    end: str
    connection: Connection
    listener: Listener | None = None
    sides: tuple[Asked, ...] = ()
    detail: str = ""
    through: str = ""


class Datapath:
    """All nodes' datapaths.

    Args:
        agents: what each node knows.
        places: who has which address.
        services: what is translated.
        verdicts: what policy says.
        recorder: notes the flows.
        hooks: what a fault changes.
    """

    def __init__(
        self,
        agents: Agents,
        places: Places,
        services: Services,
        verdicts: Verdicts,
        recorder: Recorder,
        hooks: Hooks,
    ) -> None:
        self._agents = agents
        self._places = places
        self._services = services
        self._verdicts = verdicts
        self._recorder = recorder
        self._hooks = hooks
        self._ports: dict[str, int] = {}
        self._node_ips = {ip for node in places.nodes.values() for ip in node.ips}

    def source_port(self, ip: str) -> int:
        """A free local port; the next one of the ephemeral range."""
        start = 32768 + int.from_bytes(hashlib.sha256(ip.encode()).digest()[:2]) % 20000
        self._ports[ip] = self._ports.get(ip, start) + 1
        if self._ports[ip] > 60999:
            self._ports[ip] = 32768
        return self._ports[ip]

    def connect(
        self, source: Place, ip: str, protocol: str, source_port: int, port: int, *, size: int = 0
    ) -> Way:
        """Open a connection, or send a datagram or an echo request (``ICMP``, port 0).

        The packets up to the answer's first are noted as flows; the rest is the caller's (:meth:`close`).
        """
        frontend = None if protocol == "ICMP" else self._services.find(ip, port, protocol, self._node_ips)
        target = self._places.of(ip)
        connection = Connection(source, target, protocol, source_port, port)
        if frontend is not None:
            backend = self._choose(frontend, source, source_port, target.node)
            if backend is None and frontend.local and not source.node:
                return Way(TIMEOUT, connection)
            if backend is None:
                return Way(UNREACHABLE, connection, detail="No route to host")
            through = target.node if not source.node and not frontend.local else ""
            place = self._places.of(backend[0])
            connection = replace(connection, target=place, port=backend[1], translated=True)
            self._recorder.translated(connection)
            return replace(self._route(connection), through=through)
        if _of_services(ip):
            # No such port, or an echo request: nothing translates it, and nothing has the address.
            return Way(TIMEOUT, connection)
        if protocol == "ICMP" and size > _MTU and "pod" in (source.kind, target.kind):
            return Way(TIMEOUT, connection)  # Cilium does not carry fragments of echoes
        return self._route(connection)

    def _route(self, connection: Connection) -> Way:
        source, target = connection.source, connection.target
        if source.ip == target.ip and source.kind == "pod":
            return self._answer(connection, ())  # never leaves the pod, so nobody judges it
        if source.kind == "world" and target.kind == "pod" and not connection.translated:
            return Way(TIMEOUT, connection)  # nothing outside routes to pods
        return self._judge(connection)

    def _judge(self, connection: Connection) -> Way:
        source, target, protocol = connection.source, connection.target, connection.protocol
        name, number = (protocol, connection.port)
        if protocol == "ICMP":
            name, number = _ECHO[6 if ":" in target.ip else 4]
        sides: list[Asked] = []
        for direction, subject, remote in (
            (Direction.EGRESS, source, target),
            (Direction.INGRESS, target, source),
        ):
            if direction is Direction.INGRESS:
                self._recorder.sent(connection, ("SYN",))
                if not self._carried(connection):
                    return Way(TIMEOUT, connection)
            if not subject.node or subject.kind == "health":
                continue
            answer = self._verdicts.side(direction, subject, remote, name, number)
            if answer is None:
                continue
            side, oracle = answer
            self._recorder.judged(connection, side)
            if side.decision is Decision.DENIED:
                return Way(TIMEOUT, connection)
            sides.append(Asked(side, oracle))
        if target.kind == "nowhere":
            return Way(TIMEOUT, connection)
        self._recorder.arrived(connection, ("SYN",))
        return self._answer(connection, tuple(sides))

    def _carried(self, connection: Connection) -> bool:
        source, target = connection.source.node, connection.target.node
        return not source or not target or source == target or self._hooks.carried(source, target)

    def _answer(self, connection: Connection, sides: tuple[Asked, ...]) -> Way:
        protocol = connection.protocol
        listener = connection.target.listeners.get((protocol, connection.port))
        if protocol == "ICMP":
            self._reply(connection, ())
            return Way(OPEN, connection, None, sides)
        if listener is None:
            self._reply(connection, ("ACK", "RST"))
            return Way(REFUSED, connection, None, sides, "Connection refused")
        self._reply(connection, ("SYN", "ACK"))
        if protocol == "TCP":
            self._recorder.arrived(connection, ("ACK",))
        return Way(OPEN, connection, listener, sides)

    def _reply(self, connection: Connection, flags: tuple[str, ...]) -> None:
        self._recorder.sent(connection, flags, reply=True)
        self._recorder.arrived(connection, flags, reply=True)

    def close(self, way: Way) -> None:
        """The rest of a connection that stood: data one way, its end both ways."""
        if way.connection.protocol in {"TCP", "SCTP"}:
            for flags in (("ACK", "PSH"), ("ACK", "FIN")):
                self._reply(way.connection, flags)
            self._recorder.sent(way.connection, ("ACK", "FIN"))
            self._recorder.arrived(way.connection, ("ACK", "FIN"))

    def asks_proxy(self, way: Way, request: HTTPRequest | DNSQuery) -> tuple[bool, str]:
        """Whether the proxies let a request through, and what a refusal looks like.

        Each proxy notes the request.
        """
        connection = way.connection
        protocol = connection.protocol
        for asked in way.sides:
            if not asked.side.redirects:
                continue
            verdict = request_verdict(
                asked.oracle,
                connection.source.key,
                connection.target.key,
                protocol,
                connection.port,
                request=request,
            )
            refused = verdict.refused_at is asked.side.direction
            l7, summary = _l7(request)
            self._recorder.proxied(
                connection, asked.side.direction, l7, summary, dropped=refused, reply=False
            )
            if refused:
                return False, verdict.looks
        return True, ""

    def proxy_answered(self, way: Way, request: HTTPRequest | DNSQuery, answer: Mapping[str, object]) -> None:
        """Each proxy notes the answer to a request it let through."""
        for asked in way.sides:
            if asked.side.redirects:
                l7, summary = _l7(request)
                part = "http" if isinstance(request, HTTPRequest) else "dns"
                found = {"type": "RESPONSE", part: {**l7[part], **answer}}
                self._recorder.proxied(
                    way.connection,
                    asked.side.direction,
                    found,
                    f"answer: {summary}",
                    dropped=False,
                    reply=True,
                )

    def learn_names(self, way: Way, name: str, addresses: list[str]) -> None:
        """A DNS proxy at the source has seen addresses for a name."""
        for asked in way.sides:
            if asked.side.redirects and asked.side.direction is Direction.EGRESS:
                self._agents.learn_names(way.connection.source.node, name.rstrip(".").lower(), addresses)

    def seen_from(self, way: Way) -> str:
        """The address under which the one who answers sees the asker.

        Who leaves the cluster is masqueraded as its node; who comes in through another node's port is
        translated to that node.
        """
        source, target, version = (
            way.connection.source,
            way.connection.target,
            ":" in way.connection.target.ip,
        )
        hides = ""
        if source.kind == "pod" and target.kind in {"world", "node"} and source.node != target.node:
            hides = source.node
        elif not source.node and way.through and way.through != target.node:
            hides = way.through
        if not hides:
            return source.ip
        return next(ip for ip in self._places.nodes[hides].ips if (":" in ip) is version)

    def _choose(
        self, frontend: Frontend, source: Place, source_port: int, node: str
    ) -> tuple[str, int] | None:
        backends = list(frontend.backends)
        if frontend.local and not source.node:
            backends = [b for b in backends if b.node == node]
        if not backends:
            return None
        seed = source.ip if frontend.affinity else f"{source.ip}:{source_port}"
        where = f"{frontend.namespace}/{frontend.name}:{frontend.port}"
        digest = hashlib.sha256(f"{seed}/{where}".encode()).digest()
        chosen = int.from_bytes(digest[:4]) % len(backends)
        number = self._hooks.backend(len(backends), chosen)
        if number < 0:  # a fault: somebody else's pod
            others = [
                ip
                for ip, (_, e) in self._agents.by_ip.items()
                if ip not in {b.ip for b in backends} and e.identity
            ]
            return (
                (others[0], backends[chosen].port) if others else (backends[chosen].ip, backends[chosen].port)
            )
        return backends[number].ip, backends[number].port


def _of_services(ip: str) -> bool:
    address = ipaddress.ip_address(ip)
    return any(address.version == net.version and address in net for net in _SERVICE_NETWORKS)


def _l7(request: HTTPRequest | DNSQuery) -> tuple[dict[str, Any], str]:
    if isinstance(request, HTTPRequest):
        url = f"http://{request.host}{request.path}"
        return (
            {"type": "REQUEST", "http": {"method": request.method, "url": url, "protocol": "HTTP/1.1"}},
            f"HTTP/1.1 {request.method} {url}",
        )
    name = f"{request.name.rstrip('.')}."
    return {"type": "REQUEST", "dns": {"query": name, "qtypes": ["A"]}}, f"DNS Query {name} A"
