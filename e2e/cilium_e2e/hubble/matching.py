"""Which flows belong to a probe, and why none of them is the one that was wanted.

A flow belongs to a probe if it has the probe's transport protocol, lies in the window, and carries the
probe's source address and source port at its source (the request's way) or at its destination (the
reply's way). The source port comes from the outcome, which has it even where nothing was answered. The
other end is compared only where one address stands for the target, a pod's or a world agent's: flows of a
Service carry its ClusterIP or a backend, depending on where they were observed.

* ICMP has no ports. Echo requests and replies between the two addresses inside the window are taken; two
  concurrent pings of one pair cannot be told apart, so a suite makes them one after the other.
* After masquerading, the source is the node's address; ``aliases`` names such addresses. The port is kept
  unless another connection of the node has it.
* Socket events without a source port (a translation before the socket is bound) belong to nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from cilium_e2e.model import (
    Direction,
    Flow,
    FlowPeer,
    FlowVerdict,
    Outcome,
    PolicyRef,
    Probe,
    Protocol,
    TargetKind,
    TimeWindow,
)

DROP, TRACE, POLICY_VERDICT, TRACE_SOCK, ACCESS_LOG = 1, 4, 5, 7, 129
"""Cilium's monitor event types, as in :attr:`Flow.event_type`."""

ECHO = {(8, 0), (0, 0), (128, 0), (129, 0)}
"""Type and code of ICMP's echo requests and replies, v4 and v6."""

_ONE_ADDRESS = {TargetKind.POD, TargetKind.WORLD}


class FlowIndex:
    """Flows by the address and port at either end: for the evidence of many probes in one window."""

    def __init__(self, flows: Iterable[Flow]) -> None:
        self.flows = list(flows)
        self._by_end: dict[tuple[str, int], list[int]] = {}
        for place, flow in enumerate(self.flows):
            for end in {(flow.source.ip, flow.source.port), (flow.destination.ip, flow.destination.port)}:
                self._by_end.setdefault(end, []).append(place)

    def at(self, addresses: Iterable[str], port: int) -> list[Flow]:
        """The flows with one of these addresses and this port at an end, in the order they were given."""
        places = {place for address in addresses for place in self._by_end.get((address, port), ())}
        return [self.flows[place] for place in sorted(places)]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a flow must be; an empty field does not matter.

    Attributes:
        verdict: what happened to the packet.
        direction: the enforcing endpoint's side.
        reason: ``drop_reason_desc``.
        policy: a policy that the flow must name: its kind, namespace and name, and its UID if given.
        reply: whether it is on the reply's way.
        event_type: Cilium's monitor type.
    """

    verdict: FlowVerdict | None = None
    direction: Direction | None = None
    reason: str = ""
    policy: PolicyRef | None = None
    reply: bool | None = None
    event_type: int = 0

    def differences(self, flow: Flow) -> list[str]:
        """What is different about a flow, empty if it is one that is wanted."""
        found: list[str] = []

        def compare(what: str, wanted: object, seen: object) -> None:
            if wanted not in (None, "", 0) and wanted != seen:
                found.append(f"{what} {_text(seen)} instead of {_text(wanted)}")

        compare("verdict", self.verdict, flow.verdict)
        compare("direction", self.direction, flow.direction)
        compare("reason", self.reason, flow.drop_reason)
        compare("event type", self.event_type, flow.event_type)
        if self.reply is not None and self.reply is not bool(flow.is_reply):
            found.append("a reply" if flow.is_reply else "no reply")
        if self.policy is not None and not any(_same(self.policy, policy) for policy in flow.policies):
            names = ", ".join(map(str, flow.policies)) or "no policy"
            found.append(f"named {names} instead of {self.policy}")
        return found

    def __str__(self) -> str:
        words = [self.verdict, self.direction, self.reason or None]
        text = " ".join(_text(word) for word in words if word is not None) or "any flow"
        reply = {True: ", a reply", False: ", no reply", None: ""}[self.reply]
        kind = f", event type {self.event_type}" if self.event_type else ""
        return f"{text}{f' by {self.policy}' if self.policy else ''}{reply}{kind}"


def evidence(
    flows: Iterable[Flow] | FlowIndex,
    outcome: Outcome,
    probe: Probe,
    *,
    window: TimeWindow | None = None,
    aliases: Collection[str] = (),
    destinations: Collection[str] = (),
) -> list[Flow]:
    """The flows of one probe, both ways, in the order given.

    Args:
        flows: what Hubble saw; an index where many probes are asked for.
        outcome: gives source address and port, and the address that was dialled.
        probe: gives the protocol, the port, and whether one address stands for the target.
        window: when the probe was made; None for whenever.
        aliases: further addresses the source may be seen under (masquerading: its node's).
        destinations: addresses the target may be seen under (a Service: its ClusterIP and backends);
            by default the dialled address for a pod or world agent, any for other targets.
    """
    near = {outcome.source_ip, *aliases}
    port = 0 if probe.protocol is Protocol.ICMP else outcome.source_port
    if isinstance(flows, FlowIndex):
        flows = flows.at(near, port)
    return [
        flow
        for flow in flows
        if (flow.source.ip in near or flow.destination.ip in near)
        and port in (flow.source.port, flow.destination.port)
        and (window is None or flow.time_s in window)
        and not _mismatch(flow, outcome, probe, aliases, destinations)
    ]


def find(flows: Iterable[Flow], wanted: Wanted) -> Flow | None:
    """The first flow that is wanted."""
    return next((flow for flow in flows if not wanted.differences(flow)), None)


def explain(
    wanted: Wanted,
    flows: Sequence[Flow],
    outcome: Outcome,
    probe: Probe,
    *,
    window: TimeWindow | None = None,
    aliases: Collection[str] = (),
    destinations: Collection[str] = (),
    most: int = 3,
) -> str:
    """Why no flow of the probe is wanted: the nearest ones, and how each of them differs."""
    head = f"expected a flow {wanted} for {probe.id}"
    mine = evidence(flows, outcome, probe, window=window, aliases=aliases, destinations=destinations)
    if mine:
        near = sorted(((wanted.differences(flow), flow) for flow in mine), key=lambda pair: len(pair[0]))
        lines = [f"  {flow}: {'; '.join(differences)}" for differences, flow in near[:most]]
        return "\n".join([f"{head}; {len(mine)} flows of this probe were seen, nearest first:", *lines])
    near_misses: list[tuple[int, str]] = []
    for flow in flows:
        reasons = _mismatch(flow, outcome, probe, aliases, destinations)
        if window is not None and flow.time_s not in window:
            reasons.append(_outside(flow, window))
        if {outcome.source_ip, outcome.destination_ip, *aliases} & {flow.source.ip, flow.destination.ip} - {
            ""
        }:
            near_misses.append((len(reasons), f"  {flow}: {'; '.join(reasons)}"))
    who = f"{outcome.source_ip or 'an unknown address'}:{outcome.source_port}"
    if not near_misses:
        ends = f"{outcome.source_ip or 'source'} or {outcome.destination_ip or 'destination'}"
        return f"{head}; no flow of {who} was seen, and of all {len(flows)} flows none has {ends} at an end"
    near_misses.sort(key=lambda miss: miss[0])
    return "\n".join([f"{head}; no flow of {who} was seen, nearest:", *(t for _, t in near_misses[:most])])


def _mismatch(
    flow: Flow,
    outcome: Outcome,
    probe: Probe,
    aliases: Collection[str],
    destinations: Collection[str],
) -> list[str]:
    """Why a flow is not one of the probe's, empty if it is."""
    forward = _ends(flow.source, flow.destination, outcome, probe, aliases, destinations)
    backward = _ends(flow.destination, flow.source, outcome, probe, aliases, destinations)
    reasons = min(forward, backward, key=len)
    transport = probe.protocol.transport
    if not (flow.protocol.startswith("ICMP") if transport == "ICMP" else flow.protocol == transport):
        reasons.insert(0, f"protocol {flow.protocol or 'unknown'} instead of {transport}")
    elif flow.icmp is not None and flow.icmp not in ECHO:
        reasons.append(f"ICMP type {flow.icmp[0]} code {flow.icmp[1]} is no echo")
    return reasons


def _ends(
    near: FlowPeer,
    far: FlowPeer,
    outcome: Outcome,
    probe: Probe,
    aliases: Collection[str],
    destinations: Collection[str],
) -> list[str]:
    reasons: list[str] = []
    ports = probe.protocol is not Protocol.ICMP
    if not near.ip or near.ip not in {outcome.source_ip, *aliases}:
        reasons.append(f"source {near.ip or 'unknown'} instead of {outcome.source_ip}")
    if ports and (near.port != outcome.source_port or not near.port):
        reasons.append(f"source port {near.port} instead of {outcome.source_port}")
    known = set(destinations)
    if not known and (probe.target.kind in _ONE_ADDRESS or not ports):
        known = {outcome.destination_ip}
    if known and far.ip not in known:
        reasons.append(f"destination {far.ip or 'unknown'} instead of {', '.join(sorted(known))}")
    socket_half = far.port == 0  # the socket layer reports one end's port only
    if ports and probe.target.kind in _ONE_ADDRESS and not socket_half and far.port != probe.port:
        reasons.append(f"destination port {far.port} instead of {probe.port}")
    return reasons


def _outside(flow: Flow, window: TimeWindow) -> str:
    if flow.time_s < window.start_s:
        return f"{window.start_s - flow.time_s:.3f} s before the window"
    return f"{flow.time_s - window.end_s:.3f} s after the window"


def _same(wanted: PolicyRef, seen: PolicyRef) -> bool:
    names = (wanted.kind, wanted.namespace, wanted.name) == (seen.kind, seen.namespace, seen.name)
    return names and (not wanted.uid or not seen.uid or wanted.uid == seen.uid)


def _text(value: object) -> str:
    return str(getattr(value, "value", value)) if value not in (None, "") else "none"
