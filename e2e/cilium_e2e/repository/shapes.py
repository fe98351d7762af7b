"""The shape of the objects that are read here, checked once, so that the code below may rely on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cilium_e2e.model import ManifestError
from cilium_e2e.repository.yamlfiles import type_name

_MAPPINGS: Mapping[str, Sequence[str]] = {
    "": ("metadata", "metadata.labels", "metadata.annotations"),
    "ConfigMap": ("data",),
    "GitRepository": ("spec", "spec.ref"),
    "HelmChart": ("spec", "spec.sourceRef"),
    "HelmRelease": ("spec", "spec.chart", "spec.chart.spec", "spec.chart.spec.sourceRef", "spec.chartRef"),
    "HelmRepository": ("spec",),
    "Kustomization": (
        "spec",
        "spec.commonMetadata",
        "spec.commonMetadata.annotations",
        "spec.commonMetadata.labels",
        "spec.postBuild",
        "spec.postBuild.substitute",
        "spec.sourceRef",
    ),
    "OCIRepository": ("spec", "spec.ref"),
    "Secret": ("data", "stringData"),
}
"""By kind; the empty kind stands for all."""

_LISTS: Mapping[str, Sequence[str]] = {
    "HelmRelease": ("spec.valuesFrom",),
    "Kustomization": ("spec.dependsOn", "spec.images", "spec.patches", "spec.postBuild.substituteFrom"),
}
"""Lists of mappings, by kind."""

_TEXTS: Mapping[str, Sequence[str]] = {
    "": ("kind", "apiVersion", "metadata.name", "metadata.namespace"),
    "Kustomization": ("spec.path", "spec.sourceRef.name", "spec.sourceRef.kind"),
    "HelmRelease": ("spec.releaseName", "spec.targetNamespace", "spec.storageNamespace"),
}


def check_shape(obj: Mapping[str, Any], *, place: str) -> None:
    """Refuse an object whose parts are not what its kind has there; absent and null parts are fine.

    Raises:
        ManifestError: it names the object, the part, the expected and the seen type.
    """
    kind = str(obj.get("kind") or "")
    _require(obj, kind, _MAPPINGS, "a mapping", dict, place)
    _require(obj, kind, _TEXTS, "a string", str, place)
    _require(obj, kind, _LISTS, "a list", list, place)
    for path in _LISTS.get(kind, ()):
        for item in _at(obj, path) or ():
            if not isinstance(item, dict):
                raise _wrong(obj, f"each of {path}", "a mapping", item, place)
    if not (obj.get("kind") and obj.get("apiVersion") and _at(obj, "metadata.name")):
        raise ManifestError("expected an object with apiVersion, kind and metadata.name", place=place)


def _require(
    obj: Mapping[str, Any],
    kind: str,
    table: Mapping[str, Sequence[str]],
    wanted: str,
    type_: type,
    place: str,
) -> None:
    for path in (*table.get("", ()), *table.get(kind, ())):
        value = _at(obj, path)
        if value is not None and not isinstance(value, type_):
            raise _wrong(obj, path, wanted, value, place)


def _at(obj: Mapping[str, Any], path: str) -> Any:
    found: Any = obj
    for step in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def _wrong(obj: Mapping[str, Any], path: str, wanted: str, value: object, place: str) -> ManifestError:
    name = f"{obj.get('kind') or 'object'} {_at(obj, 'metadata.name') or ''}".rstrip()
    return ManifestError(f"{name}: expected {path} to be {wanted}, got {type_name(value)}", place=place)
