"""Nested mappings as Helm treats them: merging, reading and writing by path, and their leaves."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` merged over ``base``, as Helm merges values files; neither is changed or shared.

    Mappings merge key by key, everything else replaces. ``None`` replaces too, and stays: only a value
    that is still None when Helm meets the chart's defaults removes one of those.
    """
    merged = {key: copy.deepcopy(value) for key, value in base.items()}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and isinstance(below, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def dig(values: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path of plain keys; None where a step is missing."""
    found: Any = values
    for step in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(step)
    return found


def leaves(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no mapping, or an empty one, with its path."""
    for key, value in values.items():
        here = (*path, str(key))
        if isinstance(value, Mapping) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def nest(path: tuple[str, ...], value: object) -> dict[str, Any]:
    """The nested mapping that holds one value at a path."""
    result: Any = value
    for step in reversed(path):
        result = {step: result}
    return dict(result)
