"""Policy decisions as each node's datapath makes them: by the identities it knows, by what is realized.

The policy oracle does the deciding. It gets a world for each view (what one node knows of everybody's
identity) and the policies of each realized revision, so that nothing is enforced before its time.
"""

from __future__ import annotations

from collections.abc import Mapping

from cilium_e2e.cluster.simulated.agent import Agent, Snapshot
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.identities import Identities, texts
from cilium_e2e.cluster.simulated.kinds import CILIUM
from cilium_e2e.cluster.simulated.places import Place, Places, node_key, world_key
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import Direction, Ref
from cilium_e2e.policy import CIDRGroup, Oracle, Peer, Pod, Service, Side, World
from cilium_e2e.policy.portnames import PROTOCOLS

_KEPT = 64


class Verdicts:
    """Answers for all nodes.

    Args:
        store: the API's objects.
        agents: all agents.
        places: who has which address.
        identities: gives numbers.
        hooks: what a fault changes.
    """

    def __init__(
        self, store: Store, agents: Agents, places: Places, identities: Identities, hooks: Hooks
    ) -> None:
        self._store = store
        self._agents = agents
        self._places = places
        self._identities = identities
        self._hooks = hooks
        self._outside: dict[str, None] = {}
        self._oracles: dict[object, Oracle] = {}
        self._seen: object = None
        self._recent: dict[object, Oracle] = {}

    def side(
        self, direction: Direction, subject: Place, remote: Place, protocol: str, port: int
    ) -> tuple[Side, Oracle] | None:
        """One side's decision, with the oracle that made it; None where nothing is asked.

        Args:
            direction: egress at a source, ingress at a target.
            subject: where policy is enforced.
            remote: the other end.
            protocol: the transport, or ``ICMP``.
            port: the destination port, for ICMP the message type.
        """
        agent = self._agents.agents.get(subject.node)
        if agent is None or not self._hooks.judged(direction):
            return None
        endpoint = agent.endpoints.get(subject.name) if subject.kind == "pod" else None
        realized = endpoint.realized if endpoint is not None else agent.repository
        oracle = self._oracle(agent, self._hooks.enforces(realized), remote, subject)
        answer = oracle.side(
            direction,
            oracle.participant(subject.key),
            oracle.participant(remote.key),
            PROTOCOLS[protocol.upper()],
            port,
        )
        return answer, oracle

    def identity(self, agent: Agent, place: Place) -> tuple[int, tuple[str, ...]]:
        """The identity a node has for a place: its number and labels."""
        if place.kind == "pod":
            endpoint = agent.endpoints.get(place.name)
            if endpoint is not None:
                return endpoint.identity, endpoint.labels
            entry = agent.ipcache.get(place.ip)
            return (entry.identity, entry.labels) if entry is not None else (2, ("reserved:world",))
        oracle = self._oracle(agent, agent.repository, place, place)
        participant = oracle.participant(place.key)
        near = place.node == agent.node
        labels = texts(oracle.labels_of(participant.local_identity if near else participant.identity))
        return self._identities.of(labels), labels

    def labels_of(self, agent: Agent, snapshot: Snapshot, name: str) -> tuple[Oracle, int] | None:
        """The oracle and identity for an endpoint's own policy; None while it has no identity."""
        endpoint = agent.endpoints.get(name)
        if endpoint is None or not endpoint.identity:
            return None
        place = self._places.of(endpoint.ips[0])
        oracle = self._oracle(agent, snapshot, place, place)
        return oracle, oracle.participant(name).identity

    def _oracle(self, agent: Agent, snapshot: Snapshot, *ends: Place) -> Oracle:
        for end in ends:
            if end.kind == "nowhere":
                self._outside.setdefault(end.ip)
        if self._seen != self.state():
            self._seen = self.state()
            self._recent.clear()
        place = (agent.node, snapshot.key)
        if place not in self._recent:
            self._recent[place] = self._made(agent, snapshot)
        return self._recent[place]

    def state(self) -> tuple[int, int, int]:
        """What changes whenever anything does that verdicts and identities depend on."""
        return self._store.version, self._agents.changes, len(self._outside)

    def _made(self, agent: Agent, snapshot: Snapshot) -> Oracle:
        """The oracle of a view and a snapshot; worlds that are alike share one."""
        pods = tuple(self._pods(agent))
        names = tuple(sorted((ip, tuple(sorted(known))) for ip, known in agent.names.items()))
        groups, services = self._groups(), self._services()
        key = (
            tuple((pod.key, pod.identity) for pod in pods),
            agent.node,
            names,
            snapshot.key,
            tuple(self._outside),
            tuple((group.name, version) for group, version in groups),
            tuple((s.namespace, s.name, tuple(s.selector.items()), s.backends) for s in services),
        )
        if key not in self._oracles:
            if len(self._oracles) >= _KEPT:
                self._oracles.pop(next(iter(self._oracles)))
            world = World(
                namespaces={},
                pods=pods,
                peers=tuple(self._peers(agent.names)),
                cidr_groups=tuple(group for group, _ in groups),
                services=services,
                options=self._agents.options,
            )
            policies = [policy for _, (_, policy) in sorted(snapshot.policies.items())]
            self._oracles[key] = Oracle(world, policies)
        return self._oracles[key]

    def _pods(self, view: Agent) -> list[Pod]:
        found = []
        for agent in self._agents.agents.values():
            for endpoint in agent.endpoints.values():
                labels = endpoint.labels if agent is view else ()
                if agent is not view:
                    entry = view.ipcache.get(endpoint.ips[0])
                    labels = entry.labels if entry is not None else ("reserved:world",)
                found.append(
                    Pod(
                        namespace=endpoint.namespace,
                        name=endpoint.pod,
                        named_ports=endpoint.named_ports,
                        node=agent.node,
                        identity=labels or ("reserved:init",),
                    )
                )
        return sorted(found, key=lambda pod: pod.key)

    def _peers(self, names: Mapping[str, set[str]]) -> list[Peer]:
        found = []
        firewall = self._agents.options.host_firewall
        for node in self._places.nodes.values():
            stored = self._store.find(Ref("v1", "Node", node.name))
            labels = dict(stored["metadata"].get("labels") or {}) if stored is not None else {}
            reserved = ["reserved:remote-node"]
            if node.role == "control-plane":
                reserved.append("reserved:kube-apiserver")
            for number, ip in enumerate(node.ips):
                found.append(
                    Peer(
                        name=node_key(node.name, number),
                        labels=tuple(reserved),
                        address=ip,
                        node=node.name,
                        node_labels=labels,
                        dns_names=tuple(sorted(names.get(ip, ()))),
                        enforced=firewall,
                    )
                )
            found.append(Peer(name=f"health:{node.name}", labels=("reserved:health",)))
        for name, ips in self._places.world.items():
            for number, ip in enumerate(ips):
                known = tuple(sorted(names.get(ip, ())))
                found.append(Peer(name=world_key(name, number), address=ip, dns_names=known))
        found += [
            Peer(name=f"ip:{ip}", address=ip, dns_names=tuple(sorted(names.get(ip, ()))))
            for ip in self._outside
        ]
        return found

    def _groups(self) -> tuple[tuple[CIDRGroup, str], ...]:
        ref = Ref(CILIUM, "CiliumCIDRGroup")
        return tuple(
            (
                CIDRGroup(
                    name=group["metadata"]["name"],
                    labels=dict(group["metadata"].get("labels") or {}),
                    cidrs=tuple(group["spec"].get("externalCIDRs") or ()),
                ),
                group["metadata"]["resourceVersion"],
            )
            for group in self._store.all(ref)
        )

    def _services(self) -> tuple[Service, ...]:
        return tuple(
            Service(
                namespace=service["metadata"]["namespace"],
                name=service["metadata"]["name"],
                labels=dict(service["metadata"].get("labels") or {}),
                selector=dict(service["spec"].get("selector") or {}),
                backends=self._backends(service),
            )
            for service in self._store.all(Ref("v1", "Service"))
        )

    def _backends(self, service: Mapping[str, object]) -> tuple[str, ...]:
        meta: Mapping[str, str] = service["metadata"]  # type: ignore[assignment]
        slices = self._store.all(Ref("discovery.k8s.io/v1", "EndpointSlice", namespace=meta["namespace"]))
        return tuple(
            sorted(
                address
                for found in slices
                if (found["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == meta["name"]
                for endpoint in found["endpoints"]
                for address in endpoint["addresses"]
            )
        )
