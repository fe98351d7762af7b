"""What a loaded repository is: layers, the release under test, values, features. Plain frozen data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cilium_e2e.model import Difference, Object, Ref, Topology
from cilium_e2e.repository.features import Features

POLICY_KINDS = frozenset({"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"})


@dataclass(frozen=True, slots=True)
class BuiltObject:
    """An object of the tree, after kustomize and substitutions.

    Attributes:
        object: as Flux would apply it.
        file: the file it was written in, relative to the repository's root; empty where it is generated.
    """

    object: Object
    file: str = ""

    @property
    def ref(self) -> Ref:
        """Its reference."""
        return Ref.of(self.object)


@dataclass(frozen=True, slots=True)
class Layer:
    """One Flux Kustomization of this tree, built; the first layer is the path the user gave.

    Attributes:
        name: ``namespace/name`` of the Flux Kustomization; empty for the first layer where no
            Kustomization of the tree stands for it.
        path: what it builds, relative to the repository's root, ``.`` for the root itself.
        kustomization: the Flux Kustomization; None where there is none.
        objects: what it applies.
        depends_on: ``namespace/name`` of the Kustomizations before it.
    """

    name: str
    path: str
    kustomization: Object | None
    objects: tuple[BuiltObject, ...]
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ExternalLayer:
    """A Flux Kustomization that this repository names and does not hold; it is not built.

    Attributes:
        name: ``namespace/name``.
        kustomization: the Flux Kustomization.
        source: its source object, None where the tree does not define it.
        reason: why it is not built: another source, another cluster, suspended.
        depends_on: ``namespace/name`` of the Kustomizations before it.
    """

    name: str
    kustomization: Object
    source: Object | None
    reason: str
    depends_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """The chart a release installs.

    Attributes:
        name: the chart's name.
        version: the version or range asked for; empty where the source fixes it by digest or revision.
        source: the object it comes from.
        url: that object's address; empty where the tree does not define it.
    """

    name: str
    version: str
    source: Ref
    url: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """The HelmRelease under test.

    Attributes:
        ref: the HelmRelease.
        object: the HelmRelease as Flux would apply it.
        layer: ``Layer.name`` of the layer that applies it.
        file: the file it was written in, relative to the root.
        chart: what it installs.
        release_name, target_namespace, storage_namespace: Helm's identity of the release.
    """

    ref: Ref
    object: Object
    layer: str
    file: str
    chart: Chart
    release_name: str
    target_namespace: str
    storage_namespace: str

    @property
    def name(self) -> str:
        """``namespace/name``, as ``--release`` takes it."""
        return f"{self.ref.namespace}/{self.ref.name}"

    @property
    def identity(self) -> tuple[str, str, str]:
        """What must never change: release name, target namespace, storage namespace."""
        return (self.release_name, self.target_namespace, self.storage_namespace)


@dataclass(frozen=True, slots=True)
class Repository:
    """A GitOps tree, its Cilium release, and what it means for a topology.

    Attributes:
        root: the repository's root.
        path: the path the user gave, relative to the root.
        layers: in the order Flux applies them; the first is ``path`` itself.
        external: Kustomizations that are named here and built elsewhere.
        release: the release under test.
        values: the release's values as the repository says: ``valuesFrom`` and inline, merged.
        overrides: what this run puts over them: the topology's patches, then ``--values``, merged.
        effective: ``values`` with ``overrides`` merged in; ``None`` removes a chart default.
        features: what Cilium does with ``effective``.
        differences: every declared deviation known from the tree alone.
        topology: what it was loaded for, None for none.
        flux_install: the ``install.input.yaml`` beside ``path``, for :func:`read_flux_install`; None where
            the tree names no Flux install manifest of its own.
    """

    root: Path
    path: str
    layers: tuple[Layer, ...]
    external: tuple[ExternalLayer, ...]
    release: Release
    values: Mapping[str, Any]
    overrides: Mapping[str, Any]
    effective: Mapping[str, Any]
    features: Features
    differences: tuple[Difference, ...]
    topology: Topology | None = None
    flux_install: Path | None = None

    def objects(self) -> Iterator[BuiltObject]:
        """All objects of all layers, in order."""
        for layer in self.layers:
            yield from layer.objects

    @property
    def policies(self) -> tuple[Object, ...]:
        """The policies the tree applies: Cilium's, Cilium's cluster-wide ones, and Kubernetes'."""
        return tuple(built.object for built in self.objects() if built.object["kind"] in POLICY_KINDS)
