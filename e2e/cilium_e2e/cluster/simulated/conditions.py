"""Status conditions as controllers write them."""

from __future__ import annotations

from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import Object, Ref


def put(obj: Object, clock: VirtualClock, kind: str, status: str, reason: str, message: str) -> None:
    """Set a condition of an object's current generation, in place; its time changes with its status."""
    found = obj.setdefault("status", {})
    others = [entry for entry in found.get("conditions") or () if entry["type"] != kind]
    old: Object = next((entry for entry in found.get("conditions") or () if entry["type"] == kind), {})
    since = old.get("lastTransitionTime") if old.get("status") == status else clock.stamp()
    entry = {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": since,
    }
    entry["observedGeneration"] = obj["metadata"]["generation"]
    found["conditions"] = [entry, *others]


def healthy(store: Store, ref: Ref) -> bool:
    """Whether an object is what Flux's health checks call healthy."""
    obj = store.find(ref)
    if obj is None or "deletionTimestamp" in obj["metadata"]:
        return False
    status = obj.get("status") or {}
    if ref.kind == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", -1)
        rolled = status.get("updatedNumberScheduled") == status.get("numberAvailable") == wanted
        return bool(rolled and status.get("observedGeneration") == obj["metadata"]["generation"])
    kind = {"Deployment": "Available", "CustomResourceDefinition": "Established"}.get(ref.kind, "Ready")
    conditions = {entry["type"] for entry in status.get("conditions") or ()}
    expected = ref.kind in {"HelmRelease", "Kustomization", "Deployment", "CustomResourceDefinition"}
    return is_true(obj, kind) if expected or kind in conditions else True
