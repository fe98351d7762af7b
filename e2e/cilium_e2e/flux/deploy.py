"""From a repository to the Flux objects that install it here: its own Kustomizations, fed by an artifact.

The published tree is byte-identical to the user's. What a run needs to be different enters as
``spec.patches`` of the Kustomizations, and each such patch is a declared difference.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cilium_e2e.flux.manifest import NAMESPACE
from cilium_e2e.flux.patches import (
    check_reach,
    delete_patches,
    json_patch,
    plumbing,
    stub_patches,
    value_operations,
)
from cilium_e2e.model import Difference, InputError, Object, Ref
from cilium_e2e.repository import BuiltObject, ExternalLayer, Layer, Repository

TREE = "cilium-e2e-tree"
"""The OCIRepository that stands for the working tree."""

_ENTRY = "cilium-e2e-entry"
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
        target_namespace: where the release's pods run.
        differences: what they change about the tree.
    """

    sources: list[Object] = field(default_factory=list)
    kustomizations: list[Object] = field(default_factory=list)
    release: Ref = field(default_factory=lambda: Ref("", ""))
    chart: Ref = field(default_factory=lambda: Ref("", ""))
    target_namespace: str = ""
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
    result = Deployment(
        release=release, target_namespace=repository.release.target_namespace, digest=tree.digest
    )
    if repository.release.object["spec"].get("chart"):
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
    order = _Order(repository, {name for name, what in external.items() if what == SKIP})
    changes = _changes(repository, overrides, chart, result)
    for outside in repository.external:
        _external(outside, external.get(outside.name), server, order, result)
    for layer in repository.layers:
        own = _own(repository, layer, changes, order, result)
        if own is not None:
            result.kustomizations.append(own)
            if layer.name == repository.release.layer:
                result.release_layer = Ref.of(own)
    return result


@dataclass(frozen=True, slots=True)
class _Change:
    """JSON patch operations for one object of a layer."""

    layer: Layer
    target: BuiltObject
    operations: list[Object]

    @property
    def wanted(self) -> dict[str, Any]:
        """What the object then has, see :func:`check_reach`."""
        set_here = {op["path"]: op["value"] for op in self.operations if op["op"] != "remove"}
        return {"kind": self.target.ref.kind, **set_here}


class _Order:
    """What comes after what, when some Kustomizations of the tree are left out.

    Who depended on one that is left out depends on what that one came after. The Kustomizations among a
    layer's objects are applied by us, so who depended on a layer that waits for them depends on them too.

    Args:
        repository: the tree.
        left_out: ``namespace/name`` of external layers that are not wanted.
    """

    def __init__(self, repository: Repository, left_out: set[str]) -> None:
        self._left_out: set[str] = set()
        self._before: dict[str, list[str]] = {}
        self._depends = {layer.name: layer.depends_on for layer in repository.layers}
        self._depends |= {outside.name: outside.depends_on for outside in repository.external}
        for layer in repository.layers:
            spec = (layer.kustomization or {}).get("spec") or {}
            if spec.get("wait"):
                self._before[layer.name] = [
                    f"{built.ref.namespace}/{built.ref.name}" for built in layer.objects if _is_layer(built)
                ]
            if len(plumbing(repository, layer)) == len(layer.objects):
                self.leave_out(layer.name)
        for name in left_out:
            self.leave_out(name)
        for outside in repository.external:
            spec = outside.kustomization.get("spec") or {}
            if spec.get("suspend") or spec.get("kubeConfig"):
                self.leave_out(outside.name)

    def leave_out(self, name: str) -> None:
        """A Kustomization that will not be applied."""
        self._left_out.add(name)

    def keep(self, name: str) -> None:
        """One that will, after all."""
        self._left_out.discard(name)

    def depends_on(self, name: str) -> list[str]:
        """What a Kustomization comes after."""
        found: dict[str, None] = {}
        seen = {name}
        waiting = list(self._depends[name])
        while waiting:
            other = waiting.pop(0)
            if other in seen:
                continue
            seen.add(other)
            waiting += self._before.get(other, [])
            if other in self._left_out:
                waiting += self._depends.get(other, ())
            else:
                found[other] = None
        return list(found)


def _external(
    layer: ExternalLayer, what: ServedSource | str | None, server: str, order: _Order, result: Deployment
) -> None:
    """An external layer: from its own source, from an artifact of ours, or not at all."""
    label = f"Kustomization {layer.name}"
    spec = layer.kustomization.get("spec") or {}
    if what == SKIP:
        order.leave_out(layer.name)
        asked = f"--external {layer.name}=skip"
        result.differences.append(Difference(label, "left out", "asked for", asked))
        return
    if isinstance(what, ServedSource):
        if spec.get("kubeConfig"):
            raise InputError(f"{layer.reason}, so nothing can stand in for it here", place=label)
        order.keep(layer.name)
        kustomization = _clean(layer.kustomization, layer.name, order, result)
        kustomization["spec"].pop("suspend", None)
        name = f"cilium-e2e-{what.name}"
        result.sources.append(_oci(name, server, what))
        kustomization["spec"]["sourceRef"] = {"kind": "OCIRepository", "name": name, "namespace": NAMESPACE}
        result.differences.append(
            Difference(f"source of {label}", "a local folder", "asked for", "--external")
        )
        result.kustomizations.append(kustomization)
        return
    if spec.get("suspend") or spec.get("kubeConfig"):
        return  # as in production: not here, or not now
    if layer.source is None:
        order.leave_out(layer.name)
        nowhere = "the tree does not define its source"
        result.differences.append(Difference(label, "left out", layer.reason, nowhere))
        return
    source = _without_status(layer.source)
    if source not in result.sources:
        result.sources.append(source)
    result.kustomizations.append(_clean(layer.kustomization, layer.name, order, result))


def _own(
    repository: Repository, layer: Layer, changes: list[_Change], order: _Order, result: Deployment
) -> Object | None:
    """Our Kustomization for a layer of the tree; None where only Flux's own objects are in it."""
    left_out = plumbing(repository, layer)
    if len(left_out) == len(layer.objects):
        return None
    if layer.kustomization is not None:
        kustomization = _clean(layer.kustomization, layer.name, order, result)
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
    ours = [change for change in changes if change.layer.name == layer.name]
    patches = [
        *(spec.get("patches") or []),
        *(json_patch(layer, change.target, change.operations) for change in ours),
        *stub_patches(layer),
        # The Kustomizations and sources among its objects are applied by us; two owners would fight.
        *delete_patches(layer, left_out),
    ]
    if patches:
        spec["patches"] = patches
    for change in ours:
        check_reach(repository, layer, kustomization, change.wanted)
    return kustomization


def _changes(
    repository: Repository, overrides: Mapping[str, Any], chart: ChartOverride, result: Deployment
) -> list[_Change]:
    """What this run changes about the release and its chart's source."""
    release = repository.release
    changes: list[_Change] = []
    operations = value_operations(release.object, overrides)
    if chart.version or chart.url:
        if not release.object["spec"].get("chart"):
            raise InputError(
                "expected a release with spec.chart, this one has a chartRef, which cannot be overridden",
                place=f"HelmRelease {release.name}",
                hint="Leave --chart, --chart-repository and --chart-version out.",
            )
        layer, source = _chart_source(repository)
        if chart.version and chart.version != release.chart.version:
            operations.append({"op": "add", "path": "/spec/chart/spec/version", "value": chart.version})
            result.differences.append(
                Difference(
                    "chart version", chart.version, f"instead of {release.chart.version}", chart.origin
                )
            )
        if chart.url and chart.url != release.chart.url:
            elsewhere = [
                {"op": "replace", "path": "/spec/url", "value": chart.url},
                *_removals(source.object),
            ]
            changes.append(_Change(layer, source, elsewhere))
            result.differences.append(
                Difference("chart repository", chart.url, f"instead of {release.chart.url}", chart.origin)
            )
    if operations:
        layer = next(layer for layer in repository.layers if layer.name == release.layer)
        target = next(built for built in reversed(layer.objects) if built.ref == release.ref)
        changes.append(_Change(layer, target, operations))
    return changes


def _chart_source(repository: Repository) -> tuple[Layer, BuiltObject]:
    """The HelmRepository of the release, and the layer that applies it."""
    wanted = repository.release.chart.source
    if wanted.kind == "HelmRepository":
        for layer in repository.layers:
            for built in layer.objects:
                ref = built.ref
                if (ref.kind, ref.namespace, ref.name) == (wanted.kind, wanted.namespace, wanted.name):
                    return layer, built
    raise InputError(
        f"expected a HelmRepository in the tree to point elsewhere, the release's chart comes from {wanted}",
        place=f"HelmRelease {repository.release.name}",
        hint="Leave --chart, --chart-repository and --chart-version out, or use a HelmRepository.",
    )


def _removals(source: Object) -> list[Object]:
    """What belongs to the old address only: credentials, the OCI type."""
    spec = source.get("spec") or {}
    return [
        {"op": "remove", "path": f"/spec/{key}"}
        for key in ("type", "secretRef", "certSecretRef", "provider", "passCredentials")
        if key in spec
    ]


def _is_layer(built: BuiltObject) -> bool:
    ref = built.ref
    return ref.kind == "Kustomization" and ref.api_version.startswith("kustomize.toolkit.fluxcd.io/")


def _clean(kustomization: Object, name: str, order: _Order, result: Deployment) -> Object:
    """A copy to apply: without status, after what is there to come after, without keys."""
    clean = _without_status(kustomization)
    spec = clean["spec"]
    spec.pop("dependsOn", None)
    if depends := order.depends_on(name):
        pairs = (other.split("/", 1) for other in depends)
        spec["dependsOn"] = [{"name": other, "namespace": namespace} for namespace, other in pairs]
    if spec.pop("decryption", None) is not None:
        result.differences.append(
            Difference(
                f"decryption of Kustomization {name}",
                "left out",
                "tests have no keys; stubs stand in for what is encrypted",
                "SOPS",
            )
        )
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
