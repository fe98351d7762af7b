"""A policy moved into a worker's own namespace, so that workers do not see each other's policies."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from cilium_e2e.model import Object, ScenarioError

# A label of a pod's namespace, however it is prefixed in a selector.
_NAMESPACE_LABELS = (
    "io.kubernetes.pod.namespace",
    "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
)
_DEFAULT_NAMESPACE = "default"
_NAME_LABEL = "kubernetes.io/metadata.name"
_PREFIXES = ("", "k8s:", "any:", "k8s.", "any.")
# Fields of Cilium's and Kubernetes' rules that name a namespace outright: toServices.
_REFERENCES = {"k8sService", "k8sServiceSelector"}
_CLUSTER_WIDE = {"CiliumClusterwideNetworkPolicy"}
_SERVER_SIDE = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    # The owner may be in another namespace: a copy that names it would be collected as garbage.
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
)
_KEYS = {prefix + label for prefix in _PREFIXES for label in (*_NAMESPACE_LABELS, _NAME_LABEL)}


def isolate(policy: Object, namespaces: Mapping[str, str]) -> Object:
    """A copy of a policy with namespaces renamed.

    Renamed are the object's own namespace (``default`` where it names none), every namespace that a selector
    names, in ``matchLabels`` and ``matchExpressions``, under any label prefix, and those of ``toServices``.
    What the API server adds to an object is dropped.

    Args:
        policy: CiliumNetworkPolicy, NetworkPolicy, or cluster-wide policy.
        namespaces: old name to new name.

    Raises:
        ScenarioError: it names a namespace that the map does not have; left as it is, it would reach out of
            the worker's isolation.
    """
    moved = copy.deepcopy(policy)
    meta = moved["metadata"]
    place = f"{policy['kind']} {meta.get('namespace', '')}/{meta['name']}"
    for key in _SERVER_SIDE:
        meta.pop(key, None)
    moved.pop("status", None)
    if policy["kind"] not in _CLUSTER_WIDE:
        meta["namespace"] = _renamed(meta.get("namespace") or _DEFAULT_NAMESPACE, namespaces, place)
    for part in ("spec", "specs"):
        if part in moved:
            moved[part] = _walk(moved[part], namespaces, place)
    return moved


def _walk(node: Any, namespaces: Mapping[str, str], place: str) -> Any:
    if isinstance(node, list):
        return [_walk(item, namespaces, place) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("key") in _KEYS and isinstance(node.get("values"), list):
        return {**node, "values": [_renamed(value, namespaces, place) for value in node["values"]]}
    moved = {
        key: _renamed(value, namespaces, place)
        if key in _KEYS and isinstance(value, str)
        else _walk(value, namespaces, place)
        for key, value in node.items()
    }
    for key in _REFERENCES & moved.keys():
        reference = moved[key]
        if isinstance(reference, dict) and reference.get("namespace"):
            reference["namespace"] = _renamed(reference["namespace"], namespaces, place)
    return moved


def _renamed(name: str, namespaces: Mapping[str, str], place: str) -> str:
    try:
        return namespaces[name]
    except KeyError:
        known = ", ".join(sorted(namespaces))
        raise ScenarioError(
            f"expected only the namespaces {known}, got {name}",
            place=place,
            hint="Add the namespace to the scenario's workload, or run the scenario verbatim.",
        ) from None
