"""A simulated cluster, put together: its API, its controllers, Cilium's agents, its datapath, its flows."""

from __future__ import annotations

from collections.abc import Sequence

from cilium_e2e.cluster.simulated.addresses import Addresses, families, plan_nodes, world_ips
from cilium_e2e.cluster.simulated.admission import Admission
from cilium_e2e.cluster.simulated.agent import Agent
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.containers import PodContainers
from cilium_e2e.cluster.simulated.datapath import Datapath
from cilium_e2e.cluster.simulated.dbg import Dbg
from cilium_e2e.cluster.simulated.dns import Names
from cilium_e2e.cluster.simulated.flow_source import SimulatedRelay
from cilium_e2e.cluster.simulated.flux import Flux
from cilium_e2e.cluster.simulated.helm import Helm
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.identities import Identities
from cilium_e2e.cluster.simulated.kubelet import Kubelet
from cilium_e2e.cluster.simulated.lifecycle import Lifecycle
from cilium_e2e.cluster.simulated.nodes import DNS_SERVICE, Nodes, furnish
from cilium_e2e.cluster.simulated.places import HEALTH_PORT, Place, Places
from cilium_e2e.cluster.simulated.prober import BatchStream, Prober
from cilium_e2e.cluster.simulated.recorder import Recorder
from cilium_e2e.cluster.simulated.services import Services
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.cluster.simulated.transport import SimulatedTransport
from cilium_e2e.cluster.simulated.tree import Tree
from cilium_e2e.cluster.simulated.verdicts import Verdicts
from cilium_e2e.cluster.simulated.workloads import Workloads
from cilium_e2e.kube import is_true
from cilium_e2e.model import EngineError, ExecStream, Ref, Topology, WorldAgent
from cilium_e2e.policy import Enforcement, Options
from cilium_e2e.probe import BATCH_COMMAND
from cilium_e2e.probe.places import WORLD, container
from cilium_e2e.repository import Features, Repository

VERSION = "v1.34.0+simulated"
_RELAY = ("k8s-app", "hubble-relay")


def policy_options(features: Features) -> Options:
    """What of a release changes the meaning of policies."""
    return Options(
        enforcement=Enforcement(features.policy_enforcement),
        host_firewall=features.host_firewall,
        ipv4=features.ipv4,
        ipv6=features.ipv6,
        cluster_name=features.cluster_name,
        l7_proxy=features.l7_proxy,
        kube_proxy_replacement=features.kube_proxy_replacement,
    )


class Simulation:
    """One cluster in memory; two made from the same input behave alike.

    Args:
        name: the cluster's name.
        repository: the tree it runs, loaded for the topology.
        topology: its shape.
        hooks: what a fault changes; a healthy cluster's by default.
    """

    def __init__(
        self, name: str, repository: Repository, topology: Topology, hooks: Hooks | None = None
    ) -> None:
        self.name = name
        self.topology = topology
        self.clock = VirtualClock()
        self.hooks = hooks or Hooks()
        self.hooks.namespace = repository.release.target_namespace
        self.store = Store(self.clock)
        self.tree = Tree(repository)
        plans = plan_nodes(name, topology)
        addresses = Addresses(families(topology))
        admission = Admission(self.store, addresses)
        identities = Identities(self.store)
        by_node = {plan.name: Agent(plan, number) for number, plan in enumerate(plans)}
        options = policy_options(repository.features)
        with self.clock.lock:
            Lifecycle(self.store)
            Workloads(self.store)
            self.services = Services(self.store)
            self.agents = Agents(self.store, by_node, identities, options, self.hooks)
            self.kubelet = Kubelet(
                self.store,
                plans,
                addresses,
                network=self.agents.network_is_up,
                becomes_ready=lambda pod: self.hooks.becomes_ready(pod),  # noqa: PLW0108 - a fault replaces it
            )
            Nodes(self.store, self.agents, self.kubelet.network_is_up)
            self.flux = Flux(self.store, admission, self.tree.build)
            Helm(self.store, admission, self.hooks, self.tree.outside_values)
            self._world = {agent: world_ips(topology, number) for number, agent in enumerate(WORLD)}
            self.places = Places(self.store, self.agents, plans, self._world)
            self.verdicts = Verdicts(self.store, self.agents, self.places, identities, self.hooks)
            self.recorder = Recorder(self.clock, self.store, self.agents, self.verdicts, self.hooks)
            self.datapath = Datapath(
                self.agents, self.places, self.services, self.verdicts, self.recorder, self.hooks
            )
            names = Names(self.store, lambda: self.places.of(self._world[WORLD[0]][0]).listeners["UDP", 53])
            self._dns_ip = addresses.cluster_ips(number=DNS_SERVICE)[0]
            self.prober = Prober(self.clock, self.datapath, names, self.places, self._resolver, self.hooks)
            dbg = Dbg(self.agents, self.verdicts, self.services, self.recorder)
            containers = PodContainers(
                self.store, self.clock, self.agents, dbg, self.prober, self.datapath, self.places, self.hooks
            )
            self.transport = SimulatedTransport(
                self.store,
                admission,
                containers,
                lambda verb, ref: self.hooks.call(verb, ref),  # noqa: PLW0108 - a fault replaces it
            )
            furnish(self.store, plans, addresses, version=VERSION)

    @property
    def world(self) -> tuple[WorldAgent, ...]:
        """The agents outside."""
        return tuple(WorldAgent(name, ips) for name, ips in self._world.items())

    def exec(self, name: str, command: Sequence[str]) -> ExecStream:
        """Start a command in a container beside the nodes: the agents outside have nothing but batches.

        Raises:
            EngineError: there is no such container, or no such command in it.
        """
        found = next((agent for agent in self._world if container(self.name, agent) == name), None)
        if found is None or tuple(command) != BATCH_COMMAND:
            raise EngineError(f"{' '.join(command)}: not simulated", place=f"container {name}")
        return BatchStream(self.prober, f"world:{found}", lambda: self._world[found], lambda: None)

    def close(self) -> None:
        """Nothing has to be let go of."""

    def relay(self) -> SimulatedRelay:
        """A flow source over all agents, started.

        Raises:
            StreamLost: no relay is ready.
        """
        source = SimulatedRelay(
            self.clock, self.agents, self.recorder, self.hooks, self._poke, self._relay_pod
        )
        source.start()
        return source

    def _relay_pod(self) -> str:
        """The UID of a relay pod that is ready; empty for none."""
        for pod in self.store.all(Ref("v1", "Pod", namespace=self.hooks.namespace)):
            meta = pod["metadata"]
            labelled = (meta.get("labels") or {}).get(_RELAY[0]) == _RELAY[1]
            if labelled and is_true(pod, "Ready") and "deletionTimestamp" not in meta:
                return str(meta["uid"])
        return ""

    def _poke(self, agent: Agent) -> None:
        """A health probe between a node and its own health endpoint: a flow on that node."""
        source, port = self.places.of(agent.plan.ips[0]), self.datapath.source_port(agent.plan.ips[0])
        self.datapath.connect(source, agent.health(), "TCP", port, HEALTH_PORT)

    def _resolver(self, source: Place) -> tuple[str, list[str]]:
        """The name server a source asks, and its search list; outside nobody is asked that answers."""
        if not source.node:
            return "192.0.2.53", []
        namespace = source.name.partition("/")[0] if source.kind == "pod" else "default"
        return self._dns_ip, [f"{namespace}.svc.cluster.local", "svc.cluster.local", "cluster.local"]
