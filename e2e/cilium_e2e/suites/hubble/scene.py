"""What the Hubble suite probes between, and how it asks for the flows of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cilium_e2e.hubble import TRACE, Wanted, evidence
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import (
    Destination,
    Endpoint,
    Expectation,
    Flow,
    FlowPeer,
    FlowVerdict,
    Object,
    Probe,
    Protocol,
    Ref,
    Target,
)
from cilium_e2e.probe import Port, pod_spec
from cilium_e2e.scenario import SILENCE_S, Check, Judgement, Lab

TCP = UDP = 8080
OTHER_TCP = 8081
PORTS = (Port(TCP, "TCP"), Port(UDP, "UDP"), Port(OTHER_TCP, "TCP"))
SERVICE = "servers"
WORKLOAD = "web"
NODE_LABEL = "kubernetes.io/hostname"
READY_TIMEOUT_S = 120.0


@dataclass(frozen=True, slots=True)
class Scene:
    """Pods of this worker's own; nobody else talks to them.

    Attributes:
        namespace: where they are.
        client: a bare pod.
        near, far: bare pods that serve, on the client's node and on another one where there is one.
        web: the pod of the Deployment ``web``, which serves too.
        service: a Service over near and far.
        nodes: pod to its node.
    """

    namespace: str
    client: Target
    near: Target
    far: Target
    web: Target
    service: Target
    nodes: Mapping[Target, str]

    @property
    def pods(self) -> list[str]:
        """All pods, as proofs name them."""
        return [str(pod) for pod in self.nodes]


def check(
    source: Target,
    target: Target,
    port: int = TCP,
    protocol: Protocol = Protocol.TCP,
    outcome: str = "connected",
    *,
    timeout_s: float = SILENCE_S,
) -> Check:
    """A probe and its outcome; where the target is a pod that names itself, it is the one who answers."""
    probe = Probe.to(source, Destination(target, port, protocol), timeout_s=timeout_s)
    names = protocol is not Protocol.ICMP and bool(target.namespace) and not str(target).startswith("svc:")
    return Check(probe, Expectation(outcome), frozenset({str(target)}) if names else frozenset())


def deployment(namespace: str, name: str, node: str, *, image: str) -> Object:
    """A Deployment of one agent, so that Hubble has a workload to name."""
    labels = {"app": name}
    spec = {
        **pod_spec(PORTS, image=image),
        "nodeSelector": {NODE_LABEL: node},
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def one_ready(found: Sequence[Object]) -> str | None:
    """The name of a pod that is ready, for :meth:`Kube.wait`."""
    return next((str(pod["metadata"]["name"]) for pod in found if is_true(pod, "Ready")), None)


def pod_of(kube: Kube, namespace: str, selector: str) -> Target:
    """The first ready pod with these labels, awaited.

    Raises:
        WaitTimeout: none became ready.
    """
    name = kube.wait(
        Ref("v1", "Pod", namespace=namespace),
        one_ready,
        timeout_s=READY_TIMEOUT_S,
        what=f"a pod with {selector} to be ready",
        label_selector=selector,
    )
    return Target.pod(namespace, name)


def cilium_policy(namespace: str, name: str, **spec: object) -> Object:
    """A CiliumNetworkPolicy."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def kubernetes_policy(namespace: str, name: str, **spec: object) -> Object:
    """A NetworkPolicy."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def app(name: str) -> dict[str, dict[str, str]]:
    """A selector of one of the scene's pods; each has its own name as its label."""
    return {"matchLabels": {"app": name}}


def on(flow: Flow) -> str:
    """A flow's node by its Kubernetes name; Hubble may put the cluster's name before it."""
    return flow.node.rpartition("/")[2]


def both_ways(lab: Lab, judgement: Judgement, probe_id: str, flows: Sequence[Flow]) -> tuple[Flow, Flow]:
    """The first forwarded packet of a probe, and the first of its answer.

    Raises:
        AssertionError: one is not among the flows.
    """
    request, reply = (
        lab.flow(
            judgement,
            probe_id,
            Wanted(verdict=FlowVerdict.FORWARDED, event_type=TRACE, reply=reply),
            flows=flows,
        )
        for reply in (False, True)
    )
    return request, reply


def flows_of(judgement: Judgement, probe_id: str, flows: Sequence[Flow]) -> list[Flow]:
    """All flows of one judged probe."""
    entry = next(one for one in judgement.judged if one.check.probe.id == probe_id)
    return evidence(flows, entry.outcome, entry.check.probe)


def assert_peer(peer: FlowPeer, pod: Target, endpoints: Sequence[Endpoint]) -> None:
    """An end of a flow is a pod, with the identity and all the labels that its agent knows it by."""
    endpoint = next(one for one in endpoints if one.name == str(pod))
    seen = (peer.namespace, peer.pod, peer.identity, sorted(peer.labels))
    wanted = (pod.namespace, pod.name, endpoint.identity.number, sorted(endpoint.identity.labels))
    # pytest explains comparisons in test files only.
    assert seen == wanted, f"expected {wanted}, seen {seen}"
