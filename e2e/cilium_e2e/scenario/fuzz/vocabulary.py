"""What random policies speak of: the standard pods' labels and ports, prefixes, templates.

Weights are numbers out of their sum; they are the documented distribution, so that a change of one makes
every seed mean other cases, and :data:`~cilium_e2e.scenario.fuzz.generate.DISTRIBUTION` must change with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cilium_e2e.scenario.fuzz.chance import Chance
from cilium_e2e.scenario.standard import NAMESPACES, PODS

WORLD = ("one", "two")
"""Agents outside the cluster."""
NUMBERS = (80, 81)
NAMED = ("serve-80-tcp", "serve-81-tcp", "serve-80-udp", "serve-81-udp")
"""Names of container ports; each is one protocol's only, so that it is void beside the other one."""
_UNKNOWN = "serve-82-tcp"
_CLOSED = 82

EVERYWHERE = "0.0.0.0/0"
_BLOCKS = ("10.0.0.0/8", "172.16.0.0/12", "192.0.2.0/24", "198.51.100.7/32")
_SPACE = "kubernetes.io/metadata.name"
_POD_SPACE = "io.kubernetes.pod.namespace"
_SPACE_LABELS = "io.cilium.k8s.namespace.labels"
_NO_LABEL = "no-such-label"


def pod_selector(chance: Chance, *, key: str = "pod") -> dict[str, Any]:
    """A selector of pods by their label, mostly of one; ``{}`` for all."""
    one = chance.one(PODS)
    return chance.weighted(
        (
            (18, {}),
            (46, {"matchLabels": {key: one}}),
            (15, _expression(key, "In", chance.some(PODS, 1, 2))),
            (12, _expression(key, "NotIn", [one])),
            (4, _expression(key, "Exists")),
            (2, _expression(key, "DoesNotExist")),
            (3, _expression(_NO_LABEL, "DoesNotExist")),
        )
    )


def namespace_selector(chance: Chance) -> dict[str, Any]:
    """A NetworkPolicy's selector of namespaces, by their own label or by name."""
    one = chance.one(NAMESPACES)
    return chance.weighted(
        (
            (18, {}),
            (34, {"matchLabels": {"ns": one}}),
            (16, {"matchLabels": {_SPACE: one}}),
            (12, _expression("ns", "In", chance.some(NAMESPACES, 1, 2))),
            (8, _expression(_SPACE, "In", chance.some(NAMESPACES, 1, 2))),
            (8, _expression("ns", "NotIn", [one])),
            (4, _expression("ns", "Exists")),
        )
    )


def endpoint_peer(chance: Chance) -> dict[str, Any]:
    """A Cilium policy's peer: pods of its own namespace, of another, of several, by any spelling of a key."""
    prefix = chance.weighted(((60, ""), (25, "k8s:"), (15, "any:")))
    selector = pod_selector(chance, key=f"{prefix}pod")
    labels: Mapping[str, str] = selector.get("matchLabels", {})
    expressions = list(selector.get("matchExpressions", ()))
    space = chance.one(NAMESPACES)
    prefix = chance.weighted(((70, "k8s:"), (30, "")))
    kind = chance.weighted(
        ((40, "own"), (26, "named"), (14, "labelled"), (8, "several"), (4, "others"), (8, "every"))
    )
    if kind == "named":
        labels = {**labels, f"{prefix}{_POD_SPACE}": space}
    elif kind == "labelled":
        labels = {**labels, f"{prefix}{_SPACE_LABELS}.ns": space}
    elif kind == "several":
        several = chance.some(NAMESPACES, 1, 2)
        expressions += _expression(f"{prefix}{_POD_SPACE}", "In", several)["matchExpressions"]
    elif kind == "others":
        expressions += _expression(f"{prefix}{_SPACE_LABELS}.ns", "NotIn", [space])["matchExpressions"]
    elif kind == "every":
        expressions += _expression(f"{prefix}{_POD_SPACE}", "Exists")["matchExpressions"]
    return {
        **({"matchLabels": dict(labels)} if labels else {}),
        **({"matchExpressions": expressions} if expressions else {}),
    }


def prefix(chance: Chance, *, world: bool) -> str:
    """A prefix: a usual one, a pod's (which policy knows by its identity alone), a node's, one outside."""
    options = [
        (30, EVERYWHERE),
        (24, chance.one(_BLOCKS)),
        (14, f"${{pod.{chance.one(NAMESPACES)}/{chance.one(PODS)}.cidr}}"),
        (6, "${node.0.cidr}"),
    ]
    outside = f"${{world.{chance.one(WORLD)}.cidr}}"
    return chance.weighted([*options, (60, outside)] if world else options)


def block(chance: Chance, *, world: bool) -> dict[str, Any]:
    """A prefix with exceptions, now and then."""
    cidr = prefix(chance, world=world)
    if cidr != EVERYWHERE or not chance.yes(0.55):
        return {"cidr": cidr}
    holes = [text for text in (prefix(chance, world=world) for _ in range(3)) if text != EVERYWHERE]
    return {"cidr": cidr, **({"except": sorted(set(holes))} if holes else {})}


def kubernetes_port(chance: Chance) -> dict[str, Any]:
    """A port of a NetworkPolicy: a number, a range, a name, or all ports of a protocol."""
    protocol = chance.weighted(((50, {"protocol": "TCP"}), (35, {"protocol": "UDP"}), (15, {})))
    number = chance.one(NUMBERS)
    which: dict[str, Any] = chance.weighted(
        (
            (50, {"port": number}),
            (12, {"port": 80, "endPort": 81}),
            (4, {"port": 81, "endPort": 65535}),
            (18, {"port": chance.one(NAMED)}),
            (2, {"port": _UNKNOWN}),
            (4, {"port": _CLOSED}),
            (10, {}),
        )
    )
    return {**protocol, **which}


def cilium_port(chance: Chance) -> dict[str, Any]:
    """A port of a Cilium policy; ``ANY`` and no protocol at all are every protocol with ports."""
    protocol = chance.weighted(
        ((44, {"protocol": "TCP"}), (30, {"protocol": "UDP"}), (16, {"protocol": "ANY"}), (10, {}))
    )
    number = chance.one(NUMBERS)
    which: dict[str, Any] = chance.weighted(
        (
            (52, {"port": str(number)}),
            (12, {"port": "80", "endPort": 81}),
            (4, {"port": "81", "endPort": 65535}),
            (18, {"port": chance.one(NAMED)}),
            (2, {"port": _UNKNOWN}),
            (4, {"port": str(_CLOSED)}),
            (8, {"port": "0"}),
        )
    )
    return {**which, **protocol}


def icmp(chance: Chance) -> dict[str, Any]:
    """An ICMP rule: echo requests, which are probed, by number or name; or other types."""
    kinds: tuple[tuple[int, int | str], ...] = ((50, 8), (30, "EchoRequest"), (12, 3), (8, "TimeExceeded"))
    kind = chance.weighted(kinds)
    family = chance.weighted(((60, {"family": "IPv4"}), (40, {})))
    return {"fields": [{**family, "type": kind}]}


def _expression(key: str, operator: str, values: list[str] | None = None) -> dict[str, Any]:
    return {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": values} if values is not None else {})}
        ]
    }
