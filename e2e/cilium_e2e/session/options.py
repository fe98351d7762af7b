"""What a run was asked for: one frozen value, filled by the command line or by pytest's options."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cilium_e2e.repository import DEFAULT_PATH

AUTO = "auto"


def default_state() -> Path:
    """``$XDG_STATE_HOME/cilium-e2e``: one folder for all runs of a user, so that they know of each other."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "cilium-e2e"


@dataclass(frozen=True, slots=True)
class Options:
    """A run's options.

    Attributes:
        backend: ``auto``, ``kind``, ``existing`` or ``simulated``.
        topology: a folder of ``clusters``.
        clusters: where topologies are; the repository's own, else those shipped, when None.
        repository: the root of the GitOps tree.
        path: the folder Flux is pointed at, relative to the root.
        release: ``namespace/name``, needed where the tree has several.
        values: chart values files merged over the release's.
        chart: a packaged or unpacked chart to install instead of the repository's.
        chart_repository: another chart repository's URL.
        chart_version: another version of the chart.
        flux_manifest: Flux's install manifest, a file or URL; the tree's input or the pinned one when empty.
        external: external layers by ``namespace/name``: a folder to serve instead, or ``skip``.
        agent_image: the Python image of probe agents and of the artifact server.
        node_image: kind's node image; kind.yaml's or kind's own when None.
        feature_gates: Kubernetes feature gates that this host needs, by name.
        kind_bin: a kind binary; PATH, then a checked download, when None.
        kubeconfig: the existing cluster's.
        context: the kubeconfig's context, its current one when empty.
        cluster_name: chosen by us when empty.
        inject: a fault for the simulated cluster to have, by name; empty for none.
        timeline: a file for the timeline as JSON, None for none.
        keep: leave the cluster running after the run.
        state: the user's folder for kubeconfigs, records of clusters, timelines, downloads.
        timeout_s: how long each awaited step may take, in seconds.
    """

    backend: str = AUTO
    topology: str = "default"
    clusters: Path | None = None
    repository: Path = field(default_factory=Path.cwd)
    path: str = DEFAULT_PATH
    release: str | None = None
    values: tuple[Path, ...] = ()
    chart: Path | None = None
    chart_repository: str = ""
    chart_version: str = ""
    flux_manifest: str = ""
    external: Mapping[str, str] = field(default_factory=dict)
    agent_image: str = "docker.io/library/python:3.13-slim"
    node_image: str | None = None
    feature_gates: Mapping[str, bool] = field(default_factory=dict)
    kind_bin: Path | None = None
    kubeconfig: Path | None = None
    context: str = ""
    inject: str = ""
    cluster_name: str = ""
    timeline: Path | None = None
    keep: bool = False
    state: Path = field(default_factory=default_state)
    timeout_s: float = 600.0
