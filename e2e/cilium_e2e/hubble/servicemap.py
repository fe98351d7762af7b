"""A service map from flows: who talked to whom, on which port, and whether it was let through.

One connection makes many flows, on the nodes of both ends, and a denied one may well be FORWARDED where it
left and DROPPED where it arrived. So flows are first put together by connection (both addresses, both ports,
protocol), and a connection is denied if any of its packets was dropped. Only then are connections put
together as edges between workloads. A node knows the workloads of its own pods only, so what one node shows
of a pod's workload holds for all flows.

Left out: what the socket layer shows (a translation before there is a packet), what the L7 proxy shows (a
request refused on a connection that was allowed), and flows that Hubble could not give a direction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cilium_e2e.hubble.matching import DROP, ECHO, POLICY_VERDICT, TRACE
from cilium_e2e.model import Flow, FlowPeer, FlowVerdict

_PACKETS = {DROP, TRACE, POLICY_VERDICT}
_RESERVED = "reserved:"
_STOPPED = {FlowVerdict.DROPPED, FlowVerdict.ERROR}
_PASSED = {FlowVerdict.FORWARDED, FlowVerdict.REDIRECTED, FlowVerdict.AUDIT}
_End = tuple[str, int]
_Connection = tuple[_End, _End, str]


@dataclass(frozen=True, slots=True, order=True)
class Edge:
    """One line of a service map.

    Attributes:
        source, destination: ``namespace/workload`` where Hubble knows the workload, else ``namespace/pod``,
            else the reserved label (``reserved:world``), else the address.
        port: the destination's; 0 for ICMP.
        protocol: ``TCP``, ``UDP``, ``SCTP`` or ``ICMP``.
        allowed: whether it was let through.
    """

    source: str
    destination: str
    port: int
    protocol: str
    allowed: bool

    def __str__(self) -> str:
        where = f":{self.port}" if self.port else ""
        verdict = "allowed" if self.allowed else "denied"
        return f"{self.source} → {self.destination}{where}/{self.protocol} {verdict}"


@dataclass(frozen=True, slots=True)
class ServiceMap:
    """Edges, and how many connections each of them stands for."""

    edges: Mapping[Edge, int]

    def __str__(self) -> str:
        return "\n".join(f"{edge} ({count})" for edge, count in sorted(self.edges.items()))


def service_map(flows: Iterable[Flow]) -> ServiceMap:
    """The service map of some flows; their order and repetitions do not matter.

    A port that is used anew for the same destination makes one connection of the two, denied if either was.
    """
    packets = [(key, flow) for flow in flows if (key := _connection(flow)) is not None]
    asked: dict[_Connection, tuple[FlowPeer, FlowPeer]] = {}
    for key, flow in packets:
        if flow.verdict in _PASSED and flow.is_reply is not None:
            if flow.is_reply:
                asked.setdefault(_reverse(key), (flow.destination, flow.source))
            else:
                asked.setdefault(key, (flow.source, flow.destination))
    stopped: set[_Connection] = set()
    dropped = [(key, flow) for key, flow in packets if flow.verdict in _STOPPED]
    # A dropped packet does not say whether it is a reply: it is one if the other way was asked.
    for key, flow in sorted(dropped, key=lambda drop: drop[1].time_s):
        if _reverse(key) in asked and key not in asked:
            stopped.add(_reverse(key))
        else:
            asked.setdefault(key, (flow.source, flow.destination))
            stopped.add(key)
    workloads = {
        (peer.namespace, peer.pod): peer.workload
        for _, flow in packets
        for peer in (flow.source, flow.destination)
        if peer.workload
    }
    counts: dict[Edge, int] = {}
    for key, (source, destination) in asked.items():
        (_, _), (_, port), protocol = key
        names = (_name(source, workloads), _name(destination, workloads))
        edge = Edge(*names, port, protocol, key not in stopped)
        counts[edge] = counts.get(edge, 0) + 1
    return ServiceMap(MappingProxyType(dict(sorted(counts.items()))))


def _connection(flow: Flow) -> _Connection | None:
    if flow.event_type not in _PACKETS or not flow.protocol:
        return None
    if flow.icmp is not None and flow.icmp not in ECHO:
        return None  # an error message belongs to the connection it speaks of
    protocol = "ICMP" if flow.icmp is not None else flow.protocol
    ends = ((peer.ip, peer.port) for peer in (flow.source, flow.destination))
    return (*ends, protocol)  # type: ignore[return-value]


def _reverse(key: _Connection) -> _Connection:
    source, destination, protocol = key
    return destination, source, protocol


def _name(peer: FlowPeer, workloads: Mapping[tuple[str, str], str]) -> str:
    if peer.namespace:
        return f"{peer.namespace}/{workloads.get((peer.namespace, peer.pod), peer.pod)}"
    reserved = sorted(label for label in peer.labels if label.startswith(_RESERVED))
    # An identity may have several: the most general name of the world, and the node's own before its role.
    return min(reserved, key=len) if reserved else peer.ip
