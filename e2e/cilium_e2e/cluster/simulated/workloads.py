"""DaemonSets and Deployments: their pods, their rollouts, their status."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator

from cilium_e2e.cluster.simulated.patches import clone
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import EventType, Object, Ref

_SYNC_S = 0.05
_KINDS = {"DaemonSet", "Deployment"}
_HASH = {"DaemonSet": "controller-revision-hash", "Deployment": "pod-template-hash"}
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Workloads:
    """The two controllers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = store.clock
        self._pending: set[Ref] = set()
        self._made = 0
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.ref.kind in _KINDS and change.type is not EventType.DELETED:
            self._later(change.ref)
        elif change.ref.kind == "Pod":
            for owner in change.object["metadata"].get("ownerReferences") or ():
                if owner["kind"] in _KINDS:
                    self._later(Ref("apps/v1", owner["kind"], owner["name"], change.ref.namespace))

    def _later(self, ref: Ref) -> None:
        if ref not in self._pending:
            self._pending.add(ref)
            self._clock.after(_SYNC_S, lambda: self._sync(ref))

    def _sync(self, ref: Ref) -> None:
        self._pending.discard(ref)
        workload = self._store.find(ref)
        if workload is None:
            return
        digest = _digest(workload["spec"]["template"])
        pods = [pod for pod in self._pods(workload) if "deletionTimestamp" not in pod["metadata"]]
        current = [pod for pod in pods if _hash(pod, ref.kind) == digest]
        outdated = [pod for pod in pods if _hash(pod, ref.kind) != digest]
        sync: Callable[[Object, str, list[Object], list[Object]], int] = (
            self._daemon_set if ref.kind == "DaemonSet" else self._deployment
        )
        wanted = sync(workload, digest, current, outdated)
        self._status(ref, wanted, current, len(pods))

    def _daemon_set(
        self, workload: Object, digest: str, current: list[Object], outdated: list[Object]
    ) -> int:
        nodes = [node["metadata"]["name"] for node in self._store.all(Ref("v1", "Node"))]
        taken = {_node_of(pod) for pod in (*current, *outdated)}
        leaving = {_node_of(pod) for pod in self._pods(workload) if "deletionTimestamp" in pod["metadata"]}
        for node in nodes:
            if node not in taken | leaving:
                self._create(workload, digest, node=node)
        # One after the other, as maxUnavailable says; the next goes when all that are new are ready.
        if outdated and all(is_true(pod, "Ready") for pod in current) and not leaving:
            self._store.delete(Ref.of(outdated[0]), hold=True)
        return len(nodes)

    def _deployment(
        self, workload: Object, digest: str, current: list[Object], outdated: list[Object]
    ) -> int:
        wanted = int(workload["spec"].get("replicas", 1))
        for _ in range(wanted - len(current)):
            self._create(workload, digest)
        for pod in current[wanted:]:
            self._store.delete(Ref.of(pod), hold=True)
        if outdated and sum(is_true(pod, "Ready") for pod in current) >= wanted:
            for pod in outdated:
                self._store.delete(Ref.of(pod), hold=True)
        return wanted

    def _pods(self, workload: Object) -> Iterator[Object]:
        uid = workload["metadata"]["uid"]
        for pod in self._store.all(Ref("v1", "Pod", namespace=workload["metadata"]["namespace"])):
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences") or ()):
                yield pod

    def _create(self, workload: Object, digest: str, *, node: str = "") -> None:
        self._made += 1
        meta, template = workload["metadata"], workload["spec"]["template"]
        suffix = _word(f"{meta['name']}{self._made}")
        kind = workload["kind"]
        name = f"{meta['name']}-{suffix}" if kind == "DaemonSet" else f"{meta['name']}-{digest}-{suffix}"
        pod: Object = {"apiVersion": "v1", "kind": "Pod", **clone(template)}
        pod["metadata"] = {
            **pod.get("metadata", {}),
            "name": name,
            "namespace": meta["namespace"],
            "labels": {**(template["metadata"].get("labels") or {}), _HASH[kind]: digest},
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": kind,
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                }
            ],
        }
        spec = pod["spec"]
        spec.setdefault("serviceAccountName", "default")
        spec.setdefault("restartPolicy", "Always")
        spec.setdefault("terminationGracePeriodSeconds", 30)
        if node:
            spec["nodeName"] = node
        pod["status"] = {"phase": "Pending"}
        self._store.write(pod)

    def _status(self, ref: Ref, wanted: int, current: list[Object], present: int) -> None:
        ready = sum(is_true(pod, "Ready") for pod in current)

        def change(workload: Object) -> None:
            generation = workload["metadata"]["generation"]
            if ref.kind == "DaemonSet":
                workload["status"] = {
                    "currentNumberScheduled": present,
                    "desiredNumberScheduled": wanted,
                    "numberAvailable": ready,
                    "numberMisscheduled": 0,
                    "numberReady": ready,
                    "observedGeneration": generation,
                    "updatedNumberScheduled": len(current),
                }
                return
            available = "True" if ready >= wanted else "False"
            workload["status"] = {
                "availableReplicas": ready,
                "conditions": [{"type": "Available", "status": available, "reason": "MinimumReplicas"}],
                "observedGeneration": generation,
                "readyReplicas": ready,
                "replicas": present,
                "updatedReplicas": len(current),
            }

        self._store.update(ref, change)


def _hash(pod: Object, kind: str) -> str:
    return str(pod["metadata"]["labels"].get(_HASH[kind], ""))


def _node_of(pod: Object) -> str:
    return str(pod["spec"].get("nodeName", ""))


def _digest(template: Object) -> str:
    return _word(json.dumps(template, sort_keys=True), 9)


def _word(text: str, length: int = 5) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:12])
    letters = []
    for _ in range(length):
        number, at = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[at])
    return "".join(letters)
