"""What was heard from relay, up to when it is complete for each node, and where something is missing.

The facts this rests on, from the sources of Cilium 1.18:

* A node's agent writes events into a ring in the order of their timestamps, which it gives them itself,
  and every reader gets them in that order. Hence: once a flow of a node was heard, every older flow of
  that node was, unless the reading had a hole.
* A reading that starts at a time we had already heard from a node must begin with a flow we know. If it
  begins later, the ring has been overwritten or the agent has restarted: that is a gap, and its bounds are
  the last flow before and the first one after.
* A look at history that begins too late is a gap only as long as the live stream has not filled it. One that
  is behind, because relay or whoever reads it is busy, still brings every flow, or word of what was lost.
* The newest event of a ring can be read only when the next one has been written.
* A reader that goes back beyond a ring's beginning is told that one event was lost to the ring. That is no
  loss, only the ring's edge, so such words count only on the live stream and not right at its start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cilium_e2e.model import Flow, FlowFilter, LostFlows, NodeStatus, StreamLost, TimeWindow

RING = "HUBBLE_RING_BUFFER"
EDGE_S = 2.0
LATE_S = 1.0
"""Hubble counts losses when it can report them, not when they happen; so much later at most."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Between these times flows of a node may be missing."""

    node: str
    start_s: float
    end_s: float
    why: str

    def touches(self, window: TimeWindow) -> bool:
        """Whether some of it lies in a window."""
        return self.start_s < window.end_s and self.end_s > window.start_s


@dataclass(slots=True)
class Reading:
    """One pass over the nodes' rings: a live stream from its start, or one look at history.

    Attributes:
        before: for each node, up to when it had been heard when the reading began.
        live: whether it follows.
        began_s: when it began.
        since_s: the time from which on flows are asked for.
        doubted: the nodes that only a look at history can speak for, because the live stream had a hole.
        seen: the nodes it has brought something of.
    """

    before: dict[str, float]
    live: bool
    began_s: float
    since_s: float
    doubted: frozenset[str] = frozenset()
    seen: set[str] = field(default_factory=set)


class _Kept:
    """A flow that is read only when somebody asks for it: reading costs ten times as much as keeping.

    A stream that reads each flow at once falls behind at a few thousand a second, and the nodes' rings are
    overwritten before it comes to them.
    """

    __slots__ = ("_flow", "node", "time_s", "uuid")

    def __init__(self, time_s: float, node: str, uuid: str, read: Callable[[], Flow]) -> None:
        self.time_s = time_s
        self.node = node
        self.uuid = uuid
        self._flow: Flow | Callable[[], Flow] = read

    def flow(self) -> Flow:
        """Read now, or before."""
        if not isinstance(self._flow, Flow):
            self._flow = self._flow()
        return self._flow


class Ledger:
    """The flows kept, and what is known of their completeness. Not thread-safe: the owner locks.

    Args:
        max_flows: how many flows are kept; the oldest are let go, and a window that reaches them is
            refused.
    """

    def __init__(self, *, max_flows: int) -> None:
        self.start_s = 0.0
        """Flows before this are not kept."""
        self.expected: list[str] = []
        """The nodes relay knows."""
        self.heard: dict[str, float] = {}
        """Node to the time of the latest flow heard from it."""
        self.gaps: list[Gap] = []
        self._flows: deque[_Kept] = deque()
        self._uuids: set[str] = set()
        self._max_flows = max_flows
        self._floor_s = 0.0
        self._lost: dict[tuple[str, str, float], LostFlows] = {}
        self._nodes: dict[str, NodeStatus] = {}
        self._suspects: dict[str, float] = {}
        self._live: Reading | None = None
        self._live_heard: dict[str, float] = {}
        self._awaited: list[Gap] = []
        self._started: dict[str, float] = {}

    def begin(self, *, live: bool, now_s: float) -> Reading:
        """A new reading; relay is to be asked for everything since its ``since_s``."""
        before = {**self.heard, **self._suspects}
        expected = [self._name(node) for node in self.expected] or list(before)
        if live:
            for gap in self._awaited:  # what the old stream has not brought the new one must
                before[gap.node] = min(before.get(gap.node, gap.start_s), gap.start_s)
        before = {node: time_s for node, time_s in before.items() if node in expected}
        since_s = min((before.get(node, self.start_s) for node in expected), default=self.start_s)
        # Two goroutines of an agent hand events over; theirs can be out of order by a moment.
        reading = Reading(before, live, now_s, since_s - 0.1, frozenset(self._suspects))
        if live:
            self._live, self._live_heard = reading, {}
        return reading

    def take_lost(self, lost: LostFlows, reading: Reading) -> None:
        """Enter a loss."""
        edge = not reading.live or lost.time_s < reading.began_s + EDGE_S
        if lost.source != RING or not edge:
            self._lost[lost.source, lost.node, lost.time_s] = lost

    def take(self, node: str, time_s: float, uuid: str, reading: Reading, flow: Callable[[], Flow]) -> None:
        """Enter a flow; it is read only if it is new, and when it is asked for."""
        if time_s < self.start_s:
            return
        if node not in reading.seen:
            reading.seen.add(node)
            before = reading.before.get(node)
            whole = node not in reading.doubted and all(gap.node != node for gap in self._awaited)
            if before is not None and reading.live and whole:
                # Relay may be connected to a node only later than to whoever asks: looks at history have
                # brought what was up to then.
                before = max(before, self.heard.get(node, before))
            if before is not None and time_s > before:
                self._missing(reading, Gap(node, before, time_s, "its history does not reach back"))
        if reading is self._live:
            self._live_heard[node] = max(time_s, self._live_heard.get(node, 0.0))
            self._awaited = [gap for gap in self._awaited if gap.node != node or gap.end_s > time_s]
        self.heard[node] = max(time_s, self.heard.get(node, 0.0))
        if uuid in self._uuids:
            return
        self._flows.append(_Kept(time_s, node, uuid, flow))
        if uuid:
            self._uuids.add(uuid)
        if len(self._flows) > self._max_flows:
            oldest = self._flows.popleft()
            self._uuids.discard(oldest.uuid)
            self._floor_s = max(self._floor_s, oldest.time_s)

    def end(self, reading: Reading) -> None:
        """A look at history is complete: what it should have brought and did not is missing."""
        for node, before in reading.before.items():
            if node not in reading.seen:
                self._missing(reading, Gap(node, before, reading.began_s, "its history is empty"))
            if self._suspects.get(node) == before:
                del self._suspects[node]

    def status(self, status: NodeStatus, *, time_s: float) -> None:
        """Relay's word on nodes. What a node said after ``time_s`` may have a hole before it."""
        for node in status.nodes:
            self._nodes[node] = NodeStatus(status.state, (node,), status.message)
            if status.state != "NODE_CONNECTED" and (known := self._name(node)) in self.heard:
                self._suspects[known] = self._last_before(known, time_s)

    def started(self, node: str, earliest_s: float, latest_s: float) -> None:
        """Between which times a node's observer says it started; later than before is a restart."""
        name = self._name(node)
        if earliest_s > self._started.get(name, earliest_s) and name in self.heard:
            self._gap(Gap(name, self._last_before(name, earliest_s), latest_s, "its agent has restarted"))
        self._started[name] = latest_s

    def behind(self, time_s: float) -> list[str]:
        """The nodes from which older flows than ``time_s`` can still come."""
        names = ((node, self._name(node)) for node in self.expected)
        return [node for node, name in names if self.heard.get(name, 0.0) <= time_s or name in self._suspects]

    def unfollowed(self, time_s: float) -> list[str]:
        """The nodes of which the live stream has brought nothing newer than ``time_s``."""
        return [node for node in self.expected if self._live_heard.get(self._name(node), 0.0) <= time_s]

    def lagging(self, time_s: float) -> list[str]:
        """The nodes of which only the live stream can bring flows older than ``time_s`` that are missing."""
        late = {gap.node for gap in self._awaited if gap.start_s < time_s}
        return [node for node in self.expected if self._name(node) in late]

    def flows(self, window: TimeWindow, wanted: FlowFilter) -> list[Flow]:
        """The flows kept of a window, in the order they came.

        Raises:
            StreamLost: some of them are missing, or may be.
        """
        if window.start_s < self.start_s:
            raise StreamLost(
                f"flows are kept from {self.start_s:.3f} on, asked for from {window.start_s:.3f}",
                hint="Start the flow source before the first probe.",
            )
        if window.start_s <= self._floor_s:
            raise StreamLost(
                f"only the latest {self._max_flows} flows are kept, from {self._floor_s:.3f} on, "
                f"asked for from {window.start_s:.3f}",
                hint="Ask sooner, or keep more flows (max_flows).",
            )
        for gap in (*self.gaps, *self._awaited):
            if gap.touches(window):
                raise StreamLost(
                    f"flows of node {gap.node} may be missing for {gap.end_s - gap.start_s:.3f} s "
                    f"from {gap.start_s:.3f} on: {gap.why}"
                )
        start_s, end_s = window.start_s, window.end_s
        inside = (kept.flow() for kept in self._flows if start_s <= kept.time_s <= end_s)
        return [flow for flow in inside if _passes(flow, wanted)]

    def lost(self, window: TimeWindow) -> list[LostFlows]:
        """Losses that Hubble reported inside a window, or so soon after that they may belong to it."""
        wide = TimeWindow(window.start_s, window.end_s + LATE_S)
        return [lost for lost in self._lost.values() if lost.time_s in wide]

    def nodes(self) -> list[NodeStatus]:
        """The last word on each node."""
        return list(self._nodes.values())

    def _missing(self, reading: Reading, gap: Gap) -> None:
        """A reading lacks something: a gap, unless the live stream has brought it, or still can."""
        if reading.live or self._live is None or gap.node in reading.doubted:
            self._gap(gap)
        elif self._live_heard.get(gap.node, 0.0) < gap.end_s and gap not in self._awaited:
            self._awaited.append(gap)

    def _gap(self, gap: Gap) -> None:
        if gap not in self.gaps:
            self.gaps.append(gap)

    def _last_before(self, node: str, time_s: float) -> float:
        times = (flow.time_s for flow in self._flows if flow.node == node and flow.time_s < time_s)
        return max(times, default=min(self.start_s, time_s))

    def _name(self, node: str) -> str:
        """A node's name as its flows spell it: with or without the cluster in front."""
        if node in self.heard:
            return node
        bare = node.rpartition("/")[2]
        return next((name for name in self.heard if name.rpartition("/")[2] == bare), node)


def _passes(flow: Flow, wanted: FlowFilter) -> bool:
    return (
        (not wanted.source_ips or flow.source.ip in wanted.source_ips)
        and (not wanted.destination_ips or flow.destination.ip in wanted.destination_ips)
        and (not wanted.verdicts or flow.verdict in wanted.verdicts)
        and (
            not wanted.namespaces
            or flow.source.namespace in wanted.namespaces
            or flow.destination.namespace in wanted.namespaces
        )
    )
