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
_NAME_LABEL = "kubernetes.io/metadata.name"
_PREFIXES = ("", "k8s:", "any:", "k8s.", "any.")
_KEYS = {prefix + label for prefix in _PREFIXES for label in (*_NAMESPACE_LABELS, _NAME_LABEL)}


def isolate(policy: Object, namespaces: Mapping[str, str]) -> Object:
    """A copy of a policy with namespaces renamed.

    Renamed are the object's own namespace and every namespace that a selector names, in ``matchLabels`` and
    ``matchExpressions``, under any label prefix.

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
    for key in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"):
        meta.pop(key, None)
    moved.pop("status", None)
    if "namespace" in meta:
        meta["namespace"] = _renamed(meta["namespace"], namespaces, place)
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
    return {
        key: _renamed(value, namespaces, place)
        if key in _KEYS and isinstance(value, str)
        else _walk(value, namespaces, place)
        for key, value in node.items()
    }


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
