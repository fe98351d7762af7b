"""A live cluster with Cilium on it, however it came to be: :class:`~cilium_e2e.model.Cluster`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

from cilium_e2e.cluster.addresses import GATHER_S, Addresses
from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.enforcement import Enforcement
from cilium_e2e.cluster.node_console import NodeConsoles
from cilium_e2e.cluster.poking import Poke
from cilium_e2e.hubble import complete_flows
from cilium_e2e.hubble.reports import Relay
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Capability,
    Clock,
    ClusterInfo,
    ClusterStateError,
    Endpoint,
    ExecStream,
    Flow,
    FlowFilter,
    KubeTransport,
    PolicyRef,
    Prober,
    Proof,
    Ref,
    Revision,
    ScenarioError,
    SystemClock,
    Target,
    TargetKind,
    TimeWindow,
)
from cilium_e2e.probe import BATCH_COMMAND, CONTAINER, BatchClient
from cilium_e2e.probe.places import container

if TYPE_CHECKING:
    from cilium_e2e.cluster.relay_link import RelayLink

_FLOWS_TIMEOUT_S = 30.0


class Outside(Protocol):
    """Runs commands beside the nodes: the container engine, or what stands in for it."""

    def exec(self, name: str, command: Sequence[str]) -> ExecStream:
        """Start a command in a container."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class LiveCluster:
    """A cluster reached through its API server.

    Args:
        info: what it is.
        transport: its API; closed with the cluster object.
        publisher: publishes the working tree and has Flux reconcile it.
        containers: the engine's, for agents outside the cluster; closed with the cluster object. None where
            there is no engine.
        flow_source: gives the started flow source; by default the release's relay, through the API server.
        consoles: shells on the nodes, where they are containers; closed with the cluster object.
        clock: the machine's.
    """

    def __init__(
        self,
        info: ClusterInfo,
        transport: KubeTransport,
        *,
        publisher: Callable[[], Revision],
        containers: Outside | None = None,
        flow_source: Callable[[], Relay] | None = None,
        consoles: NodeConsoles | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._info = info
        self._clock = clock or SystemClock()
        self._transport = transport
        self._publisher = publisher
        self.api = Kube(transport, clock=self._clock)
        self.agents = CiliumAgents(self.api, info.cilium_namespace, consoles)
        self._enforcement = Enforcement(self.api, self.agents)
        # Where time is simulated, requests cost none.
        gather_s = GATHER_S if isinstance(self._clock, SystemClock) else 0.0
        self._addresses = Addresses(self.api, info, gather_s=gather_s)
        self._probers: dict[Target, BatchClient] = {}
        self._relay: Relay | None = None
        self._link: RelayLink | None = None
        self._flow_source = flow_source or self._through_relay
        self._lock = threading.Lock()
        self._relay_lock = threading.Lock()
        self._open = ExitStack()
        self._open.callback(transport.close)  # last, and whatever else goes wrong
        self._open.callback(self.unfollow)
        self._containers = containers
        if containers is not None:
            self._open.callback(containers.close)
        if consoles is not None:
            self._open.callback(consoles.close)

    @property
    def info(self) -> ClusterInfo:
        """See :class:`~cilium_e2e.model.Cluster`."""
        return self._info

    @property
    def kube(self) -> KubeTransport:
        """See :class:`~cilium_e2e.model.Cluster`."""
        return self._transport

    @property
    def clock(self) -> Clock:
        """See :class:`~cilium_e2e.model.Cluster`."""
        return self._clock

    def publish(self) -> Revision:
        """See :class:`~cilium_e2e.model.Cluster`."""
        return self._publisher()

    def prober(self, source: Target) -> Prober:
        """See :class:`~cilium_e2e.model.Cluster`; one client a source, kept open.

        Raises:
            ScenarioError: nothing can probe from there, or on this cluster no agent does.
        """
        open_stream = self._stream_to(source)
        with self._lock:
            if source not in self._probers:
                client = BatchClient(open_stream, source, self._addresses.look_up, clock=self._clock)
                self._open.callback(client.close)
                self._probers[source] = client
            return self._probers[source]

    def address(self, target: Target) -> str:
        """The address to dial for a target; see :class:`~cilium_e2e.cluster.addresses.Addresses`.

        Raises:
            ClusterStateError: it does not exist, or has no address.
        """
        found = self._addresses.look_up([target])[target]
        if isinstance(found, ClusterStateError):
            raise found
        return found

    def relay(self) -> Relay:
        """The one long-lived flow stream, opened at the first call.

        Raises:
            ClusterStateError: no relay runs.
        """
        with self._relay_lock:
            if self._relay is None:
                self._relay = self._flow_source()
            return self._relay

    def unfollow(self) -> None:
        """Close the flow stream, if it is open, until it is asked for again; then it starts anew.

        Reading every flow of the cluster takes a worker as much as making the probes does, and so it does
        relay and the nodes' agents. A simulated stream stays open: it costs nothing.
        """
        with self._relay_lock:
            link, self._link = self._link, None
            if link is not None:
                self._relay = None
                link.close()

    def _through_relay(self) -> Relay:
        # With it come gRPC and protobuf, which a simulated cluster never needs.
        from cilium_e2e.cluster.relay_link import RelayLink  # noqa: PLC0415

        poke = Poke(self.api, self.agents, [node for node, _ in self._info.host_agents], self.prober)
        self._link = RelayLink(self.api, self._info.cilium_namespace, poke=poke)
        return self._link.source

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        """See :class:`~cilium_e2e.model.Cluster`."""
        return complete_flows(self.relay(), window, filter, timeout_s=_FLOWS_TIMEOUT_S)

    def endpoints(self, *, since_s: float | None = None) -> list[Endpoint]:
        """See :class:`~cilium_e2e.model.Cluster`."""
        seen = self._enforcement.seen
        if since_s is not None and seen is not None and seen[0] >= since_s:
            return list(seen[1])
        return [endpoint for found in self.agents.each(self.agents.endpoints) for endpoint in found]

    def prove(
        self,
        policies: Sequence[PolicyRef],
        endpoints: Sequence[str],
        *,
        gone: bool = False,
        absent: Sequence[PolicyRef] = (),
        timeout_s: float = 30.0,
    ) -> Proof:
        """See :class:`~cilium_e2e.model.Cluster`."""
        return self._enforcement.prove(policies, endpoints, gone=gone, absent=absent, timeout_s=timeout_s)

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.Cluster`."""
        self._open.close()

    def _stream_to(self, source: Target) -> Callable[[], ExecStream]:
        """Opens a stream to the agent of a source."""
        if source.kind is TargetKind.POD:
            return self._stream_to_pod(source)
        if source.kind is TargetKind.NODE:
            agent = dict(self._info.host_agents).get(source.name)
            if agent is None:
                raise self._lacking(source, dict(self._info.host_agents), Capability.HOST_AGENTS)
            return self._stream_to_pod(Target.parse(agent))
        if source.kind is TargetKind.WORLD:
            containers, names = self._containers, [agent.name for agent in self._info.world]
            if containers is None or source.name not in names:
                raise self._lacking(source, names, Capability.WORLD)
            name = container(self._info.name, source.name)
            return lambda: containers.exec(name, BATCH_COMMAND)
        raise ScenarioError(
            f"expected a pod, a node or an agent outside the cluster as source, got {source}",
            place=f"source {source}",
        )

    def _stream_to_pod(self, source: Target) -> Callable[[], ExecStream]:
        pod = Ref("v1", "Pod", source.name, source.namespace)
        return lambda: self._transport.exec(pod, container=CONTAINER, command=BATCH_COMMAND)

    def _lacking(self, source: Target, there: Iterable[str], capability: Capability) -> ScenarioError:
        """Why a place that could probe cannot do so here."""
        return ScenarioError(
            f"no agent is there; such agents are here: {', '.join(there) or 'none'}",
            place=f"source {source}",
            hint=f'A test that needs one is marked requires("{capability.value}").',
        )
