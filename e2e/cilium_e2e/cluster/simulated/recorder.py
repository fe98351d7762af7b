"""Flows as Hubble's observers see them: what each packet of a connection makes each node's agent note.

The events and their directions are those of recorded flows: a policy verdict where the side enforces
policy, a drop beside a verdict that denies, traces towards overlay, network and endpoint, replies on the
way back, the proxy's own entries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cilium_e2e.cluster.simulated.agent import Agent
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.places import Place
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.cluster.simulated.verdicts import Verdicts
from cilium_e2e.hubble.matching import ACCESS_LOG, DROP, POLICY_VERDICT, TRACE, TRACE_SOCK
from cilium_e2e.model import Decision, Direction, Flow, FlowPeer, FlowVerdict, LostFlows, Object, Ref
from cilium_e2e.policy import Side

_STEP_S = 1e-5
_OFTEN = 500
_Known = tuple[int, str, str, tuple[str, ...], str, tuple[str, ...]]
LOST_SOURCE = "OBSERVER_EVENTS_QUEUE"


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection's ends, its protocol (``ICMP`` too), and whether a Service led there."""

    source: Place
    target: Place
    protocol: str
    source_port: int
    port: int
    translated: bool = False

    @property
    def same_node(self) -> bool:
        """Whether both ends are on one node."""
        return bool(self.source.node) and self.source.node == self.target.node


class Recorder:
    """Notes flows in the agents' rings."""

    def __init__(
        self, clock: VirtualClock, store: Store, agents: Agents, verdicts: Verdicts, hooks: Hooks
    ) -> None:
        self._clock = clock
        self._store = store
        self._agents = agents
        self._verdicts = verdicts
        self._hooks = hooks
        self._last_s = 0.0
        self._made = 0
        self._state: object = None
        self._peers: dict[tuple[str, str], _Known] = {}
        self.lost: list[LostFlows] = []
        self.listeners: list[Callable[[], None]] = []
        """Called often enough that who listens misses nothing of a ring."""
        self._dropped: Counter[tuple[str, str, str]] = Counter()
        self._forwarded: Counter[str] = Counter()

    def translated(self, connection: Connection) -> None:
        """A Service was translated at the source's socket."""
        agent = self._agents.agents.get(connection.source.node)
        if agent is not None and connection.source.kind == "pod":
            unbound = replace(connection, source_port=0)
            self._note(agent, unbound, FlowVerdict.TRANSLATED, event=TRACE_SOCK, summary=connection.protocol)

    def judged(self, connection: Connection, side: Side) -> None:
        """A side that enforces policy has decided on the first packet."""
        egress = side.direction is Direction.EGRESS
        agent = self._agents.agents.get((connection.source if egress else connection.target).node)
        if agent is None or not side.policy.enforced or side.decision is Decision.NONE:
            return
        denied = side.decision is Decision.DENIED
        verdict = (
            FlowVerdict.DROPPED
            if denied
            else FlowVerdict.REDIRECTED
            if side.redirects
            else FlowVerdict.FORWARDED
        )
        reason = side.drop_reason.value if side.drop_reason is not None else ""
        for event in (POLICY_VERDICT, DROP) if denied else (POLICY_VERDICT,):
            self._note(
                agent,
                connection,
                verdict,
                event=event,
                direction=side.direction,
                reason=reason,
                policies=side if event == POLICY_VERDICT else None,
                flags=("SYN",),
                reply=None if denied else False,
            )

    def sent(self, connection: Connection, flags: Sequence[str] = (), *, reply: bool = False) -> None:
        """A packet has left its end's node, or was handed to an end on the same node."""
        near = connection.target if reply else connection.source
        agent = self._agents.agents.get(near.node)
        if agent is not None and not connection.same_node:
            direction = Direction.INGRESS if reply else Direction.EGRESS
            self._trace(agent, connection, direction, flags, reply=reply)

    def arrived(self, connection: Connection, flags: Sequence[str] = (), *, reply: bool = False) -> None:
        """A packet was handed to its end."""
        far = connection.source if reply else connection.target
        agent = self._agents.agents.get(far.node)
        if agent is not None:
            towards = Direction.EGRESS if reply or connection.same_node else Direction.INGRESS
            self._trace(agent, connection, towards, flags, reply=reply)

    def proxied(
        self,
        connection: Connection,
        direction: Direction,
        l7: Object,
        summary: str,
        *,
        dropped: bool,
        reply: bool,
    ) -> None:
        """The proxy of a side has seen a request, or the answer to it."""
        egress = direction is Direction.EGRESS
        agent = self._agents.agents.get((connection.source if egress else connection.target).node)
        if agent is not None:
            verdict = FlowVerdict.DROPPED if dropped else FlowVerdict.FORWARDED
            self._note(
                agent,
                connection,
                verdict,
                event=ACCESS_LOG,
                direction=direction,
                reply=reply,
                summary=summary,
                l7=l7,
            )

    def _trace(
        self, agent: Agent, connection: Connection, direction: Direction, flags: Sequence[str], *, reply: bool
    ) -> None:
        self._note(
            agent,
            connection,
            FlowVerdict.FORWARDED,
            event=TRACE,
            direction=direction,
            reply=reply,
            flags=flags,
        )

    def _note(
        self,
        agent: Agent,
        connection: Connection,
        verdict: FlowVerdict,
        *,
        event: int,
        direction: Direction | None = None,
        reason: str = "",
        policies: Side | None = None,
        flags: Sequence[str] = (),
        reply: bool | None = None,
        summary: str = "",
        l7: Object | None = None,
    ) -> None:
        icmp = connection.protocol == "ICMP"
        six = ":" in connection.target.ip
        source = self._peer(agent, connection.source, 0 if icmp else connection.source_port)
        target = self._peer(agent, connection.target, 0 if icmp else connection.port)
        # A Service translated at the socket has no source port yet; Hubble tells of the other end then.
        first, second = (target, source) if reply else (source, target)
        tcp = connection.protocol == "TCP"
        echo = ((129, 0) if six else (0, 0)) if reply else ((128, 0) if six else (8, 0))
        self._made += 1
        self._last_s = max(self._clock.time(), self._last_s + _STEP_S)
        flow = Flow(
            time_s=self._last_s,
            verdict=verdict,
            source=first,
            destination=second,
            protocol=("ICMPv6" if six else "ICMPv4") if icmp else connection.protocol,
            direction=direction,
            drop_reason=reason,
            is_reply=reply,
            event_type=event,
            policies=tuple(dict.fromkeys(rule.policy for rule in policies.rules))
            if policies is not None
            else (),
            node=agent.node,
            uuid=f"{self._made:08x}-0000-4000-8000-000000000000",
            summary=summary or (f"TCP Flags: {', '.join(flags)}" if tcp and flags else connection.protocol),
            tcp_flags=tuple(sorted(flags)) if tcp else (),
            icmp=echo if icmp else None,
            **({"l7": l7} if l7 is not None else {}),
        )
        if event == DROP:
            self._dropped[agent.node, reason, direction.value if direction is not None else ""] += 1
        elif event == TRACE:
            self._forwarded[agent.node] += 1
        self._keep(agent, flow)

    def counted(self, node: str) -> tuple[dict[tuple[str, str], int], int]:
        """What a node's datapath has dropped, by reason and direction, and how much it has forwarded."""
        dropped = {(r, d): count for (where, r, d), count in self._dropped.items() if where == node}
        return dropped, self._forwarded[node]

    def _keep(self, agent: Agent, flow: Flow) -> None:
        if not agent.running:
            return  # nobody reads the datapath's events
        if count := self._hooks.loses(agent.node):
            self.lost.append(LostFlows(LOST_SOURCE, count, agent.node, flow.time_s))
            return
        told = self._hooks.flow(flow)
        if told is not None:
            agent.ring.append(told)
            agent.seen += 1
            if agent.seen % _OFTEN == 0:
                for listener in self.listeners:
                    listener()

    def last_s(self) -> float:
        """The time of the latest flow."""
        return self._last_s

    def _peer(self, agent: Agent, place: Place, port: int) -> FlowPeer:
        state = self._verdicts.state()
        if self._state != state:
            self._state = state
            self._peers.clear()
        if (agent.node, place.ip) not in self._peers:
            self._peers[agent.node, place.ip] = self._known(agent, place)
        number, namespace, name, labels, workload, names = self._peers[agent.node, place.ip]
        return FlowPeer(place.ip, port, number, namespace, name, labels, workload, names)

    def _known(self, agent: Agent, place: Place) -> _Known:
        """What a node's observer knows of an end: identity, namespace, pod, labels, workload, names."""
        number, labels = self._verdicts.identity(agent, place)
        names = tuple(sorted(agent.names.get(place.ip, ())))
        if place.kind != "pod":
            return number, "", "", labels, "", names
        namespace, _, name = place.name.partition("/")
        pod = self._store.find(Ref("v1", "Pod", name, namespace))
        owners: Iterable[Object] = (pod or {"metadata": {}})["metadata"].get("ownerReferences") or ()
        return number, namespace, name, labels, next((owner["name"] for owner in owners), ""), names
