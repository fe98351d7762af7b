"""A network in memory as the connectivity suite expects it, and with one fault at a time."""

from __future__ import annotations

import ipaddress
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    NodeInfo,
    Object,
    Outcome,
    OutcomeKind,
    Probe,
    Protocol,
    Ref,
    Target,
    TargetKind,
    WorldAgent,
)
from cilium_e2e.probe import service as make_service
from cilium_e2e.probe.places import HOST_PORTS, WORLD_PORTS, ZONE
from cilium_e2e.suites.connectivity.reach import SERVED, Grid, Pod
from support.cluster import SmallCluster, ready_pod
from support.memory import VirtualClock

NODES = (
    NodeInfo("n1", "control-plane", ("172.18.0.2", "fc00::2")),
    NodeInfo("n2", "worker", ("172.18.0.3", "fc00::3")),
)
WORLD = (WorldAgent("one", ("172.18.0.8", "fc00::8")), WorldAgent("two", ("172.18.0.9", "fc00::9")))
INFO = ClusterInfo("x", Backend.KIND, "dual-stack", NODES, "cilium/cilium", "cilium", WORLD)
_MTU = 1450
_NUMBERS = itertools.count(20)


def grid() -> Grid:
    """A server and a client on each node."""
    pods = [
        Pod(Target.pod("ns", f"{role}-{n}"), node.name, (f"10.0.{n}.{at}", f"fd00::{n + 1}:{at}"))
        for at, role in ((1, "server"), (2, "client"))
        for n, node in enumerate(NODES)
    ]
    return Grid("ns", tuple(pods[:2]), tuple(pods[2:]))


@dataclass
class Place:
    """Somebody with addresses: a pod, a node's agent or one outside."""

    target: Target
    ips: tuple[str, ...]
    node: str = ""

    def ip(self, version: int) -> str:
        return next(ip for ip in self.ips if ipaddress.ip_address(ip).version == version)


@dataclass
class Network:
    """As much of a cluster as a lab needs; ``faults`` are the names below that are not as they should be."""

    grid: Grid
    faults: frozenset[str] = frozenset()
    info: ClusterInfo = INFO
    api: SmallCluster = field(default_factory=SmallCluster)
    asked: list[Probe] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = [Place(pod.target, pod.ips, pod.node) for pod in self.grid.pods]
        self.places += [Place(Target.node(node.name), node.ips, node.name) for node in NODES]
        self.places += [Place(Target.world(agent.name), agent.ips) for agent in WORLD]
        self.services: dict[str, Object] = {}
        self.names: dict[str, list[str]] = {"kubernetes.default.svc.cluster.local": ["10.96.0.1"]}
        for name, agents in {"one": WORLD[:1], "two": WORLD[1:], "both": WORLD, "any": WORLD[:1]}.items():
            self.names[f"{name}.{ZONE}"] = [ip for agent in agents for ip in agent.ips]
        self.turns = itertools.count()
        self.gone: list[Place] = []
        self.visits = itertools.count(1)
        self.bound: dict[tuple[object, ...], Place] = {}
        for pod in self.grid.pods:
            self.api.put(ready_pod(pod.target, pod.node))

    @property
    def clock(self) -> VirtualClock:
        return self.api.clock

    @property
    def kube(self) -> Kube:
        """What is looked at after a failure: all well, as Kubernetes knows it."""
        return Kube(self.api, clock=self.clock)

    def expose(self, purpose: str, *, backends: Sequence[Pod] = (), **options: object) -> Object:
        """A Service as the API server completes it."""
        settings = {"selector": {}, "ports": SERVED, **options}
        obj = make_service("ns", f"{purpose}-{next(_NUMBERS)}", **settings)  # type: ignore[arg-type]
        spec, number = obj["spec"], next(_NUMBERS)
        dual = spec.get("ipFamilyPolicy") == "RequireDualStack"
        families = spec.setdefault("ipFamilies", ["IPv4", "IPv6"] if dual else ["IPv4"])
        ips = {"IPv4": f"10.96.1.{number}", "IPv6": f"fd01::{number}"}
        addresses = [ips[family] for family in families]
        if spec.get("clusterIP") != "None":
            spec |= {"clusterIP": addresses[0], "clusterIPs": addresses}
        for at, port in enumerate(spec["ports"]):
            port["nodePort"] = 30000 + 10 * number + at
        obj["backends"] = [place for place in self.places if place.target in {pod.target for pod in backends}]
        self.services[obj["metadata"]["name"]] = obj
        name = f"{obj['metadata']['name']}.ns.svc.cluster.local"
        if spec.get("clusterIP") == "None":
            versions = [6 if family == "IPv6" else 4 for family in families]
            addresses = [place.ip(version) for place in obj["backends"] for version in versions]
        self.names[name] = addresses[:1] if "headless lacks one" in self.faults else addresses
        for ip in addresses:
            self.names[ipaddress.ip_address(ip).reverse_pointer] = [name]
        return obj

    def apply(self, obj: Object) -> Object:
        """A Service changed by somebody; so much of an API façade a test may use."""
        self.services[obj["metadata"]["name"]]["spec"] |= {"sessionAffinity": obj["spec"]["sessionAffinity"]}
        return obj

    def start(self, name: str, node: str) -> Pod:
        """A server that comes, behind every Service there is."""
        number = next(_NUMBERS)
        pod = Pod(Target.pod("ns", name), node, (f"10.0.9.{number}", f"fd00::9:{number}"))
        place = Place(pod.target, pod.ips, node)
        self.places.append(place)
        self.api.put(ready_pod(pod.target, node))
        for service in self.services.values():
            service["backends"].append(place)
        return pod

    def delete(self, ref: Ref) -> None:
        """A pod that goes."""
        self.api.delete(ref)
        self.gone += [place for place in self.places if place.target == Target.pod("ns", ref.name)]
        self.places = [place for place in self.places if place not in self.gone]
        if "the dead are remembered" not in self.faults:
            for service in self.services.values():
                service["backends"] = [place for place in service["backends"] if place not in self.gone]

    def wait(self, ref: Ref, until: Callable[[Sequence[Object]], object], **options: object) -> object:
        """As Kubernetes knows it, whatever Cilium makes of it."""
        if ref.kind == "Pod":
            return until([])
        (service,) = self.services.values()
        ips = [place.ips[0] for place in service["backends"] if place not in self.gone]
        found = until([{"endpoints": [{"addresses": [ip]} for ip in ips]}])
        assert found, f"the test awaits other backends than {ips}"
        return found

    def prober(self, source: Target) -> _Prober:
        return _Prober(self, next(place for place in self.places if place.target == source))

    def answer(self, source: Place, probe: Probe) -> Outcome:
        """What comes of one probe."""
        self.asked.append(probe)
        if "nothing works" in self.faults:
            return Outcome(probe.id, OutcomeKind.TIMEOUT)
        if probe.protocol is Protocol.DNS:
            name = probe.request.name or probe.target.name
            found = self.look_up(name, probe.request.record)
            rcode = "NXDOMAIN" if found is None else "NOERROR"
            return Outcome(probe.id, OutcomeKind.DNS, rcode=rcode, detail=", ".join(found or ()))
        ip = self.address(probe)
        if not ip:
            return Outcome(probe.id, OutcomeKind.DNS, rcode="NXDOMAIN")
        version = ipaddress.ip_address(ip).version
        who, seen = self.dial(source, ip, probe, version)
        size = probe.request.payload_bytes + 28
        if probe.protocol is Protocol.ICMP and size > _MTU and "echoes pass" not in self.faults:
            who = None
        if probe.protocol is Protocol.UDP and size > _MTU and "fragments are lost" in self.faults:
            who = None
        if who is None:
            return Outcome(probe.id, OutcomeKind.TIMEOUT, destination_ip=ip)
        kind = OutcomeKind.HTTP if probe.protocol is Protocol.HTTP else OutcomeKind.CONNECTED
        text = "" if probe.protocol is Protocol.ICMP else str(who.target)
        return Outcome(
            probe.id,
            kind,
            answered_by=text,
            seen_from="" if probe.protocol is Protocol.ICMP else seen,
            destination_ip=ip,
            status=200 if kind is OutcomeKind.HTTP else 0,
        )

    def look_up(self, name: str, record: str) -> list[str] | None:
        """The records of a name; None where there is no such name."""
        zone = f"any.{ZONE}"
        found = self.names.get(zone if name.endswith(zone) else name)
        if found is None and "nobody resolves" in self.faults:
            return []
        version = {"A": 4, "AAAA": 6}.get(record)
        if found is None or version is None:
            return found
        return [ip for ip in found if (":" in ip) == (version == 6)]

    def address(self, probe: Probe) -> str:
        """What is dialled for a target."""
        target = probe.target
        if target.kind is TargetKind.ADDRESS:
            return target.name
        if target.kind is TargetKind.SERVICE:
            service = self.services.get(target.name)
            return service["spec"]["clusterIP"] if service else "10.96.0.1"
        if target.kind is TargetKind.DNS:
            below = ("", ".ns.svc.cluster.local", ".svc.cluster.local", ".cluster.local")
            for suffix in below if probe.request.search or "." not in target.name else below[:1]:
                name = target.name + suffix
                for record in ("A", "AAAA"):
                    if found := self.look_up(name, record):
                        return found[0]
            return ""
        return next(place.ips[0] for place in self.places if place.target == target)

    def dial(self, source: Place, ip: str, probe: Probe, version: int) -> tuple[Place | None, str]:
        """Who answers at an address, and whom it sees asking."""
        own = source.ip(version)
        if "pods are masqueraded" in self.faults:
            own = "192.0.2.1"
        place = next((place for place in self.places if ip in place.ips), None)
        if place is None:
            return self.balance(source, ip, probe), own
        crosses = source.node and place.node and source.node != place.node
        if "nodes are cut" in self.faults and crosses and place.target.kind is TargetKind.POD:
            return None, own
        if place.target.kind is TargetKind.POD:
            outside = source.target.kind is TargetKind.WORLD and "pods are routed" not in self.faults
            return (None if outside else place), own
        if place.target.kind is TargetKind.WORLD:
            ports = {port.number for port in WORLD_PORTS}
            if source.target.kind is TargetKind.POD and "no masquerading" not in self.faults:
                own = next(p for p in self.places if p.target == Target.node(source.node)).ip(version)
            return (place if probe.port in ports or not probe.port else None), own
        if not probe.port or probe.port in {port.number for port in HOST_PORTS}:
            return place, own
        return self.node_port(source, place, probe, version)

    def node_port(self, source: Place, node: Place, probe: Probe, version: int) -> tuple[Place | None, str]:
        own = source.ip(version)
        for service in self.services.values():
            for port in service["spec"]["ports"]:
                if port["nodePort"] != probe.port:
                    continue
                backends = service["backends"]
                local = service["spec"].get("externalTrafficPolicy") == "Local"
                if local and "Local is Cluster" not in self.faults:
                    backends = [place for place in backends if place.node == node.node]
                elif source.target.kind is TargetKind.WORLD:
                    own = node.ip(version)
                if "node ports are local" in self.faults and backends:
                    backends = [place for place in backends if place.node == node.node]
                return (backends[next(self.turns) % len(backends)] if backends else None), own
        return None, own

    def haunts(self) -> bool:
        """Whether this probe goes to somebody who is gone: every 150th since the first one went."""
        return bool(self.gone) and next(self.visits) % 150 == 0

    def balance(self, source: Place, ip: str, probe: Probe) -> Place | None:
        """The backend behind a ClusterIP."""
        service = next((s for s in self.services.values() if ip in s["spec"].get("clusterIPs", ())), None)
        if service is None:
            return Place(Target.dns("the-api-server"), ()) if ip == "10.96.0.1" else None
        port = next((port for port in service["spec"]["ports"] if port["port"] == probe.port), None)
        backends = service["backends"]
        if port is None or not backends:
            return None
        if "a backend is left out" in self.faults:
            backends = backends[:1]
        if "hairpins are lost" in self.faults and backends == [source]:
            return None
        chosen = backends[next(self.turns) % len(backends)]
        if service["spec"].get("sessionAffinity") == "ClientIP" and "no affinity" not in self.faults:
            shared = "one affinity for all" in self.faults
            key = (ip, probe.port, None if shared else source.target)
            chosen = self.bound.setdefault(key, chosen)
        if chosen in self.gone or ("the dead are asked now and then" in self.faults and self.haunts()):
            return None
        return chosen if "a stranger answers" not in self.faults else self.places[2]


@dataclass
class _Prober:
    network: Network
    source: Place

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        self.network.clock.sleep(0.5 if batch else 0.0)
        return [self.network.answer(self.source, probe) for probe in batch]
