"""Server-side apply: which manager owns which fields, what merges, and where two managers conflict.

Fields are the leaves of an object. A list whose items have a key in Kubernetes' own kinds (containers by
name, conditions by type ...) merges item by item; every other list, and every list of a custom resource, is
one field. The manager of an apply gives up what it no longer names; a field that nobody owns any more is
removed. A patch owns what it changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cilium_e2e.cluster.simulated.patches import clone
from cilium_e2e.model import KubeError, Object

Step = str | tuple[tuple[str, Any], ...]
Path = tuple[Step, ...]
Owners = dict[str, set[Path]]
"""Manager to the fields it owns."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ports": ("port", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_CONTAINER_PORTS = ("containerPort", "protocol")
_DEFAULTS = {"protocol": "TCP"}
_IDENTITY = {("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace")}
_GROUPS = {"", "apps", "batch", "rbac.authorization.k8s.io", "discovery.k8s.io", "networking.k8s.io"}


def keyed(obj: Mapping[str, Any]) -> bool:
    """Whether lists of an object merge by key: those of Kubernetes' own kinds do."""
    group = str(obj.get("apiVersion", "")).rpartition("/")[0]
    return group in _GROUPS


def _keys(name: Step, items: Any) -> tuple[str, ...]:
    """The key fields of a list; none where it is one field."""
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        return ()
    keys = _KEYS.get(name, ()) if isinstance(name, str) else ()
    if name == "ports" and all("containerPort" in item for item in items):
        keys = _CONTAINER_PORTS
    if keys and all(key in item or key in _DEFAULTS for item in items for key in keys):
        return keys
    return ()


def _key(item: Mapping[str, Any], keys: tuple[str, ...]) -> Step:
    return tuple((key, item.get(key, _DEFAULTS.get(key))) for key in keys)


def fields(obj: Object) -> set[Path]:
    """The fields that an applied object names, without what makes up its identity."""
    return {path for path in _leaves(obj, (), by_key=keyed(obj)) if path not in _IDENTITY}


def _leaves(value: Any, path: Path, *, by_key: bool) -> Iterator[Path]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _leaves(item, (*path, name), by_key=by_key)
    elif by_key and path and (keys := _keys(path[-1], value)):
        for item in value:
            yield from _leaves(item, (*path, _key(item, keys)), by_key=by_key)
    else:
        yield path


def apply(live: Object | None, config: Object, owners: Owners, *, manager: str, force: bool) -> Object:
    """The live object with a configuration applied; ``owners`` is brought up to date.

    Raises:
        KubeError: 409, another manager owns a field with another value, and ``force`` is not given.
    """
    wanted = fields(config)
    before = live or {}
    contested: dict[str, set[Path]] = {}
    for other, owned in owners.items():
        if other == manager:
            continue
        lost = {path for path in wanted & owned if look(before, path) != look(config, path)}
        if lost:
            contested[other] = lost
    if contested and not force:
        words = "; ".join(
            f'conflict with "{other}": {", ".join(sorted(map(dotted, lost)))}'
            for other, lost in contested.items()
        )
        count = sum(map(len, contested.values()))
        raise KubeError(409, "Conflict", f"Apply failed with {count} conflict{'s' * (count > 1)}: {words}")
    for other, lost in contested.items():
        owners[other] -= lost
    given_up = owners.get(manager, set()) - wanted
    merged = _merge(clone(before), config, (), by_key=keyed(config))
    for path in sorted(given_up, key=len, reverse=True):
        others = [owned for other, owned in owners.items() if other != manager]
        if not any(kept[: len(path)] == path for owned in (wanted, *others) for kept in owned):
            _drop(merged, path)
    owners[manager] = wanted
    _forget_empty(owners)
    return dict(merged)


def changed(before: Object, after: Object, owners: Owners, *, manager: str) -> None:
    """Give a manager the fields that its patch has changed."""
    old, new = fields(before), fields(after)
    mine = {path for path in new if path not in old or look(before, path) != look(after, path)}
    for other in list(owners):
        owners[other] -= mine | (old - new)
    if mine:
        owners.setdefault(manager, set()).update(mine)
    _forget_empty(owners)


def managed_fields(owners: Owners, api_version: str, times: Mapping[str, str]) -> list[Object]:
    """``metadata.managedFields``, one entry a manager, in the order they came."""
    return [
        {
            "apiVersion": api_version,
            "fieldsType": "FieldsV1",
            "fieldsV1": _tree(paths),
            "manager": manager,
            "operation": "Apply",
            "time": times.get(manager, ""),
        }
        for manager, paths in owners.items()
    ]


def _tree(paths: set[Path]) -> Object:
    root: Object = {}
    for path in sorted(paths, key=dotted):
        at = root
        for step in path:
            name = f"f:{step}" if isinstance(step, str) else f"k:{dict(step)}"
            at = at.setdefault(name, {})
    return root


def _merge(live: Any, config: Any, path: Path, *, by_key: bool) -> Any:
    if isinstance(config, dict):
        result = live if isinstance(live, dict) else {}
        for name, item in config.items():
            result[name] = _merge(result.get(name), item, (*path, name), by_key=by_key)
        return result
    keys = _keys(path[-1], config) if by_key and path else ()
    if keys and isinstance(live, list):
        items = [item for item in live if isinstance(item, dict)]
        for entry in config:
            at = next((i for i, item in enumerate(items) if _key(item, keys) == _key(entry, keys)), None)
            if at is None:
                items.append(clone(entry))
            else:
                items[at] = _merge(items[at], entry, (*path, _key(entry, keys)), by_key=by_key)
        return items
    return clone(config)


def look(obj: Any, path: Path) -> Any:
    """The value at a path, None where there is none."""
    for step in path:
        if isinstance(step, str):
            obj = obj.get(step) if isinstance(obj, dict) else None
        else:
            names = tuple(name for name, _ in step)
            items = obj if isinstance(obj, list) else []
            obj = next((item for item in items if isinstance(item, dict) and _key(item, names) == step), None)
        if obj is None:
            return None
    return obj


def _drop(obj: Any, path: Path) -> None:
    """Remove a field, and the parents that it leaves empty."""
    holder = look(obj, path[:-1]) if len(path) > 1 else obj
    last = path[-1]
    if isinstance(holder, dict) and isinstance(last, str):
        holder.pop(last, None)
    elif isinstance(holder, list) and not isinstance(last, str):
        names = tuple(name for name, _ in last)
        holder[:] = [item for item in holder if _key(item, names) != last]
    else:
        return
    if len(path) > 1 and not holder:
        _drop(obj, path[:-1])
    elif isinstance(path[-2:-1], tuple) and len(path) > 1 and not isinstance(path[-2], str):
        names = tuple(name for name, _ in path[-2])
        if isinstance(holder, dict) and set(holder) <= set(names):
            _drop(obj, path[:-1])


def _forget_empty(owners: Owners) -> None:
    for manager in [name for name, owned in owners.items() if not owned]:
        del owners[manager]


def dotted(path: Path) -> str:
    """A path as messages write it."""
    words = [step if isinstance(step, str) else str(dict(step)) for step in path]
    return "." + ".".join(words)
