"""What relay says of itself and of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cilium_e2e.model import FlowSource


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


class Relay(FlowSource, Protocol):
    """A flow source that also speaks of itself and of its nodes."""

    reconnects: int
    """How often the stream had to be opened anew."""

    def unfollowed(self, time_s: float) -> list[str]:
        """The nodes of which the stream has brought nothing newer than ``time_s`` itself.

        After a restart of relay or of an agent, relay may be connected to a node much later than whoever
        asks to relay; until then only looks at its history bring flows, and those reach back but seconds.
        """
        ...

    def status(self, *, timeout_s: float | None = None) -> RelayStatus:
        """Relay's word on itself."""
        ...

    def node_reports(self, *, timeout_s: float | None = None) -> list[NodeReport]:
        """Relay's word on each node it knows."""
        ...
