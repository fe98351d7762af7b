"""Hubble's messages as the model's types.

Recorded flows (``-o jsonpb``) take the same way: they are parsed into the message first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from google.protobuf import json_format

from cilium_e2e.hubble import flow_pb2, observer_pb2, relay_pb2
from cilium_e2e.model import (
    Direction,
    Flow,
    FlowPeer,
    FlowVerdict,
    LostFlows,
    NodeStatus,
    PolicyRef,
)

Event = Flow | LostFlows | NodeStatus
"""What a flow stream brings."""

_UID_LABEL = "k8s:io.cilium.k8s.policy.uid="
_VERDICTS = {number: FlowVerdict(name) for name, number in flow_pb2.Verdict.items()}
_DIRECTIONS = {1: Direction.INGRESS, 2: Direction.EGRESS}
_NOTHING: Mapping[str, object] = MappingProxyType({})


def from_response(response: Any) -> Event | None:
    """One answer of ``GetFlows``; None for a kind of answer that is not known here."""
    match response.WhichOneof("response_types"):
        case "flow":
            return from_flow(response.flow, node=response.node_name)
        case "lost_events":
            return lost_flows(response)
        case "node_status":
            return node_status(response)
    return None


def from_json(raw: Mapping[str, Any]) -> Event | None:
    """One line of ``hubble observe -o jsonpb``, decoded.

    Raises:
        google.protobuf.json_format.ParseError: it is none.
    """
    message = observer_pb2.GetFlowsResponse()
    return from_response(json_format.ParseDict(dict(raw), message, ignore_unknown_fields=True))


def from_flow(flow: Any, *, node: str = "") -> Flow:
    """One ``flow.Flow``; ``node`` stands in where the flow itself names none."""
    l4 = flow.l4.WhichOneof("protocol") or ""
    part: Any = getattr(flow.l4, l4) if l4 else None
    has_ports = l4 in {"TCP", "UDP", "SCTP"}
    return Flow(
        time_s=seconds(flow.time),
        verdict=_VERDICTS.get(flow.verdict, FlowVerdict.UNKNOWN),
        source=_peer(
            flow.source, flow.IP.source, part.source_port if part and has_ports else 0, flow.source_names
        ),
        destination=_peer(
            flow.destination,
            flow.IP.destination,
            part.destination_port if part and has_ports else 0,
            flow.destination_names,
        ),
        protocol=l4,
        direction=_DIRECTIONS.get(flow.traffic_direction),
        drop_reason=_name(flow_pb2.DropReason, flow.drop_reason_desc) if flow.drop_reason_desc else "",
        is_reply=flow.is_reply.value if flow.HasField("is_reply") else None,
        event_type=flow.event_type.type,
        policies=tuple(
            _policy(policy)
            for side in (
                flow.egress_allowed_by,
                flow.ingress_allowed_by,
                flow.egress_denied_by,
                flow.ingress_denied_by,
            )
            for policy in side
        ),
        node=flow.node_name or node,
        uuid=flow.uuid,
        summary=flow.Summary,
        l7=_l7(flow.l7) if flow.HasField("l7") else _NOTHING,
        tcp_flags=tuple(sorted(field.name for field, _ in part.flags.ListFields())) if l4 == "TCP" else (),
        icmp=(part.type, part.code) if part and l4.startswith("ICMP") else None,
    )


def lost_flows(response: Any) -> LostFlows:
    """An answer that speaks of losses."""
    lost = response.lost_events
    source = _name(flow_pb2.LostEventSource, lost.source)
    return LostFlows(source, lost.num_events_lost, response.node_name, seconds(response.time))


def node_status(response: Any) -> NodeStatus:
    """An answer that speaks of relay's connections."""
    status = response.node_status
    state = _name(relay_pb2.NodeState, status.state_change)
    return NodeStatus(state, tuple(status.node_names), status.message)


def seconds(time: Any) -> float:
    """A protobuf timestamp as seconds since the epoch, exact to a microsecond."""
    return float(time.seconds + time.nanos / 1e9)


def _peer(endpoint: Any, ip: str, port: int, names: Sequence[str]) -> FlowPeer:
    return FlowPeer(
        ip=ip,
        port=port,
        identity=endpoint.identity,
        namespace=endpoint.namespace,
        pod=endpoint.pod_name,
        labels=_shared(tuple(endpoint.labels)),
        workload=endpoint.workloads[0].name if endpoint.workloads else "",
        names=tuple(names),
    )


@lru_cache(maxsize=4096)
def _shared(labels: tuple[str, ...]) -> tuple[str, ...]:
    """The same labels come with every flow of a pod; they are kept once."""
    return labels


def _policy(policy: Any) -> PolicyRef:
    uid = next((label[len(_UID_LABEL) :] for label in policy.labels if label.startswith(_UID_LABEL)), "")
    return PolicyRef(policy.kind, policy.namespace, policy.name, uid)


def _l7(l7: Any) -> Mapping[str, object]:
    plain: dict[str, object] = {"type": _name(flow_pb2.L7FlowType, l7.type)}
    record = l7.WhichOneof("record")
    if record:
        plain[record] = json_format.MessageToDict(getattr(l7, record), preserving_proto_field_name=True)
    return plain


def _name(enum: Any, number: int) -> str:
    """An enum value's name, or its number where it is newer than our copy of the API."""
    return str(enum.Name(number)) if number in enum.values() else str(number)
