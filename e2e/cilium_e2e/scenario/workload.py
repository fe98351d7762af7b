"""Probe agents as a test's workload: a namespace, its pods and Services, gone again afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from cilium_e2e.kube import Kube, is_true, pod_states
from cilium_e2e.model import Cluster, ClusterStateError, Object, Ref, Target
from cilium_e2e.probe import Port, config_map, pod, service

READY_TIMEOUT_S = 120.0
GONE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PodSpec:
    """An agent to run: its name, labels, ports, the node it must run on (empty for any), its account.

    ``service_account`` must exist before it; empty for the namespace's default.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    node: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A Service over agents: its name, the labels of its backends, its ports."""

    name: str
    selector: Mapping[str, str]
    ports: tuple[Port, ...]


@contextmanager
def namespace(kube: Kube, name: str) -> Iterator[str]:
    """A namespace whose pods can be created at once; deleted with all that is in it.

    Raises:
        WaitTimeout: it did not become usable.
    """
    kube.apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": name,
                "labels": {
                    "app.kubernetes.io/managed-by": "cilium-e2e",
                    "pod-security.kubernetes.io/enforce": "restricted",
                },
            },
        }
    )
    try:
        # Pods are refused until the namespace's default service account exists.
        kube.wait(
            Ref("v1", "ServiceAccount", "default", name),
            lambda found: found[0] if found else None,
            timeout_s=READY_TIMEOUT_S,
            what=f"the default service account of {name}",
        )
        yield name
    finally:
        kube.delete(Ref("v1", "Namespace", name))


def deploy(
    cluster: Cluster,
    kube: Kube,
    name: str,
    pods: Sequence[PodSpec],
    services: Sequence[ServiceSpec] = (),
    *,
    image: str,
) -> list[Target]:
    """Run agents in a namespace and wait until Cilium has them, too.

    Returns:
        the pods as probe sources and targets, in the given order.

    Raises:
        WaitTimeout: pods or Services did not become ready; the message says what is missing.
        EnforcementNotProven: a pod did not become a ready endpoint of its node's agent.
    """
    kube.apply(config_map(name))
    kube.apply_all(
        pod(
            name,
            spec.name,
            labels=spec.labels,
            ports=spec.ports,
            node=spec.node,
            image=image,
            service_account=spec.service_account,
        )
        for spec in pods
    )
    kube.apply_all(service(name, spec.name, selector=spec.selector, ports=spec.ports) for spec in services)
    wanted = {spec.name for spec in pods}

    def ready(found: Sequence[Object]) -> bool | None:
        return True if wanted <= {p["metadata"]["name"] for p in found if is_true(p, "Ready")} else None

    kube.wait(
        Ref("v1", "Pod", namespace=name),
        ready,
        timeout_s=READY_TIMEOUT_S,
        what=f"the pods {', '.join(sorted(wanted))} to be ready",
        describe=pod_states,
    )
    # No policy to prove: this waits until every pod is an endpoint with a datapath of its own.
    cluster.prove((), [f"{name}/{spec.name}" for spec in pods])
    return [Target.pod(name, spec.name) for spec in pods]


def remove(kube: Kube, ref: Ref) -> None:
    """Delete an object and wait until it is gone.

    Raises:
        ClusterStateError: it is still there after a minute.
    """
    kube.delete(ref)
    try:
        kube.wait(
            ref, lambda found: None if found else True, timeout_s=GONE_TIMEOUT_S, what=f"{ref} to be gone"
        )
    except ClusterStateError as error:
        raise ClusterStateError(f"deleted, but still there: {error.message}", place=str(ref)) from error
