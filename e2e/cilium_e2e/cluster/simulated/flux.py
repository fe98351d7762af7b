"""Flux's source- and kustomize-controller: sources, layers in their order, health checks, pruning."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import Any

from cilium_e2e.cluster.simulated.admission import Admission, apply_object
from cilium_e2e.cluster.simulated.conditions import healthy, put
from cilium_e2e.cluster.simulated.kinds import KUSTOMIZE, SOURCE
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import EventType, HarnessError, KubeError, Object, Ref

_SOURCES = {"OCIRepository", "GitRepository", "HelmRepository", "Bucket"}
_SOURCE_S, _APPLY_S, _LOOK_S, _RETRY_S = 0.3, 0.3, 0.2, 5.0
REQUESTED = "reconcile.fluxcd.io/requestedAt"
MANAGER = "kustomize-controller"


class Flux:
    """The two controllers.

    Args:
        store: the API's objects.
        admission: what the API refuses and fills in.
        build: what a Kustomization builds, from the tree as it is published.
    """

    def __init__(self, store: Store, admission: Admission, build: Callable[[Object], list[Object]]) -> None:
        self._store = store
        self._clock = store.clock
        self._admission = admission
        self._build = build
        self._pending: set[Ref] = set()
        self._unsettled: set[Ref] = set()
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        ref = change.ref
        if change.type is EventType.DELETED:
            self._unsettled.discard(ref)
            return
        anew = change.before is None or asked(change.before) != asked(change.object)
        if ref.kind in _SOURCES and anew:
            self._clock.after(_SOURCE_S, lambda: self._fetch(ref))
        elif ref.kind == "Kustomization" and anew:
            self._later(ref, _APPLY_S)
        elif self._unsettled and ref.kind not in {"Event", "CiliumIdentity", "CiliumEndpoint"}:
            for waiting in sorted(self._unsettled, key=str):
                self._later(waiting, _LOOK_S)

    def again(self) -> None:
        """The published tree is another one: every layer is reconciled anew."""
        for layer in self._store.all(Ref(KUSTOMIZE, "Kustomization")):
            self._later(Ref.of(layer), _APPLY_S)

    def _later(self, ref: Ref, delay_s: float) -> None:
        if ref not in self._pending:
            self._pending.add(ref)
            self._clock.after(delay_s, lambda: self._reconcile(ref))

    # Sources.

    def _fetch(self, ref: Ref) -> None:
        def fetched(source: Object) -> None:
            spec = source["spec"]
            at = spec.get("ref") or {}
            digest = at.get("digest") or f"sha256:{source['metadata']['uid'].replace('-', '')}"
            name = at.get("tag") or at.get("branch") or "latest"
            revision = digest if at.get("digest") else f"{name}@{digest}"
            status = source.setdefault("status", {})
            status["artifact"] = {"revision": revision, "digest": digest}
            status["observedGeneration"] = source["metadata"]["generation"]
            handled(source)
            message = f"stored artifact for digest '{revision}'"
            put(source, self._clock, "Ready", "True", "Succeeded", message)

        if (self._store.find(ref) or {"spec": {}})["spec"].get("type") != "oci":
            self._store.update(ref, fetched, manager="source-controller")

    # Kustomizations.

    def _reconcile(self, ref: Ref) -> None:
        self._pending.discard(ref)
        layer = self._store.find(ref)
        if layer is None or layer["spec"].get("suspend"):
            return
        self._unsettled.add(ref)
        revision, why = self._before(layer)
        if why:
            self._say(ref, "False", *why)
            return
        try:
            objects = self._build(layer)
        except HarnessError as error:
            self._say(ref, "False", "BuildFailed", str(error), attempted=revision)
            self._unsettled.discard(ref)
            return
        try:
            # Namespaces and kinds first, as kustomize-controller sorts them.
            for obj in sorted(objects, key=_order):
                apply_object(self._store, self._admission, _labelled(obj, ref), manager=MANAGER, force=True)
        except KubeError as error:
            message = error.message
            if error.not_found and "has no kind" in message:
                message = f"no matches for kind: {message}"
            self._say(ref, "False", "ReconciliationFailed", message, attempted=revision)
            self._later(ref, _RETRY_S)
            return
        refs = [Ref.of(obj) for obj in objects]
        self._prune(layer, refs)
        checks = [_checked(entry) for entry in layer["spec"].get("healthChecks") or ()]
        if layer["spec"].get("wait"):
            checks = refs
        if waiting := [str(check) for check in checks if not healthy(self._store, check)]:
            self._say(
                ref,
                "Unknown",
                "Progressing",
                f"Running health checks: {', '.join(waiting)}",
                attempted=revision,
            )
            return
        self._done(ref, revision, refs)

    def _before(self, layer: Object) -> tuple[str, tuple[str, str] | None]:
        """The source's revision, or what must come first."""
        meta, spec = layer["metadata"], layer["spec"]
        for entry in spec.get("dependsOn") or ():
            other = Ref(
                KUSTOMIZE, "Kustomization", entry["name"], entry.get("namespace") or meta["namespace"]
            )
            found = self._store.find(other)
            if found is None or not is_true(found, "Ready"):
                name = f"{other.namespace}/{other.name}"
                return "", ("DependencyNotReady", f"dependency '{name}' is not ready")
        source = spec["sourceRef"]
        where = source.get("namespace") or meta["namespace"]
        found = self._store.find(Ref(SOURCE, source["kind"], source["name"], where))
        if found is None or not is_true(found, "Ready"):
            return "", (
                "ArtifactFailed",
                f"Source artifact not found: {source['kind']} {where}/{source['name']}",
            )
        return found["status"]["artifact"]["revision"], None

    def _prune(self, layer: Object, refs: Iterable[Ref]) -> None:
        kept = {_id(ref) for ref in refs}
        if not layer["spec"].get("prune"):
            return
        for entry in ((layer.get("status") or {}).get("inventory") or {}).get("entries") or ():
            if entry["id"] in kept:
                continue
            ref = Ref(*entry["ref"])
            found = self._store.find(ref)
            annotations = ((found or {}).get("metadata") or {}).get("annotations") or {}
            if found is not None and annotations.get("kustomize.toolkit.fluxcd.io/prune") != "disabled":
                self._store.delete(ref)

    def _done(self, ref: Ref, revision: str, refs: list[Ref]) -> None:
        self._unsettled.discard(ref)

        def done(layer: Object) -> None:
            status = layer.setdefault("status", {})
            status["lastAppliedRevision"] = status["lastAttemptedRevision"] = revision
            status["observedGeneration"] = layer["metadata"]["generation"]
            status["inventory"] = {
                "entries": [
                    {"id": _id(r), "v": r.api_version, "ref": [r.api_version, r.kind, r.name, r.namespace]}
                    for r in refs
                ]
            }
            handled(layer)
            message = f"Applied revision: {revision}"
            put(layer, self._clock, "Ready", "True", "ReconciliationSucceeded", message)

        self._store.update(ref, done, manager=MANAGER)

    def _say(self, ref: Ref, status: str, reason: str, message: str, *, attempted: str = "") -> None:
        def say(layer: Object) -> None:
            if attempted:
                layer.setdefault("status", {})["lastAttemptedRevision"] = attempted
            put(layer, self._clock, "Ready", status, reason, message)

        self._store.update(ref, say, manager=MANAGER)


def layer_path(layer: Object) -> str:
    """The folder a Kustomization builds, relative to the tree's root."""
    given = str(layer["spec"].get("path") or ".")
    return posixpath.normpath(given.lstrip("/") or ".")


def asked(obj: Object) -> tuple[Any, Any]:
    """What a controller reconciles for: another generation, another request."""
    meta = obj["metadata"]
    return meta.get("generation"), (meta.get("annotations") or {}).get(REQUESTED)


def handled(obj: Object) -> None:
    """Say that the request of now was handled."""
    token = (obj["metadata"].get("annotations") or {}).get(REQUESTED)
    if token:
        obj.setdefault("status", {})["lastHandledReconcileAt"] = token


def _checked(entry: Object) -> Ref:
    return Ref(entry["apiVersion"], entry["kind"], entry["name"], entry.get("namespace", ""))


def _id(ref: Ref) -> str:
    return f"{ref.namespace}_{ref.name}_{ref.api_version.rpartition('/')[0]}_{ref.kind}"


def _order(obj: Object) -> int:
    first = ("CustomResourceDefinition", "Namespace", "ServiceAccount")
    return first.index(obj["kind"]) if obj["kind"] in first else len(first)


def _labelled(obj: Object, layer: Ref) -> Object:
    meta = dict(obj["metadata"])
    prefix = "kustomize.toolkit.fluxcd.io"
    meta["labels"] = {
        **(meta.get("labels") or {}),
        f"{prefix}/name": layer.name,
        f"{prefix}/namespace": layer.namespace,
    }
    return {**obj, "metadata": meta}
