"""Addresses as kind gives them: nodes on the engine's network, pods by node, Services; and outside agents."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

from cilium_e2e.model import Topology


@dataclass(frozen=True, slots=True)
class NodePlan:
    """A node before it is an object: its name, role, addresses and pod CIDRs, IPv4 first."""

    name: str
    role: str
    ips: tuple[str, ...]
    cidrs: tuple[str, ...]


@dataclass(slots=True)
class Addresses:
    """Hands out addresses, in an order that does not depend on time.

    Args:
        families: ``(4,)``, ``(6,)`` or ``(4, 6)``.
    """

    families: tuple[int, ...]
    _cluster: itertools.count[int] = field(default_factory=lambda: itertools.count(20))
    _ports: itertools.count[int] = field(default_factory=lambda: itertools.count(30_001))
    _pods: dict[str, Iterator[int]] = field(default_factory=dict)

    def cluster_ips(self, *, dual: bool = False, number: int = 0) -> list[str]:
        """A Service's addresses; one family unless both are asked for and there."""
        number = number or next(self._cluster)
        wanted = self.families if dual else self.families[:1]
        return [
            f"10.96.{number // 250}.{number % 250}" if family == 4 else f"fd00:10:96::{number:x}"
            for family in wanted
        ]

    def node_port(self) -> int:
        """A free node port."""
        return next(self._ports)

    def pod_ips(self, node: NodePlan) -> list[str]:
        """The next addresses of a node's pod CIDRs, round and round as the host-scope allocator does."""
        number = next(self._pods.setdefault(node.name, itertools.cycle(range(10, 250))))
        return [numbered(cidr, number) for cidr in node.cidrs]


def families(topology: Topology) -> tuple[int, ...]:
    """The address families of a topology."""
    return {"ipv4": (4,), "ipv6": (6,), "dual": (4, 6)}[topology.ip_family]


def plan_nodes(cluster: str, topology: Topology) -> list[NodePlan]:
    """The nodes with the names and addresses that kind gives them."""
    found: list[NodePlan] = []
    counts: dict[str, int] = {}
    wanted = families(topology)
    for number, node in enumerate(topology.nodes):
        counts[node.role] = counts.get(node.role, 0) + 1
        suffix = "" if counts[node.role] == 1 else str(counts[node.role])
        ips = [f"172.18.0.{2 + number}" if f == 4 else f"fc00:f853:ccd:e793::{2 + number:x}" for f in wanted]
        cidrs = [f"10.244.{number}.0/24" if f == 4 else f"fd00:10:244:{number:x}::/64" for f in wanted]
        found.append(NodePlan(f"{cluster}-{node.role}{suffix}", node.role, tuple(ips), tuple(cidrs)))
    return found


def world_ips(topology: Topology, number: int) -> tuple[str, ...]:
    """The addresses of an agent outside the cluster, on the nodes' network."""
    return tuple(
        f"172.18.0.{101 + number}" if f == 4 else f"fc00:f853:ccd:e793::{0x101 + number:x}"
        for f in families(topology)
    )


def numbered(cidr: str, number: int) -> str:
    """An address of a pod CIDR by its number; 1 is the router's, 2 the health endpoint's."""
    base = cidr.partition("/")[0]
    return f"{base}{number:x}" if ":" in base else f"{base.rpartition('.')[0]}.{number}"
