"""Pods: given a node, started once their node has a network, ready a moment later, gone after their grace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cilium_e2e.cluster.simulated.addresses import Addresses, NodePlan
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.model import EventType, Object, Ref

_SCHEDULE_S, _START_S, _READY_S, _STOP_S = 0.05, 0.4, 0.6, 0.3


class Kubelet:
    """The scheduler and every node's kubelet.

    Args:
        store: the API's objects.
        nodes: the nodes there are.
        addresses: gives pods theirs.
        network: whether a node's pods can be given a network now.
        becomes_ready: whether a started pod's containers ever become ready.
    """

    def __init__(
        self,
        store: Store,
        nodes: list[NodePlan],
        addresses: Addresses,
        *,
        network: Callable[[str], bool],
        becomes_ready: Callable[[Object], bool],
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._nodes = {node.name: node for node in nodes}
        self._addresses = addresses
        self._network = network
        self._becomes_ready = becomes_ready
        self._unscheduled: set[Ref] = set()
        self._without_network: set[Ref] = set()
        store.subscribers.append(self._changed)

    def network_is_up(self, node: str) -> None:
        """A node's network works now: pods that waited for it can start."""
        del node
        for ref in sorted(self._without_network, key=str):
            self._clock.after(_START_S, lambda ref=ref: self._start(ref))  # type: ignore[misc]
        self._without_network.clear()

    def _changed(self, change: Change) -> None:
        ref = change.ref
        if ref.kind == "Node" and change.type is EventType.MODIFIED:
            waiting, self._unscheduled = self._unscheduled, set()
            for pod in sorted(waiting, key=str):
                self._clock.after(_SCHEDULE_S, lambda pod=pod: self._schedule(pod))  # type: ignore[misc]
        if ref.kind != "Pod":
            return
        if change.type is EventType.ADDED:
            if change.object["spec"].get("nodeName"):
                self._clock.after(_START_S, lambda: self._start(ref))
            else:
                self._clock.after(_SCHEDULE_S, lambda: self._schedule(ref))
        elif change.type is EventType.MODIFIED and _leaves(change):
            uid = change.object["metadata"]["uid"]
            grace_s = min(float(change.object["spec"].get("terminationGracePeriodSeconds", 30)), _STOP_S)
            self._clock.after(grace_s, lambda: self._stop(ref, uid))

    def _schedule(self, ref: Ref) -> None:
        pod = self._store.find(ref)
        if pod is None or pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
            return
        fitting = [name for name in self._nodes if _fits(pod, self._node(name))]
        if not fitting:
            self._unscheduled.add(ref)
            message = f"0/{len(self._nodes)} nodes are available"
            self._store.update(
                ref, lambda p: self._condition(p, "PodScheduled", "False", "Unschedulable", message)
            )
            return
        load = dict.fromkeys(fitting, 0)
        for other in self._store.all(Ref("v1", "Pod")):
            if other["spec"].get("nodeName") in load:
                load[other["spec"]["nodeName"]] += 1
        chosen = min(fitting, key=lambda name: (load[name], fitting.index(name)))

        def bind(found: Object) -> None:
            found["spec"]["nodeName"] = chosen
            self._condition(found, "PodScheduled", "True")

        self._store.update(ref, bind, manager="kube-scheduler")
        self._clock.after(_START_S, lambda: self._start(ref))

    def _node(self, name: str) -> Object:
        found = self._store.find(Ref("v1", "Node", name))
        return found if found is not None else {"metadata": {"name": name}, "spec": {}}

    def _start(self, ref: Ref) -> None:
        pod = self._store.find(ref)
        if pod is None or pod["status"].get("phase") != "Pending" or "deletionTimestamp" in pod["metadata"]:
            return
        node = self._nodes[pod["spec"]["nodeName"]]
        on_host = bool(pod["spec"].get("hostNetwork"))
        if not on_host and not self._network(node.name):
            self._without_network.add(ref)
            waiting = {
                "reason": "ContainerCreating",
                "message": "network is not ready: cni plugin not initialized",
            }
            self._store.update(ref, lambda p: _containers(p, {"waiting": waiting}, ready=False))
            return
        ips = list(node.ips) if on_host else self._addresses.pod_ips(node)

        def run(found: Object) -> None:
            status = found["status"]
            status |= {
                "phase": "Running",
                "hostIP": node.ips[0],
                "podIP": ips[0],
                "podIPs": [{"ip": ip} for ip in ips],
                "startTime": self._clock.stamp(),
            }
            _containers(found, {"running": {"startedAt": self._clock.stamp()}}, ready=False)
            for kind in ("PodReadyToStartContainers", "Initialized"):
                self._condition(found, kind, "True")
            for kind in ("Ready", "ContainersReady"):
                self._condition(found, kind, "False", "ContainersNotReady", "containers with unready status")

        self._store.update(ref, run, manager="kubelet")
        uid = pod["metadata"]["uid"]
        self._clock.after(_READY_S, lambda: self._ready(ref, uid))

    def _ready(self, ref: Ref, uid: str) -> None:
        pod = self._store.find(ref)
        if pod is None or pod["metadata"]["uid"] != uid or not self._becomes_ready(pod):
            return

        def ready(found: Object) -> None:
            _containers(found, found["status"]["containerStatuses"][0]["state"], ready=True)
            for kind in ("Ready", "ContainersReady"):
                self._condition(found, kind, "True")

        self._store.update(ref, ready, manager="kubelet")

    def _stop(self, ref: Ref, uid: str) -> None:
        pod = self._store.find(ref)
        if pod is not None and pod["metadata"]["uid"] == uid:
            self._store.delete(ref)

    def _condition(self, pod: Object, kind: str, status: str, reason: str = "", message: str = "") -> None:
        conditions = [c for c in pod["status"].get("conditions") or () if c["type"] != kind]
        entry = {"type": kind, "status": status, "lastTransitionTime": self._clock.stamp()}
        entry |= {"reason": reason, "message": message} if reason else {}
        pod["status"]["conditions"] = [*conditions, entry]


def _leaves(change: Change) -> bool:
    """Whether a pod has just been asked to go."""
    before = change.before or {"metadata": {}}
    mark = "deletionTimestamp"
    return mark in change.object["metadata"] and mark not in before["metadata"]


def _containers(pod: Object, state: Mapping[str, Any], *, ready: bool) -> None:
    pod["status"]["containerStatuses"] = [
        {
            "name": container["name"],
            "image": container.get("image", ""),
            "state": dict(state),
            "lastState": {},
            "ready": ready,
            "started": ready,
            "restartCount": 0,
        }
        for container in pod["spec"]["containers"]
    ]


def _fits(pod: Object, node: Object) -> bool:
    """Whether the scheduler may put a pod on a node."""
    spec = pod["spec"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms")
    if terms is not None and not any(_term(term, node) for term in terms):
        return False
    return all(
        any(_tolerates(entry, taint) for entry in spec.get("tolerations") or ())
        for taint in node["spec"].get("taints") or ()
        if taint["effect"] != "PreferNoSchedule"
    )


def _term(term: Mapping[str, Any], node: Object) -> bool:
    fields = {"metadata.name": node["metadata"]["name"]}
    wanted = [(entry, fields) for entry in term.get("matchFields") or ()]
    wanted += [(entry, node["metadata"].get("labels") or {}) for entry in term.get("matchExpressions") or ()]
    answers = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, values: value is not None,  # noqa: ARG005
        "DoesNotExist": lambda value, values: value is None,  # noqa: ARG005
    }
    return bool(wanted) and all(
        answers[entry["operator"]](values.get(entry["key"]), entry.get("values") or ())
        for entry, values in wanted
    )


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same = toleration["key"] == taint["key"]
    return same and (
        toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
    )
