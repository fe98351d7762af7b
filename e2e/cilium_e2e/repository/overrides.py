"""Put a run's values over a HelmRelease by a patch, so that the published tree stays as the user wrote it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import yaml

from cilium_e2e.model import Object
from cilium_e2e.repository.tree import Release


def values_patch(release: Release, overrides: Mapping[str, Any]) -> dict[str, Any] | None:
    """An entry for ``spec.patches`` of the Flux Kustomization that applies the release.

    None where nothing is to be put over it.

    A JSON patch, because in a merge patch ``null`` would only remove the key from the HelmRelease, where Helm
    takes ``null`` to remove a default of the chart.

    Args:
        release: the release as the tree has it.
        overrides: nested values; those of :attr:`Repository.overrides`, or more.
    """
    if not overrides:
        return None
    spec = release.object.get("spec") or {}
    operations: list[dict[str, Any]] = []
    if isinstance(spec.get("values"), Mapping):
        _write(copy.deepcopy(spec["values"]), overrides, "/spec/values", operations)
    else:
        operations.append({"op": "add", "path": "/spec/values", "value": dict(overrides)})
    group, _, version = str(release.object["apiVersion"]).partition("/")
    return {
        "target": {
            "group": group,
            "version": version,
            "kind": "HelmRelease",
            "name": release.ref.name,
            "namespace": release.ref.namespace,
        },
        "patch": yaml.safe_dump(operations, sort_keys=False),
    }


def _write(below: Object, over: Mapping[str, Any], pointer: str, operations: list[dict[str, Any]]) -> None:
    for key, value in over.items():
        here = f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if isinstance(value, Mapping) and isinstance(below.get(key), dict):
            _write(below[key], value, here, operations)
        elif key not in below or below[key] != value:
            operations.append({"op": "add", "path": here, "value": copy.deepcopy(value)})
