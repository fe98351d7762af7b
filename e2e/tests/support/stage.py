"""Pods on a cluster in memory that does as the oracle says, for tests in Python; faults on demand."""

from __future__ import annotations

import dataclasses
import itertools
import zlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    Direction,
    Endpoint,
    EndpointProof,
    Flow,
    FlowPeer,
    FlowVerdict,
    Identity,
    NodeInfo,
    Outcome,
    OutcomeKind,
    Probe,
    Proof,
    Protocol,
    Ref,
    Target,
    WorldAgent,
)
from cilium_e2e.policy.labels import pod_labels
from cilium_e2e.scenario import Lab, OracleView, PodSpec, Saying, live_policies, live_world
from support.memory import MemoryTransport, VirtualClock

INFO = ClusterInfo(
    name="lab",
    backend=Backend.SIMULATED,
    topology="default",
    nodes=(
        NodeInfo("cp", "control-plane", ("172.18.0.2",)),
        NodeInfo("w1", "worker", ("172.18.0.3",)),
    ),
    release="cilium/cilium",
    cilium_namespace="cilium",
    world=(WorldAgent("one", ("172.18.0.9",)), WorldAgent("two", ("172.18.0.10",))),
    features=frozenset({"hubble-relay"}),
)
DNS_LABELS = {"k8s-app": "kube-dns"}
Specs = dict[str, list[PodSpec]]
NAMES = {"one": ["one.e2e.test"], "two": ["two.e2e.test"]}


def _object(kind, name, namespace="", *, version="v1", labels=None, **parts):
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), "labels": labels or {}}
    return {"apiVersion": version, "kind": kind, "metadata": meta, **parts}


def _container(ports):
    entries = [
        {
            "containerPort": port.number,
            "protocol": port.transport,
            **({"name": port.name} if port.name else {}),
        }
        for port in ports
    ]
    return {"containers": [{"name": "agent", "ports": entries}]}


class Transport(MemoryTransport):
    """Does what merge patches ask for, too, as an API server does."""

    def patch(self, ref, body, *, patch_type, subresource=""):
        """Of merge patches: those of labels."""
        pod = super().patch(ref, body, patch_type=patch_type, subresource=subresource)
        pod["metadata"]["labels"] |= body["metadata"]["labels"]
        return self.put(pod)


def transport(specs: Specs) -> MemoryTransport:
    """The API's objects for these pods, by namespace."""
    found = [
        _object("ConfigMap", "cilium-config", "cilium", data={"enable-policy": "default"}),
        *(_object("Node", node.name) for node in INFO.nodes),
        *(
            _object("Namespace", name, labels={"kubernetes.io/metadata.name": name})
            for name in (*specs, "default", "kube-system")
        ),
        _object("Pod", "dns", "kube-system", labels=DNS_LABELS, spec=_container(())),
        _service("kube-dns", "kube-system", [(53, "UDP", 53)], DNS_LABELS),
        _service("kubernetes", "default", [(443, "TCP", 6443)], {}),
        _object(
            "EndpointSlice",
            "kubernetes",
            "default",
            version="discovery.k8s.io/v1",
            labels={"kubernetes.io/service-name": "kubernetes"},
            endpoints=[{"addresses": ["172.18.0.2"]}],
        ),
    ]
    for namespace, here in specs.items():
        found += [
            _object("Pod", s.name, namespace, labels=dict(s.labels), spec=_container(s.ports)) for s in here
        ]
    return Transport(*found)


def _service(name, namespace, ports, selector):
    entries = [{"port": port, "protocol": proto, "targetPort": target} for port, proto, target in ports]
    spec = {"ports": entries, **({"selector": dict(selector)} if selector else {})}
    return _object("Service", name, namespace, spec=spec)


def _endpoint(number, namespace, name, labels, node, account):
    identity = pod_labels(
        labels,
        namespace=namespace,
        namespace_labels={"kubernetes.io/metadata.name": namespace},
        service_account=account,
        cluster="default",
    )
    texts = tuple(sorted(str(label) for label in identity.values()))
    identity_number = 1000 + zlib.crc32(" ".join(texts).encode())
    return Endpoint(number, namespace, name, node, (f"10.0.0.{number}",), Identity(identity_number, texts))


@dataclasses.dataclass
class OracleCluster:
    """A cluster that does what the oracle says of the policies its API holds.

    ``bend`` may change what becomes of a probe before outcome and flows are made; ``spoil`` changes flows.
    """

    api: Kube
    clock: VirtualClock
    specs: Specs
    bend: Callable[[Probe, Saying], Saying] = lambda probe, saying: saying
    spoil: Callable[[Flow], Flow | None] = lambda flow: flow

    info = INFO

    def __post_init__(self) -> None:
        self.seen: list[Flow] = []
        self._ports = itertools.count(40000)
        self._known: dict[str, Endpoint] = {}

    def relay(self) -> None:
        """There is nothing to open."""

    def endpoints(self, *, since_s: float | None = None) -> list[Endpoint]:
        """Each pod's, with the identity that goes with the labels it has in the API now."""
        found = [_endpoint(1, "kube-system", "dns", DNS_LABELS, "w1", "coredns")]
        numbers = itertools.count(10)
        for namespace, here in self.specs.items():
            for spec in here:
                pod = self.api.get(Ref("v1", "Pod", spec.name, namespace))
                labels, account = pod["metadata"]["labels"], spec.service_account or "default"
                found.append(
                    _endpoint(next(numbers), namespace, spec.name, labels, spec.node or "w1", account)
                )
        return found

    def prover(self) -> OracleView:
        world = live_world(self, self.api, dns_names=NAMES)
        return OracleView(world, live_policies(self.api))

    def prober(self, source: Target) -> SimpleNamespace:
        return SimpleNamespace(run=self.run)

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        view = self.prover()
        self._known = {endpoint.name: endpoint for endpoint in self.endpoints()}
        self.clock.sleep(0.5 if batch else 0.0)
        return [self._answer(probe, self.bend(probe, view.says(probe))) for probe in batch]

    def prove(self, policies, names, *, gone=False, absent=(), timeout_s=30.0) -> Proof:
        proofs = tuple(EndpointProof(str(name), "w1", 1, frozenset()) for name in names)
        return Proof(tuple(policies), gone, proofs, 0.1)

    def flows(self, window, filter) -> list[Flow]:  # noqa: A002 - the protocol's name
        self.clock.sleep(0.01)
        bent = [self.spoil(flow) for flow in self.seen if flow.time_s in window]
        return [flow for flow in bent if flow is not None]

    def _answer(self, probe: Probe, saying: Saying) -> Outcome:
        port = 0 if probe.protocol is Protocol.ICMP else next(self._ports)
        source, target = self._peer(probe.source, port), self._peer(probe.target, probe.port)
        self._watch(probe, saying, source, target)
        outcome = Outcome(
            probe.id, OutcomeKind.CONNECTED, source_ip=source.ip, source_port=port, destination_ip=target.ip
        )
        if probe.protocol is Protocol.DNS:
            rcode = saying.looks or "NOERROR"
            return dataclasses.replace(outcome, kind=OutcomeKind.DNS, rcode=rcode)
        if saying.passes:
            by = str(probe.target) if probe.protocol is not Protocol.ICMP else ""
            if probe.protocol is Protocol.HTTP:
                return dataclasses.replace(outcome, kind=OutcomeKind.HTTP, status=200, answered_by=by)
            return dataclasses.replace(outcome, answered_by=by)
        if saying.looks == "403":
            return dataclasses.replace(outcome, kind=OutcomeKind.HTTP, status=403)
        return dataclasses.replace(outcome, kind=OutcomeKind.TIMEOUT)

    def _peer(self, target: Target, port: int) -> FlowPeer:
        # Socket load balancing: the packet leaves the pod with the backend's address.
        known = self._known.get(str(target).removeprefix("svc:"))
        if known is not None:
            return FlowPeer(known.ips[0], port, known.identity.number, known.namespace, known.pod)
        outside = {f"world:{agent.name}": agent.ips[0] for agent in INFO.world}
        inside = {f"node:{node.name}": node.ips[0] for node in INFO.nodes}
        return FlowPeer((outside | inside).get(str(target), "10.96.0.1"), port)

    def _watch(self, probe: Probe, saying: Saying, source: FlowPeer, target: FlowPeer) -> None:
        protocol = {"ICMP": "ICMPv4"}.get(probe.protocol.transport, probe.protocol.transport)
        flow = Flow(
            self.clock.time(),
            FlowVerdict.FORWARDED,
            source,
            target,
            protocol=protocol,
            is_reply=False,
            event_type=5,
            icmp=(8, 0) if protocol == "ICMPv4" else None,
        )
        for side in saying.allowed:
            verdict = FlowVerdict.REDIRECTED if side.redirected else FlowVerdict.FORWARDED
            self.seen.append(self._at(flow, side.direction, verdict=verdict, policies=side.policies))
        if saying.denied_at is not None:
            reason = saying.reason.value if saying.reason else ""
            kinds = (5, 1) if reason else (129,)
            self.seen += [
                self._at(
                    flow,
                    saying.denied_at,
                    verdict=FlowVerdict.DROPPED,
                    drop_reason=reason,
                    event_type=kind,
                    policies=saying.denied_by if kind == 5 else (),
                )
                for kind in kinds
            ]

    def _at(self, flow: Flow, direction: Direction, **changes) -> Flow:
        peer = flow.source if direction is Direction.EGRESS else flow.destination
        node = next((e.node for e in self._known.values() if e.ips[0] == peer.ip), "")
        return dataclasses.replace(flow, direction=direction, node=f"default/{node}", **changes)


def lab(specs: Specs, **faults) -> Lab:
    """A lab over a cluster in memory with these pods, by namespace."""
    memory = transport(specs)
    clock = VirtualClock()
    cluster = OracleCluster(Kube(memory, clock=clock), clock, specs, **faults)
    return Lab(cluster, cluster.api, image="agent")  # type: ignore[arg-type]
