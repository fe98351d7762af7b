"""Worlds and policies for the oracle's benchmark, drawn from a seeded generator."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from cilium_e2e.policy import CIDRGroup, Oracle, Peer, Pod, PolicyObject, World, parse_policy
from cilium_e2e.policy.matrix import PortQuery

_NAMESPACES = 50
_APPS = 40
_PORTS = tuple(range(8000, 8010))


@dataclass(frozen=True)
class Case:
    """One thing to compute: a world, its policies, who asks whom, and on which ports."""

    world: World
    policies: tuple[PolicyObject, ...]
    keys: tuple[str, ...]
    ports: tuple[PortQuery, ...]

    @property
    def cells(self) -> int:
        """How many cells the whole matrix has."""
        return len(self.keys) ** 2 * len(self.ports)

    def oracle(self) -> Oracle:
        """A fresh oracle, nothing computed yet."""
        return Oracle(self.world, self.policies)


def _pods(endpoints: int, draw: random.Random) -> tuple[Pod, ...]:
    """Pods spread evenly over the namespaces, each with an identity of its own."""
    return tuple(
        Pod(
            namespace=f"ns{number % _NAMESPACES}",
            name=f"pod{number}",
            labels={"app": f"app{draw.randrange(_APPS)}", "id": str(number)},
            service_account="default",
            named_ports={"web": (_PORTS[0], "TCP")},
        )
        for number in range(endpoints)
    )


def _namespaces() -> dict[str, dict[str, str]]:
    return {
        f"ns{number}": {"kubernetes.io/metadata.name": f"ns{number}", "team": f"team{number % 5}"}
        for number in range(_NAMESPACES)
    }


def _app(draw: random.Random) -> dict[str, Any]:
    return {"matchLabels": {"app": f"app{draw.randrange(_APPS)}"}}


def _port(draw: random.Random) -> dict[str, Any]:
    return {"port": str(draw.choice(_PORTS)), "protocol": "TCP"}


def plain_case(*, endpoints: int, policies: int, seed: int) -> Case:
    """The plain mix: half ingress, half egress; one app in one namespace, one peer app, one port each."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    pods = _pods(endpoints, draw)
    objects = []
    for number in range(policies):
        ingress = number % 2 == 0
        rule = {
            "fromEndpoints" if ingress else "toEndpoints": [_app(draw)],
            "toPorts": [{"ports": [_port(draw)]}],
        }
        spec = {"endpointSelector": _app(draw), "ingress" if ingress else "egress": [rule]}
        meta = {"name": f"policy{number}", "namespace": f"ns{draw.randrange(_NAMESPACES)}"}
        objects.append(_object("CiliumNetworkPolicy", meta, spec))
    return _case(World(namespaces=_namespaces(), pods=pods), objects)


def _object(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    version = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _case(world: World, objects: list[dict[str, Any]]) -> Case:
    keys = (*(pod.key for pod in world.pods), *(peer.key for peer in world.peers))
    ports = tuple(PortQuery("TCP", port) for port in _PORTS)
    return Case(world, tuple(parse_policy(obj) for obj in objects), keys, ports)


def _cilium_peer(word: str, draw: random.Random) -> dict[str, Any]:
    cidr = f"10.{draw.randrange(8)}.0.0/16"
    return draw.choice(
        [
            {f"{word}Endpoints": [_app(draw)]},
            {f"{word}Endpoints": [_app(draw), {"matchExpressions": [{"key": "app", "operator": "Exists"}]}]},
            {
                f"{word}Endpoints": [
                    {"matchLabels": {"k8s:io.cilium.k8s.namespace.labels.team": f"team{draw.randrange(5)}"}}
                ]
            },
            {f"{word}CIDRSet": [{"cidr": cidr, "except": [cidr.replace("0.0/16", "4.0/24")]}]},
            {f"{word}CIDRSet": [{"cidrGroupRef": f"group{draw.randrange(5)}"}]},
            {f"{word}Entities": [draw.choice(["world", "cluster", "host", "kube-apiserver", "all"])]},
            {},
        ]
    )


def _cilium_ports(draw: random.Random) -> list[dict[str, Any]]:
    low = draw.choice(_PORTS)
    return [
        {
            "ports": draw.choice(
                [
                    [_port(draw), _port(draw)],
                    [{"port": str(low), "endPort": low + draw.randrange(1, 5), "protocol": "ANY"}],
                    [{"port": "web", "protocol": "TCP"}],
                ]
            )
        }
    ]


def _cilium_spec(draw: random.Random) -> dict[str, Any]:
    ingress = draw.random() < 0.5
    word, side = ("from", "ingress") if ingress else ("to", "egress")
    spec: dict[str, Any] = {
        "endpointSelector": _app(draw),
        side: [{**_cilium_peer(word, draw), "toPorts": _cilium_ports(draw)} for _ in range(2)],
    }
    if draw.random() < 0.4:
        spec[f"{side}Deny"] = [{**_cilium_peer(word, draw), "toPorts": _cilium_ports(draw)}]
    return spec


def _kubernetes_spec(draw: random.Random) -> dict[str, Any]:
    peers = draw.choice(
        [
            [{"podSelector": _app(draw)}],
            [{"namespaceSelector": {"matchLabels": {"team": f"team{draw.randrange(5)}"}}}],
            [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
        ]
    )
    ports = [{"port": draw.choice(_PORTS), "protocol": "TCP"}]
    return {
        "podSelector": _app(draw),
        "policyTypes": ["Ingress"],
        "ingress": [{"from": peers, "ports": ports}],
    }


def hard_case(*, endpoints: int, policies: int, seed: int) -> Case:
    """The hard mix: all kinds of policies, deny rules, prefixes, groups, entities, ranges and names."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    pods = _pods(endpoints - 60, draw)
    peers = [
        Peer(name="host", labels=("reserved:host",), address="172.18.0.2"),
        Peer(name="node", labels=("reserved:remote-node",), address="172.18.0.3"),
        Peer(name="api", labels=("reserved:kube-apiserver",), address="192.0.2.1/32"),
        Peer(name="health", labels=("reserved:health",), enforced=True),
    ]
    peers += [Peer(name=f"world{n}", address=f"10.{n % 8}.{n}.1/32") for n in range(56)]
    groups = tuple(CIDRGroup(name=f"group{n}", cidrs=(f"10.{n}.0.0/17",)) for n in range(5))
    objects = []
    for number in range(policies):
        kind = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy")[number % 3]
        meta = {"name": f"policy{number}"}
        if kind != "CiliumClusterwideNetworkPolicy":
            meta["namespace"] = f"ns{draw.randrange(_NAMESPACES)}"
        spec = _kubernetes_spec(draw) if kind == "NetworkPolicy" else _cilium_spec(draw)
        objects.append(_object(kind, meta, spec))
    world = World(namespaces=_namespaces(), pods=pods, peers=tuple(peers), cidr_groups=groups)
    return _case(world, objects)
