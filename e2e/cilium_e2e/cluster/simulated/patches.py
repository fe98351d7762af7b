"""JSON merge patch (RFC 7386) and JSON patch (RFC 6902) on plain objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cilium_e2e.model import KubeError


def clone(value: Any) -> Any:
    """A deep copy of decoded JSON; several times as fast as the general one."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clone(item) for item in value]
    return value


def merge_patch(target: Any, patch: Any) -> Any:
    """The target with a merge patch applied: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def json_patch(target: Any, operations: Sequence[dict[str, Any]]) -> Any:
    """The target with the operations applied, in order.

    Raises:
        KubeError: 422, a path is not there or a test fails.
    """
    document = clone(target)
    for operation in operations:
        op, path = operation["op"], _steps(operation["path"])
        if op == "test":
            if _at(document, path) != operation["value"]:
                raise _unprocessable(f"testing value {operation['path']} failed")
        elif op in {"add", "replace"}:
            document = _put(document, path, clone(operation["value"]), replace=op == "replace")
        elif op == "remove":
            _take(document, path)
        elif op in {"move", "copy"}:
            source = _steps(operation["from"])
            value = clone(_at(document, source))
            if op == "move":
                _take(document, source)
            document = _put(document, path, value, replace=False)
        else:
            raise _unprocessable(f"unexpected kind: {op}")
    return document


def _steps(pointer: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def _index(holder: list[Any], step: str, *, end: bool = False) -> int:
    if step == "-" and end:
        return len(holder)
    if not step.isdigit() or int(step) >= len(holder) + end:
        raise _unprocessable(f"index {step} is out of bounds")
    return int(step)


def _at(document: Any, path: list[str]) -> Any:
    for step in path:
        if isinstance(document, list):
            document = document[_index(document, step)]
        elif isinstance(document, dict) and step in document:
            document = document[step]
        else:
            raise _unprocessable(f"nonexistent path: {'/'.join(path)}")
    return document


def _put(document: Any, path: list[str], value: Any, *, replace: bool) -> Any:
    if not path:
        return value
    holder, last = _at(document, path[:-1]), path[-1]
    if isinstance(holder, list):
        if replace:
            holder[_index(holder, last)] = value
        else:
            holder.insert(_index(holder, last, end=True), value)
    elif isinstance(holder, dict) and (last in holder or not replace):
        holder[last] = value
    else:
        raise _unprocessable(f"missing key: {last}")
    return document


def _take(document: Any, path: list[str]) -> None:
    holder, last = _at(document, path[:-1]), path[-1]
    if isinstance(holder, list):
        del holder[_index(holder, last)]
    elif isinstance(holder, dict) and last in holder:
        del holder[last]
    else:
        raise _unprocessable(f"unable to remove nonexistent key: {last}")


def _unprocessable(message: str) -> KubeError:
    return KubeError(
        422, "Invalid", f"the server rejected our request due to an error in our request: {message}"
    )
