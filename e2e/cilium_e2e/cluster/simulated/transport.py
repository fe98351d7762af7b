"""The simulated API server: :class:`~cilium_e2e.model.KubeTransport` over the store."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from cilium_e2e.cluster.simulated.admission import Admission, apply_object
from cilium_e2e.cluster.simulated.patches import clone, json_patch, merge_patch
from cilium_e2e.cluster.simulated.selectors import Test, field_test, label_test
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.model import (
    EventType,
    ExecStream,
    KubeError,
    Object,
    ObjectList,
    PatchType,
    Ref,
    WatchEvent,
)

CALL_S = 0.002
"""How long a call takes, in virtual seconds."""


class Containers(Protocol):
    """What runs in pods."""

    def exec(self, ref: Ref, container: str, command: Sequence[str]) -> ExecStream:
        """Start a command in a running container."""
        ...

    def logs(self, ref: Ref, container: str) -> list[str]:
        """A container's log."""
        ...


class SimulatedTransport:
    """The API of a simulated cluster.

    Args:
        store: its objects.
        admission: what is refused and filled in.
        containers: what runs in pods.
        before: called with each call's verb and reference; raises what the call is to fail with.
    """

    def __init__(
        self,
        store: Store,
        admission: Admission,
        containers: Containers,
        before: Callable[[str, Ref], None] = lambda verb, ref: None,  # noqa: ARG005 - a protocol's names
    ) -> None:
        self.store = store
        self._clock = store.clock
        self._admission = admission
        self._containers = containers
        self._before = before

    def get(self, ref: Ref) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        with self._clock.lock:
            self._enter("get", ref)
            return _as_asked(self._stored(ref), ref)

    def list(self, ref: Ref, *, label_selector: str = "", field_selector: str = "") -> ObjectList:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        selected = _selected(ref, label_selector, field_selector)
        with self._clock.lock:
            self._enter("list", ref)
            items = [_as_asked(obj, ref) for obj in self.store.all(ref) if selected(obj)]
            return ObjectList(items, str(self.store.version))

    def watch(
        self,
        ref: Ref,
        *,
        resource_version: str,
        timeout_s: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Iterator[WatchEvent]:
        """See :class:`~cilium_e2e.model.KubeTransport`.

        A watch that ends by its time tells the version it has come to, as a bookmark.
        """
        selected = _selected(ref, label_selector, field_selector)
        with self._clock.lock:
            self._enter("watch", ref)
            end_s = self._clock.monotonic() + timeout_s
        seen = int(resource_version or self.store.version)
        while True:
            found = self._clock.wait(lambda version=seen: self._since(version), end_s=end_s)  # type: ignore[misc]
            if found is None:
                marker: Object = {"apiVersion": ref.api_version, "kind": ref.kind}
                yield WatchEvent(EventType.BOOKMARK, {**marker, "metadata": {"resourceVersion": str(seen)}})
                return
            for change in found:
                seen = change.version
                if (event := _event(change, ref, selected)) is not None:
                    yield event

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        ref = Ref.of(obj)
        with self._clock.lock:
            self._enter("apply", ref)
            return _as_asked(
                apply_object(self.store, self._admission, obj, manager=field_manager, force=force), ref
            )

    def patch(
        self, ref: Ref, body: Object | Sequence[Object], *, patch_type: PatchType, subresource: str = ""
    ) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        with self._clock.lock:
            self._enter("patch", ref)
            before = self._stored(ref)
            if patch_type is PatchType.MERGE:
                merged = merge_patch(clone(before), body)
            else:
                operations = [operation for operation in body if isinstance(operation, dict)]
                merged = json_patch(before, operations)
            if subresource == "status":
                merged = {**clone(before), "status": merged.get("status", {})}
            elif subresource == "scale":
                merged = {**clone(before), "spec": {**before["spec"], "replicas": merged["spec"]["replicas"]}}
            elif "status" in before:
                merged["status"] = clone(before["status"])
            asked = merged["metadata"].get("resourceVersion")
            if asked != before["metadata"]["resourceVersion"]:
                raise KubeError(
                    409,
                    "Conflict",
                    "the object has been modified; apply your changes to the latest version and try again",
                    place=str(ref),
                )
            self._admission.admit(merged, before)
            return _as_asked(self.store.write(merged, manager="kubectl-patch"), ref)

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        with self._clock.lock:
            self._enter("delete", ref)
            obj = self._stored(ref)
            graceful = ref.kind == "Pod" and obj["spec"].get("nodeName") and grace_period_s != 0
            self.store.delete(ref, hold=ref.kind == "Namespace" or bool(graceful))

    def raw(self, path: str, *, timeout_s: float = 10.0) -> str:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        del timeout_s
        self._enter("raw", Ref("v1", "API", path))
        if path.partition("?")[0] in {"/readyz", "/livez", "/healthz"}:
            return "ok"
        raise KubeError(404, "NotFound", "the simulated API server does not serve this", place=path)

    def logs(self, ref: Ref, *, container: str, tail_lines: int, previous: bool = False) -> str:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        with self._clock.lock:
            self._enter("logs", ref)
            if previous:
                message = f'previous terminated container "{container}" in pod "{ref.name}" not found'
                raise KubeError(400, "BadRequest", message, place=str(ref))
            lines = self._containers.logs(ref, container)[-tail_lines:]
            return "".join(f"{line}\n" for line in lines)

    def exec(self, ref: Ref, *, container: str, command: Sequence[str]) -> ExecStream:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        with self._clock.lock:
            self._enter("exec", ref)
            self._stored(ref)
            return self._containers.exec(ref, container, command)

    def connect(self, ref: Ref, *, port: int) -> socket.socket:
        """See :class:`~cilium_e2e.model.KubeTransport`.

        Raises:
            KubeError: always; no byte stream leads into a simulated pod.
        """
        raise KubeError(
            501, "NotImplemented", f"port {port} of a simulated pod takes no byte stream", place=str(ref)
        )

    def invalidate(self) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`; kinds are looked up each time."""

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`; there is nothing to release."""

    def _enter(self, verb: str, ref: Ref) -> None:
        self._before(verb, ref)
        if verb != "raw":
            kind = self.store.kind(ref)
            if kind.namespaced and ref.name and not ref.namespace:
                raise KubeError(400, "BadRequest", "a namespaced object needs a namespace", place=str(ref))
        if verb != "watch":
            self._clock.sleep(CALL_S)

    def _stored(self, ref: Ref) -> Object:
        found = self.store.find(ref)
        if found is None:
            plural = self.store.kind(ref).plural
            raise KubeError(404, "NotFound", f'{plural} "{ref.name}" not found', place=str(ref))
        return found

    def _since(self, version: int) -> Sequence[Change] | None:
        history = self.store.history
        if history and history[0].version > version + 1:
            raise KubeError(410, "Expired", f"too old resource version: {version} ({history[0].version})")
        if not history or history[-1].version <= version:
            return None
        return [change for change in history if change.version > version]


def _as_asked(obj: Object, ref: Ref) -> Object:
    """A copy in the version it was asked for in."""
    found: Object = clone(obj)
    found["apiVersion"] = ref.api_version
    return found


def _selected(ref: Ref, labels: str, fields: str) -> Test:
    by_label, by_field = label_test(labels), field_test(fields)

    def test(obj: Object) -> bool:
        name = obj["metadata"]["name"]
        return (not ref.name or name == ref.name) and by_label(obj) and by_field(obj)

    return test  # type: ignore[return-value]


def _event(change: Change, ref: Ref, selected: Test) -> WatchEvent | None:
    """What a watch says of a change: what comes to be selected is added, what no longer is, is deleted."""
    group = ref.api_version.rpartition("/")[0]
    if (change.ref.api_version.rpartition("/")[0], change.ref.kind) != (group, ref.kind):
        return None
    if ref.namespace and change.ref.namespace != ref.namespace:
        return None
    was = change.before is not None and selected(change.before)
    now = change.type is not EventType.DELETED and selected(change.object)
    if not was and not now:
        return None
    kind = EventType.MODIFIED if was and now else EventType.ADDED if now else EventType.DELETED
    return WatchEvent(kind, _as_asked(change.object, ref))
