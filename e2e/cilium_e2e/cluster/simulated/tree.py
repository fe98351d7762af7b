"""What Kustomizations build: the loaded tree's layers, with the patches that a run adds to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from cilium_e2e.cluster.simulated.flux import layer_path
from cilium_e2e.cluster.simulated.patches import clone, json_patch, merge_patch
from cilium_e2e.model import ManifestError, Object, Ref
from cilium_e2e.repository import Layer, Repository


class Tree:
    """The published tree.

    Args:
        repository: as loaded; replaced when it is published anew.
    """

    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def build(self, kustomization: Object) -> list[Object]:
        """The objects of a Kustomization.

        The layer was built by kustomize with the patches of its own; only those that the run has added
        are applied here.

        Raises:
            ManifestError: the tree has no such layer.
        """
        layer = self._layer(kustomization)
        own = ((layer.kustomization or {}).get("spec") or {}).get("patches") or []
        added = (kustomization["spec"].get("patches") or [])[len(own) :]
        found = []
        for built in layer.objects:
            patched: Object | None = clone(built.object)
            for entry in added:
                if patched is not None and _targets(entry.get("target"), patched):
                    patched = _patched(patched, entry["patch"])
            if patched is not None:
                found.append(patched)
        return found

    def outside_values(self, release: Ref) -> Mapping[str, Any]:
        """The values that the release under test has from elsewhere than its object."""
        ours = self.repository.release
        if (release.namespace, release.name) != (ours.ref.namespace, ours.ref.name):
            return {}
        if not (ours.object.get("spec") or {}).get("valuesFrom"):
            return {}
        return self.repository.values

    def _layer(self, kustomization: Object) -> Layer:
        meta = kustomization["metadata"]
        name, path = f"{meta['namespace']}/{meta['name']}", layer_path(kustomization)
        for layer in self.repository.layers:
            if layer.path == path and layer.name in (name, ""):
                return layer
        raise ManifestError(f"the tree has no layer {name} at {path}", place=f"Kustomization {name}")


def _targets(target: Mapping[str, str] | None, obj: Object) -> bool:
    """Whether a patch is for an object; names are regular expressions that must match as a whole."""
    if target is None:
        return False
    group, _, version = str(obj["apiVersion"]).rpartition("/")
    meta = obj["metadata"]
    seen = {
        "group": group,
        "version": version,
        "kind": obj["kind"],
        "name": meta["name"],
        "namespace": meta.get("namespace", ""),
    }
    return all(
        re.fullmatch(wanted, seen[key]) is not None
        for key, wanted in target.items()
        if key in seen and wanted
    )


def _patched(obj: Object, text: str) -> Object | None:
    patch = yaml.safe_load(text)
    if isinstance(patch, list):
        operations: Sequence[dict[str, Any]] = json.loads(json.dumps(patch))
        return dict(json_patch(obj, operations))
    if patch.get("$patch") == "delete":
        return None
    return dict(
        merge_patch(obj, {k: v for k, v in patch.items() if k not in {"apiVersion", "kind", "metadata"}})
    )
