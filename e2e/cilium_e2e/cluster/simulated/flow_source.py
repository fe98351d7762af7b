"""Hubble relay over the agents' rings: a flow source whose completeness is kept as the live one's is.

The ledger decides what is complete and what is missing; only the way flows come is another: from rings in
memory, a moment after they were seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import TracebackType
from typing import Self

from cilium_e2e.cluster.simulated.agent import RING, Agent
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.recorder import Recorder
from cilium_e2e.hubble.ledger import Ledger, Reading
from cilium_e2e.hubble.reports import NodeReport, RelayStatus
from cilium_e2e.model import (
    Flow,
    FlowFilter,
    LostFlows,
    NodeStatus,
    StreamLost,
    TimeWindow,
    WaitTimeout,
)

_LATE_S, _PAUSE_S = 0.05, 0.1
_VERSION = "simulated"


class SimulatedRelay:
    """A :class:`~cilium_e2e.model.FlowSource` over all agents.

    Args:
        clock: the cluster's.
        agents: whose flows.
        recorder: knows what was lost.
        hooks: what a fault changes.
        poke: makes a silent node show a flow.
        relay_pod: the UID of the relay pod that is ready; empty for none.
    """

    def __init__(
        self,
        clock: VirtualClock,
        agents: Agents,
        recorder: Recorder,
        hooks: Hooks,
        poke: Callable[[Agent], None],
        relay_pod: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._agents = agents
        self._recorder = recorder
        self._hooks = hooks
        self._poke = poke
        self._relay_pod = relay_pod
        self._pod = ""
        self._ledger = Ledger(max_flows=50_000)
        self._reading: Reading | None = None
        self._read: dict[str, tuple[float, int]] = {}
        self._told_losses = 0
        self.reconnects = 0
        """How often the stream had to be opened anew."""

    def start(self) -> None:
        """See :class:`~cilium_e2e.model.FlowSource`.

        Raises:
            StreamLost: no relay is ready.
        """
        with self._clock.lock:
            self._check()
            now = self._clock.time()
            self._ledger.start_s = now
            self._reading = self._ledger.begin(live=True, now_s=now)
            for agent in self._agents.agents.values():
                self._read[agent.node] = (agent.started_s, agent.seen)
            self._told_losses = len(self._recorder.lost)
            self._look()
            self._recorder.listeners.append(self._drain)

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        """See :class:`~cilium_e2e.model.FlowSource`."""
        with self._clock.lock:
            self._drain()
            return self._ledger.flows(window, filter)

    def lost(self, window: TimeWindow) -> list[LostFlows]:
        """See :class:`~cilium_e2e.model.FlowSource`."""
        with self._clock.lock:
            return self._ledger.lost(window)

    def nodes(self) -> list[NodeStatus]:
        """See :class:`~cilium_e2e.model.FlowSource`."""
        with self._clock.lock:
            self._look()
            return self._ledger.nodes()

    def unfollowed(self, time_s: float) -> list[str]:
        """See :class:`~cilium_e2e.hubble.reports.Relay`."""
        with self._clock.lock:
            self._drain()
            return self._ledger.unfollowed(time_s)

    def wait_past(self, time_s: float, *, timeout_s: float) -> None:
        """See :class:`~cilium_e2e.model.FlowSource`.

        Raises:
            WaitTimeout: a node is silent, or relay is not connected to it.
        """
        end_s = self._clock.monotonic() + timeout_s
        state = "nothing was heard from relay"
        while True:
            with self._clock.lock:
                try:
                    state = self._complete(time_s)
                except StreamLost as error:
                    state = str(error)
                if not state:
                    return
                if self._clock.monotonic() >= end_s:
                    raise WaitTimeout(
                        f"flows up to {time_s:.3f} are not complete after {timeout_s:.1f} s: {state}",
                        hint="A node is late or silent, or relay is not connected to it.",
                    )
                self._clock.sleep(_PAUSE_S)

    def status(self, *, timeout_s: float | None = None) -> RelayStatus:
        """Relay's word on itself.

        Raises:
            StreamLost: no relay is ready.
        """
        del timeout_s
        with self._clock.lock:
            self._check()
            agents = list(self._agents.agents.values())
            away = tuple(a.node for a in agents if not self._connected(a))
            return RelayStatus(
                connected=len(agents) - len(away),
                unavailable=len(away),
                unavailable_nodes=away,
                flows_seen=sum(a.seen for a in agents),
                flows_kept=sum(len(a.ring) for a in agents),
                flows_most=RING * len(agents),
                version=_VERSION,
            )

    def node_reports(self, *, timeout_s: float | None = None) -> list[NodeReport]:
        """Relay's word on each node it knows.

        Raises:
            StreamLost: no relay is ready.
        """
        del timeout_s
        with self._clock.lock:
            self._check()
            now = self._clock.time()
            return [
                NodeReport(a.node, self._state(a), _VERSION, now - a.started_s, a.seen, RING)
                for a in self._agents.agents.values()
            ]

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.FlowSource`."""
        with self._clock.lock:
            if self._drain in self._recorder.listeners:
                self._recorder.listeners.remove(self._drain)

    def __enter__(self) -> Self:
        """Start, for ``with``."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, for ``with``."""
        self.close()

    def _check(self) -> None:
        pod = self._relay_pod()
        if not pod:
            raise StreamLost("no relay is ready", place="hubble-relay")
        if self._pod and pod != self._pod:
            self.reconnects += 1
        self._pod = pod

    def _connected(self, agent: Agent) -> bool:
        return agent.running and self._hooks.connected(agent.node)

    def _state(self, agent: Agent) -> str:
        return "NODE_CONNECTED" if self._connected(agent) else "NODE_UNAVAILABLE"

    def _look(self) -> list[NodeReport]:
        reports = self.node_reports()
        now = self._clock.time()
        self._ledger.expected = [report.name for report in reports]
        for report in reports:
            self._ledger.status(NodeStatus(report.state, (report.name,)), time_s=now)
            if report.state == "NODE_CONNECTED":
                began_s = now - report.uptime_s
                self._ledger.started(report.name, began_s, began_s)
        return reports

    def _complete(self, time_s: float) -> str:
        reports = self._look()
        if away := [f"{r.name} is {r.state}" for r in reports if r.state != "NODE_CONNECTED"]:
            return f"relay is not connected to every node: {', '.join(away)}"
        self._drain()
        behind = self._ledger.behind(time_s)
        for agent in self._agents.agents.values():
            if agent.node in behind and self._clock.time() > time_s:
                self._poke(agent)
        return f"no newer flow of {', '.join(behind)}" if behind else ""

    def _drain(self) -> None:
        """Take over what the rings have that is old enough to have come."""
        if self._reading is None:
            raise StreamLost("the flow source was not started")
        if not self._relay_pod():
            return  # what the rings keep until it is back is read then
        limit_s = self._clock.time() - _LATE_S
        for agent in self._agents.agents.values():
            if not self._connected(agent):
                continue
            began_s, taken = self._read.get(agent.node, (0.0, 0))
            if began_s != agent.started_s:
                taken = 0
            first = agent.seen - len(agent.ring)
            taken = max(taken, first)
            for flow in itertools.islice(agent.ring, taken - first, None):
                if flow.time_s > limit_s:
                    break
                taken += 1
                self._ledger.take(agent.node, flow.time_s, flow.uuid, self._reading, lambda flow=flow: flow)  # type: ignore[misc]
            self._read[agent.node] = (agent.started_s, taken)
        for loss in self._recorder.lost[self._told_losses :]:
            self._ledger.take_lost(loss, self._reading)
        self._told_losses = len(self._recorder.lost)
