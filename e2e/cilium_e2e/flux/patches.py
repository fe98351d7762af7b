"""Kustomize patches for objects of a layer, and which of its objects are Flux's own affair.

kustomize applies patches before it renames and before it sets namespaces, and what its build answers are the
names after that. So a patch names as little as it can: a kind where that is enough.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

from cilium_e2e.flux.manifest import NAMESPACE
from cilium_e2e.model import InputError, Object
from cilium_e2e.repository import BuiltObject, Layer, Repository
from cilium_e2e.repository.sops import STUB, STUB_BASE64
from cilium_e2e.repository.workspace import Workspace

_FLUX_GROUP = ".toolkit.fluxcd.io"
# Of Flux's own kinds, those the controllers of a run act upon for the tree itself.
_KEPT_KINDS = {"HelmRelease", "HelmRepository", "HelmChart"}


def json_patch(layer: Layer, target: BuiltObject, operations: Sequence[Object]) -> Object:
    """An entry for ``spec.patches`` that changes one object of a layer."""
    (selector,) = _selectors(layer, [target])
    return {"target": selector, "patch": json.dumps(list(operations))}


def value_operations(release: Object, overrides: Mapping[str, Any]) -> list[Object]:
    """JSON patch operations that put chart values over a HelmRelease's inline ones.

    No merge patch: there ``null`` removes the key from the HelmRelease, where Helm takes it to remove a
    default of the chart.
    """
    operations: list[Object] = []
    inline = (release.get("spec") or {}).get("values")
    if isinstance(inline, Mapping):
        _put_over(inline, overrides, "/spec/values", operations)
    elif overrides:
        operations.append({"op": "add", "path": "/spec/values", "value": copy.deepcopy(dict(overrides))})
    return operations


def _put_over(
    below: Mapping[str, Any], over: Mapping[str, Any], pointer: str, operations: list[Object]
) -> None:
    for key, value in over.items():
        here = f"{pointer}/{_escaped(key)}"
        if isinstance(value, Mapping) and isinstance(below.get(key), Mapping):
            _put_over(below[key], value, here, operations)
        elif key not in below or below[key] != value or type(below[key]) is not type(value):
            operations.append({"op": "add", "path": here, "value": copy.deepcopy(value)})


def _escaped(key: Any) -> str:
    """A key as a part of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def delete_patches(layer: Layer, targets: Sequence[BuiltObject]) -> list[Object]:
    """Entries for ``spec.patches`` that leave objects of a layer out."""
    body = {"$patch": "delete", "apiVersion": "v1", "kind": "Any", "metadata": {"name": "any"}}
    patch = yaml.safe_dump(body)  # with a target, the names in the patch mean nothing
    return [{"target": selector, "patch": patch} for selector in _selectors(layer, targets)]


def stub_patches(layer: Layer) -> list[Object]:
    """What makes the tree's encrypted objects the stubs that the loaded repository has in their place."""
    patches: list[Object] = []
    for built in layer.objects:
        paths = list(_stubbed(built.object, ""))
        if paths:
            operations = [{"op": "add", "path": path, "value": value} for path, value in paths]
            # Flux refuses a Secret that says it is encrypted. Added first, since removing needs it there.
            operations += [{"op": "add", "path": "/sops", "value": ""}, {"op": "remove", "path": "/sops"}]
            patches.append(json_patch(layer, built, operations))
    return patches


def plumbing(repository: Repository, layer: Layer) -> list[BuiltObject]:
    """The objects of a layer that only tell Flux where and what to reconcile, which a run does itself.

    Also Flux's own installation, as a bootstrap commits it, and kinds whose controllers are not here.
    """
    sources = _chart_sources(repository)
    return [built for built in layer.objects if _is_plumbing(built, sources)]


def check_reach(repository: Repository, layer: Layer, patched: Object, wanted: Mapping[str, Any]) -> None:
    """Build a layer with all its patches and see that an object of it is as wanted.

    Args:
        repository: the tree.
        layer: one of its layers.
        patched: the Kustomization as it will be applied.
        wanted: an object's ``kind``, and values by JSON pointer.

    Raises:
        InputError: none is; without this, a run would test something else than it says.
    """
    with Workspace(repository.root) as workspace:
        built = workspace.build(layer.path, patched["spec"])
    for found in built:
        if found.ref.kind == wanted["kind"] and all(
            _at(found.object, path) == value for path, value in wanted.items() if path != "kind"
        ):
            return
    raise InputError(
        f"the patches of this run do not reach the {wanted['kind']}",
        place=layer.name or layer.path,
        hint="Does a namePrefix or a substitution rename it, beside others of its kind?",
    )


def _selectors(layer: Layer, chosen: Sequence[BuiltObject]) -> list[Object]:
    """Kustomize targets that hit the chosen objects and no other of the layer, as unspecific as can be."""
    selectors: list[Object] = []
    kinds = {(_group(built), built.ref.kind): None for built in chosen}
    for group, kind in kinds:
        alike = [b for b in layer.objects if (_group(b), b.ref.kind) == (group, kind)]
        others = [b for b in alike if b not in chosen]
        base = {"group": group, "kind": kind} if group else {"kind": kind}
        if not others:
            selectors.append(base)
            continue
        for built in (b for b in alike if b in chosen):
            selector = {**base, "name": _exactly(built.ref.name)}
            if any(other.ref.name == built.ref.name for other in others):
                selector["namespace"] = _exactly(built.ref.namespace)
            selectors.append(selector)
    return selectors


def _exactly(name: str) -> str:
    return f"^{name.replace('.', '[.]')}$"


def _group(built: BuiltObject) -> str:
    return built.ref.api_version.rpartition("/")[0]


def _is_plumbing(built: BuiltObject, chart_sources: set[tuple[str, str, str]]) -> bool:
    ref, group = built.ref, _group(built)
    if ref.kind in _KEPT_KINDS or (ref.kind, ref.namespace, ref.name) in chart_sources:
        return False
    if group.endswith((_FLUX_GROUP, ".fluxcd.io")):
        return True
    if (ref.kind, ref.name) == ("Namespace", NAMESPACE):
        return True
    if ref.kind == "CustomResourceDefinition" and ref.name.endswith(_FLUX_GROUP):
        return True
    labels = built.object["metadata"].get("labels") or {}
    return bool(labels.get("app.kubernetes.io/part-of") == "flux")


def _chart_sources(repository: Repository) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of what any HelmRelease or HelmChart of the tree takes its chart from."""
    found: set[tuple[str, str, str]] = set()
    for built in repository.objects():
        if built.ref.kind not in {"HelmRelease", "HelmChart"}:
            continue
        spec = built.object.get("spec") or {}
        template = ((spec.get("chart") or {}) if built.ref.kind == "HelmRelease" else {}).get("spec") or {}
        for ref in (spec.get("chartRef"), spec.get("sourceRef"), template.get("sourceRef")):
            if ref:
                found.add((str(ref.get("kind")), ref.get("namespace") or built.ref.namespace, ref["name"]))
    return found


def _stubbed(value: Any, pointer: str) -> Iterator[tuple[str, str]]:
    """JSON pointers of the values that stand in for encrypted ones."""
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    elif value in {STUB, STUB_BASE64}:
        yield pointer, value
    for key, item in entries:
        yield from _stubbed(item, f"{pointer}/{_escaped(key)}")


def _at(obj: Any, pointer: str) -> Any:
    """What stands at a JSON pointer; an Ellipsis where there is nothing."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(obj, Mapping) or key not in obj:
            return ...
        obj = obj[key]
    return obj
