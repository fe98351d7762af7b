"""Who is where: pods, nodes, agents outside, health endpoints; and what listens there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cilium_e2e.cluster.simulated.addresses import NodePlan, numbered
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import Object, Ref
from cilium_e2e.probe.places import WORLD, WORLD_PORTS, zone_records
from cilium_e2e.probe.workload import RUN

AGENT, HTTP, DNS, HEALTH, OTHER = "agent", "http", "dns", "health", "other"
_FLAGS = {
    "--tcp": ("TCP", AGENT),
    "--udp": ("UDP", AGENT),
    "--sctp": ("SCTP", AGENT),
    "--http": ("TCP", HTTP),
    "--dns": ("UDP", DNS),
}
API_PORT, KUBELET_PORT, HEALTH_PORT, HUBBLE_PORT = 6443, 10250, 4240, 4244


@dataclass(frozen=True, slots=True)
class Listener:
    """What answers on a port: its kind, the agent's name, and for DNS its records (``NAME=ADDRESS``)."""

    kind: str
    name: str = ""
    records: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """An end of a connection.

    Attributes:
        kind: ``pod``, ``node``, ``health``, ``world`` or ``nowhere``.
        key: what the policy oracle knows it by.
        ip: the address it is reached at here.
        node: the node it is on, empty outside.
        name: ``namespace/pod``, the node's, or the world agent's.
        listeners: by protocol and port.
    """

    kind: str
    key: str
    ip: str
    node: str = ""
    name: str = ""
    listeners: Mapping[tuple[str, int], Listener] = field(default_factory=dict)


class Places:
    """Looks places up by address.

    Args:
        store: the API's objects.
        agents: knows which endpoint has which address.
        nodes: the nodes.
        world: the agents outside: name to addresses.
    """

    def __init__(
        self, store: Store, agents: Agents, nodes: Iterable[NodePlan], world: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._store = store
        self._agents = agents
        self.nodes = {node.name: node for node in nodes}
        self.world = world
        self._by_ip: dict[str, Place] = {}
        for node in nodes:
            for number, ip in enumerate(node.ips):
                self._by_ip[ip] = Place("node", node_key(node.name, number), ip, node.name, node.name)
            for number, cidr in enumerate(node.cidrs):
                listeners = {("TCP", HEALTH_PORT): Listener(HEALTH)}
                router, health = numbered(cidr, 1), numbered(cidr, 2)
                self._by_ip[router] = Place("node", node_key(node.name, number), router, node.name, node.name)
                self._by_ip[health] = Place("health", f"health:{node.name}", health, node.name, "", listeners)
        for name, ips in world.items():
            listeners = _world_listeners(name, world)
            for number, ip in enumerate(ips):
                self._by_ip[ip] = Place("world", world_key(name, number), ip, "", name, listeners)

    def of(self, ip: str) -> Place:
        """Whatever has an address; ``nowhere`` where nothing does."""
        known = self._agents.by_ip.get(ip)
        if known is not None:
            agent, endpoint = known
            pod = self._store.find(Ref("v1", "Pod", endpoint.pod, endpoint.namespace))
            listeners = _listeners(pod) if pod is not None and pod["status"].get("phase") == "Running" else {}
            return Place("pod", endpoint.name, ip, agent.node, endpoint.name, listeners)
        found = self._by_ip.get(ip)
        if found is None:
            return Place("nowhere", f"ip:{ip}", ip)
        if found.kind == "node":
            return Place("node", found.key, ip, found.node, found.name, self._node_listeners(found.node))
        return found

    def _node_listeners(self, node: str) -> dict[tuple[str, int], Listener]:
        found = {
            ("TCP", KUBELET_PORT): Listener(OTHER),
            ("TCP", HEALTH_PORT): Listener(HEALTH),
            ("TCP", HUBBLE_PORT): Listener(OTHER),
        }
        if self.nodes[node].role == "control-plane":
            found["TCP", API_PORT] = Listener(OTHER)
        for pod in self._store.all(Ref("v1", "Pod")):
            spec = pod["spec"]
            if (
                spec.get("hostNetwork")
                and spec.get("nodeName") == node
                and pod["status"].get("phase") == "Running"
            ):
                found |= _listeners(pod)
        return found


def node_key(name: str, number: int) -> str:
    """What the oracle calls a node at its first (0) or second (1) address."""
    return f"node:{name}" if number == 0 else f"node:{name}#{number}"


def world_key(name: str, number: int) -> str:
    """What the oracle calls an agent outside at its first (0) or second (1) address."""
    return f"world:{name}" if number == 0 else f"world:{name}#{number}"


def _world_listeners(name: str, world: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, int], Listener]:
    found = {
        (port.transport, port.number): Listener(HTTP if port.protocol == "HTTP" else AGENT, f"world:{name}")
        for port in WORLD_PORTS
    }
    if name == WORLD[0]:
        records = tuple(zone_records({one: list(ips) for one, ips in world.items()}))
        found["UDP", 53] = Listener(DNS, f"world:{name}", records)
    return found


def _listeners(pod: Object) -> dict[tuple[str, int], Listener]:
    """What a pod serves: an agent says so on its command line, others by their container ports."""
    found: dict[tuple[str, int], Listener] = {}
    for container in pod["spec"]["containers"]:
        command = container.get("command") or []
        if tuple(command[: len(RUN)]) == RUN:
            found |= _of_agent(command[len(RUN) :], agent_name(pod))
            continue
        for port in container.get("ports") or ():
            kind = DNS if port["containerPort"] == 53 else OTHER
            found[port.get("protocol", "TCP"), port["containerPort"]] = Listener(kind)
    return found


def agent_name(pod: Object) -> str:
    """What the probe agent in a pod calls itself: what its environment says, or the pod's name."""
    own = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    for container in pod["spec"]["containers"]:
        for entry in container.get("env") or ():
            if entry["name"] == "AGENT_NAME" and "$(" not in entry.get("value", "$("):
                return str(entry["value"])
    return own


def _of_agent(arguments: list[str], name: str) -> dict[tuple[str, int], Listener]:
    pairs = list(zip(arguments[1::2], arguments[2::2], strict=False))
    records = tuple(value for flag, value in pairs if flag == "--record")
    found = {}
    for flag, value in pairs:
        if flag in _FLAGS:
            protocol, kind = _FLAGS[flag]
            for number in value.split(","):
                found[protocol, int(number)] = Listener(kind, name, records if kind == DNS else ())
    return found
