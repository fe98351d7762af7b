"""The Hubble suite's scene on paper: probes answered by the oracle, and the flows Hubble would show."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from cilium_e2e.cluster.counters import DENIED_BY_DEFAULT, DENIED_BY_RULE, DROPS, FORWARDS, Sample
from cilium_e2e.hubble import DROP, POLICY_VERDICT, TRACE
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    Direction,
    Endpoint,
    Flow,
    FlowPeer,
    FlowVerdict,
    Identity,
    Object,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Probe,
    Protocol,
    Target,
)
from cilium_e2e.policy import Oracle, Pod, World, check_agent, check_schema, parse_policy
from cilium_e2e.scenario import InForce, Lab
from cilium_e2e.suites.hubble.scene import Scene
from support.cluster import SmallCluster, ready_pod

INFO = ClusterInfo(
    "paper", Backend.SIMULATED, "default", (), "cilium/cilium", "cilium", features=frozenset({"hubble-relay"})
)
NAMESPACE = "ce2e-paper"
SCENE = Scene(
    NAMESPACE,
    *(Target.pod(NAMESPACE, name) for name in ("client", "near", "far", "web-6d4b-x2k9p")),
    Target.service(NAMESPACE, "servers"),
    {
        Target.pod(NAMESPACE, name): node
        for name, node in (("client", "n1"), ("near", "n1"), ("far", "n2"), ("web-6d4b-x2k9p", "n1"))
    },
)
ADDRESSES = {pod: f"10.0.0.{number}" for number, pod in enumerate(SCENE.nodes, start=1)}
Change = Callable[[Flow], Flow | None]


class PaperCluster:
    """As much of a live cluster as a lab and the tests of policy flows use."""

    def __init__(self, change: Change) -> None:
        self.change = change
        api = SmallCluster()
        for pod, node in SCENE.nodes.items():
            api.put(ready_pod(pod, node))
        self.api = Kube(api, clock=api.clock)
        self.clock = api.clock
        self.info = INFO
        self.policies: list[Object] = []
        self.seen: list[Flow] = []
        self.agents = self
        self._ports = itertools.count(40_000)

    # What probes come to.

    def prober(self, source: Target) -> Any:
        return SimpleNamespace(run=lambda batch: [self._probe(probe) for probe in batch])

    def _probe(self, probe: Probe) -> Outcome:
        pods = tuple(
            Pod(namespace=pod.namespace, name=pod.name, labels={"app": pod.name.partition("-")[0]}, node=node)
            for pod, node in SCENE.nodes.items()
        )
        oracle = Oracle(
            World(namespaces={NAMESPACE: {}}, pods=pods), [parse_policy(policy) for policy in self.policies]
        )
        verdict = oracle.verdict(
            str(probe.source), str(probe.target), probe.protocol.transport, probe.port or 8
        )
        port = 0 if probe.protocol is Protocol.ICMP else next(self._ports)
        self.clock.now += 0.01
        self.seen += [flow for shown in self._flows(probe, port, verdict) if (flow := self.change(shown))]
        kind = OutcomeKind.CONNECTED if verdict.passes else OutcomeKind.TIMEOUT
        answered = str(probe.target) if verdict.passes and port else ""
        return Outcome(probe.id, kind, answered, ADDRESSES[probe.source], port, ADDRESSES[probe.target])

    # What Hubble shows of them.

    def _flows(self, probe: Probe, port: int, verdict: Any) -> Iterator[Flow]:
        near, far = self._peer(probe.source, port), self._peer(probe.target, probe.port)
        icmp = probe.protocol is Protocol.ICMP

        def flow(event_type: int, direction: Direction, outcome: FlowVerdict, **more: Any) -> Flow:
            ends = (far, near) if more.get("is_reply") else (near, far)
            at = probe.source if direction is Direction.EGRESS else probe.target
            echo = ((0, 0) if more.get("is_reply") else (8, 0)) if icmp else None
            return Flow(
                self.clock.time(),
                outcome,
                *ends,
                "ICMPv4" if icmp else probe.protocol.transport,
                direction,
                event_type=event_type,
                node=f"default/{SCENE.nodes[at]}",
                icmp=echo,
                **more,
            )

        for direction in (Direction.EGRESS, Direction.INGRESS):
            rules = [rule for rule in verdict.rules if rule.direction is direction]
            named = tuple(dict.fromkeys(self._ref(rule.policy) for rule in rules))
            if verdict.denied_at is direction:
                reason = verdict.drop_reason.value
                for kind, policies in ((POLICY_VERDICT, named), (DROP, ())):
                    yield flow(kind, direction, FlowVerdict.DROPPED, drop_reason=reason, policies=policies)
                return
            if named:
                yield flow(POLICY_VERDICT, direction, FlowVerdict.FORWARDED, policies=named, is_reply=False)
            yield flow(TRACE, direction, FlowVerdict.FORWARDED, is_reply=False)
        yield flow(TRACE, Direction.EGRESS, FlowVerdict.FORWARDED, is_reply=True)

    def _peer(self, pod: Target, port: int) -> FlowPeer:
        endpoint = next(one for one in self.endpoints() if one.name == str(pod))
        workload = "web" if pod == SCENE.web else ""
        return FlowPeer(
            ADDRESSES[pod],
            port,
            endpoint.identity.number,
            pod.namespace,
            pod.name,
            endpoint.identity.labels,
            workload,
        )

    def _ref(self, policy: PolicyRef) -> PolicyRef:
        return PolicyRef(policy.kind, policy.namespace, policy.name, f"uid-{policy.name}")

    def flows(self, window: Any, filter: Any) -> list[Flow]:  # noqa: A002 - Hubble's word
        return [flow for flow in self.seen if flow.time_s in window]

    def endpoints(self, *, since_s: float | None = None) -> list[Endpoint]:
        return [
            Endpoint(
                number,
                pod.namespace,
                pod.name,
                node,
                (ADDRESSES[pod],),
                Identity(number, (f"k8s:app={pod}",)),
            )
            for number, (pod, node) in enumerate(SCENE.nodes.items(), start=1000)
        ]

    # Its agents, of which each node has one.

    def pods(self) -> list[Any]:
        return [SimpleNamespace(node=node) for node in ("n1", "n2")]

    def metrics(self, agent: Any) -> list[Sample]:
        words = {"POLICY_DENIED": DENIED_BY_DEFAULT, "POLICY_DENY": DENIED_BY_RULE}
        mine = [flow for flow in self.seen if flow.node.endswith(agent.node)]
        drops = [
            Sample(DROPS, {"reason": words[flow.drop_reason], "direction": flow.direction.value}, 1.0)
            for flow in mine
            if flow.event_type == DROP and flow.direction is not None
        ]
        return [*drops, *(Sample(FORWARDS, {}, 3.0) for flow in mine if flow.event_type == TRACE)]


class PaperLab(Lab):
    """A lab whose policies are in force as soon as they are written, if the API and the agents take them."""

    def __init__(self, change: Change) -> None:
        self.paper = PaperCluster(change)
        super().__init__(self.paper, self.paper.api, image="")  # type: ignore[arg-type]

    @contextmanager
    def in_force(
        self, policies: Sequence[Object], endpoints: Sequence[Target | str], *, timeout_s: float = 30.0
    ) -> Iterator[InForce]:
        for policy in policies:
            assert check_schema(policy) == ()
            assert check_agent(parse_policy(policy)) == ""
        self.paper.clock.now += 0.25  # what enforcement takes: flows of before are not flows of after
        self.paper.policies = list(policies)
        refs = tuple(
            PolicyRef(
                policy["kind"], NAMESPACE, policy["metadata"]["name"], f"uid-{policy['metadata']['name']}"
            )
            for policy in policies
        )
        yield InForce(refs, None)  # type: ignore[arg-type]
        self.paper.policies = []
