"""Topologies, and the declared differences between what is tested and what the repository says."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class Tier(enum.Enum):
    """How often something runs: with each change (quick) or nightly and before releases (full)."""

    QUICK = "quick"
    FULL = "full"


class Capability(enum.Enum):
    """What a topology offers to a test, and a test may require."""

    MULTI_NODE = "multi-node"
    DUAL_STACK = "dual-stack"
    HA = "ha"
    POD_SECURITY = "pod-security"
    RESTRICTED_MODULES = "restricted-modules"
    CGROUP_V1 = "cgroup-v1"
    WORLD = "world"
    """Agents outside the cluster; kind has them always, whatever the topology."""
    HOST_AGENTS = "host-agents"
    """Agents on the nodes' own networks."""
    REAL = "real"
    """Real kernels, processes and programs: whatever a simulated cluster could only make up."""
    OUTSIDE_ZONE = "outside-zone"
    """Cluster DNS resolves names of a zone that is served outside the cluster; kind has it always."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A declared deviation from the repository's manifests; it stands in every report.

    Attributes:
        what: the thing that differs: a values path, an object's field, an image.
        instead: what it is in this run.
        reason: why it must differ.
        origin: who asked for it: ``topology cgroup-v1``, ``--values FILE``, ``loaded images`` ...
    """

    what: str
    instead: str
    reason: str
    origin: str

    def __str__(self) -> str:
        return f"{self.what} = {self.instead} ({self.origin}: {self.reason})"


@dataclass(frozen=True, slots=True)
class ValuesPatch:
    """Chart values that a topology needs, merged over the release's own.

    Attributes:
        values: nested mapping, merged as Helm merges values files; ``None`` removes a key.
        reason: why.
    """

    values: Mapping[str, object]
    reason: str


@dataclass(frozen=True, slots=True)
class TopologyNode:
    """One node of a topology: its role, ``control-plane`` or ``worker``."""

    role: str


@dataclass(frozen=True, slots=True)
class Topology:
    """A cluster shape: a folder of ``clusters/``.

    Attributes:
        name: the folder's name.
        description: one line for people.
        tier: the least thorough tier that includes it.
        capabilities: what tests may rely on.
        nodes: in the order of kind.yaml.
        ip_family: kind's word: ``ipv4``, ``ipv6`` or ``dual``.
        kind_config: the kind.yaml, usable with plain ``kind create cluster``.
        patches: values that must differ from the repository's here.
    """

    name: str
    description: str
    tier: Tier
    capabilities: frozenset[Capability]
    nodes: tuple[TopologyNode, ...]
    ip_family: str
    kind_config: Path
    patches: tuple[ValuesPatch, ...] = ()

    @property
    def control_planes(self) -> int:
        """How many control-plane nodes it has."""
        return sum(node.role == "control-plane" for node in self.nodes)

    @property
    def workers(self) -> int:
        """How many worker nodes it has."""
        return len(self.nodes) - self.control_planes
