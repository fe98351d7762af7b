"""Hubble flows, reduced to what evidence needs."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cilium_e2e.model.verdict import Direction, PolicyRef

_NOTHING: Mapping[str, object] = MappingProxyType({})


class FlowVerdict(enum.Enum):
    """Hubble's verdicts; the values are the names in its API (``flow.Verdict``)."""

    UNKNOWN = "VERDICT_UNKNOWN"
    FORWARDED = "FORWARDED"
    DROPPED = "DROPPED"
    ERROR = "ERROR"
    AUDIT = "AUDIT"
    REDIRECTED = "REDIRECTED"
    TRACED = "TRACED"
    TRANSLATED = "TRANSLATED"


@dataclass(frozen=True, slots=True)
class FlowPeer:
    """One end of a flow.

    Attributes:
        ip: its address as seen where the flow was observed.
        port: transport port; 0 where the protocol has none.
        identity: numeric security identity.
        namespace, pod: the pod, empty for anything else.
        labels: ``source:key=value`` strings.
        workload: the owning workload's name, empty where Hubble knows none.
        names: DNS names Cilium knows for the address.
    """

    ip: str = ""
    port: int = 0
    identity: int = 0
    namespace: str = ""
    pod: str = ""
    labels: tuple[str, ...] = ()
    workload: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        who = f"{self.namespace}/{self.pod}" if self.pod else self.ip or "unknown"
        port = f":{self.port}" if self.port else ""
        return f"{who}{port} (identity {self.identity})"


@dataclass(frozen=True, slots=True)
class Flow:
    """One observed flow event.

    Attributes:
        time_s: when it was observed, in seconds since the epoch, by the observing node's clock.
        verdict: what happened to the packet.
        source, destination: its ends.
        protocol: ``TCP``, ``UDP``, ``SCTP``, ``ICMPv4``, ``ICMPv6``; empty where there is no L4.
        direction: from the enforcing endpoint's view; None where Hubble does not know.
        drop_reason: ``drop_reason_desc`` (``POLICY_DENIED`` ...), empty unless dropped.
        is_reply: None where unknown.
        event_type: Cilium's monitor type (1 drop, 4 trace, 5 policy verdict, 129 L7).
        policies: the policies that allowed or denied it, as verdict events name them.
        node: the observing node.
        uuid: Hubble's id of the event.
        summary: Hubble's one-line form of the L4 or L7 part.
        l7: the L7 part as plain data, empty for L3/L4 flows.
        tcp_flags: the names of the flags set, sorted.
        icmp: type and code of an ICMP message, None for anything else.
    """

    time_s: float
    verdict: FlowVerdict
    source: FlowPeer
    destination: FlowPeer
    protocol: str = ""
    direction: Direction | None = None
    drop_reason: str = ""
    is_reply: bool | None = None
    event_type: int = 0
    policies: tuple[PolicyRef, ...] = ()
    node: str = ""
    uuid: str = ""
    summary: str = ""
    l7: Mapping[str, object] = field(default_factory=lambda: _NOTHING)
    tcp_flags: tuple[str, ...] = ()
    icmp: tuple[int, int] | None = None

    def __str__(self) -> str:
        way = f" {self.direction.value}" if self.direction else ""
        reason = f" {self.drop_reason}" if self.drop_reason else ""
        by = f" by {', '.join(map(str, self.policies))}" if self.policies else ""
        return (
            f"{self.source} → {self.destination} {self.protocol} "
            f"{self.verdict.value}{reason}{way}{by} on {self.node or 'an unnamed node'}"
        )


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """A closed interval of seconds since the epoch."""

    start_s: float
    end_s: float

    def __contains__(self, time_s: object) -> bool:
        return isinstance(time_s, (int, float)) and self.start_s <= time_s <= self.end_s


@dataclass(frozen=True, slots=True)
class FlowFilter:
    """Which flows are asked for; an empty field does not filter.

    A flow source may return more than it was asked for, never less: matching is done on the result.
    """

    source_ips: tuple[str, ...] = ()
    destination_ips: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    verdicts: tuple[FlowVerdict, ...] = ()


@dataclass(frozen=True, slots=True)
class LostFlows:
    """Hubble's word that flows are missing.

    Attributes:
        source: where they were lost: ``PERF_EVENT_RING_BUFFER``, ``OBSERVER_EVENTS_QUEUE`` or
            ``HUBBLE_RING_BUFFER``.
        count: how many events.
        node: whose agent lost them.
        time_s: when, in seconds since the epoch.
    """

    source: str
    count: int
    node: str
    time_s: float


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """Relay's word on its connection to nodes: ``NODE_CONNECTED``, ``NODE_UNAVAILABLE`` ...

    Attributes:
        state: the state's name in Hubble's API.
        nodes: the nodes it speaks of, ``cluster/node`` or ``node``.
        message: relay's own words.
    """

    state: str
    nodes: tuple[str, ...]
    message: str = ""
