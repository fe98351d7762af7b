"""The pods that all cases share, and what a case's names mean on this cluster.

Namespaces ``x`` and ``y`` are the worker's own. ``x/server`` and ``x/near`` are on one node, ``x/far`` and
``y/guest`` on another where there is one. ``node:near`` and ``node:far`` are those nodes. Policies may hold

========================  ====================================================
``${world.one.cidr}``     the address of an agent outside the cluster, as a prefix; also ``.ip``
``${namespace.x}``        what a namespace is really called, where no selector names it
========================  ====================================================
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import (
    ClusterInfo,
    Destination,
    Expectation,
    Object,
    Probe,
    Protocol,
    Request,
    ScenarioError,
    Target,
    TargetKind,
)
from cilium_e2e.probe import Port
from cilium_e2e.probe.places import ZONE
from cilium_e2e.scenario import SILENCE_S, Check, PodSpec, ServiceSpec, isolate
from cilium_e2e.suites.policy.cases import Case, Row

X, Y = "x", "y"
SERVER, NEAR, FAR, GUEST = "server", "near", "far", "guest"
TRUSTED = "trusted"
"""The service account of ``x/far``."""

_SLOW_S = 1.5
WEB = Port(8080, "TCP", "web")
PORTS = (
    WEB,
    *(Port(number) for number in (8081, 8082, 8083, 8084)),
    Port(8080, "UDP", "dgram"),
    Port(8081, "UDP"),
    Port(8088, "HTTP", "http"),
)
SERVICE = ServiceSpec(SERVER, {"app": SERVER}, (Port(8080), Port(8081)))

# Namespaces that policies may name and that are the cluster's own: they stay what they are.
_SHARED = ("default", "kube-system")
_NODES = {"near": 0, "far": 1}
_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_PREFIX = {4: 32, 6: 128}
_CONNECTED = Expectation("connected")


def pods(near: str, far: str) -> dict[str, list[PodSpec]]:
    """The pods by namespace; ``near`` and ``far`` are nodes, the same one where there is only one."""
    return {
        X: [
            PodSpec(SERVER, {"app": SERVER}, PORTS, near),
            PodSpec(NEAR, {"app": "client", "place": NEAR}, PORTS, near),
            PodSpec(FAR, {"app": "client", "place": FAR}, PORTS, far, TRUSTED),
        ],
        Y: [PodSpec(GUEST, {"app": GUEST}, PORTS, far)],
    }


def nodes_of(info: ClusterInfo) -> tuple[str, str]:
    """Near and far: a worker, and a control-plane node where there are both."""
    names = [node.name for node in sorted(info.nodes, key=lambda node: node.role != "worker")]
    return names[0], names[-1]


@dataclass(frozen=True, slots=True)
class Bound:
    """A row on this cluster: its probe with what is expected of it, and who answers if anybody does."""

    row: Row
    check: Check
    answered_by: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """The probe's."""
        return self.check.probe.id

    def control(self) -> Check:
        """The positive control: without a policy it gets its answer, from the same pod."""
        return Check(self.check.probe, _CONNECTED, self.answered_by)


@dataclass(frozen=True, slots=True)
class Stage:
    """The cluster's names for those of cases.

    Attributes:
        info: the cluster.
        namespaces: ``x`` and ``y`` to the worker's own.
        nodes: near and far.
        pods: all pods of the stage.
    """

    info: ClusterInfo
    namespaces: Mapping[str, str]
    nodes: tuple[str, str]
    pods: tuple[Target, ...]

    def policies(self, case: Case) -> list[Object]:
        """The case's policies, filled in and moved into the worker's namespaces.

        Cluster-wide policies get the worker's namespace as part of their name, so that workers do not meet.

        Raises:
            ScenarioError: an unknown template or namespace.
        """
        known = {**self.namespaces, **{name: name for name in _SHARED}}
        moved = []
        for policy in case.policies:
            own = isolate(self._fill(policy, case), known)
            if "namespace" not in own["metadata"]:
                own["metadata"]["name"] += f"-{self.namespaces[X]}"
            moved.append(own)
        return moved

    def rows(self, case: Case) -> list[Bound]:
        """The case's rows as probes."""
        return [self._bound(row) for row in case.rows]

    def dns_names(self, case: Case) -> dict[str, list[str]]:
        """Agents outside to the names of the zone that lead to them and that the case's rows ask for."""
        found: dict[str, list[str]] = {}
        for row in case.rows:
            target = Destination.parse(row.destination).target
            name = target.name if target.kind is TargetKind.DNS else ""
            agent = name.removesuffix(f".{ZONE}")
            if name and agent in {world.name for world in self.info.world}:
                found.setdefault(agent, []).append(name)
        return found

    def node(self, place: Target) -> str:
        """The node a pod of the stage is on, or the backend of its Service."""
        return self.nodes[0] if place.name in (SERVER, NEAR) else self.nodes[1]

    def _bound(self, row: Row) -> Bound:
        source = self._target(Target.parse(row.source))
        written = Destination.parse(row.destination)
        destination = Destination(self._target(written.target), written.port, written.protocol)
        # Proxies and resolvers take their time.
        timeout_s = _SLOW_S if written.protocol in {Protocol.HTTP, Protocol.DNS} else SILENCE_S
        probe = dataclasses.replace(Probe.to(source, destination, timeout_s=timeout_s), request=row.request)
        if row.request != Request():
            asked = " ".join(filter(None, (row.request.method, row.request.path, row.request.name)))
            probe = dataclasses.replace(probe, id=f"{probe.id} {asked}")
        named = destination.target.kind is TargetKind.POD and written.protocol is not Protocol.ICMP
        answered_by = frozenset({str(destination.target)}) if named else frozenset()
        check = Check(probe, row.expected, frozenset() if row.denial else answered_by)
        return Bound(row, check, answered_by)

    def _target(self, target: Target) -> Target:
        if target.kind is TargetKind.NODE:
            return Target.node(self.nodes[_NODES[target.name]])
        if target.namespace:
            name = self.namespaces.get(target.namespace, target.namespace)
            return dataclasses.replace(target, namespace=name)
        return target

    def _fill(self, node: Any, of: Case) -> Any:
        if isinstance(node, str):
            return _TEMPLATE.sub(lambda match: self._value(match[1], of), node)
        if isinstance(node, list):
            return [self._fill(item, of) for item in node]
        if isinstance(node, dict):
            return {key: self._fill(value, of) for key, value in node.items()}
        return node

    def _value(self, text: str, of: Case) -> str:
        match text.split("."):
            case ["namespace", name] if name in self.namespaces:
                return self.namespaces[name]
            case ["world", name, ("ip" | "cidr") as part]:
                for agent in self.info.world:
                    if agent.name == name:
                        ip = agent.ips[0]
                        return ip if part == "ip" else f"{ip}/{_PREFIX[6 if ':' in ip else 4]}"
        raise ScenarioError(
            f"expected world.NAME.ip, world.NAME.cidr or namespace.NAME of this cluster, got {text!r}",
            place=f"{of.file}: {of.name}",
        )
