"""Everything that can be known before a cluster exists, so that bad input costs no cluster."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cilium_e2e.cluster.kind_config import resolved
from cilium_e2e.flux import artifact, deploy, manifest
from cilium_e2e.flux.chart_images import ChartImage, chart_images, unpinned
from cilium_e2e.flux.deploy import SKIP, ChartOverride
from cilium_e2e.model import Difference, InputError, Topology
from cilium_e2e.repository import (
    Repository,
    clusters_folder,
    leaves,
    load,
    load_topology,
    merge,
    read_flux_install,
)
from cilium_e2e.session.options import Options


@dataclass(frozen=True, slots=True)
class Prepared:
    """The input of a run, read and checked.

    Attributes:
        options: as asked for.
        topology: the cluster's shape.
        kind_config: its kind.yaml as kind is to read it, from wherever it is started.
        repository: the tree under test.
        chart: the chart given as a file, None where Flux fetches it.
        flux: the install manifest's bytes.
        flux_origin: where they came from.
        external: folders to serve in place of external sources, or ``skip``.
    """

    options: Options
    topology: Topology
    kind_config: str
    repository: Repository
    chart: artifact.Chart | None
    flux: bytes
    flux_origin: str
    external: dict[str, Path | str]

    @property
    def chart_version(self) -> str:
        """The version that will be installed."""
        if self.chart is not None:
            return self.chart.version
        return self.options.chart_version or self.repository.release.chart.version

    def images(self) -> list[ChartImage]:
        """The images the release runs."""
        defaults = self.chart.values if self.chart is not None else None
        return chart_images(self.repository.effective, defaults, self.chart_version)


def prepare(options: Options, *, installs: bool = True) -> Prepared:
    """Read and check a run's input.

    Args:
        options: what was asked for.
        installs: whether the run installs anything; where it does not, the release is taken as the
            repository has it, and neither Flux's manifest nor a chart is read.

    Raises:
        InputError: something in it cannot be used; the message names it.
    """
    topology = load_topology(clusters_folder(options.repository, options.clusters), options.topology)
    if not installs:
        repository = load(options.repository, options.path, options.release)
        return Prepared(options, topology, "", repository, None, b"", "", {})
    repository = load(
        options.repository, options.path, options.release, values=options.values, topology=topology
    )
    chart = read_chart(options, repository)
    external = read_external(options, repository)
    flux, origin = _flux(options, repository)
    config, gates = resolved(topology, options.feature_gates)
    repository = replace(repository, differences=(*gates, *repository.differences))
    prepared = Prepared(options, topology, config, repository, chart, flux, origin, external)
    _rehearse(prepared)
    return prepared


def _rehearse(prepared: Prepared) -> None:
    """Do dry what needs a cluster's names later, for its errors alone."""
    manifest.parse(
        prepared.flux, origin=prepared.flux_origin, node="node", api_host="localhost", api_port=7445
    )
    served = deploy.ServedSource("name", "sha256:0")
    deploy.plan(
        prepared.repository,
        server="server",
        tree=served,
        overrides=prepared.repository.overrides,
        chart=chart_override(prepared, "server"),
        external={name: what if what == SKIP else served for name, what in prepared.external.items()},
    )


def chart_override(prepared: Prepared, server: str) -> ChartOverride:
    """Where Flux gets the chart from, in this run."""
    options = prepared.options
    if prepared.chart is not None:
        return ChartOverride(f"http://{server}/charts", prepared.chart.version, f"--chart {options.chart}")
    origin = " ".join(
        flag
        for flag, given in (
            ("--chart-repository", options.chart_repository),
            ("--chart-version", options.chart_version),
        )
        if given
    )
    return ChartOverride(options.chart_repository, options.chart_version, origin)


def image_overrides(
    images: list[ChartImage], has_image: Callable[[str], bool]
) -> tuple[list[str], dict[str, Any], list[Difference]]:
    """Which images are at hand and will be loaded, and what that changes.

    Args:
        images: what the release runs.
        has_image: whether the local engine has an image.

    Returns:
        the images to load, the values that let them be used, and the same as declared differences.
    """
    local = [image for image in images if has_image(image.name)]
    values = unpinned(local)
    differences = [
        Difference(
            ".".join(path),
            str(value).lower(),
            "a loaded image does not carry the chart's digest",
            "loaded images",
        )
        for path, value in leaves(values)
    ]
    return [image.name for image in local], values, differences


def overrides(prepared: Prepared, images: dict[str, Any]) -> dict[str, Any]:
    """All chart values that this run puts over the release's own."""
    return merge(prepared.repository.overrides, images)


def _flux(options: Options, repository: Repository) -> tuple[bytes, str]:
    """The install manifest: the one given, else the tree's input, else the pinned release."""
    if options.flux_manifest:
        return manifest.read(options.flux_manifest), options.flux_manifest
    if repository.flux_install is not None:
        pinned = read_flux_install(repository.flux_install)
        return manifest.read(pinned.url, sha256=pinned.sha256), pinned.url
    return manifest.read(), manifest.DEFAULT_URL


def read_chart(options: Options, repository: Repository) -> artifact.Chart | None:
    """The chart given as a file, None where there is none.

    Raises:
        InputError: it is another chart than the release's, or another version than asked for.
    """
    if options.chart is None:
        return None
    chart = artifact.read_chart(options.chart)
    if chart.name != repository.release.chart.name:
        raise InputError(
            f"expected the chart {repository.release.chart.name}, got {chart.name}",
            place=f"--chart {options.chart}",
        )
    if options.chart_version and options.chart_version != chart.version:
        raise InputError(
            f"the chart given is version {chart.version}, --chart-version says {options.chart_version}",
            place=f"--chart {options.chart}",
            hint="Leave --chart-version out.",
        )
    if options.chart_repository:
        raise InputError("--chart and --chart-repository exclude each other", place="--chart-repository")
    return chart


def read_external(options: Options, repository: Repository) -> dict[str, Path | str]:
    """What was given for external layers; relative folders are the caller's."""
    external: dict[str, Path | str] = {}
    known = {layer.name for layer in repository.external}
    for name, what in options.external.items():
        if name not in known:
            raise InputError(
                f"no external layer {name} in the tree, expected: {', '.join(sorted(known)) or 'none'}",
                place=f"--external {name}={what}",
            )
        if what != SKIP and not Path(what).is_dir():
            raise InputError(f"expected a folder or 'skip', got {what!r}", place=f"--external {name}={what}")
        external[name] = what if what == SKIP else Path(what)
    return external
