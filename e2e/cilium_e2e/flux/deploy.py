"""From a repository to the Flux objects that install it here: its own Kustomizations, fed by an artifact.

The published tree is byte-identical to the user's. What a run needs to be different enters as
``spec.patches`` of the Kustomizations, and each such patch is a declared difference.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from cilium_e2e.flux.manifest import NAMESPACE
from cilium_e2e.model import Difference, InputError, Object, Ref
from cilium_e2e.repository import BuiltObject, ExternalLayer, Layer, Repository, merge

TREE = "cilium-e2e-tree"
"""The OCIRepository that stands for the working tree."""

_ENTRY = "cilium-e2e-entry"
_FLUX_GROUP = ".toolkit.fluxcd.io/"
_SOURCE_INTERVAL = "30m"
SKIP = "skip"
"""Given for an external layer instead of a folder: leave it out."""


@dataclass(frozen=True, slots=True)
class ServedSource:
    """An artifact of ours: its name on the server and its digest."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ChartOverride:
    """Where the chart comes from instead: a repository's URL and a version; empty keeps the tree's own."""

    url: str = ""
    version: str = ""
    origin: str = ""


@dataclass(slots=True)
class Deployment:
    """What to apply, in this order, and what to wait for.

    Attributes:
        sources: OCIRepositories, and the sources of external layers.
        kustomizations: in the tree's order.
        release: the HelmRelease they bring.
        release_layer: the Kustomization that brings it.
        digest: the published tree's digest, as Flux reports it.
        chart: the HelmChart that Flux makes for it; empty name where the release has a chartRef.
        differences: what they change about the tree.
    """

    sources: list[Object] = field(default_factory=list)
    kustomizations: list[Object] = field(default_factory=list)
    release: Ref = field(default_factory=lambda: Ref("", ""))
    chart: Ref = field(default_factory=lambda: Ref("", ""))
    release_layer: Ref = field(default_factory=lambda: Ref("", ""))
    digest: str = ""
    differences: list[Difference] = field(default_factory=list)


def plan(
    repository: Repository,
    *,
    server: str,
    tree: ServedSource,
    overrides: Mapping[str, Any],
    chart: ChartOverride,
    external: Mapping[str, ServedSource | str],
) -> Deployment:
    """Plan the deployment of a repository.

    Args:
        repository: the loaded tree.
        server: ``host:port`` of the artifact server as nodes reach it.
        tree: the published working tree.
        overrides: chart values that are merged over the release's inline values.
        chart: another source or version for the chart.
        external: external layers by ``namespace/name``: an artifact that is served instead, or ``skip``.

    Raises:
        InputError: an override names an external layer that is not there, or a chart source that
            cannot be overridden.
    """
    release = repository.release.ref
    chart_namespace = repository.release.chart.source.namespace or release.namespace
    result = Deployment(release=release, digest=tree.digest)
    if "chart" in repository.release.object["spec"]:
        result.chart = Ref(
            "source.toolkit.fluxcd.io/v1", "HelmChart", f"{release.namespace}-{release.name}", chart_namespace
        )
    result.sources.append(_oci(TREE, server, tree))
    known = {layer.name for layer in repository.external}
    if unknown := sorted(set(external) - known):
        raise InputError(
            f"no external layer {', '.join(unknown)}, expected one of: {', '.join(sorted(known)) or 'none'}",
            place="--external",
        )
    skipped = {name for name, what in external.items() if what == SKIP}
    patches = _patches(repository, overrides, chart, result)
    for outside in repository.external:
        _external(outside, external.get(outside.name), server, skipped, result)
    for layer in repository.layers:
        own = _own(layer, patches, skipped)
        if own is not None:
            result.kustomizations.append(own)
            if layer.name == repository.release.layer:
                result.release_layer = Ref.of(own)
    return result


def _external(
    layer: ExternalLayer, what: ServedSource | str | None, server: str, skipped: set[str], result: Deployment
) -> None:
    """An external layer: from its own source, from an artifact of ours, or not at all."""
    if what == SKIP:
        result.differences.append(
            Difference(
                f"Kustomization {layer.name}", "left out", "asked for", f"--external {layer.name}=skip"
            )
        )
        return
    if layer.source is None:
        skipped.add(layer.name)
        result.differences.append(
            Difference(
                f"Kustomization {layer.name}", "left out", layer.reason, "the tree does not define its source"
            )
        )
        return
    if (layer.kustomization.get("spec") or {}).get("suspend") or "another cluster" in layer.reason:
        skipped.add(layer.name)
        return
    kustomization = _clean(layer.kustomization, skipped)
    if isinstance(what, ServedSource):
        name = f"cilium-e2e-{what.name}"
        result.sources.append(_oci(name, server, what))
        kustomization["spec"]["sourceRef"] = {"kind": "OCIRepository", "name": name, "namespace": NAMESPACE}
        result.differences.append(
            Difference(f"source of Kustomization {layer.name}", "a local folder", "asked for", "--external")
        )
    else:
        result.sources.append(_without_status(layer.source))
    result.kustomizations.append(kustomization)


def _own(layer: Layer, patches: Mapping[str, list[Object]], skipped: set[str]) -> Object | None:
    """Our Kustomization for a layer of the tree; None where only Flux's own objects are in it."""
    payload = [built for built in layer.objects if not _flux_plumbing(built)]
    if not payload:
        return None
    if layer.kustomization is not None:
        kustomization = _clean(layer.kustomization, skipped)
    else:
        kustomization = {
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
            "kind": "Kustomization",
            "metadata": {"name": _ENTRY, "namespace": NAMESPACE},
            "spec": {
                "interval": "30m",
                "retryInterval": "1m",
                "prune": False,
                "wait": True,
                "path": f"./{layer.path}",
            },
        }
    spec = kustomization["spec"]
    spec["sourceRef"] = {"kind": "OCIRepository", "name": TREE, "namespace": NAMESPACE}
    # The Kustomizations and sources among its objects are applied by us; two owners would fight.
    plumbing = [_delete_patch(built) for built in layer.objects if _flux_plumbing(built)]
    own = patches.get(layer.name, [])
    if plumbing or own:
        spec["patches"] = [*(spec.get("patches") or []), *own, *plumbing]
    return kustomization


def _patches(
    repository: Repository, overrides: Mapping[str, Any], chart: ChartOverride, result: Deployment
) -> dict[str, list[Object]]:
    """Kustomize patches by the layer they belong to."""
    release = repository.release
    operations: list[Object] = []
    if overrides:
        inline = (release.object.get("spec") or {}).get("values") or {}
        # Replaced whole: a merge patch could not carry the nulls that remove a chart's default.
        operations.append({"op": "add", "path": "/spec/values", "value": merge(inline, overrides)})
    patches: dict[str, list[Object]] = {}
    if chart.version or chart.url:
        if "chart" not in release.object["spec"]:
            raise InputError(
                "expected a release with spec.chart, this one has a chartRef, which cannot be overridden",
                place=f"HelmRelease {release.name}",
                hint="Leave --chart, --chart-repository and --chart-version out.",
            )
        if chart.version and chart.version != release.chart.version:
            operations.append({"op": "add", "path": "/spec/chart/spec/version", "value": chart.version})
            result.differences.append(
                Difference(
                    "chart version", chart.version, f"instead of {release.chart.version}", chart.origin
                )
            )
    if chart.url:
        layer, source = _chart_source(repository)
        patches.setdefault(layer, []).append(
            _json_patch(
                source, [{"op": "replace", "path": "/spec/url", "value": chart.url}, *_removals(source)]
            )
        )
        result.differences.append(
            Difference("chart repository", chart.url, f"instead of {release.chart.url}", chart.origin)
        )
    if operations:
        patches.setdefault(release.layer, []).append(_json_patch(release.object, operations))
    return patches


def _chart_source(repository: Repository) -> tuple[str, Object]:
    """The HelmRepository of the release, and the layer that applies it."""
    wanted = repository.release.chart.source
    for layer in repository.layers:
        for built in layer.objects:
            if (built.ref.kind, built.ref.namespace, built.ref.name) == (
                wanted.kind,
                wanted.namespace,
                wanted.name,
            ):
                if wanted.kind == "HelmRepository":
                    return layer.name, built.object
                break
    raise InputError(
        f"expected a HelmRepository in the tree to point elsewhere, the release's chart comes from {wanted}",
        place=f"HelmRelease {repository.release.name}",
        hint="Leave --chart and --chart-repository out, or give the release a HelmRepository.",
    )


def _removals(source: Object) -> list[Object]:
    """What belongs to the old address only: credentials, the OCI type."""
    spec = source.get("spec") or {}
    return [
        {"op": "remove", "path": f"/spec/{key}"}
        for key in ("type", "secretRef", "certSecretRef", "provider", "passCredentials")
        if key in spec
    ]


def _json_patch(target: Object, operations: Sequence[Object]) -> Object:
    ref = Ref.of(target)
    group = ref.api_version.partition("/")[0] if "/" in ref.api_version else ""
    return {
        "target": {
            "group": group,
            "kind": ref.kind,
            "name": f"^{ref.name}$",
            "namespace": f"^{ref.namespace}$",
        },
        "patch": json.dumps(list(operations)),
    }


def _delete_patch(built: BuiltObject) -> Object:
    ref = built.ref
    body = {
        "$patch": "delete",
        "apiVersion": ref.api_version,
        "kind": ref.kind,
        "metadata": {"name": ref.name, "namespace": ref.namespace},
    }
    return {"patch": yaml.safe_dump(body)}


def _flux_plumbing(built: BuiltObject) -> bool:
    """Whether an object only tells Flux where and what to reconcile, which this run does itself."""
    ref = built.ref
    if ref.kind == "Kustomization" and _FLUX_GROUP in ref.api_version:
        return True
    if ref.namespace == NAMESPACE or (ref.kind, ref.name) == ("Namespace", NAMESPACE):
        # Sources of the tree, and the controllers that a bootstrap commits beside them.
        return True
    return ref.kind == "CustomResourceDefinition" and ref.name.endswith(_FLUX_GROUP.rstrip("/").lstrip("."))


def _clean(kustomization: Object, skipped: set[str]) -> Object:
    """A copy to apply: without status, without dependencies that are left out."""
    clean = _without_status(kustomization)
    spec = clean["spec"]
    namespace = clean["metadata"].get("namespace", NAMESPACE)
    depends = [
        entry
        for entry in spec.get("dependsOn") or []
        if f"{entry.get('namespace') or namespace}/{entry['name']}" not in skipped
    ]
    spec.pop("dependsOn", None)
    if depends:
        spec["dependsOn"] = depends
    # No keys here: what was encrypted is stubbed by the tree's patches and declared there.
    spec.pop("decryption", None)
    return clean


def _without_status(obj: Object) -> Object:
    clean = copy.deepcopy(obj)
    clean.pop("status", None)
    return clean


def _oci(name: str, server: str, served: ServedSource) -> Object:
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "OCIRepository",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "interval": _SOURCE_INTERVAL,
            "insecure": True,
            "url": f"oci://{server}/{served.name}",
            "ref": {"digest": served.digest},
        },
    }
