"""A cluster in memory that enforces the policies of its API server, as the oracle understands them.

What it does wrong is up to the test: ``faults`` change outcomes, ``deaf`` pods never answer.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cilium_e2e.hubble.matching import ACCESS_LOG, DROP, POLICY_VERDICT
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    Direction,
    Endpoint,
    EndpointProof,
    EnforcementNotProven,
    Flow,
    FlowPeer,
    FlowVerdict,
    Identity,
    KubeError,
    NodeInfo,
    Object,
    Outcome,
    OutcomeKind,
    PolicyError,
    PolicyRef,
    Probe,
    Proof,
    Protocol,
    Ref,
    Target,
    TargetKind,
    WorldAgent,
)
from cilium_e2e.policy import (
    CIDRGroup,
    Options,
    Oracle,
    Peer,
    Pod,
    Service,
    ServicePort,
    World,
    check_agent,
    check_schema,
    parse_policy,
)
from cilium_e2e.policy.schema import aggregate
from cilium_e2e.probe.places import zone_agents
from cilium_e2e.scenario import OracleView, Saying
from support.memory import MemoryTransport

_POLICIES = {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"}
NODES = (NodeInfo("n1", "control-plane", ("10.9.0.1",)), NodeInfo("n2", "worker", ("10.9.0.2",)))
WORLD = (WorldAgent("one", ("192.0.2.7",)), WorldAgent("two", ("192.0.2.8",)))
DNS = Pod(namespace="kube-system", name="coredns", labels={"k8s-app": "kube-dns"}, node="n1")
SERVICES = (
    Service(
        namespace="kube-system",
        name="kube-dns",
        selector={"k8s-app": "kube-dns"},
        ports=(ServicePort(port=53, protocol="UDP", target=53),),
    ),
    Service(
        namespace="default",
        name="kubernetes",
        backends=NODES[0].ips,
        ports=(ServicePort(port=443, protocol="TCP", target=6443),),
    ),
)
"""What every cluster has; n1 is its API server."""
Fault = Callable[[Probe, Outcome], Outcome]


class EnforcingTransport(MemoryTransport):
    """Makes pods ready at once, and namespaces usable."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.refuses = False

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        if self.refuses and obj["kind"] in _POLICIES:
            if problems := check_schema(obj):
                raise KubeError(422, "Invalid", aggregate(problems), place=str(Ref.of(obj)))
            if words := check_agent(parse_policy(obj)):
                raise PolicyError(f"Cilium refuses the policy: {words}", place=str(Ref.of(obj)))
        self.number += 1
        stored = super().apply(obj, field_manager=field_manager, force=force)
        if obj["kind"] == "Pod":
            stored["status"] = {
                "podIP": f"10.0.{self.number // 250}.{self.number % 250 + 1}",
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            wish = str(stored["spec"].get("affinity", ""))
            stored["spec"].setdefault("nodeName", "n1" if "n1" in wish else "n2")
        self.put(stored)
        if obj["kind"] == "Namespace":
            account = {"name": "default", "namespace": obj["metadata"]["name"]}
            self.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        return stored

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        super().delete(ref, grace_period_s=grace_period_s)
        if ref.kind == "Namespace":
            inside = [Ref.of(obj) for key, obj in self._objects.items() if key[2] == ref.name]
            for one in inside:
                self.remove(one)

    def pod(self, target: Target) -> Object | None:
        return self._objects.get(self._key(Ref("v1", "Pod", target.name, target.namespace)))

    def all(self, *kinds: str) -> list[Object]:
        return [obj for key, obj in self._objects.items() if key[1] in kinds]


@dataclass
class EnforcingCluster:
    """See the module."""

    backend: Backend = Backend.KIND
    kube: EnforcingTransport = field(default_factory=EnforcingTransport)
    faults: list[Fault] = field(default_factory=list)
    deaf: set[str] = field(default_factory=set)
    ignores_policies: bool = False
    strict: bool = False
    """Whether it refuses what the API server and the agent refuse."""
    probed: list[str] = field(default_factory=list)
    proven: list[tuple[tuple[PolicyRef, ...], bool]] = field(default_factory=list)
    unproven: set[str] = field(default_factory=set)
    found_flows: Callable[[], list[object]] | None = None
    seen: list[Flow] = field(default_factory=list)
    bend: Callable[[Probe, Saying], Saying] = lambda _, saying: saying
    """Changes what becomes of a probe before outcome and flows are made."""
    spoil: Callable[[Flow], Flow | None] = lambda flow: flow
    """Changes the flows that Hubble tells of."""
    options: Options = field(default_factory=Options)
    resolved: set[str] = field(default_factory=set)
    """Names that the DNS proxy has seen since there were no policies."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.kube.refuses = self.strict

    @property
    def policies(self) -> list[Object]:
        return self.kube.all(*_POLICIES)

    @property
    def dropped(self) -> list[Flow]:
        """The flows of what was dropped, without its policy verdicts."""
        return [f for f in self.seen if f.verdict is FlowVerdict.DROPPED and f.event_type != POLICY_VERDICT]

    @property
    def clock(self):
        return self.kube.clock

    @property
    def api(self) -> Kube:
        return Kube(self.kube, clock=self.clock)

    @property
    def info(self) -> ClusterInfo:
        return ClusterInfo(
            "ce2e-fake",
            self.backend,
            "default",
            NODES,
            "cilium/cilium",
            "cilium",
            world=WORLD,
            features=frozenset({"hubble-relay"}),
        )

    def view(self) -> OracleView:
        """What it does, with the names it has seen resolved."""
        if not self.policies:
            self.resolved.clear()
        names: dict[str, list[str]] = {}
        for name in sorted(self.resolved):
            for agent in zone_agents(name):
                names.setdefault(agent, []).append(name)
        return OracleView.over(self.oracle(names))

    def oracle(self, dns_names: Mapping[str, Sequence[str]]) -> Oracle:
        pods = tuple(
            Pod(
                namespace=pod["metadata"]["namespace"],
                name=pod["metadata"]["name"],
                labels=pod["metadata"]["labels"],
                service_account=pod["spec"].get("serviceAccountName", "default"),
                named_ports={
                    port["name"]: (port["containerPort"], port["protocol"])
                    for port in pod["spec"]["containers"][0]["ports"]
                    if "name" in port
                },
                node=pod["spec"]["nodeName"],
            )
            for pod in self.kube.all("Pod")
        )
        services = tuple(
            Service(
                namespace=one["metadata"]["namespace"],
                name=one["metadata"]["name"],
                selector=one["spec"]["selector"],
                ports=tuple(
                    ServicePort(port=p["port"], protocol=p["protocol"], target=p["targetPort"])
                    for p in one["spec"]["ports"]
                ),
            )
            for one in self.kube.all("Service")
        )
        world = World(
            namespaces={
                space["metadata"]["name"]: {
                    **space["metadata"]["labels"],
                    "kubernetes.io/metadata.name": space["metadata"]["name"],
                }
                for space in self.kube.all("Namespace")
            }
            | {DNS.namespace: {"kubernetes.io/metadata.name": DNS.namespace}},
            pods=(*pods, DNS),
            peers=(
                *(
                    Peer(
                        name=f"world:{one.name}",
                        address=one.ips[0],
                        dns_names=tuple(dns_names.get(one.name, ())),
                    )
                    for one in WORLD
                ),
                *(
                    Peer(
                        name=f"node:{node.name}",
                        labels=("reserved:remote-node",)
                        + (("reserved:kube-apiserver",) if node is NODES[0] else ()),
                        address=node.ips[0],
                        node=node.name,
                        node_labels={"kubernetes.io/hostname": node.name},
                        enforced=self.options.host_firewall,
                    )
                    for node in NODES
                ),
            ),
            cidr_groups=tuple(
                CIDRGroup(name=one["metadata"]["name"], cidrs=tuple(one["spec"]["externalCIDRs"]))
                for one in self.kube.all("CiliumCIDRGroup")
            ),
            services=(*services, *SERVICES),
            options=self.options,
        )
        return Oracle(world, [parse_policy(one, strict=False) for one in self.policies])

    def prober(self, source: Target) -> EnforcingProber:
        return EnforcingProber(self, source)

    def answer(self, probe: Probe, view: OracleView) -> Outcome:
        with self.lock:  # sources ask in threads
            self.probed.append(probe.id)
            port_used = len(self.probed)
        target = probe.target
        saying = self.bend(probe, view.says(probe))
        if probe.protocol is Protocol.ICMP:
            port_used = 0
        self.watch(probe, saying, port_used)
        passes = (saying.passes or self.ignores_policies) and str(target) not in self.deaf
        looks = "timeout" if str(target) in self.deaf else saying.looks
        kind, status, rcode = OutcomeKind.CONNECTED, 0, ""
        if probe.protocol is Protocol.DNS and (passes or looks == "REFUSED"):
            kind, rcode = OutcomeKind.DNS, "NOERROR" if passes else looks
        elif passes and probe.protocol is Protocol.HTTP:
            kind, status = OutcomeKind.HTTP, 200
        elif not passes:
            kind = {"403": OutcomeKind.HTTP, "REFUSED": OutcomeKind.DNS}.get(looks, OutcomeKind.TIMEOUT)
            status, rcode = (403 if looks == "403" else 0), (looks if looks == "REFUSED" else "")
        outcome = Outcome(
            probe.id,
            kind,
            answered_by=self.who(target) if passes and probe.protocol is not Protocol.ICMP else "",
            source_ip=self.address(probe.source),
            source_port=port_used,
            destination_ip=self.address(target),
            status=status,
            rcode=rcode,
        )
        for fault in self.faults:
            outcome = fault(probe, outcome)
        return outcome

    def who(self, target: Target) -> str:
        """Who answers: of a Service's backends the first."""
        if target.kind is not TargetKind.SERVICE:
            return str(target)
        service = self.kube.stored(Ref("v1", "Service", target.name, target.namespace))
        if service is None:
            return ""
        selector = service["spec"]["selector"].items()
        backends = [
            pod["metadata"]
            for pod in self.kube.all("Pod")
            if pod["metadata"]["namespace"] == target.namespace
            and selector <= pod["metadata"]["labels"].items()
        ]
        return f"{target.namespace}/{backends[0]['name']}"

    def watch(self, probe: Probe, saying: Saying, port_used: int) -> None:
        """Remember the flows that Hubble would show: verdicts, and the drop or the proxy's refusal."""
        ping = probe.protocol is Protocol.ICMP
        flow = Flow(
            self.clock.time(),
            FlowVerdict.FORWARDED,
            FlowPeer(self.address(probe.source), port_used),
            FlowPeer(self.address(probe.target), probe.port),
            protocol="ICMPv4" if ping else probe.protocol.transport,
            icmp=(8, 0) if ping else None,
            is_reply=False,
            event_type=POLICY_VERDICT,
        )
        for side in saying.allowed:
            verdict = FlowVerdict.REDIRECTED if side.redirected else FlowVerdict.FORWARDED
            self.note(probe, flow, side.direction, verdict=verdict, policies=side.policies)
        if saying.denied_at is None:
            return
        reason = saying.reason.value if saying.reason else ""
        for kind in (DROP, POLICY_VERDICT) if reason else (ACCESS_LOG,):
            self.note(
                probe,
                flow,
                saying.denied_at,
                verdict=FlowVerdict.DROPPED,
                drop_reason=reason,
                event_type=kind,
                policies=saying.denied_by,
            )

    def note(self, probe: Probe, flow: Flow, direction: Direction, **changes) -> None:
        """One event, as the node that decides sees it."""
        decides = str(probe.source) if direction is Direction.EGRESS else self.who(probe.target)
        node = next((e.node for e in self.endpoints() if e.name == decides), "")
        self.seen.append(dataclasses.replace(flow, direction=direction, node=f"default/{node}", **changes))

    def address(self, target: Target) -> str:
        pod = self.kube.pod(target)
        outside = {f"world:{one.name}": one.ips[0] for one in WORLD}
        inside = {f"node:{one.name}": one.ips[0] for one in NODES}
        known = {**outside, **inside}.get(str(target), "10.96.0.1")
        return str(pod["status"]["podIP"]) if pod else known

    def endpoints(self, *, since_s: float | None = None) -> list[Endpoint]:
        spaces = {
            space["metadata"]["name"]: space["metadata"]["labels"] for space in self.kube.all("Namespace")
        }
        found = []
        for number, pod in enumerate(self.kube.all("Pod")):
            meta = pod["metadata"]
            space = {
                f"k8s:io.cilium.k8s.namespace.labels.{key}={value}"
                for key, value in spaces[meta["namespace"]].items()
            }
            labels = {f"k8s:{key}={value}" for key, value in meta["labels"].items()} | space
            identity = Identity(1000 + number, tuple(sorted(labels)))
            node = pod["spec"]["nodeName"]
            found.append(Endpoint(number, meta["namespace"], meta["name"], node, ("10.0.0.1",), identity))
        return found

    def prove(self, policies, endpoints, *, gone=False, absent=(), timeout_s=30.0) -> Proof:
        for policy in policies:
            if policy.name in self.unproven:
                self.clock.sleep(timeout_s)
                raise EnforcementNotProven(f"not enforced within {timeout_s:g} s: n1", place=str(policy))
        self.proven.append((tuple(policies), gone))
        proofs = tuple(EndpointProof(name, "n2", 4, frozenset()) for name in endpoints)
        return Proof(tuple(policies), gone, proofs, 0.2, absent=tuple(absent))

    def flows(self, window, filter) -> list[object]:  # noqa: A002 - the protocol's word
        if self.found_flows is not None:
            return self.found_flows()
        told = [self.spoil(flow) for flow in self.seen if flow.time_s in window]
        return [flow for flow in told if flow is not None]


@dataclass
class EnforcingProber:
    cluster: EnforcingCluster
    source: Target

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        with self.cluster.lock:
            view = self.cluster.view()
            seen = {view.learns(probe) for probe in batch} - {""}
            if seen - self.cluster.resolved:
                self.cluster.resolved |= seen
                view = self.cluster.view()
        self.cluster.clock.sleep(0.2)
        return [self.cluster.answer(probe, view) for probe in batch]


def broken(probe: Probe, outcome: Outcome) -> Outcome:
    """A fault: no probe can be made."""
    return dataclasses.replace(outcome, kind=OutcomeKind.INFRA_ERROR, answered_by="", detail="no socket")
