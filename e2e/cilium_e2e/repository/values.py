"""Chart values as helm-controller composes them, and what a run puts over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cilium_e2e.model import Difference, Object, Topology, ValuesError
from cilium_e2e.repository.merge import leaves, merge
from cilium_e2e.repository.reasons import reason_at
from cilium_e2e.repository.sops import is_stub
from cilium_e2e.repository.sources import find
from cilium_e2e.repository.substitution import secret_or_config
from cilium_e2e.repository.targetpath import set_value
from cilium_e2e.repository.tree import BuiltObject, Release
from cilium_e2e.repository.typecheck import check_types
from cilium_e2e.repository.yamlfiles import line_of, parse, read_mapping, read_text, type_name


def resolve(
    release: Release, objects: Sequence[BuiltObject], source: str
) -> tuple[dict[str, Any], list[Difference]]:
    """What the HelmRelease says: ``valuesFrom`` in order, then inline values over them.

    Args:
        release: the release.
        objects: of all layers, where ConfigMaps and Secrets are looked for.
        source: the text of the release's file, for line numbers; empty where it has none.

    Raises:
        ValuesError: a reference cannot be resolved, its content is no mapping, or a value has a wrong type.
    """
    spec: dict[str, Any] = release.object.get("spec") or {}
    inline = spec.get("values") or {}
    place = release.file or str(release.ref)
    if not isinstance(inline, dict):
        raise ValuesError(f"expected spec.values to be a mapping, got {type_name(inline)}", place=place)
    check_types(inline, _in_release(source, release, place))
    result: dict[str, Any] = {}
    differences: list[Difference] = []
    for ref in spec.get("valuesFrom") or []:
        result, difference = _add_reference(result, ref, release, objects, inline)
        if difference:
            differences.append(difference)
    return merge(result, inline), differences


def _in_release(source: str, release: Release, place: str) -> Any:
    """A function that finds a value's line in the file of the release."""
    index = 0
    if source:
        for number, document in enumerate(parse(source, place=place)):
            if isinstance(document, dict) and document.get("kind") == "HelmRelease":
                meta = document.get("metadata") or {}
                if meta.get("name") == release.ref.name:
                    index = number

    def at(path: tuple[str, ...]) -> str:
        line = line_of(source, ("spec", "values", *path), document=index) if source else None
        return f"{place}:{line}" if line else place

    return at


def _add_reference(
    result: dict[str, Any],
    ref: Mapping[str, Any],
    release: Release,
    objects: Sequence[BuiltObject],
    inline: Mapping[str, Any],
) -> tuple[dict[str, Any], Difference | None]:
    kind, name = str(ref.get("kind")), str(ref.get("name"))
    key = str(ref.get("valuesKey") or "values.yaml")
    label = f"{kind} {release.ref.namespace}/{name}"
    place = f"{release.file or release.ref}: valuesFrom {label}"
    found: Object | None = find(objects, kind, release.ref.namespace, name)
    if found is None:
        if ref.get("optional"):
            return result, None
        raise ValuesError(
            "the tree does not hold it",
            place=place,
            hint="Add it to the tree, or mark the reference optional if the release works without it.",
        )
    data = secret_or_config(found)
    if key not in data:
        if ref.get("optional"):
            return result, None
        raise ValuesError(f"it has no key {key}, only {', '.join(sorted(data)) or 'none'}", place=place)
    text = data[key]
    target = str(ref.get("targetPath") or "")
    if target:
        result = set_value(merge(result, inline), target, text, place=place)
        if not is_stub(text):
            check_types(result, lambda _: f"{place}, targetPath {target}")
        return result, None
    if is_stub(text):
        return result, Difference(
            what=f"values from {label}, key {key}",
            instead="none",
            reason="they are encrypted with SOPS, and tests have no keys",
            origin="SOPS",
        )
    documents = parse(text, place=f"{place}, key {key}", error=ValuesError)
    content = documents[0] if documents else {}
    if not isinstance(content, dict):
        raise ValuesError(f"expected a mapping in the key {key}, got {type_name(content)}", place=place)
    check_types(content, lambda _: f"{place}, key {key}")
    return merge(result, content), None


def overlay(
    values: Mapping[str, Any], topology: Topology | None, files: Sequence[Path]
) -> tuple[dict[str, Any], list[Difference]]:
    """What a run puts over the repository's values: the topology's patches, then ``--values`` files in order.

    Each value that thereby differs becomes a declared difference. A values file says why in the comment above
    the value, or above one it is part of, or at the top of the file.

    Raises:
        ValuesError: a file is no mapping, or a value has a wrong type.
    """
    over: dict[str, Any] = {}
    declared: dict[tuple[str, ...], Difference] = {}

    def put(new: Mapping[str, Any], why: Any, origin: str) -> None:
        nonlocal over
        for path, value in leaves(new):
            if path in declared and declared[path].instead == show(value):
                continue  # asked for twice: the first reason stands
            for other in [known for known in declared if _nested(known, path)]:
                del declared[other]  # replaced by what is put over it
            declared[path] = Difference(".".join(path), show(value), why(path), origin)
        over = merge(over, new)

    if topology is not None:
        for patch in topology.patches:
            check_types(patch.values, lambda _: f"topology {topology.name}, patches.yaml")
            put(patch.values, lambda _, reason=patch.reason: reason, f"topology {topology.name}")
    for file in files:
        text = read_text(file, place=str(file), error=ValuesError)
        content = read_mapping(file, place=str(file), error=ValuesError)
        check_types(content, _in_file(text, file))
        put(
            content,
            lambda path, text=text: reason_at(text, path) or "asked for by --values",
            f"--values {file.name}",
        )
    before = dict(leaves(values))
    return over, [
        difference
        for path, difference in declared.items()
        if path not in before or show(before[path]) != difference.instead
    ]


def _nested(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _in_file(text: str, file: Path) -> Any:
    def at(path: tuple[str, ...]) -> str:
        line = line_of(text, path)
        return f"{file}:{line}" if line else str(file)

    return at


def show(value: object) -> str:
    """A value as it stands in a report."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(show(item) for item in value)}]"
    return str(value) if value != {} else "{}"
