"""A scenario's workload on the cluster: deployed once a worker, under names of the worker's own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Cluster,
    ClusterStateError,
    Destination,
    Object,
    Ref,
    ScenarioError,
    Target,
)
from cilium_e2e.scenario.isolation import SHARED, isolate
from cilium_e2e.scenario.model import PodDecl, Workload
from cilium_e2e.scenario.residents import Quarter, Resident, Residents, bring_up
from cilium_e2e.scenario.templates import fill
from cilium_e2e.scenario.workload import (
    PodSpec,
    ServiceSpec,
    await_pods,
    namespace,
    namespace_object,
    pod_object,
    remove,
)


@dataclass(slots=True)
class Stage:
    """A workload as it is deployed.

    Attributes:
        workload: as declared.
        namespaces: declared name to real name; the same where nothing is isolated.
        suffix: what cluster-wide objects' names get; empty where nothing is isolated.
        pods: declared ``namespace/name`` to what was deployed.
        cluster, kube, image: where and with what.
        reached: ids of probes that have connected while no policy of a scenario was in force, and
            how long the answer to each took then, in seconds; of a slow one the faster of two.
        silent: ids of those that have not, with what was seen.
    """

    workload: Workload
    namespaces: Mapping[str, str]
    suffix: str
    pods: Mapping[str, PodSpec]
    cluster: Cluster
    kube: Kube
    image: str
    reached: dict[str, float] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)

    @property
    def isolated(self) -> bool:
        """Whether the namespaces are the worker's own."""
        return bool(self.suffix)

    @property
    def endpoints(self) -> list[str]:
        """``namespace/pod`` of all its pods, by their real names."""
        return [str(self.pod(key)) for key in self.pods]

    def pod(self, key: str) -> Target:
        """The pod declared as ``namespace/name``."""
        return self.target(key)

    def target(self, text: str) -> Target:
        """A target as written in a scenario, by its real name."""
        target = Target.parse(fill(text, self.resolve))
        real = self.namespaces.get(target.namespace, target.namespace)
        return Target(target.kind, target.name, real)

    def destination(self, text: str) -> Destination:
        """A destination as written in a scenario, by its real name."""
        found = Destination.parse(fill(text, self.resolve))
        return Destination(self.target(str(found.target)), found.port, found.protocol)

    def policy(self, declared: Object) -> Object:
        """A policy as written in a scenario, with real names and addresses."""
        filled: Object = fill(declared, self.resolve)
        if not self.isolated:
            return filled
        return isolate(filled, self.namespaces, suffix=self.suffix, shared=SHARED)

    def resolve(self, what: str, name: str, part: str) -> str:
        """The value of a template; see :mod:`cilium_e2e.scenario.templates`.

        Raises:
            ScenarioError: the cluster has no such thing.
            ClusterStateError: a pod has no address.
        """
        if what == "namespace":
            return self.namespaces.get(name, name)
        if what == "pod":
            return _address(self._status(name).get("podIP", ""), part, name)
        if what == "world":
            ips = next((agent.ips for agent in self.cluster.info.world if agent.name == name), ())
            return _address(ips[0] if ips else "", part, f"world:{name}")
        nodes = self.cluster.info.nodes
        wanted = self._node_of(name) if "/" in name else ""
        index = int(name) if not wanted else 0
        node = next(
            (node for place, node in enumerate(nodes) if (node.name == wanted if wanted else place == index)),
            None,
        )
        if node is None:
            raise ScenarioError(
                f"expected one of the {len(nodes)} nodes, got {name}",
                place="template ${node...}",
                hint="Let the scenario require multi-node.",
            )
        return node.name if part == "name" else _address(node.ips[0] if node.ips else "", part, node.name)

    def relabel_pod(self, key: str, labels: Mapping[str, str]) -> None:
        """Give a pod these labels and no others."""
        spec = self.pods[key]
        changed = PodSpec(spec.name, labels, spec.ports, spec.node, spec.service_account)
        self.kube.apply(pod_object(self.pod(key).namespace, changed, image=self.image))

    def relabel_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Give a namespace these labels, beside those of its own."""
        self.kube.apply(namespace_object(self.namespaces[name], labels))

    def restart(self, key: str, labels: Mapping[str, str]) -> None:
        """Delete a pod and make it again, with the labels it has at this time."""
        target = self.pod(key)
        spec = self.pods[key]
        remove(self.kube, Ref("v1", "Pod", target.name, target.namespace))
        again = PodSpec(spec.name, labels, spec.ports, spec.node, spec.service_account)
        self.kube.apply(pod_object(target.namespace, again, image=self.image))
        await_pods(self.cluster, self.kube, {target.namespace: [target.name]})

    def _status(self, key: str) -> Mapping[str, Any]:
        target = self.pod(key)
        found: Mapping[str, Any] = self.kube.get(Ref("v1", "Pod", target.name, target.namespace))["status"]
        return found

    def _node_of(self, key: str) -> str:
        target = self.pod(key)
        pod = self.kube.get(Ref("v1", "Pod", target.name, target.namespace))
        return str(pod["spec"].get("nodeName", ""))


class Stages:
    """The stages of a worker: equal workloads share one, and few are up at the same time.

    Args:
        cluster, kube, image: where and with what.
        residents: starts workloads that are isolated, and may have them from an earlier run.
        worker: the worker's name, part of the names of cluster-wide objects.
        keep: how many isolated stages stay up; what was used longest ago goes first.
    """

    def __init__(
        self, cluster: Cluster, kube: Kube, residents: Residents, *, image: str, worker: str, keep: int = 3
    ) -> None:
        self._cluster = cluster
        self._kube = kube
        self._residents = residents
        self._image = image
        self._worker = worker
        self._keep = keep
        self._open: dict[str, tuple[Stage, Resident]] = {}

    @contextmanager
    def on(self, workload: Workload, *, isolated: bool) -> Iterator[Stage]:
        """A stage for one scenario.

        Isolated, its namespaces are the worker's own. Otherwise they are named as written; those that are
        there already stay, and only the pods and Services in them are removed, at once.

        Whoever leaves an isolated one in another state than it was in raises, and it is not used again.

        Raises:
            WaitTimeout, EnforcementNotProven: it did not come up.
            KubeError: the API server refuses a part of it.
        """
        if not isolated:
            with self._as_written(workload) as made:
                yield made
            return
        key = workload.key
        found = self._open.pop(key, None)
        if found is None:
            while len(self._open) >= self._keep:
                _, oldest = self._open.pop(next(iter(self._open)))
                self._residents.down(oldest, rest=False)
            found = self._isolated(workload)
        try:
            yield found[0]
        except (ClusterStateError, KeyboardInterrupt):
            self._residents.down(found[1], rest=False)
            raise
        except BaseException:
            self._open[key] = found
            raise
        self._open[key] = found

    def close(self) -> None:
        """Let go of them all."""
        while self._open:
            _, (_, resident) = self._open.popitem()
            self._residents.down(resident, rest=True)

    def _isolated(self, workload: Workload) -> tuple[Stage, Resident]:
        pods = self._pods(workload)
        purpose = f"s{hashlib.sha256(workload.key.encode()).hexdigest()[:6]}"
        resident = self._residents.up(purpose, _layout(workload, pods), named=False)
        suffix = f"{self._worker}-{resident.group}"
        return self._stage(workload, resident.names, suffix, pods), resident

    @contextmanager
    def _as_written(self, workload: Workload) -> Iterator[Stage]:
        pods = self._pods(workload)
        with ExitStack() as stack:
            layout = _layout(workload, pods)
            names = {name: name for name in layout}
            for name, quarter in layout.items():
                if self._kube.find(Ref("v1", "Namespace", name)) is not None:
                    stack.callback(_clear, self._kube, workload, name)
                else:
                    stack.enter_context(namespace(self._kube, name, quarter.labels))
            bring_up(self._cluster, self._kube, layout, names, image=self._image)
            yield self._stage(workload, names, "", pods)

    def _stage(
        self, workload: Workload, names: Mapping[str, str], suffix: str, pods: Mapping[str, PodSpec]
    ) -> Stage:
        return Stage(workload, names, suffix, pods, self._cluster, self._kube, self._image)

    def _pods(self, workload: Workload) -> dict[str, PodSpec]:
        nodes = [node.name for node in self._cluster.info.nodes]
        near = _first_node(workload.pods[0].node if workload.pods else "", nodes)
        return {
            pod.key: _spec(pod, nodes, near, pinned=place == 0) for place, pod in enumerate(workload.pods)
        }


def _layout(workload: Workload, pods: Mapping[str, PodSpec]) -> dict[str, Quarter]:
    """What is in which namespace."""
    return {
        name: Quarter(
            [pods[pod.key] for pod in workload.pods if pod.namespace == name],
            [
                ServiceSpec(one.name, one.selector, one.ports, one.targets, one.headless)
                for one in workload.services
                if one.namespace == name
            ],
            labels,
        )
        for name, labels in workload.namespaces.items()
    }


def _clear(kube: Kube, workload: Workload, name: str) -> None:
    for pod in workload.pods:
        if pod.namespace == name:
            remove(kube, Ref("v1", "Pod", pod.name, name))
    for one in workload.services:
        if one.namespace == name:
            remove(kube, Ref("v1", "Service", one.name, name))
    for account in {pod.service_account for pod in workload.pods if pod.namespace == name} - {"", "default"}:
        remove(kube, Ref("v1", "ServiceAccount", account, name))


def _first_node(hint: str, nodes: list[str]) -> str:
    """The node of the first pod: the one it asks for, else the last, a worker where there are any."""
    if hint.isdigit() and int(hint) < len(nodes):
        return nodes[int(hint)]
    return nodes[-1] if nodes else ""


def _spec(pod: PodDecl, nodes: list[str], near: str, *, pinned: bool) -> PodSpec:
    node = ""
    if pod.node == "same" or pinned:
        node = near
    elif pod.node == "other":
        node = next((name for name in reversed(nodes) if name != near), "")
    elif pod.node and int(pod.node) < len(nodes):
        node = nodes[int(pod.node)]
    return PodSpec(pod.name, pod.labels, pod.ports, node, pod.service_account)


def _address(ip: str, part: str, name: str) -> str:
    if not ip:
        raise ClusterStateError("it has no address", place=name)
    return f"{ip}/{128 if ':' in ip else 32}" if part == "cidr" else ip
