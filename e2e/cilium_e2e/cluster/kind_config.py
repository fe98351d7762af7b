"""kind.yaml as kind is given it: the topology's own file, with its relative paths made absolute.

kind resolves the host paths of ``extraMounts`` against its working directory. A topology names files beside
itself as ``./file``, which works for somebody who stands in its folder; here they are found from anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cilium_e2e.model import Difference, Topology, TopologyError


def resolved(topology: Topology, feature_gates: Mapping[str, bool]) -> tuple[str, list[Difference]]:
    """The text to give to kind, and what it changes about the topology.

    Args:
        topology: whose kind.yaml is read.
        feature_gates: Kubernetes feature gates that this host needs.

    Raises:
        TopologyError: a file that it mounts does not exist.
    """
    config: dict[str, Any] = yaml.safe_load(topology.kind_config.read_text(encoding="utf-8"))
    for node in config.get("nodes") or []:
        for mount in node.get("extraMounts") or []:
            mount["hostPath"] = str(_find(topology, mount["hostPath"]))
    gates: dict[str, bool] = config.get("featureGates") or {}
    differences = []
    for name, value in feature_gates.items():
        if gates.get(name) is not value:
            word = str(value).lower()
            differences.append(
                Difference(
                    f"feature gate {name}", word, "this host needs it", f"--feature-gate {name}={word}"
                )
            )
    if feature_gates:
        config["featureGates"] = {**gates, **feature_gates}
    return yaml.safe_dump(config, sort_keys=False), differences


def _find(topology: Topology, path: str) -> Path:
    """A mounted file, absolute or relative to the topology's folder."""
    found = topology.kind_config.resolve().parent / path
    if not found.exists():
        raise TopologyError(
            f"the file {path} to mount into a node does not exist", place=str(topology.kind_config)
        )
    return found
