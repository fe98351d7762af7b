"""The façade: a repository in, everything the other rooms need to know about it out."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from cilium_e2e.model import ManifestError, Topology, ValuesError
from cilium_e2e.repository.features import Features
from cilium_e2e.repository.inputs import INSTALL_INPUT
from cilium_e2e.repository.layers import build_layers
from cilium_e2e.repository.merge import merge
from cilium_e2e.repository.release import find_release
from cilium_e2e.repository.tree import Repository
from cilium_e2e.repository.values import overlay, resolve
from cilium_e2e.repository.workspace import Workspace

DEFAULT_PATH = "manifests/flux-system"


def load(
    repository: Path,
    path: str = DEFAULT_PATH,
    release: str | None = None,
    values: Sequence[Path] = (),
    topology: Topology | None = None,
) -> Repository:
    """Load a tree as Flux would, find its Cilium release, and derive what it means.

    Args:
        repository: the root of the tree; Flux Kustomizations name their paths relative to it.
        path: the folder Flux is pointed at, relative to the root. What it builds may hold Flux
            Kustomizations, which are followed, or the HelmRelease itself.
        release: ``namespace/name``, needed where the tree has several releases of Cilium.
        values: files merged over the release's values, later over earlier; every value is declared.
        topology: whose patches are merged before those files.

    Raises:
        ManifestError: a file or folder of the tree cannot be used.
        ReleaseError: there is no release under test, or not just one.
        ValuesError: its values cannot be resolved or have wrong types.
        InputError: there is no kubectl to run kustomize with.
    """
    if not repository.is_dir():
        raise ManifestError("expected the root of a repository, found no such folder", place=str(repository))
    root = repository.resolve()
    folder = _relative(root, path)
    with Workspace(root) as workspace:
        if not (root / folder).is_dir():
            raise ManifestError(f"the repository has no folder {folder}", place=f"--path {path}")
        layers = build_layers(workspace, folder)
        found = find_release(layers.built, layers.external, release, path=folder)
        source = workspace.text(found.file) if found.file else ""
    own, encrypted = resolve(found, layers.objects(), source)
    over, declared = overlay(own, topology, values)
    effective = merge(own, over)
    try:
        features = Features.of(effective)
    except ValueError as exc:
        raise ValuesError(str(exc), place=found.file) from exc
    install = root / folder / INSTALL_INPUT
    return Repository(
        root=root,
        path=folder,
        layers=tuple(layers.built),
        external=tuple(layers.external),
        release=found,
        values=own,
        overrides=over,
        effective=effective,
        features=features,
        differences=(*layers.differences, *encrypted, *declared),
        topology=topology,
        flux_install=install if install.is_file() else None,
    )


def _relative(root: Path, path: str) -> str:
    given = Path(path)
    if given.is_absolute():
        try:
            path = given.resolve().relative_to(root).as_posix()
        except ValueError:
            raise ManifestError(
                f"expected a folder of the repository {root}", place=f"--path {path}"
            ) from None
    normal = posixpath.normpath(path)
    if normal == ".." or normal.startswith("../"):
        raise ManifestError("expected a folder inside the repository", place=f"--path {path}")
    return normal
