"""A policy moved into a worker's own namespace, so that workers do not see each other's policies."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
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
_WIDE_POLICY = "CiliumClusterwideNetworkPolicy"
_CIDR_GROUP = "CiliumCIDRGroup"
_CLUSTER_WIDE = {_WIDE_POLICY, _CIDR_GROUP}
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
_SUBJECT_KEYS = {prefix + label for prefix in _PREFIXES for label in _NAMESPACE_LABELS}

SHARED = frozenset({"default", "kube-system"})
"""Namespaces that every cluster has once: policies may name them as peers, and they keep their names."""


@dataclass(frozen=True, slots=True)
class _Move:
    namespaces: Mapping[str, str]
    suffix: str
    place: str

    def namespace(self, name: str) -> str:
        try:
            return self.namespaces[name]
        except KeyError:
            known = ", ".join(sorted(self.namespaces))
            raise ScenarioError(
                f"expected only the namespaces {known}, got {name}",
                place=self.place,
                hint="Add the namespace to the scenario's workload, or run the scenario verbatim.",
            ) from None

    def cluster_wide(self, name: str) -> str:
        return f"{name}-{self.suffix}" if self.suffix else name


def isolate(
    policy: Object, namespaces: Mapping[str, str], *, suffix: str = "", shared: Collection[str] = ()
) -> Object:
    """A copy of a policy with namespaces renamed.

    Renamed are the object's own namespace (``default`` where it names none), every namespace that a selector
    names, in ``matchLabels`` and ``matchExpressions``, under any label prefix, and those of ``toServices``.
    What the API server adds to an object is dropped. A cluster-wide object gets a name of its own.

    Args:
        policy: CiliumNetworkPolicy, NetworkPolicy, cluster-wide policy, or CiliumCIDRGroup.
        namespaces: old name to new name.
        suffix: what the names of cluster-wide objects get, so that each worker has its own.
        shared: further namespaces that selectors may name, and that keep their names.

    Raises:
        ScenarioError: it names a namespace that the map does not have, or it is cluster-wide and selects
            more than pods of those namespaces; left as it is, it would reach out of the worker's isolation.
    """
    moved = copy.deepcopy(policy)
    meta = moved["metadata"]
    place = f"{policy['kind']} {meta.get('namespace', '')}/{meta['name']}"
    own = _Move(namespaces, suffix, place)
    for key in _SERVER_SIDE:
        meta.pop(key, None)
    moved.pop("status", None)
    if policy["kind"] in _CLUSTER_WIDE:
        meta["name"] = own.cluster_wide(meta["name"])
    else:
        meta["namespace"] = own.namespace(meta.get("namespace") or _DEFAULT_NAMESPACE)
    if policy["kind"] == _WIDE_POLICY:
        _require_confined(policy, namespaces, place)
    peers = _Move({**{name: name for name in shared}, **namespaces}, suffix, place)
    for part in ("spec", "specs"):
        if part in moved and policy["kind"] != _CIDR_GROUP:
            moved[part] = _walk(moved[part], peers)
    return moved


def _require_confined(policy: Object, namespaces: Mapping[str, str], place: str) -> None:
    """Whether a cluster-wide policy applies to nothing but pods of the namespaces.

    Raises:
        ScenarioError: it may apply to others.
    """
    for rule in _rules(policy):
        selector = rule.get("endpointSelector")
        if not isinstance(selector, Mapping) or not _selected(selector) <= namespaces.keys():
            raise ScenarioError(
                "expected a cluster-wide policy whose endpointSelector names namespaces of the scenario, "
                f"got {'a nodeSelector' if 'nodeSelector' in rule else selector!r}",
                place=place,
                hint=f"Select by {_NAMESPACE_LABELS[0]}, or run the scenario verbatim.",
            )


def _rules(policy: Object) -> Iterator[Mapping[str, Any]]:
    rules = [policy.get("spec"), *(policy.get("specs") or [])]
    yield from (rule for rule in rules if isinstance(rule, Mapping))


def _selected(selector: Mapping[str, Any]) -> set[str]:
    """The namespaces that a selector allows; a name that no namespace has where it does not say."""
    labels = selector.get("matchLabels") or {}
    named = [{value} for key, value in labels.items() if key in _SUBJECT_KEYS]
    named += [
        set(item.get("values") or ())
        for item in selector.get("matchExpressions") or ()
        if item.get("key") in _SUBJECT_KEYS and item.get("operator") == "In"
    ]
    return set.intersection(*named) if named else {""}


def _walk(node: Any, move: _Move) -> Any:
    if isinstance(node, list):
        return [_walk(item, move) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("key") in _KEYS and isinstance(node.get("values"), list):
        return {**node, "values": [move.namespace(value) for value in node["values"]]}
    if "cidrGroupSelector" in node:
        raise ScenarioError(
            "expected a CiliumCIDRGroup by name, got a cidrGroupSelector, which sees every worker's",
            place=move.place,
            hint="Run the scenario verbatim.",
        )
    moved = {
        key: move.namespace(value) if key in _KEYS and isinstance(value, str) else _walk(value, move)
        for key, value in node.items()
    }
    if isinstance(moved.get("cidrGroupRef"), str):
        moved["cidrGroupRef"] = move.cluster_wide(moved["cidrGroupRef"])
    for key in _REFERENCES & moved.keys():
        reference = moved[key]
        if isinstance(reference, dict) and reference.get("namespace"):
            reference["namespace"] = move.namespace(reference["namespace"])
    return moved
