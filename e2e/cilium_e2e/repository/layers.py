"""Follow the Flux Kustomizations of a tree and build each as kustomize-controller would."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cilium_e2e.model import Difference, ManifestError, Object
from cilium_e2e.repository.sops import stub
from cilium_e2e.repository.sources import OWN_NAME, is_own, source_of
from cilium_e2e.repository.substitution import substitute_layer
from cilium_e2e.repository.tree import BuiltObject, ExternalLayer, Layer
from cilium_e2e.repository.workspace import Workspace, changes_build

_GROUP = "kustomize.toolkit.fluxcd.io/"


@dataclass(slots=True)
class Layers:
    """What came of it: layers in the order Flux applies them, external ones, and declared differences."""

    built: list[Layer] = field(default_factory=list)
    external: list[ExternalLayer] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)

    def objects(self) -> list[BuiltObject]:
        """All objects of all layers, in order."""
        return [built for layer in self.built for built in layer.objects]


@dataclass(frozen=True, slots=True)
class _Pending:
    """A Flux Kustomization that was found and is not built yet."""

    name: str
    object: Object
    file: str
    depends_on: tuple[str, ...]

    @property
    def place(self) -> str:
        return f"{self.file}: Kustomization {self.name}" if self.file else f"Kustomization {self.name}"


def build_layers(workspace: Workspace, path: str) -> Layers:
    """Build ``path`` and every Flux Kustomization that is found in what is built.

    The order is Flux's: a layer comes after all that it depends on; among those that are free, the one
    found first. A Kustomization with another source, another cluster, or ``suspend: true`` is recorded as
    external; those that depend on it go on, as they would once it is ready.

    Raises:
        ManifestError: a layer cannot be built, depends on itself, or on one that is nowhere.
    """
    result = Layers()
    plain = workspace.build(path, hint="Name the folder that Flux builds, with --path.")
    own = _own_kustomization(plain, path, workspace.root)
    entry = _finish(workspace, path, own, result, plain)
    result.built.append(
        Layer(
            own.name if own else "", path, own.object if own else None, entry, own.depends_on if own else ()
        )
    )
    done: set[str] = {own.name} if own else set()
    known: dict[str, _Pending] = {own.name: own} if own else {}
    waiting: list[_Pending] = []
    _discover(entry, known, waiting)
    while waiting:
        ready = next((item for item in waiting if done.issuperset(item.depends_on)), None)
        if ready is None:
            raise _stuck(waiting, known)
        waiting.remove(ready)
        done.add(ready.name)
        reason = _why_external(workspace, ready, result.objects())
        if reason:
            source = source_of(ready.object, result.objects())
            result.external.append(ExternalLayer(ready.name, ready.object, source, reason, ready.depends_on))
            continue
        where = _path_of(ready)
        objects = _finish(workspace, where, ready, result)
        result.built.append(Layer(ready.name, where, ready.object, objects, ready.depends_on))
        _discover(objects, known, waiting)
    return result


def _finish(
    workspace: Workspace,
    path: str,
    item: _Pending | None,
    result: Layers,
    plain: tuple[BuiltObject, ...] | None = None,
) -> tuple[BuiltObject, ...]:
    """Build a folder for its Kustomization, with stubs for what is encrypted and with substitutions."""
    spec = (item.object.get("spec") or {}) if item else {}
    if item and not workspace.is_folder(path):
        raise ManifestError(f"spec.path {path} is no folder of the repository", place=item.place)
    objects: list[BuiltObject] = []
    for built in plain if plain is not None and not changes_build(spec) else workspace.build(path, spec):
        stubbed, difference = stub(_with_metadata(built, spec))
        objects.append(stubbed)
        if difference and difference not in result.differences:
            result.differences.append(difference)
    if item is None:
        return tuple(objects)
    done, differences = substitute_layer(
        tuple(objects), item.object, [*result.objects(), *objects], place=item.place
    )
    result.differences += [new for new in differences if new not in result.differences]
    return done


def _with_metadata(built: BuiltObject, spec: dict[str, Any]) -> BuiltObject:
    """``spec.commonMetadata``, which kustomize-controller adds after the build."""
    common = spec.get("commonMetadata") or {}
    if not common:
        return built
    metadata = {**built.object["metadata"]}
    for key in ("labels", "annotations"):
        if common.get(key):
            metadata[key] = {**(metadata.get(key) or {}), **common[key]}
    return BuiltObject({**built.object, "metadata": metadata}, built.file)


def _discover(objects: Sequence[BuiltObject], known: dict[str, _Pending], waiting: list[_Pending]) -> None:
    for built in objects:
        item = _as_pending(built)
        if item is None:
            continue
        if item.name in known:
            also = known[item.name].file or "a generator"
            if also != item.file and known[item.name].object != item.object:
                raise ManifestError(
                    f"Kustomization {item.name} is defined twice, also in {also}", place=built.file
                )
            continue
        known[item.name] = item
        waiting.append(item)


def _as_pending(built: BuiltObject) -> _Pending | None:
    obj = built.object
    if obj["kind"] != "Kustomization" or not str(obj["apiVersion"]).startswith(_GROUP):
        return None
    meta = obj["metadata"]
    namespace = meta.get("namespace") or ""
    name = f"{namespace}/{meta['name']}"
    if not namespace:
        raise ManifestError(
            f"Kustomization {meta['name']} has no namespace, Flux refuses that", place=built.file
        )
    depends = tuple(
        f"{entry.get('namespace') or namespace}/{entry.get('name')}"
        for entry in (obj.get("spec") or {}).get("dependsOn") or []
    )
    return _Pending(name, obj, built.file, depends)


def _own_kustomization(entry: Sequence[BuiltObject], path: str, root: Path) -> _Pending | None:
    """The Kustomization by which Flux builds the first path itself, as ``flux bootstrap`` writes one."""
    for built in entry:
        item = _as_pending(built)
        if item and _path_of(item) == path and is_own(item.object, entry, root):
            return item
    return None


def _path_of(item: _Pending) -> str:
    given = (item.object.get("spec") or {}).get("path") or "."
    path = posixpath.normpath(given.lstrip("/") or ".")
    if path == ".." or path.startswith("../"):
        raise ManifestError(f"spec.path {given} leads out of the repository", place=item.place)
    return path


def _why_external(workspace: Workspace, item: _Pending, objects: Sequence[BuiltObject]) -> str:
    spec: dict[str, Any] = item.object.get("spec") or {}
    if spec.get("suspend"):
        return "it is suspended, so Flux does not apply it"
    if spec.get("kubeConfig"):
        return "it is applied to another cluster (spec.kubeConfig)"
    ref = spec.get("sourceRef") or {}
    if not is_own(item.object, objects, workspace.root):
        return f"its source is {ref.get('kind')} {ref.get('name')}, not this repository"
    if (
        source_of(item.object, objects) is None
        and ref.get("name") != OWN_NAME
        and not workspace.is_folder(_path_of(item))
    ):
        source = f"{ref.get('kind')} {ref.get('name')}"
        return f"the tree has neither its source {source} nor its path {_path_of(item)}"
    return ""


def _stuck(waiting: Sequence[_Pending], known: dict[str, _Pending]) -> ManifestError:
    for item in waiting:
        missing = [name for name in item.depends_on if name not in known]
        if missing:
            return ManifestError(
                f"depends on {', '.join(missing)}, which is not in the tree; Flux would wait for it for ever",
                place=item.place,
                hint=f"Known are: {', '.join(sorted(known))}.",
            )
    by_name = {item.name: item for item in waiting}
    trail = [waiting[0].name]
    while True:
        following = next(name for name in by_name[trail[-1]].depends_on if name in by_name)
        if following in trail:
            circle = [*trail[trail.index(following) :], following]
            return ManifestError(
                f"Kustomizations depend on each other in a circle: {' → '.join(circle)}",
                place=by_name[following].place,
            )
        trail.append(following)
