"""Label and field selectors of the Kubernetes API, as far as the harness and kubectl write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cilium_e2e.model import KubeError

Test = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"(?P<key>\S+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)")
_PART = re.compile(r"(?:[^,(]|\([^)]*\))+")


def label_test(text: str) -> Test:
    """Whether an object's labels are selected.

    Raises:
        KubeError: 400, the selector cannot be read.
    """
    tests = [_requirement(part.strip()) for part in _PART.findall(text) if part.strip()]

    def test(obj: Mapping[str, Any]) -> bool:
        labels = obj.get("metadata", {}).get("labels") or {}
        return all(requirement(labels) for requirement in tests)

    return test


def _requirement(text: str) -> Callable[[Mapping[str, str]], bool]:
    if (match := _SET.fullmatch(text)) is not None:
        key, wanted = match["key"], {value.strip() for value in match["values"].split(",")}
        if match["op"] == "in":
            return lambda labels: labels.get(key) in wanted
        return lambda labels: labels.get(key) not in wanted
    for sign, equal in (("!=", False), ("==", True), ("=", True)):
        key, found, value = text.partition(sign)
        if found:
            key, value = key.strip(), value.strip()
            return lambda labels, e=equal, k=key, v=value: (labels.get(k) == v) is e  # type: ignore[misc]
    if re.fullmatch(r"!?[A-Za-z0-9][-A-Za-z0-9_./]*", text) is None:
        raise KubeError(400, "BadRequest", f"unable to parse requirement: {text!r}")
    if text.startswith("!"):
        return lambda labels: text[1:] not in labels
    return lambda labels: text in labels


def field_test(text: str) -> Test:
    """Whether an object's fields are selected: ``a.b=c`` and ``a.b!=c``, joined by commas.

    Raises:
        KubeError: 400, the selector cannot be read.
    """
    tests: list[tuple[list[str], str, bool]] = []
    for part in filter(None, text.split(",")):
        for sign, equal in (("!=", False), ("==", True), ("=", True)):
            path, found, value = part.partition(sign)
            if found:
                tests.append((path.strip().split("."), value.strip(), equal))
                break
        else:
            raise KubeError(400, "BadRequest", f"invalid selector: {part!r}")

    def test(obj: Mapping[str, Any]) -> bool:
        return all((_at(obj, path) == value) is equal for path, value, equal in tests)

    return test


def _at(obj: Any, path: list[str]) -> str:
    for step in path:
        obj = obj.get(step) if isinstance(obj, Mapping) else None
    return "" if obj is None else str(obj)


def selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    """Whether a ``matchLabels``/``matchExpressions`` selector selects; None selects nothing."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in wanted.items()):
        return False
    for entry in selector.get("matchExpressions") or []:
        value, values = labels.get(entry["key"]), entry.get("values") or []
        answer = {
            "In": value in values,
            "NotIn": value not in values,
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[entry["operator"]]
        if not answer:
            return False
    return True
