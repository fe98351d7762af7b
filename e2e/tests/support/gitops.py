"""Small GitOps trees, written and loaded as a user's would be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cilium_e2e.model import Object, Topology
from cilium_e2e.repository import Repository, load
from cilium_e2e.repository.workspace import Workspace

FLUX = "flux-system"


def write(root: Path, files: Mapping[str, str | list[Object]]) -> Path:
    """Write files: text, or objects as YAML documents."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else yaml.safe_dump_all(content))
    return root


def open_tree(
    root: Path,
    files: Mapping[str, str | list[Object]],
    path: str = "flux",
    *,
    topology: Topology | None = None,
) -> Repository:
    """Write a tree and load it."""
    return load(write(root, files), path, topology=topology)


def release(
    name: str = "cilium", namespace: str = "cilium", *, spec: Mapping[str, Any] | None = None, **values: Any
) -> Object:
    """A HelmRelease of Cilium from a HelmRepository beside it."""
    chart = {
        "chart": "cilium",
        "version": "1.18.12",
        "sourceRef": {"kind": "HelmRepository", "name": "cilium"},
    }
    return {
        "apiVersion": "helm.toolkit.fluxcd.io/v2",
        "kind": "HelmRelease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"interval": "30m", "chart": {"spec": chart}, "values": values, **(spec or {})},
    }


def helm_repository(namespace: str = "cilium", **spec: Any) -> Object:
    """The chart's source."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "HelmRepository",
        "metadata": {"name": "cilium", "namespace": namespace},
        "spec": {"interval": "24h", "url": "https://helm.example.org/", **spec},
    }


def git(name: str = FLUX, url: str = "https://git.example.org/tree") -> Object:
    """A source for layers."""
    return {
        "apiVersion": "source.toolkit.fluxcd.io/v1",
        "kind": "GitRepository",
        "metadata": {"name": name, "namespace": FLUX},
        "spec": {"interval": "1m", "url": url},
    }


def layer(name: str, *depends_on: str, source: str = FLUX, path: str = "", **spec: Any) -> Object:
    """A Flux Kustomization."""
    own: dict[str, Any] = {
        "interval": "30m",
        "path": f"./{path or name}",
        "prune": True,
        "sourceRef": {"kind": "GitRepository", "name": source},
        **spec,
    }
    if depends_on:
        own["dependsOn"] = [{"name": other} for other in depends_on]
    return {
        "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        "kind": "Kustomization",
        "metadata": {"name": name, "namespace": FLUX},
        "spec": own,
    }


def config_map(name: str = "c", namespace: str = "default", **data: str) -> Object:
    """Something to apply."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def kustomized(repository: Repository, kustomization: Object) -> list[Object]:
    """What a real kustomize makes of a layer with all that a planned Kustomization adds."""
    spec = kustomization["spec"]
    with Workspace(repository.root) as workspace:
        return [built.object for built in workspace.build(spec["path"].removeprefix("./"), spec)]


def only(objects: list[Object], kind: str) -> Object:
    """The one object of a kind."""
    (found,) = (obj for obj in objects if obj["kind"] == kind)
    return found
