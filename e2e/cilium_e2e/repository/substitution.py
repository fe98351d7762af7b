"""``spec.postBuild`` of a Flux Kustomization: shell-like variables in what kustomize has built.

Flux substitutes in each object's YAML text, so a value takes the type its text has: ``"${PORT}"`` with
``PORT=80`` becomes a number. This does the same. It is strict, as Flux is with its feature gate
StrictPostBuildSubstitutions: a bare ``${VAR}`` without a value is an error, not an empty string.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from cilium_e2e.model import Difference, ManifestError, Object
from cilium_e2e.repository.envsubst import BadSubstitution, UnknownVariable, expand
from cilium_e2e.repository.shapes import check_shape
from cilium_e2e.repository.sources import find
from cilium_e2e.repository.tree import BuiltObject
from cilium_e2e.repository.yamlfiles import parse

if TYPE_CHECKING or not yaml.__with_libyaml__:  # noqa: SIM108 - mypy takes no expression for a base class
    _Base = yaml.SafeDumper
else:
    _Base = yaml.CSafeDumper


_SWITCH = "kustomize.toolkit.fluxcd.io/substitute"
_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")


@dataclass(slots=True)
class _Variables:
    values: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """References that the tree does not hold."""


def substitute_layer(
    built: tuple[BuiltObject, ...], kustomization: Object, tree: Sequence[BuiltObject], *, place: str
) -> tuple[tuple[BuiltObject, ...], list[Difference]]:
    """Substitute in all objects of a layer.

    Args:
        built: the layer's objects.
        kustomization: the Flux Kustomization, whose ``spec.postBuild`` decides.
        tree: where ConfigMaps and Secrets are looked for: this layer's objects and those before it.
        place: of the Kustomization, for errors.

    Returns:
        the objects, and a difference for each ConfigMap or Secret that only the cluster can have.

    Raises:
        ManifestError: a variable has no value, or an expression cannot be read; it names file and object.
    """
    post_build = (kustomization.get("spec") or {}).get("postBuild") or {}
    if not post_build.get("substitute") and not post_build.get("substituteFrom"):
        return built, []
    namespace = kustomization["metadata"].get("namespace", "")
    variables = _load(post_build, namespace, tree, place=place)
    name = f"{namespace}/{kustomization['metadata']['name']}"
    done = tuple(_substitute(item, variables, name) for item in built)
    differences = [
        Difference(
            what=f"variables from {missing}",
            instead="none",
            reason="the repository does not hold it, only a cluster can",
            origin=f"Kustomization {name}",
        )
        for missing in variables.missing
    ]
    return done, differences


def secret_or_config(obj: Object) -> dict[str, str]:
    """The data of a ConfigMap or a Secret as text."""
    data = {str(key): str(value) for key, value in (obj.get("data") or {}).items()}
    if obj["kind"] == "Secret":
        data = {key: _decode(value) for key, value in data.items()}
        data |= {str(key): str(value) for key, value in (obj.get("stringData") or {}).items()}
    return data


def _decode(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def _load(
    post_build: Mapping[str, Any], namespace: str, tree: Sequence[BuiltObject], *, place: str
) -> _Variables:
    variables = _Variables()
    for ref in post_build.get("substituteFrom") or []:
        kind, name = str(ref.get("kind")), str(ref.get("name"))
        if kind not in {"ConfigMap", "Secret"}:
            raise ManifestError(f"substituteFrom takes a ConfigMap or a Secret, got {kind}", place=place)
        found = find(tree, kind, namespace, name)
        if found is None:
            if not ref.get("optional"):
                variables.missing.append(f"{kind} {namespace}/{name}")
            continue
        variables.values |= secret_or_config(found)
    variables.values |= {
        str(key): _text(value) for key, value in (post_build.get("substitute") or {}).items()
    }
    for key, value in variables.values.items():
        if not _NAME.fullmatch(key):
            raise ManifestError(f"{key!r} is no name for a variable", place=place)
        variables.values[key] = value.replace("\n", "")
    return variables


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _substitute(item: BuiltObject, variables: _Variables, layer: str) -> BuiltObject:
    meta = item.object.get("metadata") or {}
    if any((meta.get(where) or {}).get(_SWITCH) == "disabled" for where in ("labels", "annotations")):
        return item
    before = yaml.dump(item.object, Dumper=_Dumper, sort_keys=False, width=1 << 20, allow_unicode=True)
    if "$" not in before:
        return item
    place = item.file or str(item.ref)
    try:
        after = expand(before, variables.values)
    except UnknownVariable as exc:
        nowhere = f"; {', '.join(variables.missing)} would have to say, and the tree does not hold it"
        raise ManifestError(
            f"{item.ref} uses ${{{exc.name}}}, which Kustomization {layer} does not define"
            + (nowhere if variables.missing else ""),
            place=place,
            hint="Define it in spec.postBuild, or give it a default: ${" + exc.name + ":=value}.",
        ) from None
    except BadSubstitution as exc:
        raise ManifestError(f"{item.ref}: {exc}", place=place) from None
    if after == before:
        return item
    documents = parse(after, place=f"{place}, after substitution")
    if len(documents) != 1 or not isinstance(documents[0], dict):
        raise ManifestError(f"{item.ref} is no object any more after substitution", place=place)
    check_shape(documents[0], place=f"{place}, after substitution")
    return BuiltObject(documents[0], item.file)


class _Dumper(_Base):
    """Writes text of several lines as it is, so that a value with quotes in it breaks nothing."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML asks for each object
        """Anchors would not survive as plain data."""
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)
