"""A cluster in memory that enforces the policies of its API server, as the oracle understands them.

What it does wrong is up to the test: ``faults`` change outcomes, ``deaf`` pods never answer.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
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
    Verdict,
    WorldAgent,
)
from cilium_e2e.policy import (
    CIDRGroup,
    Oracle,
    Peer,
    Pod,
    Service,
    ServicePort,
    World,
    check_agent,
    check_schema,
    parse_policy,
    service_verdicts,
)
from cilium_e2e.policy.schema import aggregate
from support.memory import MemoryTransport

_POLICIES = {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"}
NODES = (NodeInfo("n1", "control-plane", ("10.9.0.1",)), NodeInfo("n2", "worker", ("10.9.0.2",)))
WORLD = (WorldAgent("one", ("192.0.2.7",)), WorldAgent("two", ("192.0.2.8",)))
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
                "podIP": f"10.0.0.{self.number % 250 + 1}",
                "conditions": [{"type": "Ready", "status": "True"}],
            }
            stored["spec"].setdefault("nodeName", "n2")
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
    dropped: list[Flow] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.kube.refuses = self.strict

    @property
    def policies(self) -> list[Object]:
        return self.kube.all(*_POLICIES)

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

    def oracle(self) -> Oracle:
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
            },
            pods=pods,
            peers=tuple(Peer(name=f"world:{one.name}", address=one.ips[0]) for one in WORLD),
            cidr_groups=tuple(
                CIDRGroup(name=one["metadata"]["name"], cidrs=tuple(one["spec"]["externalCIDRs"]))
                for one in self.kube.all("CiliumCIDRGroup")
            ),
            services=services,
        )
        return Oracle(world, [parse_policy(one, strict=False) for one in self.policies])

    def prober(self, source: Target) -> EnforcingProber:
        return EnforcingProber(self, source)

    def answer(self, probe: Probe, oracle: Oracle) -> Outcome:
        with self.lock:  # sources ask in threads
            self.probed.append(probe.id)
            port_used = len(self.probed)
        target = probe.target
        passes, who = True, str(target)
        if target.kind is TargetKind.SERVICE:
            key = f"{target.namespace}/{target.name}"
            found = service_verdicts(oracle, str(probe.source), key, probe.protocol.transport, probe.port)
            passes, who = found[0].verdict.passes, found[0].backend
        elif str(probe.source) != str(target):
            port = probe.port or 8
            verdict = oracle.verdict(str(probe.source), str(target), probe.protocol.transport, port)
            passes = verdict.passes
            if not passes and target.kind is TargetKind.POD:
                self.drop(probe, verdict, port_used)
        passes = (passes or self.ignores_policies) and str(target) not in self.deaf
        kind = OutcomeKind.CONNECTED if passes else OutcomeKind.TIMEOUT
        outcome = Outcome(
            probe.id,
            kind,
            answered_by=who if passes and probe.protocol is not Protocol.ICMP else "",
            source_ip="10.0.0.1",
            source_port=port_used,
            destination_ip=self.address(target) if target.kind is TargetKind.POD else "",
        )
        for fault in self.faults:
            outcome = fault(probe, outcome)
        return outcome

    def drop(self, probe: Probe, verdict: Verdict, port_used: int) -> None:
        """Remember the flow that Hubble would show for a denied probe."""
        assert verdict.drop_reason is not None
        self.dropped.append(
            Flow(
                self.clock.time(),
                FlowVerdict.DROPPED,
                FlowPeer("10.0.0.1", port_used),
                FlowPeer(self.address(probe.target), probe.port),
                protocol=probe.protocol.transport,
                direction=verdict.denied_at,
                drop_reason=verdict.drop_reason.value,
                policies=tuple(rule.policy for rule in verdict.rules),
            )
        )

    def address(self, target: Target) -> str:
        pod = self.kube.pod(target)
        return str(pod["status"]["podIP"]) if pod else ""

    def endpoints(self) -> list[Endpoint]:
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
            found.append(Endpoint(number, meta["namespace"], meta["name"], "n2", ("10.0.0.1",), identity))
        return found

    def prove(self, policies, endpoints, *, gone=False, timeout_s=30.0) -> Proof:
        for policy in policies:
            if policy.name in self.unproven:
                self.clock.sleep(timeout_s)
                raise EnforcementNotProven(f"not enforced within {timeout_s:g} s: n1", place=str(policy))
        self.proven.append((tuple(policies), gone))
        proofs = tuple(EndpointProof(name, "n2", 4, frozenset()) for name in endpoints)
        return Proof(tuple(policies), gone, proofs, 0.2)

    def flows(self, window, filter) -> list[object]:  # noqa: A002 - the protocol's word
        return list(self.dropped) if self.found_flows is None else self.found_flows()


@dataclass
class EnforcingProber:
    cluster: EnforcingCluster
    source: Target

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        oracle = self.cluster.oracle()
        self.cluster.clock.sleep(0.2)
        return [self.cluster.answer(probe, oracle) for probe in batch]


def broken(probe: Probe, outcome: Outcome) -> Outcome:
    """A fault: no probe can be made."""
    return dataclasses.replace(outcome, kind=OutcomeKind.INFRA_ERROR, answered_by="", detail="no socket")
