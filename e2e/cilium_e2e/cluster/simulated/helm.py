"""Flux's helm-controller: the release's values checked, its objects installed, its records, its drift."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from cilium_e2e.cluster.simulated import chart
from cilium_e2e.cluster.simulated.admission import Admission, apply_object
from cilium_e2e.cluster.simulated.conditions import put
from cilium_e2e.cluster.simulated.flux import asked, handled
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.kinds import SOURCE
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import EventType, KubeError, Object, Ref
from cilium_e2e.repository import Features, merge

_RECONCILE_S, _INSTALL_S, _RETRY_S, _CHART_S = 0.2, 1.0, 1.0, 0.2
MANAGER = "helm-controller"


class Helm:
    """The controller.

    Args:
        store: the API's objects.
        admission: what the API refuses and fills in.
        hooks: what a fault changes.
        outside: values of a release that stand elsewhere than in the object (``valuesFrom``).
    """

    def __init__(
        self, store: Store, admission: Admission, hooks: Hooks, outside: Callable[[Ref], Mapping[str, Any]]
    ) -> None:
        self._store = store
        self._clock = store.clock
        self._admission = admission
        self._hooks = hooks
        self._outside = outside
        self._installed: dict[Ref, str] = {}
        self._objects: dict[Ref, list[Ref]] = {}
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        ref = change.ref
        anew = change.before is None or asked(change.before) != asked(change.object)
        if change.type is EventType.DELETED or not anew:
            return
        if ref.kind == "HelmRelease":
            self._clock.after(_RECONCILE_S, lambda: self._reconcile(ref))
        elif ref.kind == "HelmChart":
            self._clock.after(_CHART_S, lambda: self._package(ref))

    def _package(self, ref: Ref) -> None:
        def packaged(found: Object) -> None:
            version = str(found["spec"].get("version", ""))
            status = found.setdefault("status", {})
            status["artifact"] = {"revision": version, "digest": f"sha256:{version}"}
            status["observedGeneration"] = found["metadata"]["generation"]
            message = f"pulled '{found['spec']['chart']}' chart with version '{version}'"
            put(found, self._clock, "Ready", "True", "ChartPullSucceeded", message)

        self._store.update(ref, packaged, manager="source-controller")

    def _reconcile(self, ref: Ref) -> None:
        release = self._store.find(ref)
        if release is None or release["spec"].get("suspend"):
            return
        found = self._chart(ref, release)
        if found is None:
            message = "HelmChart is not ready"
            self._say(ref, "False", "SourceNotReady", message)
            self._clock.after(_RETRY_S, lambda: self._reconcile(ref))
            return
        try:
            values = self._values(ref, release, str(found["status"]["artifact"]["revision"]))
        except ValueError as error:
            self._say(
                ref,
                "False",
                "InstallFailed",
                f"values don't meet the specifications of the schema(s): {error}",
            )
            return
        if self._hooks.helm:
            self._say(ref, "False", "InstallFailed", self._hooks.helm)
            self._clock.after(_RETRY_S, lambda: self._reconcile(ref))
            return
        text = json.dumps([values.effective, values.version], sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if self._installed.get(ref) == digest:
            if ((release["spec"].get("driftDetection") or {}).get("mode")) == "enabled":
                self._write(ref, values)
            self._ready(ref, None)
            return
        reason = "Upgrade" if ref in self._installed else "Install"
        self._say(ref, "Unknown", "Progressing", f"Running '{reason.lower()}' action with timeout of 10m0s")
        self._clock.after(_INSTALL_S, lambda: self._install(ref, values, digest, reason))

    def _chart(self, ref: Ref, release: Object) -> Object | None:
        """The HelmChart of a release, made where it is missing or out of date; None until it is ready."""
        template = (release["spec"].get("chart") or {}).get("spec")
        if template is None:
            chart_ref = release["spec"]["chartRef"]
            where = chart_ref.get("namespace") or ref.namespace
            source = self._store.find(Ref(SOURCE, chart_ref["kind"], chart_ref["name"], where))
            return source if source is not None and is_true(source, "Ready") else None
        source = template["sourceRef"]
        where = source.get("namespace") or ref.namespace
        repository = self._store.find(Ref(SOURCE, source["kind"], source["name"], where))
        if repository is None:
            return None
        name = Ref(SOURCE, "HelmChart", f"{ref.namespace}-{ref.name}", where)
        spec = {
            "chart": template["chart"],
            "version": template.get("version", "*"),
            "sourceRef": {"kind": source["kind"], "name": source["name"]},
        }
        meta = {"name": name.name, "namespace": name.namespace}
        wanted = {"apiVersion": SOURCE, "kind": "HelmChart", "metadata": meta, "spec": spec}
        stored = apply_object(self._store, self._admission, wanted, manager=MANAGER, force=True)
        return stored if is_true(stored, "Ready") else None

    def _values(self, ref: Ref, release: Object, version: str) -> chart.Values:
        """What the release's values mean.

        Raises:
            ValueError: a value is of the wrong type.
        """
        spec = release["spec"]
        effective = merge(self._outside(ref), spec.get("values") or {})
        namespace = spec.get("targetNamespace") or ref.namespace
        name = f"{ref.namespace}/{ref.name}"
        return chart.Values(effective, Features.of(effective), namespace, name, version)

    def _install(self, ref: Ref, values: chart.Values, digest: str, reason: str) -> None:
        release = self._store.find(ref)
        if release is None:
            return
        try:
            self._write(ref, values)
        except KubeError as error:
            self._say(ref, "False", f"{reason}Failed", error.message)
            self._clock.after(_RETRY_S, lambda: self._reconcile(ref))
            return
        self._installed[ref] = digest
        self._ready(ref, (values, reason))

    def _write(self, ref: Ref, values: chart.Values) -> None:
        objects = chart.objects(values)
        for obj in objects:
            apply_object(self._store, self._admission, obj, manager=MANAGER, force=True)
        refs = [Ref.of(obj) for obj in objects]
        for old in self._objects.get(ref, ()):
            if old not in refs and self._store.find(old) is not None:
                self._store.delete(old)
        self._objects[ref] = refs

    def _ready(self, ref: Ref, action: tuple[chart.Values, str] | None) -> None:
        def ready(release: Object) -> None:
            spec, status = release["spec"], release.setdefault("status", {})
            history = status.get("history") or []
            name = spec.get("releaseName") or ref.name
            storage = spec.get("storageNamespace") or ref.namespace
            if action is not None:
                values, reason = action
                number = len(history) + 1
                entry = {
                    "name": name,
                    "namespace": values.namespace,
                    "chartName": "cilium",
                    "chartVersion": values.version,
                    "status": "deployed",
                    "version": number,
                    "lastDeployed": self._clock.stamp(),
                }
                for old in history:
                    old["status"] = "superseded"
                status["history"] = [entry, *history]
                self._record(entry, storage)
                release_name = f"{values.namespace}/{name}.v{number}"
                message = (
                    f"Helm {reason.lower()} succeeded for release {release_name} with cilium@{values.version}"
                )
                put(release, self._clock, "Released", "True", f"{reason}Succeeded", message)
                status["storageNamespace"] = storage
            done = next(c for c in status["conditions"] if c["type"] == "Released")
            put(release, self._clock, "Ready", "True", done["reason"], done["message"])
            status["observedGeneration"] = release["metadata"]["generation"]
            handled(release)

        self._store.update(ref, ready, manager=MANAGER)

    def _record(self, entry: Object, storage: str) -> None:
        """Helm's own record of a revision; the ones before are superseded."""
        number, name = entry["version"], entry["name"]
        for revision in range(1, number + 1):
            status = "deployed" if revision == number else "superseded"
            about = {
                "name": name,
                "namespace": entry["namespace"],
                "version": revision,
                "info": {"status": status},
                "chart": {"metadata": {"name": entry["chartName"], "version": entry["chartVersion"]}},
            }
            packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps(about).encode(), mtime=0)))
            meta = {
                "name": f"sh.helm.release.v1.{name}.v{revision}",
                "namespace": storage,
                "labels": {"owner": "helm", "name": name, "status": status, "version": str(revision)},
            }
            secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "helm.sh/release.v1"}
            self._store.write({**secret, "data": {"release": packed.decode()}}, manager=MANAGER)

    def _say(self, ref: Ref, status: str, reason: str, message: str) -> None:
        self._store.update(
            ref, lambda release: put(release, self._clock, "Ready", status, reason, message), manager=MANAGER
        )
