"""The objects of the simulated API server: versions, history, deletion with finalizers; and who is told.

Nothing here knows what an object means. Controllers subscribe to changes and are called with the lock held,
in the order of the changes.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cilium_e2e.cluster.simulated import ownership
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.kinds import CRD, Kind, find
from cilium_e2e.cluster.simulated.patches import clone
from cilium_e2e.model import EventType, KubeError, Object, Ref

HISTORY = 4096
"""How many changes are remembered; a watch from before them is told 410."""

_UIDS = uuid.UUID("6b1c4c1e-5d0a-4a55-9f6e-1f6a6b2d9a10")
Key = tuple[str, str, str, str]
CONTROLLER = "kube-controller-manager"


@dataclass(frozen=True, slots=True)
class Change:
    """One change: the object after it (before it, where it was deleted), and before it."""

    version: int
    type: EventType
    ref: Ref
    object: Object
    before: Object | None


class Store:
    """All objects, by group, kind, namespace and name.

    Args:
        clock: whose lock guards it.
        history: how many changes are remembered.
    """

    def __init__(self, clock: VirtualClock, *, history: int = HISTORY) -> None:
        self.clock = clock
        self.version = 0
        self.history: deque[Change] = deque(maxlen=history)
        self.subscribers: list[Callable[[Change], None]] = []
        self._objects: dict[tuple[str, str], dict[tuple[str, str], Object]] = {}
        self._owners: dict[Key, ownership.Owners] = {}
        self._times: dict[Key, dict[str, str]] = {}
        self._made = 0
        self._pending: deque[Change] = deque()
        self._telling = False

    def kind(self, ref: Ref) -> Kind:
        """The kind of a reference.

        Raises:
            KubeError: 404, it is not served.
        """
        found = find(ref.api_version, ref.kind, self.all(Ref(CRD, "CustomResourceDefinition")))
        if found is None:
            raise KubeError(
                404,
                "NotFound",
                f"the API server has no kind {ref.kind} in {ref.api_version}",
                place=str(ref),
                hint="The CustomResourceDefinition is not installed.",
            )
        return found

    def find(self, ref: Ref) -> Object | None:
        """An object as it is stored, to be read and not to be changed."""
        return self._objects.get(_bucket(ref), {}).get((ref.namespace, ref.name))

    def all(self, ref: Ref) -> Iterator[Object]:
        """All objects of a kind, of one namespace if given, to be read and not to be changed."""
        for (namespace, _), obj in list(self._objects.get(_bucket(ref), {}).items()):
            if not ref.namespace or namespace == ref.namespace:
                yield obj

    def everything(self, namespace: str) -> list[Ref]:
        """Every object of a namespace."""
        return [
            Ref.of(obj)
            for bucket in self._objects.values()
            for (where, _), obj in bucket.items()
            if where == namespace
        ]

    def owners(self, ref: Ref) -> ownership.Owners:
        """Who owns which fields of an object."""
        return self._owners.setdefault((*_bucket(ref), ref.namespace, ref.name), {})

    def write(
        self, obj: Object, *, manager: str = CONTROLLER, owners: ownership.Owners | None = None
    ) -> Object:
        """Create or replace an object; answers it as stored.

        Metadata that is the server's stays the server's. What changes nothing is no change.

        Args:
            obj: the whole object.
            manager: who writes it.
            owners: who owns which field from now on; None gives the manager what it changes.
        """
        with self.clock.lock:
            ref = Ref.of(obj)
            before = self.find(ref)
            stored: Object = clone(obj)
            meta = stored["metadata"]
            if before is None:
                self._made += 1
                meta |= {
                    "uid": str(uuid.uuid5(_UIDS, str(self._made))),
                    "creationTimestamp": self.clock.stamp(),
                }
                meta["generation"] = 1
            else:
                for name in ("uid", "creationTimestamp", "generation", "deletionTimestamp"):
                    if name in before["metadata"]:
                        meta[name] = before["metadata"][name]
            self._manage(ref, stored, before, manager, owners)
            if before is not None:
                if _content(stored) == _content(before):
                    return before
                if _wanted(stored) != _wanted(before):
                    meta["generation"] = before["metadata"].get("generation", 1) + 1
            if before is not None and meta.get("deletionTimestamp") and not meta.get("finalizers"):
                return self._remove(ref, stored)
            self._tell(EventType.MODIFIED if before else EventType.ADDED, ref, stored, before)
            return stored

    def update(self, ref: Ref, change: Callable[[Object], None], *, manager: str = CONTROLLER) -> None:
        """Change an object in place, if it is there."""
        found = self.find(ref)
        if found is not None:
            fresh = clone(found)
            change(fresh)
            self.write(fresh, manager=manager)

    def delete(self, ref: Ref, *, hold: bool = False) -> None:
        """Delete an object; with finalizers, or with ``hold``, it only gets its deletion timestamp.

        Raises:
            KubeError: 404.
        """
        with self.clock.lock:
            found = self.find(ref)
            if found is None:
                raise KubeError(404, "NotFound", f'{ref.kind.lower()} "{ref.name}" not found', place=str(ref))
            if not hold and not found["metadata"].get("finalizers"):
                self._remove(ref, found)
            elif "deletionTimestamp" not in found["metadata"]:
                marked = clone(found)
                marked["metadata"]["deletionTimestamp"] = self.clock.stamp()
                self._tell(EventType.MODIFIED, ref, marked, found)

    def _remove(self, ref: Ref, obj: Object) -> Object:
        del self._objects[_bucket(ref)][ref.namespace, ref.name]
        key = (*_bucket(ref), ref.namespace, ref.name)
        self._owners.pop(key, None)
        self._times.pop(key, None)
        last: Object = clone(obj)
        self._tell(EventType.DELETED, ref, last, obj)
        return last

    def _manage(
        self,
        ref: Ref,
        stored: Object,
        before: Object | None,
        manager: str,
        owners: ownership.Owners | None,
    ) -> None:
        """Bring ``managedFields`` up to date; a status is owned by nobody here."""
        key = (*_bucket(ref), ref.namespace, ref.name)
        times = self._times.setdefault(key, {})
        new, old = _owned(stored), _owned(before) if before else {}
        if owners is not None:
            self._owners[key] = owners
        elif new != old:
            ownership.changed(old, new, self.owners(ref), manager=manager)
        if new != old or manager not in times:
            times[manager] = self.clock.stamp()
        stored["metadata"]["managedFields"] = ownership.managed_fields(
            self.owners(ref), ref.api_version, times
        )

    def _tell(self, kind: EventType, ref: Ref, obj: Object, before: Object | None) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if kind is not EventType.DELETED:
            self._objects.setdefault(_bucket(ref), {})[ref.namespace, ref.name] = obj
        change = Change(self.version, kind, ref, obj, before)
        self.history.append(change)
        self._pending.append(change)
        self.clock.wake()
        if self._telling:
            return
        self._telling = True
        try:
            while self._pending:
                following = self._pending.popleft()
                for subscriber in self.subscribers:
                    subscriber(following)
        finally:
            self._telling = False


def _bucket(ref: Ref) -> tuple[str, str]:
    return ref.api_version.rpartition("/")[0], ref.kind


def _content(obj: Object) -> Object:
    """What makes up an object, without what the server adds by itself."""
    meta = {k: v for k, v in obj["metadata"].items() if k not in {"managedFields", "resourceVersion"}}
    return {**obj, "metadata": meta}


def _owned(obj: Object) -> Object:
    """What managers own of an object."""
    server = {
        "managedFields",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
    }
    meta = {k: v for k, v in obj["metadata"].items() if k not in server}
    return {**{k: v for k, v in obj.items() if k != "status"}, "metadata": meta}


def _wanted(obj: Object) -> Object:
    """What its generation counts: everything but metadata and status."""
    return {k: v for k, v in obj.items() if k not in {"metadata", "status"}}
