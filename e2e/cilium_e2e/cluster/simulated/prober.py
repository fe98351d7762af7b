"""The probe agent's answering of batches, with the simulated datapath in place of sockets.

It speaks :mod:`cilium_e2e.probe.protocol`, word for word as the real agent does.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Callable
from typing import Any

from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.datapath import OPEN, Datapath, Way
from cilium_e2e.cluster.simulated.dns import Names
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.places import AGENT, DNS, HTTP, Place, Places
from cilium_e2e.model import StreamLost, WaitTimeout
from cilium_e2e.policy import DNSQuery, HTTPRequest
from cilium_e2e.probe.agent import VERSION

_SHORT_S = 0.002
_LEAST_S = 0.05


class Prober:
    """Makes probes from any place.

    Args:
        clock: the cluster's.
        datapath: what becomes of connections.
        names: what name servers answer.
        places: who has which address.
        resolver: the address of the name server that a source asks, and its search list.
        hooks: what a fault changes.
    """

    def __init__(
        self,
        clock: VirtualClock,
        datapath: Datapath,
        names: Names,
        places: Places,
        resolver: Callable[[Place], tuple[str, list[str]]],
        hooks: Hooks,
    ) -> None:
        self.clock = clock
        self._datapath = datapath
        self._names = names
        self._places = places
        self._resolver = resolver
        self._hooks = hooks
        self._batches = 0

    def answer(self, line: str, name: str, ips: tuple[str, ...]) -> tuple[dict[str, Any], float]:
        """The answer to a line, and how long it takes, in seconds."""
        head: dict[str, Any] = {"v": VERSION, "agent": name, "id": None}
        try:
            message = json.loads(line)
            head["id"] = message["id"]
            if message["v"] != VERSION:
                return {**head, "error": f"this agent speaks version {VERSION}, not {message['v']}"}, _SHORT_S
            specs = list(message["probes"])
        except (ValueError, KeyError, TypeError) as error:
            return {**head, "error": f"malformed batch: {error!r}"}, _SHORT_S
        with self.clock.lock:
            self._batches += 1
            self._hooks.on_probes(self._batches)
            outcomes = [self._probe(spec, ips) for spec in specs]
        took_s = max([_LEAST_S, *(outcome["elapsed_s"] for outcome in outcomes)])
        return {**head, "outcomes": outcomes}, took_s

    def _probe(self, spec: dict[str, Any], ips: tuple[str, ...]) -> dict[str, Any]:
        try:
            found = self._run(spec, ips)
        except (KeyError, TypeError, ValueError) as error:
            found = {"kind": "infra_error", "detail": f"malformed probe: {error!r}"}
        timed_out = found["kind"] == "timeout"
        found.setdefault("elapsed_s", float(spec.get("timeout", 1.0)) if timed_out else _SHORT_S)
        return {key: value for key, value in found.items() if value != "" or key == "elapsed_s"}

    def _run(self, spec: dict[str, Any], ips: tuple[str, ...]) -> dict[str, Any]:
        protocol = spec["protocol"]
        if protocol == "dns":
            return self._dns(spec, ips)
        address, failure = self._address(spec["host"], ips, search=bool(spec.get("search")))
        if failure is not None:
            return failure
        six = ":" in address
        local = next((ip for ip in ips if (":" in ip) is six), "")
        if not local:
            return {"kind": "unreachable", "detail": "Network is unreachable", "destination_ip": address}
        transport = {"http": "TCP"}.get(protocol, protocol.upper())
        source = self._places.of(local)
        port = 0 if transport == "ICMP" else spec.get("source_port") or self._datapath.source_port(local)
        size = int(spec.get("payload", 0))
        way = self._datapath.connect(source, address, transport, port, int(spec["port"]), size=size)
        seen = {"source_ip": local, "source_port": port, "destination_ip": address}
        if way.end != OPEN:
            return {"kind": way.end, "detail": way.detail or "timed out", **seen}
        found = {**self._spoken(spec, way, address), **seen}
        if found.get("answered_by"):
            found["seen_from"] = self._datapath.seen_from(way)
        return found

    def _spoken(self, spec: dict[str, Any], way: Way, address: str) -> dict[str, Any]:
        """What is said on a connection that stands."""
        protocol, listener = spec["protocol"], way.listener
        if protocol == "icmp" or listener is None:
            return {"kind": "connected"}
        if protocol == "http":
            return self._http(spec, way, address)
        self._datapath.close(way)
        if listener.kind == AGENT:
            return {"kind": "connected", "answered_by": listener.name}
        if protocol == "udp":
            return {"kind": "timeout", "detail": "timed out"}
        return _strange(spec)

    def _http(self, spec: dict[str, Any], way: Way, address: str) -> dict[str, Any]:
        listener = way.listener
        host = f"[{spec['host']}]" if ":" in spec["host"] else spec["host"]
        headers = tuple((str(k), str(v)) for k, v in spec.get("headers", ()))
        host = next((value for key, value in headers if key.lower() == "host"), f"{host}:{spec['port']}")
        request = HTTPRequest(
            method=spec.get("method", "GET"), path=spec.get("path", "/"), host=host, headers=headers
        )
        passes, looks = self._datapath.asks_proxy(way, request)
        self._datapath.close(way)
        if not passes:
            return {"kind": "http", "status": int(looks), "detail": "server: envoy"}
        if listener is None or listener.kind != HTTP:
            return {"kind": "reset", "detail": f"closed before the end of the header by {address}"}
        path = request.path
        status = int(path.split("/")[2][:3]) if path.startswith("/status/") else 200
        self._datapath.proxy_answered(way, request, {"code": status})
        return {"kind": "http", "status": status, "answered_by": listener.name}

    def _dns(self, spec: dict[str, Any], ips: tuple[str, ...]) -> dict[str, Any]:
        if spec.get("host"):
            server, failure = self._address(spec["host"], ips)
            if failure is not None:
                return failure
        else:
            server = self._resolver(self._places.of(ips[0]))[0]
        record = spec.get("record", "A")
        bound = int(spec.get("source_port") or 0)
        outcome, _ = self._query(ips, server, int(spec["port"]), spec["name"], record, bound)
        return outcome

    def _query(
        self, ips: tuple[str, ...], server: str, port: int, name: str, record: str, bound: int = 0
    ) -> tuple[dict[str, Any], list[str]]:
        """One question to one server: the outcome, and the addresses answered."""
        local = next((ip for ip in ips if (":" in ip) is (":" in server)), "")
        if not local:
            return {"kind": "unreachable", "detail": "Network is unreachable"}, []
        source_port = bound or self._datapath.source_port(local)
        way = self._datapath.connect(self._places.of(local), server, "UDP", source_port, port)
        seen = {"source_ip": local, "source_port": source_port, "destination_ip": server}
        if way.end != OPEN:
            return {"kind": way.end, "detail": way.detail or "timed out", **seen}, []
        question = DNSQuery(name)
        passes, looks = self._datapath.asks_proxy(way, question)
        if not passes:
            return {"kind": "dns", "rcode": looks, **seen}, []
        if way.listener is None or way.listener.kind != DNS:
            return {"kind": "timeout", "detail": "timed out", **seen}, []
        if not way.listener.records and not self._hooks.resolves():
            return {"kind": "dns", "rcode": "SERVFAIL", **seen}, []
        rcode, addresses = self._names.ask(way.listener, name, record)
        self._datapath.learn_names(way, name, addresses)
        self._datapath.proxy_answered(way, question, {"ips": addresses, "rcode": rcode})
        return {"kind": "dns", "rcode": rcode, "detail": ", ".join(addresses), **seen}, addresses

    def _address(
        self, host: str, ips: tuple[str, ...], *, search: bool = False
    ) -> tuple[str, dict[str, Any] | None]:
        """The address of a host; for a name by the source's resolver, as the agent looks it up."""
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(host)), None
        server, domains = self._resolver(self._places.of(ips[0]))
        below = [f"{host}.{domain}" for domain in domains]
        names = [host] if "." in host and not search else [*below, host]
        rcode, name = "NXDOMAIN", host
        for name in names:
            for record in ("A", "AAAA"):
                outcome, addresses = self._query(ips, server, 53, name, record)
                if outcome["kind"] != "dns":
                    words = f"resolving {name} at {server}: {outcome['detail']}"
                    return "", {"kind": outcome["kind"], "detail": words}
                rcode = outcome["rcode"]
                if addresses:
                    return addresses[0], None
                if rcode != "NOERROR":
                    break
            if rcode not in ("NOERROR", "NXDOMAIN"):
                break
        rcode = "NODATA" if rcode == "NOERROR" else rcode
        return "", {"kind": "dns", "rcode": rcode, "detail": f"resolving {name} at {server}"}


def _strange(spec: dict[str, Any]) -> dict[str, Any]:
    """A handshake with a peer that is no agent."""
    if spec.get("agent"):
        return {"kind": "reset", "detail": "closed after the handshake, before a name"}
    if spec.get("payload"):
        return {"kind": "reset", "detail": "who answered is no agent: the payload did not come back"}
    return {"kind": "connected", "detail": "the peer is no agent"}


class BatchStream:
    """An exec stream to ``agent batch``.

    Args:
        prober: makes the probes.
        name: the agent's.
        addresses: the agent's addresses now; none where it is gone.
        before: called before each line; raises what breaks the stream.
    """

    def __init__(
        self,
        prober: Prober,
        name: str,
        addresses: Callable[[], tuple[str, ...]],
        before: Callable[[], None],
    ) -> None:
        self._prober = prober
        self._name = name
        self._addresses = addresses
        self._before = before
        self._closed = False
        clock = prober.clock
        hello = {"v": VERSION, "hello": name, "python": "3.13.0"}
        self._lines: list[tuple[float, str]] = [(clock.monotonic() + 0.05, json.dumps(hello))]

    def send_line(self, line: str) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        self._check()
        answer, took_s = self._prober.answer(line, self._name, self._addresses())
        self._lines.append((self._prober.clock.monotonic() + took_s, json.dumps(answer)))

    def read_line(self, *, timeout_s: float) -> str | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        self._check()
        clock = self._prober.clock
        clock.courtesy()
        if self._closed:
            return None
        end_s = clock.monotonic() + timeout_s
        if not self._lines or self._lines[0][0] > end_s:
            clock.sleep(timeout_s)
            raise WaitTimeout(f"no line came within {timeout_s:g} s", place=self._name)
        due_s, line = self._lines.pop(0)
        clock.sleep(due_s - clock.monotonic())
        self._check()
        return line

    @property
    def returncode(self) -> int | None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return 0 if self._closed else None

    def stderr(self) -> str:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        return ""

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.ExecStream`."""
        self._closed = True

    def _check(self) -> None:
        self._before()
        if not self._addresses():
            raise StreamLost("the pod is gone", place=self._name)
