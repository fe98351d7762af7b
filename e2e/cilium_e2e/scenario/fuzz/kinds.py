"""Random policies, one at a time: of Kubernetes' kind and of Cilium's."""

from __future__ import annotations

from typing import Any

from cilium_e2e.model import Object
from cilium_e2e.scenario.fuzz import vocabulary
from cilium_e2e.scenario.fuzz.chance import Chance

_ENTITIES = (
    (24, ["cluster"]),
    (20, ["world"]),
    (18, ["all"]),
    (8, ["host"]),
    (8, ["remote-node", "host"]),
    (6, ["kube-apiserver"]),
    (4, ["none"]),
    (4, ["health", "unmanaged"]),
    (8, ["world", "cluster"]),
)
_SIDES = (
    (24, ("ingress",)),
    (20, ("egress",)),
    (14, ("ingress", "egress")),
    (12, ("ingress", "ingressDeny")),
    (10, ("egress", "egressDeny")),
    (8, ("ingressDeny",)),
    (6, ("egressDeny",)),
    (6, ("ingress", "egressDeny")),
)
_WISH: tuple[tuple[int, dict[str, bool]], ...] = (
    (70, {}),
    (6, {"ingress": False}),
    (6, {"egress": False}),
    (6, {"ingress": False, "egress": False}),
    (4, {"ingress": True}),
    (4, {"egress": True}),
    (2, {"ingress": True, "egress": True}),
    (2, {"ingress": False, "egress": True}),
)


def network_policy(chance: Chance, *, name: str, namespace: str, world: bool) -> Object:
    """A NetworkPolicy; now and then with rules of a direction that its ``policyTypes`` leave out."""
    types = chance.weighted(
        ((34, ["Ingress"]), (30, ["Egress"]), (26, ["Ingress", "Egress"]), (10, list[str]()))
    )
    spec: dict[str, Any] = {"podSelector": vocabulary.pod_selector(chance)}
    if types:
        spec["policyTypes"] = types
    for side, word, kind in (("ingress", "from", "Ingress"), ("egress", "to", "Egress")):
        meant = kind in types or (not types and kind == "Ingress")
        if not chance.yes(0.86 if meant else 0.06):
            continue  # isolated in this direction, if at all, and nothing is let through
        spec[side] = [
            _kubernetes_rule(chance, word, world=world) for _ in range(chance.weighted(((70, 1), (30, 2))))
        ]
    meta = {"name": name, "namespace": namespace}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


def cilium_policy(chance: Chance, *, name: str, namespace: str, world: bool) -> Object:
    """A CiliumNetworkPolicy, with ``spec``, ``specs`` or both."""
    parts = chance.weighted(((78, (1, 0)), (8, (0, 1)), (10, (0, 2)), (4, (1, 1))))
    rules = [_cilium_rule(chance, world=world) for _ in range(sum(parts))]
    found: dict[str, Any] = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
    }
    if parts[0]:
        found["spec"] = rules.pop(0)
    if rules:
        found["specs"] = rules
    return found


def _kubernetes_rule(chance: Chance, word: str, *, world: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    if chance.yes(0.85):
        count = chance.weighted(((4, 0), (66, 1), (30, 2)))
        rule[word] = [_kubernetes_peer(chance, world=world) for _ in range(count)]
    if chance.yes(0.6):
        count = chance.weighted(((60, 1), (40, 2)))
        rule["ports"] = [vocabulary.kubernetes_port(chance) for _ in range(count)]
    return rule


def _kubernetes_peer(chance: Chance, *, world: bool) -> dict[str, Any]:
    kind = chance.weighted(((32, "pods"), (26, "spaces"), (26, "both"), (40 if world else 16, "block")))
    if kind == "block":
        return {"ipBlock": vocabulary.block(chance, world=world)}
    found: dict[str, Any] = {}
    if kind in {"pods", "both"}:
        found["podSelector"] = vocabulary.pod_selector(chance)
    if kind in {"spaces", "both"}:
        found["namespaceSelector"] = vocabulary.namespace_selector(chance)
    return found


def _cilium_rule(chance: Chance, *, world: bool) -> dict[str, Any]:
    rule: dict[str, Any] = {"endpointSelector": vocabulary.pod_selector(chance)}
    for side in chance.weighted(_SIDES):
        count = chance.weighted(((70, 1), (30, 2)))
        rule[side] = [_item(chance, side, world=world) for _ in range(count)]
    if wish := chance.weighted(_WISH):
        rule["enableDefaultDeny"] = wish
    return rule


def _item(chance: Chance, side: str, *, world: bool) -> dict[str, Any]:
    """One entry of a direction: one kind of peers at most, and ports or ICMP types, not both."""
    word = "from" if side.startswith("ingress") else "to"
    outside = 3 if world else 1
    kind = chance.weighted(
        (
            (12, ""),
            (50, "Endpoints"),
            (3, "nobody"),
            (15, "Entities"),
            (8 * outside, "CIDR"),
            (10 * outside, "CIDRSet"),
        )
    )
    item: dict[str, Any] = {}
    if kind == "Endpoints":
        count = chance.weighted(((70, 1), (30, 2)))
        item[f"{word}Endpoints"] = [vocabulary.endpoint_peer(chance) for _ in range(count)]
    elif kind == "nobody":
        item[f"{word}Endpoints"] = []
    elif kind == "Entities":
        item[f"{word}Entities"] = chance.weighted(_ENTITIES)
    elif kind == "CIDR":
        count = chance.weighted(((70, 1), (30, 2)))
        item[f"{word}CIDR"] = [vocabulary.prefix(chance, world=world) for _ in range(count)]
    elif kind == "CIDRSet":
        count = chance.weighted(((70, 1), (30, 2)))
        item[f"{word}CIDRSet"] = [vocabulary.block(chance, world=world) for _ in range(count)]
    limit = chance.weighted(((42, ""), (48, "ports"), (10, "icmps")))
    if limit == "ports":
        count = chance.weighted(((60, 1), (40, 2)))
        item["toPorts"] = [{"ports": [vocabulary.cilium_port(chance) for _ in range(count)]}]
    elif limit == "icmps":
        item["icmps"] = [vocabulary.icmp(chance)]
    return item
