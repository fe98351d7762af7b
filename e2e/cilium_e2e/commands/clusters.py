"""``cilium-e2e clusters list|delete|sweep``: the clusters that runs of this user have made."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cilium_e2e.cluster.engine import Engine, adopt_context
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.model import InputError
from cilium_e2e.session.options import default_state
from cilium_e2e.session.registry import Registry
from cilium_e2e.session.teardown import delete, sweep


def run(args: argparse.Namespace) -> int:
    """List, delete or sweep; 0 when that was done.

    Raises:
        InputError: ``delete`` was given a cluster that is none of ours, that a living run uses, or that is
            on another engine.
        ClusterStateError: something could not be deleted.
    """
    registry = Registry(default_state())
    adopt_context()  # so that this engine has one name, whoever asks
    if args.action == "list":
        return _list(registry)
    engine = Engine()
    try:
        if args.action == "sweep":
            any_cluster = _cluster("sweep", args.kind_bin)
            swept = sweep(registry, engine, any_cluster, _say)
            _say(f"swept: {', '.join(swept) or 'nothing'}")
            return 0
        for name in args.names:
            _delete(registry, engine, name, args.kind_bin)
    finally:
        engine.close()
    return 0


def _list(registry: Registry) -> int:
    records = registry.records()
    engine = os.environ.get("DOCKER_HOST", "")
    for record in records:
        state = "in use" if registry.owned(record.name) else "kept" if record.keep else "left behind"
        where = "" if record.engine == engine else f", on {record.engine or 'the default engine'}"
        ready = "" if record.handle else ", never ready"
        _say(f"{record.name}: topology {record.topology}, {state}{ready}{where}")
        if record.handle:
            _say(f"  KUBECONFIG={record.handle['kubeconfig']}")
    if not records:
        _say("no clusters")
    return 0


def _delete(registry: Registry, engine: Engine, name: str, kind_bin: str | None) -> None:
    record = registry.find(name)
    if record is None:
        known = ", ".join(record.name for record in registry.records()) or "none"
        raise InputError(f"no cluster of ours, expected one of: {known}", place=f"cluster {name}")
    if record.engine != os.environ.get("DOCKER_HOST", ""):
        raise InputError(
            f"it is on another engine, {record.engine or 'the default one'}",
            place=f"cluster {name}",
            hint="Set DOCKER_HOST as it was when the cluster was made.",
        )
    with registry.claim(name):
        _say(f"deleting cluster {name} …")
        delete(_cluster(name, kind_bin), engine, registry)


def _cluster(name: str, kind_bin: str | None) -> KindCluster:
    cluster = KindCluster(name, state=default_state(), kind_path=Path(kind_bin) if kind_bin else None)
    cluster.ensure_kind()
    return cluster


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
