"""Clusters deleted: the one of a run, and those that dead runs left behind."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack

from cilium_e2e.cluster.engine import RUN_LABEL, Engine
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.model import BackendUnavailable, ClusterStateError, HarnessError
from cilium_e2e.session.registry import Registry
from cilium_e2e.session.timeline import Say


def sweep(registry: Registry, engine: Engine, kind: KindCluster, say: Say) -> list[str]:
    """Delete the clusters that dead runs left on this engine; answers their names.

    Args:
        registry: the user's clusters.
        engine: where they are.
        kind: any cluster object; only its kind binary is used.
        say: told each one.

    Raises:
        ClusterStateError: some could not be deleted, after all have been tried; the message says how to do it
            by hand.
    """
    swept: list[str] = []
    failures: list[str] = []
    for record in registry.left_over(os.environ.get("DOCKER_HOST", "")):
        with ExitStack() as claim:
            try:
                claim.enter_context(registry.claim(record.name))
            except BackendUnavailable:
                continue  # another run has taken the name, or is sweeping it
            if registry.find(record.name) != record:
                continue  # another run has swept it meanwhile
            say(f"sweeping cluster {record.name}, which a run that is dead left behind")
            try:
                delete(KindCluster(record.name, state=kind.path, kind_path=kind.kind_path), engine, registry)
            except HarnessError as error:
                failures.append(str(error))
            else:
                swept.append(record.name)
    if failures:
        raise ClusterStateError("\n".join(failures))
    return swept


def delete(kind: KindCluster, engine: Engine, registry: Registry) -> None:
    """Delete a cluster, our containers beside it, and what is remembered of it.

    Raises:
        ClusterStateError: something is left; the message says how to remove it by hand.
    """
    failures: list[str] = []
    try:
        kind.delete()
    except HarnessError as error:
        failures.append(str(error))
    try:
        # Nodes too: an interrupted kind may have asked the engine for one that came to be only now.
        left = [node.name for node in engine.nodes(kind.name)] + engine.ours(kind.name)
        failures += _remove(engine, left)
    except HarnessError as error:
        failures.append(str(error))
    if failures:
        raise ClusterStateError(
            f"not all of it could be deleted: {'; '.join(failures)}",
            place=f"cluster {kind.name}",
            hint=(
                f"Do it by hand: kind delete cluster --name {kind.name}; "
                f"docker ps -aq --filter label={RUN_LABEL}={kind.name} | xargs docker rm -f"
            ),
        )
    (kind.path / f"{kind.name}.kind.yaml").unlink(missing_ok=True)
    registry.forget(kind.name)


def _remove(engine: Engine, containers: Iterable[str]) -> list[str]:
    """Remove containers; one that stays keeps no other. Answers what went wrong."""
    failures: list[str] = []
    for container in containers:
        try:
            engine.remove(container)
        except HarnessError as error:
            failures.append(str(error))
    return failures
