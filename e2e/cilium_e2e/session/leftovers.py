"""What a run that was killed left on a kept cluster, cleared before it changes the outcomes of the next."""

from __future__ import annotations

from collections.abc import Sequence

from cilium_e2e.kube import FIELD_MANAGER, Kube
from cilium_e2e.model import Object, Ref
from cilium_e2e.scenario.residents import RESTS
from cilium_e2e.session.timeline import Say

_NAMESPACES = "app.kubernetes.io/managed-by=cilium-e2e"
_CLUSTER_WIDE = Ref("cilium.io/v2", "CiliumClusterwideNetworkPolicy")


def clear(kube: Kube, *, keep: str, say: Say, timeout_s: float) -> None:
    """Delete the namespaces and cluster-wide policies of earlier runs, and wait until they are gone.

    Only for a cluster that nobody else uses: whatever is ours on it must be a dead run's, or rests.

    Args:
        kube: the cluster's API.
        keep: the namespace of the agents on nodes, which belong to the cluster and not to a run.
        say: told each one.
        timeout_s: how long their end may take, in seconds.

    Raises:
        WaitTimeout: one of them is still there.
    """
    found = [
        ref
        for ref in (
            *_refs(Ref("v1", "Namespace"), [space for space in _namespaces(kube) if not _rests(space)]),
            *_refs(_CLUSTER_WIDE, [policy for policy in kube.list_known(_CLUSTER_WIDE) if _ours(policy)]),
        )
        if ref.name != keep
    ]
    for ref in found:
        say(f"  left by an earlier run, deleted: {ref}")
        kube.delete(ref)
    for ref in found:
        kube.wait(
            ref, lambda left: None if left else True, timeout_s=timeout_s, what=f"the old {ref} to be gone"
        )


def _namespaces(kube: Kube) -> list[Object]:
    return kube.list_all(Ref("v1", "Namespace"), label_selector=_NAMESPACES)


def _rests(namespace: Object) -> bool:
    return RESTS in (namespace["metadata"].get("annotations") or {})


def _refs(kind: Ref, objects: Sequence[Object]) -> list[Ref]:
    return [Ref(kind.api_version, kind.kind, obj["metadata"]["name"]) for obj in objects]


def _ours(obj: Object) -> bool:
    return any(entry.get("manager") == FIELD_MANAGER for entry in obj["metadata"].get("managedFields") or [])
