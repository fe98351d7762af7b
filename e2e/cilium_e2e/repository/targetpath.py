"""``targetPath`` of a values reference: one value put at a path, in the language of ``helm --set``."""

from __future__ import annotations

import copy
import re
from typing import Any

from cilium_e2e.model import ValuesError

_STEP = re.compile(r"((?:\\.|[^.\[\]\\])+)|\[(\d{1,5})\]")


def set_value(values: dict[str, Any], path: str, text: str, *, place: str) -> dict[str, Any]:
    """``values`` with ``text`` at ``path``, typed as Helm types it; a quoted text stays text.

    Raises:
        ValuesError: the path cannot be read, or leads through something that is no mapping or list.
    """
    steps = _steps(path, place)
    result: dict[str, Any] = copy.deepcopy(values)
    _put(result, steps, _typed(text, place), place=f"{place}, targetPath {path}")
    return result


def _steps(path: str, place: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 0
    while at < len(path):
        if path[at] == "." and steps:
            at += 1
        found = _STEP.match(path, at)
        if not found:
            raise ValuesError(f"cannot read the targetPath {path!r} at {path[at:]!r}", place=place)
        key, index = found.groups()
        steps.append(int(index) if index else re.sub(r"\\(.)", r"\1", key))
        at = found.end()
    if not steps or isinstance(steps[0], int):
        raise ValuesError(f"a targetPath begins with a key, got {path!r}", place=place)
    return steps


def _put(holder: Any, steps: list[str | int], value: object, *, place: str) -> None:
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        if not isinstance(holder, list):
            raise ValuesError(f"[{step}] needs a list", place=place)
        holder.extend([None] * (step + 1 - len(holder)))
        below = holder[step]
    else:
        if not isinstance(holder, dict):
            raise ValuesError(f"{step} needs a mapping", place=place)
        below = holder.get(step)
    if not rest:
        holder[step] = value
        return
    if below is None:
        below = [] if isinstance(rest[0], int) else {}
        holder[step] = below
    _put(below, rest, value, place=place)


def _typed(text: str, place: str) -> object:
    """What ``helm --set key=TEXT`` makes of the text."""
    text = text.rstrip("\n")
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text.strip("'\"")
    if text.startswith("{") and text.endswith("}"):
        inner = text[1:-1]
        return [_scalar(item) for item in re.split(r"(?<!\\),", inner)] if inner else []
    if re.search(r"(?<!\\),", text):
        raise ValuesError(
            "a comma separates values in the language of helm --set", place=place, hint="Quote the value."
        )
    return _scalar(text)


def _scalar(text: str) -> object:
    known: dict[str, object] = {"true": True, "false": False, "null": None}
    if text in known:
        return known[text]
    if re.fullmatch(r"0|-?[1-9]\d*", text):
        return int(text)
    return re.sub(r"\\(.)", r"\1", text)
