"""Workloads that several tests share; on a cluster that is kept they stay, and the next run finds them.

To start a pod takes a node more work than all probes of a suite. So where a cluster outlives its run, what a
worker deployed for all of its tests is not deleted at the end but marked as resting: by a digest of all that
makes it, and by its worker's name. Whoever wants just this takes it up and removes the mark, so that what a
run leaves behind that was killed is not mistaken for it (:mod:`cilium_e2e.session.leftovers`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cilium_e2e.kube import Kube, at_once
from cilium_e2e.model import Cluster, ClusterStateError, Ref
from cilium_e2e.probe import config_map
from cilium_e2e.scenario.workload import (
    PodSpec,
    ServiceSpec,
    await_pods,
    delete_namespace,
    make_namespace,
    namespace_object,
    pod_object,
    service_object,
    start,
)

# Annotations, because a namespace's labels are part of its pods' identities.
RESTS = "cilium-e2e/rests"
"""The annotation of a namespace whose workload nobody uses just now; a digest of the workload."""
_OWNER, _AS, _GROUP = "cilium-e2e/owner", "cilium-e2e/as", "cilium-e2e/group"
_POLICIES = (("cilium.io/v2", "CiliumNetworkPolicy"), ("networking.k8s.io/v1", "NetworkPolicy"))


@dataclass(frozen=True, slots=True)
class Quarter:
    """What is to be in one namespace; ``labels`` are the namespace's."""

    pods: Sequence[PodSpec]
    services: Sequence[ServiceSpec] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


Layout = Mapping[str, Quarter]
"""Declared name of a namespace to what is to be in it."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A workload that is up.

    Attributes:
        names: declared name of a namespace to its real one.
        group: what the real names have in common.
        purpose: which of its worker's workloads it is.
        layout: what it was made by.
    """

    names: Mapping[str, str]
    group: str
    purpose: str
    layout: Layout


def bring_up(cluster: Cluster, kube: Kube, layout: Layout, names: Mapping[str, str], *, image: str) -> None:
    """Start a workload in namespaces that are there, and wait until Cilium has it, too.

    Args:
        cluster: where.
        kube: its API.
        layout: what to start.
        names: declared name of a namespace to its real one.
        image: the agents'.

    Raises:
        WaitTimeout, EnforcementNotProven: it did not come up.
    """
    for name, quarter in layout.items():
        if quarter.pods or quarter.services:
            start(kube, names[name], quarter.pods, quarter.services, image=image)
    _await(cluster, kube, layout, names)


def _await(cluster: Cluster, kube: Kube, layout: Layout, names: Mapping[str, str]) -> None:
    wanted = {names[name]: [pod.name for pod in quarter.pods] for name, quarter in layout.items()}
    await_pods(cluster, kube, {name: pods for name, pods in wanted.items() if pods})


class Residents:
    """Starts workloads, or takes up what rests.

    Args:
        cluster, kube, image: where and with what.
        worker: the worker's name; workers share nothing.
        keep: whether the cluster outlives the run, and what is on it, too.
    """

    def __init__(self, cluster: Cluster, kube: Kube, *, image: str, worker: str, keep: bool) -> None:
        self._cluster = cluster
        self._kube = kube
        self._image = image
        self._worker = worker
        self._keep = keep
        self._up: list[Resident] = []

    def up(self, purpose: str, layout: Layout, *, named: bool = True) -> Resident:
        """Have a workload running, pods being endpoints of Cilium.

        Args:
            purpose: a word that tells a worker's workloads apart.
            layout: what is to be in which namespace.
            named: whether the purpose is part of the namespaces' real names.

        Raises:
            WaitTimeout, EnforcementNotProven: it did not come up.
            KubeError: the API server refuses a part of it.
        """
        found = self._take_up(purpose, layout) if self._keep else None
        if found is None:
            found = self._new(purpose, layout, named=named)
        self._up.append(found)
        return found

    def down(self, resident: Resident, *, rest: bool = False) -> None:
        """Let go of a workload: delete it, or where the cluster is kept, let it rest."""
        self._up.remove(resident)
        if rest and self._keep:
            self._mark(resident)
        else:
            self._delete(resident)

    def close(self) -> None:
        """Let all rest that is up, or delete it."""
        while self._up:
            self.down(self._up[-1], rest=True)

    def _new(self, purpose: str, layout: Layout, *, named: bool) -> Resident:
        group = secrets.token_hex(2)
        names = {}
        for name in layout:
            words = [purpose if named else "", name if len(layout) > 1 or not named else ""]
            names[name] = "-".join([f"ce2e-{self._worker}", *filter(None, words), group])
        made = Resident(names, group, purpose, layout)
        try:
            for name, quarter in layout.items():
                make_namespace(self._kube, names[name], quarter.labels)
            bring_up(self._cluster, self._kube, layout, names, image=self._image)
        except BaseException:
            self._delete(made)
            raise
        return made

    def _take_up(self, purpose: str, layout: Layout) -> Resident | None:
        """What rests and is just this; all else of the purpose is deleted."""
        groups: dict[str, list[tuple[str, Mapping[str, str]]]] = {}
        for obj in self._kube.list_all(Ref("v1", "Namespace")):
            marks = obj["metadata"].get("annotations") or {}
            if RESTS in marks and marks.get(_OWNER) == f"{self._worker} {purpose}":
                groups.setdefault(marks.get(_GROUP, ""), []).append((obj["metadata"]["name"], marks))
        digest, taken = self._digest(layout), None
        for group, members in groups.items():
            names = {marks.get(_AS, ""): name for name, marks in members}
            one = Resident(names, group, purpose, layout)
            fits = taken is None and names.keys() == layout.keys()
            same = all(marks[RESTS] == digest for _, marks in members)
            if fits and same and self._untouched(one):
                taken = one
            else:
                self._delete(one)
        if taken is None:
            return None
        for name, quarter in layout.items():
            # Without the mark: from now on it is a run's own.
            self._kube.apply(namespace_object(taken.names[name], quarter.labels))
        try:
            _await(self._cluster, self._kube, layout, taken.names)
        except ClusterStateError:
            # It may have suffered while nobody looked; that is no reason for a test to fail.
            self._delete(taken)
            return None
        return taken

    def _untouched(self, one: Resident) -> bool:
        """Whether its namespaces hold the workload as it was made, and nothing that changes its traffic."""
        namespaces = [one.names[name] for name in one.layout]
        return all(at_once(self._as_made, namespaces, one.layout.values()))

    def _as_made(self, namespace: str, quarter: Quarter) -> bool:
        if any(self._kube.list_known(Ref(version, kind, namespace=namespace)) for version, kind in _POLICIES):
            return False
        pods = {
            obj["metadata"]["name"]: obj["metadata"].get("labels") or {}
            for obj in self._kube.list_all(Ref("v1", "Pod", namespace=namespace))
            if not obj["metadata"].get("ownerReferences") and "deletionTimestamp" not in obj["metadata"]
        }
        services = {
            obj["metadata"]["name"] for obj in self._kube.list_all(Ref("v1", "Service", namespace=namespace))
        }
        wanted = {pod.name: dict(pod.labels) for pod in quarter.pods}
        return pods == wanted and services == {service.name for service in quarter.services}

    def _mark(self, resident: Resident) -> None:
        digest = self._digest(resident.layout)
        for name, quarter in resident.layout.items():
            marks = {
                RESTS: digest,
                _OWNER: f"{self._worker} {resident.purpose}",
                _AS: name,
                _GROUP: resident.group,
            }
            self._kube.apply(namespace_object(resident.names[name], quarter.labels, marks))

    def _delete(self, resident: Resident) -> None:
        for name in resident.names.values():
            delete_namespace(self._kube, name)

    def _digest(self, layout: Layout) -> str:
        """Of all that makes a workload, the agents' own source included."""
        parts = {
            name: [
                dict(quarter.labels),
                [pod_object(name, pod, image=self._image) for pod in quarter.pods],
                [service_object(name, service) for service in quarter.services],
            ]
            for name, quarter in layout.items()
        }
        text = json.dumps([parts, config_map("any")["data"]], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
