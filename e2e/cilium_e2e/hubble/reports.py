"""What relay says of itself and of its nodes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayStatus:
    """Relay's word on itself.

    Attributes:
        connected, unavailable: how many nodes it is connected to and how many it is not.
        unavailable_nodes: some of the latter by name.
        flows_seen: flows observed by all nodes since they started.
        flows_kept, flows_most: flows in the nodes' rings, and how many fit.
        version: relay's version.
    """

    connected: int
    unavailable: int
    unavailable_nodes: tuple[str, ...]
    flows_seen: int
    flows_kept: int
    flows_most: int
    version: str


@dataclass(frozen=True, slots=True)
class NodeReport:
    """Relay's word on one node's observer."""

    name: str
    state: str
    version: str
    uptime_s: float
    flows_seen: int
    flows_most: int
