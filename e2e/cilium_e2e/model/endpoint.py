"""Cilium's endpoints and identities, as the harness reads them from the API and the agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

_NO_PORTS: Mapping[str, tuple[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Identity:
    """A security identity: the number that stands for a set of labels in every policy decision.

    Attributes:
        number: the numeric identity; below 256 it is reserved, with bit 24 set it is local to a node.
        labels: ``source:key=value`` strings, sorted.
    """

    number: int
    labels: tuple[str, ...]

    @property
    def reserved(self) -> bool:
        """Whether the identity is one of Cilium's well-known ones (host, world, init ...)."""
        return 0 < self.number < 256


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint of one node's agent.

    Attributes:
        id: the agent-local endpoint id (Hubble's ``ID``), unique per node only.
        namespace, pod: the pod behind it; both empty for host and health endpoints.
        node: the Kubernetes node it runs on.
        ips: its addresses, IPv4 before IPv6.
        identity: its current identity.
        named_ports: container port names to (number, protocol).
        state: the agent's word for it (``ready``, ``regenerating``, ``waiting-for-identity`` ...).
        policy_revision: the policy repository's revision the datapath has realized.
        policies: UIDs of the policies in that realized revision, both directions.
        other_labels: labels the agent knows that are no part of the identity, as :class:`Identity` has them.
    """

    id: int
    namespace: str
    pod: str
    node: str
    ips: tuple[str, ...]
    identity: Identity
    named_ports: Mapping[str, tuple[int, str]] = field(default_factory=lambda: _NO_PORTS)
    state: str = "ready"
    policy_revision: int = 0
    policies: frozenset[str] = frozenset()
    other_labels: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """``namespace/pod``, or the agent-local id where there is no pod."""
        return f"{self.namespace}/{self.pod}" if self.pod else f"{self.node}/endpoint-{self.id}"
