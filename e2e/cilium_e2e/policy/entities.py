"""Entities: the names for peers that are no pods, and the selectors they stand for."""

from __future__ import annotations

from collections.abc import Iterable

from cilium_e2e.policy.labels import K8S, POLICY_CLUSTER
from cilium_e2e.policy.selectors import WILDCARD, Selector

_OWN_LABEL = ("host", "init", "ingress", "remote-node", "health", "unmanaged", "none", "kube-apiserver")
_IN_CLUSTER = ("host", "remote-node", "init", "ingress", "health", "unmanaged", "kube-apiserver")
_WORLD = ("world", "world-ipv4", "world-ipv6")

ENTITIES = frozenset((*_OWN_LABEL, *_WORLD, "all", "cluster"))
"""All entities the agent knows; the schema leaves out ``world-ipv4`` and ``world-ipv6``."""


def entity_selectors(entities: Iterable[str], cluster_name: str) -> tuple[Selector, ...]:
    """The selectors of a list of entities, in order.

    ``cluster`` is every pod of this cluster plus the reserved identities that live in it. An API server
    outside the cluster is in ``cluster`` as well as in ``world``.
    """
    found: list[Selector] = []
    for entity in entities:
        if entity == "all":
            found.append(WILDCARD)
        elif entity == "cluster":
            found.extend(Selector.reserved(name) for name in _IN_CLUSTER)
            found.append(Selector.of([(f"{K8S}.{POLICY_CLUSTER}", cluster_name)]))
        elif entity == "world":
            found.extend(Selector.reserved(name) for name in _WORLD)
        elif entity in ENTITIES:
            found.append(Selector.reserved(entity))
    return tuple(found)
