"""The policies of a scenario: objects in place, or files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cilium_e2e.model import InputError, ManifestError, Object, PolicyError, ScenarioError
from cilium_e2e.policy import parse_cidr_group, parse_policy
from cilium_e2e.repository.yamlfiles import Lines, parse, read_text, type_name
from cilium_e2e.scenario.fields import Path as Steps
from cilium_e2e.scenario.model import PolicyDecl
from cilium_e2e.scenario.schema import KINDS
from cilium_e2e.scenario.source import Source
from cilium_e2e.scenario.templates import fill, stand_in

_API = {"NetworkPolicy": "networking.k8s.io/v1", "CiliumCIDRGroup": "cilium.io/v2"}
_CILIUM = "cilium.io/v2"
_CLUSTER_WIDE = {"CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup"}


def policy_declarations(entries: Sequence[Any], source: Source, path: Steps) -> tuple[PolicyDecl, ...]:
    """What a list of files and objects declares.

    Raises:
        ScenarioError: a file is missing or holds something else, or a template is unknown.
        PolicyError: an object has fields or values that its kind does not have.
    """
    found: list[PolicyDecl] = []
    for place, entry in enumerate(entries):
        here = source.at((*path, place))
        if isinstance(entry, str):
            found += _from_file(entry, source, here)
        else:
            found.append(PolicyDecl(_checked(entry, here), here))
    return tuple(found)


def _from_file(name: str, source: Source, here: str) -> list[PolicyDecl]:
    file = source.file.parent / name
    text = read_text(file, place=f"{here}: {name}", error=ScenarioError)
    documents = parse(text, place=name, keep_empty=True, error=ManifestError)
    lines = Lines(text)
    found = []
    for number, document in enumerate(documents):
        if document is None:
            continue
        place = f"{name}:{lines.of((), document=number) or 1}"
        if not isinstance(document, dict):
            raise ScenarioError(f"expected an object, got {type_name(document)}", place=place)
        found.append(PolicyDecl(_checked(document, place), place))
    if not found:
        raise ScenarioError(f"expected policies in {name}, found nothing", place=here)
    return found


def _checked(entry: Object, place: str) -> Object:
    kind = entry.get("kind")
    meta = entry.get("metadata")
    if kind not in KINDS or not isinstance(meta, dict) or not isinstance(meta.get("name"), str):
        raise ScenarioError(
            f"expected an object with metadata.name, of one of the kinds {', '.join(KINDS)}, got {kind!r}",
            place=place,
        )
    whole = {"apiVersion": _API.get(str(kind), _CILIUM), **entry}
    if kind in _CLUSTER_WIDE and meta.get("namespace"):
        raise ScenarioError(f"expected no namespace, because {kind} is cluster-wide", place=place)
    try:
        filled = fill(whole, stand_in)
        (parse_cidr_group if kind == "CiliumCIDRGroup" else parse_policy)(filled)
    except PolicyError as error:
        raise PolicyError(f"{error.place}: {error.message}", place=place, hint=error.hint) from None
    except InputError as error:
        raise ScenarioError(f"{error.place}: {error.message}", place=place) from None
    return whole
