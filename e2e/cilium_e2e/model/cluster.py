"""The cluster as scenarios and suites see it: one protocol, three adapters."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cilium_e2e.model.clock import Clock
from cilium_e2e.model.endpoint import Endpoint
from cilium_e2e.model.flow import Flow, FlowFilter, TimeWindow
from cilium_e2e.model.probe import Outcome, Probe
from cilium_e2e.model.proof import Proof
from cilium_e2e.model.target import Target
from cilium_e2e.model.topology import Capability, Difference
from cilium_e2e.model.transport import KubeTransport
from cilium_e2e.model.verdict import PolicyRef


class Backend(enum.Enum):
    """Where a run happens."""

    KIND = "kind"
    EXISTING = "existing"
    SIMULATED = "simulated"


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node: its name, role (``control-plane`` or ``worker``) and internal addresses, IPv4 first."""

    name: str
    role: str
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WorldAgent:
    """A probe agent outside the cluster, on the network its nodes are on: ``world:NAME``; IPv4 first."""

    name: str
    ips: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """What a run says about its cluster in every report.

    Attributes:
        name: the cluster's name.
        backend: where it runs.
        topology: the topology's name.
        nodes: its nodes.
        world: agents outside of it, none where it offers no place for them.
        host_agents: node name to the pod (``namespace/pod``) of the agent on that node's own network.
        release: the HelmRelease under test, ``namespace/name``.
        cilium_namespace: where the agents run.
        capabilities: what tests may rely on.
        features: Cilium features that are on, derived from the effective values.
        versions: component to version, for people.
        differences: every declared deviation from the repository.
    """

    name: str
    backend: Backend
    topology: str
    nodes: tuple[NodeInfo, ...]
    release: str
    cilium_namespace: str
    world: tuple[WorldAgent, ...] = ()
    host_agents: tuple[tuple[str, str], ...] = ()
    capabilities: frozenset[Capability] = frozenset()
    features: frozenset[str] = frozenset()
    versions: tuple[tuple[str, str], ...] = ()
    differences: tuple[Difference, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Revision:
    """A published state of the working tree.

    Attributes:
        digest: ``sha256:...`` of the artifact's content; the same tree has the same digest.
        tag: what Flux reports, ``tag@digest``.
        files: how many files it holds.
        untracked: files in it that git does not track, relative to the root.
    """

    digest: str
    tag: str
    files: int
    untracked: tuple[str, ...] = ()


class Prober(Protocol):
    """Runs probes from one source."""

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        """All outcomes, in the batch's order; a lost stream gives ``INFRA_ERROR``, never a denial.

        An empty batch has whoever makes the probes started, so that the next need not wait for that.
        """
        ...


class Cluster(Protocol):
    """A cluster with the repository's Cilium on it."""

    @property
    def info(self) -> ClusterInfo:
        """What it is."""
        ...

    @property
    def kube(self) -> KubeTransport:
        """Its API."""
        ...

    @property
    def clock(self) -> Clock:
        """Its time: the machine's, or a virtual one."""
        ...

    def publish(self) -> Revision:
        """Publish the tree as it is now and have Flux reconcile it; may be called again."""
        ...

    def prober(self, source: Target) -> Prober:
        """The agent at ``source``, which must be a running pod, a node, or a world agent."""
        ...

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        """Flows of all nodes inside a window.

        Raises:
            FlowsLost: Hubble lost some inside it.
        """
        ...

    def endpoints(self, *, since_s: float | None = None) -> list[Endpoint]:
        """The endpoints of all nodes, as the agents know them now; or as a proof saw them after ``since_s``.

        That is a time of the cluster's clock, ``monotonic``.
        """
        ...

    def prove(
        self,
        policies: Sequence[PolicyRef],
        endpoints: Sequence[str],
        *,
        gone: bool = False,
        absent: Sequence[PolicyRef] = (),
        timeout_s: float = 30.0,
    ) -> Proof:
        """Wait until every endpoint (``namespace/pod``) enforces the policies, or no longer does.

        ``absent`` are policies that must not be enforced any more at the same time.

        Raises:
            EnforcementNotProven: not within ``timeout_s``; the message names what is missing where.
        """
        ...

    def close(self) -> None:
        """Let go of it: streams and connections end, the cluster itself stays."""
        ...
