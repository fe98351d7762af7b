"""Find the HelmRelease that installs Cilium."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import Object, Ref, ReleaseError
from cilium_e2e.repository.sources import find
from cilium_e2e.repository.tree import BuiltObject, Chart, ExternalLayer, Layer, Release

CHART = "cilium"
_GROUP = "helm.toolkit.fluxcd.io/"


@dataclass(frozen=True, slots=True)
class _Candidate:
    layer: Layer
    built: BuiltObject
    chart: Chart

    @property
    def name(self) -> str:
        meta = self.built.object["metadata"]
        return f"{meta.get('namespace', '')}/{meta['name']}"

    def __str__(self) -> str:
        where = f" in {self.built.file}" if self.built.file else ""
        return f"{self.name} (chart {self.chart.name or 'unknown'}{where})"


def find_release(
    layers: Sequence[Layer], external: Sequence[ExternalLayer], wanted: str | None, *, path: str
) -> Release:
    """The release under test.

    Args:
        layers: the tree, built.
        external: what is not built, to be named where nothing is found.
        wanted: ``namespace/name`` from ``--release``; None to take the only one there is.
        path: what the user built, for messages.

    Raises:
        ReleaseError: there is none, there are several, the one asked for is not there, installs another
            chart, is suspended, or has no namespace.
    """
    objects = [built for layer in layers for built in layer.objects]
    every = [
        _Candidate(layer, built, chart_of(built.object, objects))
        for layer in layers
        for built in layer.objects
        if built.object["kind"] == "HelmRelease" and str(built.object["apiVersion"]).startswith(_GROUP)
    ]
    chosen = _named(every, wanted) if wanted else _only(every, external, path)
    return _release(chosen)


def chart_of(release: Object, objects: Sequence[BuiltObject]) -> Chart:
    """The chart of a HelmRelease: from ``spec.chart``, or through ``spec.chartRef``."""
    spec: dict[str, Any] = release.get("spec") or {}
    namespace = release["metadata"].get("namespace", "")
    template = (spec.get("chart") or {}).get("spec") or {}
    if template:
        return _from_template(template, namespace, objects)
    ref = spec.get("chartRef") or {}
    kind, name = str(ref.get("kind", "")), str(ref.get("name", ""))
    where = ref.get("namespace") or namespace
    source_ref = Ref("source.toolkit.fluxcd.io/v1", kind, name, where)
    source = find(objects, kind, where, name)
    if source is None:
        return Chart("", "", source_ref)
    source_spec = source.get("spec") or {}
    if kind == "HelmChart":
        return _from_template(source_spec, where, objects)
    url = str(source_spec.get("url") or "")
    at = source_spec.get("ref") or {}
    version = str(at.get("tag") or at.get("semver") or "")
    return Chart(_last(url), version, source_ref, url)


def _from_template(template: dict[str, Any], namespace: str, objects: Sequence[BuiltObject]) -> Chart:
    ref = template.get("sourceRef") or {}
    kind, name = str(ref.get("kind", "")), str(ref.get("name", ""))
    where = ref.get("namespace") or namespace
    source = find(objects, kind, where, name)
    url = str(((source or {}).get("spec") or {}).get("url") or "")
    version = str(template.get("version") or "*") if kind == "HelmRepository" else ""
    return Chart(
        _last(str(template.get("chart") or "")),
        version,
        Ref("source.toolkit.fluxcd.io/v1", kind, name, where),
        url,
    )


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]


def _named(every: Sequence[_Candidate], wanted: str) -> _Candidate:
    place = f"--release {wanted}"
    namespace, slash, name = wanted.partition("/")
    if not (slash and namespace and name) or "/" in name:
        raise ReleaseError("expected NAMESPACE/NAME", place=place, hint=_list(every))
    found = [candidate for candidate in every if candidate.name == wanted]
    if not found:
        raise ReleaseError("the tree has no such HelmRelease", place=place, hint=_list(every))
    chosen = found[-1]
    if chosen.chart.name != CHART:
        if not chosen.chart.name:
            raise ReleaseError(
                f"expected a release of the chart {CHART}; this one's comes from {chosen.chart.source}, "
                "which the tree does not hold",
                place=place,
            )
        raise ReleaseError(
            f"it installs the chart {chosen.chart.name}, expected {CHART}", place=place, hint=_list(every)
        )
    return chosen


def _only(every: Sequence[_Candidate], external: Sequence[ExternalLayer], path: str) -> _Candidate:
    found = [candidate for candidate in every if candidate.chart.name == CHART]
    if len(found) == 1:
        return found[0]
    if found:
        raise ReleaseError(
            f"found {len(found)} HelmReleases of the chart {CHART}, expected one: "
            + ", ".join(map(str, found)),
            place=path,
            hint="Choose one with --release NAMESPACE/NAME.",
        )
    others = f"; others: {', '.join(map(str, every))}" if every else ""
    outside = "".join(f"; {layer.name} was not built: {layer.reason}" for layer in external)
    raise ReleaseError(
        f"found no HelmRelease of the chart {CHART}{others}{outside}",
        place=path,
        hint="Name the folder that Flux builds, for example --path manifests/flux-system.",
    )


def _list(every: Sequence[_Candidate]) -> str:
    return f"The tree has: {', '.join(map(str, every))}." if every else "The tree has no HelmRelease."


def _release(chosen: _Candidate) -> Release:
    obj = chosen.built.object
    meta, spec = obj["metadata"], obj.get("spec") or {}
    namespace, name = str(meta.get("namespace") or ""), str(meta["name"])
    place = chosen.built.file or f"HelmRelease {chosen.name}"
    if not namespace:
        raise ReleaseError(f"HelmRelease {name} has no namespace, Flux refuses that", place=place)
    if spec.get("suspend"):
        raise ReleaseError(f"HelmRelease {chosen.name} is suspended, Flux would not install it", place=place)
    target = str(spec.get("targetNamespace") or "")
    return Release(
        ref=Ref.of(obj),
        object=obj,
        layer=chosen.layer.name,
        file=chosen.built.file,
        chart=chosen.chart,
        release_name=str(spec.get("releaseName") or (f"{target}-{name}" if target else name)),
        target_namespace=target or namespace,
        storage_namespace=str(spec.get("storageNamespace") or namespace),
    )
