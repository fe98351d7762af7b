"""The cluster's DNS, taught to forward the zone that is served outside the cluster."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cilium_e2e.cluster.corefile import with_zone
from cilium_e2e.kube import Kube, condition
from cilium_e2e.model import ClusterStateError, Difference, Object, PatchType, Ref

_NAMESPACE = "kube-system"
_CONFIG = Ref("v1", "ConfigMap", "coredns", _NAMESPACE)
_DEPLOYMENT = Ref("apps/v1", "Deployment", "coredns", _NAMESPACE)
_PODS = Ref("v1", "Pod", namespace=_NAMESPACE)
_SELECTOR = "k8s-app=kube-dns"
_FILE = "Corefile"
_ANNOTATION = "cilium-e2e/corefile"


def forward(kube: Kube, zone: str, address: str) -> bool:
    """Have CoreDNS forward a zone to a name server; answers whether anything had to be changed.

    On a new cluster CoreDNS waits for a CNI and reads the file when it starts. Where a pod of it may have
    read an older one, CoreDNS is restarted: its own reload would come at a time that nobody can see.

    Raises:
        ClusterStateError: the cluster has no CoreDNS as kubeadm installs it, or it serves the zone already.
    """
    config = kube.find(_CONFIG)
    corefile = ((config or {}).get("data") or {}).get(_FILE)
    if corefile is None:
        raise ClusterStateError(
            f"expected CoreDNS' configuration with a {_FILE}, found none",
            place=str(_CONFIG),
            hint="Is the cluster's DNS another one than kubeadm's?",
        )
    wanted = with_zone(corefile, zone, address)
    if wanted == corefile:
        return False
    _patch(kube, _CONFIG, {"data": {_FILE: wanted}})
    if any(pod["spec"].get("nodeName") for pod in kube.list_all(_PODS, label_selector=_SELECTOR)):
        digest = hashlib.sha256(wanted.encode()).hexdigest()[:16]
        _patch(
            kube,
            _DEPLOYMENT,
            {"spec": {"template": {"metadata": {"annotations": {_ANNOTATION: digest}}}}},
        )
    return True


def wait_dns(kube: Kube, *, timeout_s: float) -> None:
    """Wait until every pod of CoreDNS is of its latest configuration and ready.

    Raises:
        WaitTimeout: not in time; the message has the rollout's state.
    """

    def done(found: Sequence[Object]) -> bool | None:
        return True if found and not _unfinished(found[0]) else None

    kube.wait(
        _DEPLOYMENT,
        done,
        timeout_s=timeout_s,
        what="the cluster's DNS to be rolled out",
        describe=lambda found: _unfinished(found[0]) if found else "no such Deployment",
    )


def difference(zone: str, address: str, server: str) -> Difference:
    """What is different from the cluster as kind makes it, for reports."""
    return Difference(
        "kube-system/coredns",
        f"forwards {zone} to {address}",
        f"names outside of the cluster that tests can rely on, served by {server}",
        "agents outside",
    )


def _unfinished(deployment: Object) -> str:
    """What a rollout waits for; empty once it is complete and no older pod is left."""
    status = deployment.get("status") or {}
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    if status.get("observedGeneration", 0) < deployment["metadata"].get("generation", 0):
        return "not yet looked at by its controller"
    counts = {name: status.get(name, 0) for name in ("updatedReplicas", "replicas", "availableReplicas")}
    if all(count == wanted for count in counts.values()):
        return ""
    progress = (condition(deployment, "Progressing") or {}).get("message", "")
    words = ", ".join(f"{name} {count}" for name, count in counts.items())
    return f"{words}, wanted {wanted}{f' ({progress})' if progress else ''}"


def _patch(kube: Kube, ref: Ref, body: Object) -> None:
    kube.retry(lambda: kube.transport.patch(ref, body, patch_type=PatchType.MERGE))
