"""Probe agents as a test's workload: a namespace, its pods and Services, gone again afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType

from cilium_e2e.kube import Kube, is_true, pod_states
from cilium_e2e.model import Cluster, ClusterStateError, Object, Ref, Target
from cilium_e2e.probe import Port, config_map, pod, service

READY_TIMEOUT_S = 120.0
_NO_LABELS: Mapping[str, str] = MappingProxyType({})
GONE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class PodSpec:
    """An agent to run: its name, labels, ports, the node it must run on (empty for any), its account.

    ``service_account`` is made where it is none that every namespace has; empty for the namespace's default.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    node: str = ""
    service_account: str = ""


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """A Service over agents: its name, the labels of its backends, its ports.

    ``targets`` maps its ports to those of its backends where they differ; ``headless``: without a ClusterIP.
    """

    name: str
    selector: Mapping[str, str]
    ports: tuple[Port, ...]
    targets: Mapping[int, int] = field(default_factory=dict)
    headless: bool = False


def namespace_object(
    name: str, labels: Mapping[str, str] = _NO_LABELS, annotations: Mapping[str, str] = _NO_LABELS
) -> Object:
    """A namespace for agents; their pods satisfy the strictest of the Pod Security levels."""
    own = {
        "app.kubernetes.io/managed-by": "cilium-e2e",
        "pod-security.kubernetes.io/enforce": "restricted",
    }
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": name,
            "labels": {**own, **labels},
            **({"annotations": dict(annotations)} if annotations else {}),
        },
    }


@contextmanager
def namespace(kube: Kube, name: str, labels: Mapping[str, str] = _NO_LABELS) -> Iterator[str]:
    """A namespace whose pods can be created at once; deleted with all that is in it.

    Raises:
        WaitTimeout: it did not become usable.
    """
    try:
        make_namespace(kube, name, labels)
        yield name
    finally:
        delete_namespace(kube, name)


def make_namespace(kube: Kube, name: str, labels: Mapping[str, str] = _NO_LABELS) -> None:
    """Apply a namespace, and wait until pods can be created in it; raises as :func:`namespace`."""
    kube.apply(namespace_object(name, labels))
    # Pods are refused until the namespace's default service account exists.
    kube.wait(
        Ref("v1", "ServiceAccount", "default", name),
        lambda found: found[0] if found else None,
        timeout_s=READY_TIMEOUT_S,
        what=f"the default service account of {name}",
    )


def delete_namespace(kube: Kube, name: str) -> None:
    """Ask for the end of a namespace and all that is in it."""
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
    start(kube, name, pods, services, image=image)
    await_pods(cluster, kube, {name: [spec.name for spec in pods]})
    return [Target.pod(name, spec.name) for spec in pods]


def start(
    kube: Kube, name: str, pods: Sequence[PodSpec], services: Sequence[ServiceSpec] = (), *, image: str
) -> None:
    """Apply what :func:`deploy` deploys, and wait for nothing; accounts that pods name are made, too."""
    kube.apply(config_map(name))
    for account in sorted({spec.service_account for spec in pods} - {"", "default"}):
        kube.apply(
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": account, "namespace": name},
                "automountServiceAccountToken": False,
            }
        )
    kube.apply_all(pod_object(name, spec, image=image) for spec in pods)
    kube.apply_all(service_object(name, spec) for spec in services)


def pod_object(namespace: str, spec: PodSpec, *, image: str) -> Object:
    """The agent's pod that a spec stands for."""
    return pod(
        namespace,
        spec.name,
        labels=spec.labels,
        ports=spec.ports,
        node=spec.node,
        image=image,
        service_account=spec.service_account,
    )


def service_object(namespace: str, spec: ServiceSpec) -> Object:
    """The Service that a spec stands for."""
    return service(
        namespace,
        spec.name,
        selector=spec.selector,
        ports=spec.ports,
        headless=spec.headless,
        target_ports=spec.targets,
    )


def await_pods(cluster: Cluster, kube: Kube, names: Mapping[str, Sequence[str]]) -> None:
    """Wait until pods are ready, and Cilium has them, too.

    Args:
        cluster: where.
        kube: its API.
        names: namespace to the pods' names.

    Raises:
        WaitTimeout: pods did not become ready; the message says what is missing.
        EnforcementNotProven: a pod did not become a ready endpoint of its node's agent.
    """
    for namespace, pods in names.items():
        wanted = set(pods)

        def ready(found: Sequence[Object], wanted: set[str] = wanted) -> bool | None:
            # One that is on its way out is still Ready for a moment.
            there = {
                p["metadata"]["name"]
                for p in found
                if is_true(p, "Ready") and "deletionTimestamp" not in p["metadata"]
            }
            return True if wanted <= there else None

        kube.wait(
            Ref("v1", "Pod", namespace=namespace),
            ready,
            timeout_s=READY_TIMEOUT_S,
            what=f"the pods {', '.join(sorted(wanted))} to be ready",
            describe=pod_states,
        )
    # No policy to prove: this waits until every pod is an endpoint with a datapath of its own.
    cluster.prove((), [f"{namespace}/{name}" for namespace, pods in names.items() for name in pods])


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
