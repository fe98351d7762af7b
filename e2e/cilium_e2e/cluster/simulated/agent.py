"""One node's Cilium agent as data: its policy repository, its endpoints, its ipcache, its ring of flows."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from cilium_e2e.cluster.simulated.addresses import NodePlan, numbered
from cilium_e2e.model import Flow
from cilium_e2e.policy import PolicyObject

RING = 4095
"""How many flows an agent keeps; Hubble's default."""

HOST_ID, HEALTH_ID = 1, 4


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A policy repository at one revision: its policies by UID and the version of each object."""

    revision: int = 1
    policies: Mapping[str, tuple[str, PolicyObject]] = field(default_factory=dict)
    key: frozenset[tuple[str, str]] = field(init=False)
    """What tells its policies apart from others'."""

    def __post_init__(self) -> None:
        key = frozenset((uid, version) for uid, (version, _) in self.policies.items())
        object.__setattr__(self, "key", key)


@dataclass(slots=True)
class EndpointState:
    """A pod at its agent.

    Attributes:
        id: the agent-local id.
        namespace, pod: the pod.
        ips: its addresses.
        identity, labels: its security identity; 0 and none while it waits for one.
        named_ports: container port names to (number, protocol).
        state: the agent's word.
        realized: the policy its datapath has.
    """

    id: int
    namespace: str
    pod: str
    ips: tuple[str, ...]
    named_ports: Mapping[str, tuple[int, str]]
    identity: int = 0
    labels: tuple[str, ...] = ()
    state: str = "waiting-for-identity"
    realized: Snapshot = field(default_factory=lambda: Snapshot(0))

    @property
    def name(self) -> str:
        """``namespace/pod``."""
        return f"{self.namespace}/{self.pod}"


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """An entry of the ipcache: the identity behind an address, its labels, and where it is from."""

    identity: int
    labels: tuple[str, ...]
    source: str = "custom-resource"
    host: str = ""


@dataclass(slots=True)
class Agent:
    """An agent and its node's datapath. The datapath outlives the agent's process.

    Attributes:
        plan: its node.
        number: the node's place, by which its delays differ from others'.
        pod: the name of its pod, empty where it has none.
        running: whether the process answers.
        started_s: when it started, in virtual seconds.
        repository: its policies now.
        endpoints: by ``namespace/pod``.
        ipcache: by address.
        names: address to the DNS names its proxy has seen for it.
        config: the options it has read when it started.
        ring: the flows it has seen.
        seen: how many there ever were.
    """

    plan: NodePlan
    number: int
    pod: str = ""
    running: bool = False
    started_s: float = 0.0
    repository: Snapshot = field(default_factory=Snapshot)
    endpoints: dict[str, EndpointState] = field(default_factory=dict)
    ipcache: dict[str, CacheEntry] = field(default_factory=dict)
    names: dict[str, set[str]] = field(default_factory=dict)
    config: dict[str, str] = field(default_factory=dict)
    ring: deque[Flow] = field(default_factory=lambda: deque(maxlen=RING))
    seen: int = 0

    @property
    def node(self) -> str:
        """Its node's name."""
        return self.plan.name

    def delay_s(self, base_s: float, what: str = "") -> float:
        """A delay that differs a little by node and by what it is for, always in the same way."""
        spread = hashlib.sha256(f"{self.number}/{what}".encode()).digest()[0] / 255
        return base_s * (1.0 + 0.5 * spread)

    def router(self) -> str:
        """The address of the node's own router (``cilium_host``), IPv4 first."""
        return numbered(self.plan.cidrs[0], 1)

    def health(self) -> str:
        """The address of the node's health endpoint."""
        return numbered(self.plan.cidrs[0], 2)
