"""A pod that gets other labels, and so another identity."""

from __future__ import annotations

from collections.abc import Mapping

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Cluster,
    ClusterStateError,
    Endpoint,
    EnforcementNotProven,
    PatchType,
    Ref,
    Target,
)

_LOOK_EVERY_S = 0.05


def relabel(
    cluster: Cluster, kube: Kube, pod: Target, labels: Mapping[str, str | None], *, timeout_s: float = 30.0
) -> Endpoint:
    """Change labels of a pod and wait until its endpoint has the identity that goes with them.

    What other nodes know of the new identity comes a moment later; judging converges over that.

    Args:
        cluster: where.
        kube: its API.
        pod: which pod.
        labels: what changes; None takes a label away. They must be of those that make up identities.
        timeout_s: how long the identity may take, in seconds.

    Returns:
        the endpoint with its new identity.

    Raises:
        EnforcementNotProven: the identity did not change in time; the message holds the last one seen.
    """
    ref = Ref("v1", "Pod", pod.name, pod.namespace)
    body = {"metadata": {"labels": dict(labels)}}
    kube.retry(lambda: kube.transport.patch(ref, body, patch_type=PatchType.MERGE))
    deadline = cluster.clock.monotonic() + timeout_s
    last = "no endpoint"
    while True:
        for endpoint in _of(cluster, str(pod)):
            last = f"{endpoint.state} as {endpoint.identity}"
            if endpoint.state == "ready" and _follows(endpoint, labels):
                return endpoint
        if cluster.clock.monotonic() > deadline:
            wanted = ", ".join(f"{key}={'none' if value is None else value}" for key, value in labels.items())
            raise EnforcementNotProven(
                f"expected an identity with {wanted} within {timeout_s:g} s, last seen: {last}",
                place=str(pod),
                hint="A label that the agent's label filter leaves out never becomes part of an identity.",
            )
        cluster.clock.sleep(_LOOK_EVERY_S)


def _of(cluster: Cluster, name: str) -> list[Endpoint]:
    try:
        return [endpoint for endpoint in cluster.endpoints() if endpoint.name == name]
    except ClusterStateError:  # an agent that restarts answers later
        return []


def _follows(endpoint: Endpoint, labels: Mapping[str, str | None]) -> bool:
    """Whether an identity has what it must and no longer has what was taken away."""
    held = dict(
        text.removeprefix("k8s:").partition("=")[::2]
        for text in endpoint.identity.labels
        if text.startswith("k8s:")
    )
    return all(held.get(key) == value for key, value in labels.items())
