"""Namespaces with what they bring and take along, and the collection of what lost its owner."""

from __future__ import annotations

from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.model import EventType, Object, Ref

_STEP_S = 0.1


class Lifecycle:
    """The namespace, service account and garbage collectors' controllers."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = store.clock
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        ref = change.ref
        if ref.kind == "Namespace":
            if change.type is EventType.ADDED:
                self._clock.after(_STEP_S, lambda: self._furnish(ref.name))
            elif change.type is EventType.MODIFIED and "deletionTimestamp" in change.object["metadata"]:
                self._clock.after(_STEP_S, lambda: self._empty(ref.name))
        elif change.type is EventType.DELETED:
            owner = change.object["metadata"]["uid"]
            self._clock.after(_STEP_S, lambda: self._collect(ref.namespace, owner))
            if ref.namespace and self._terminating(ref.namespace):
                self._clock.after(_STEP_S, lambda: self._finish(ref.namespace))

    def _furnish(self, name: str) -> None:
        if self._terminating(name):
            return
        for api_version, kind, called, rest in (
            ("v1", "ServiceAccount", "default", {}),
            ("v1", "ConfigMap", "kube-root-ca.crt", {"data": {"ca.crt": "simulated"}}),
        ):
            meta = {"name": called, "namespace": name}
            if self._store.find(Ref(api_version, kind, called, name)) is None:
                self._store.write({"apiVersion": api_version, "kind": kind, "metadata": meta, **rest})

    def _terminating(self, name: str) -> bool:
        found = self._store.find(Ref("v1", "Namespace", name))
        return found is None or "deletionTimestamp" in found["metadata"]

    def _empty(self, name: str) -> None:
        def terminating(namespace: Object) -> None:
            namespace["status"] = {**namespace.get("status", {}), "phase": "Terminating"}

        self._store.update(Ref("v1", "Namespace", name), terminating)
        for ref in self._store.everything(name):
            found = self._store.find(ref)
            if found is not None and "deletionTimestamp" not in found["metadata"]:
                running = ref.kind == "Pod" and bool(found["spec"].get("nodeName"))
                self._store.delete(ref, hold=running)
        self._finish(name)

    def _finish(self, name: str) -> None:
        ref = Ref("v1", "Namespace", name)
        found = self._store.find(ref)
        if (
            found is not None
            and "deletionTimestamp" in found["metadata"]
            and not self._store.everything(name)
        ):
            self._store.delete(ref)

    def _collect(self, namespace: str, owner: str) -> None:
        for ref in self._store.everything(namespace):
            found = self._store.find(ref)
            owners = (found or {}).get("metadata", {}).get("ownerReferences") or []
            if found is not None and owners and all(entry.get("uid") == owner for entry in owners):
                running = ref.kind == "Pod" and bool(found["spec"].get("nodeName"))
                if "deletionTimestamp" not in found["metadata"]:
                    self._store.delete(ref, hold=running)
