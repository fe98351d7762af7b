"""The working tree, the chart and external folders, published for the Flux of a cluster."""

from __future__ import annotations

from pathlib import Path

from cilium_e2e.flux import artifact, deploy
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.model import Revision
from cilium_e2e.repository import tracked_files
from cilium_e2e.session.prepare import Prepared, chart_override

_TREE = "tree"


def publish(
    prepared: Prepared, server: ArtifactServer, values: dict[str, object]
) -> tuple[Revision, deploy.Deployment]:
    """Put the working tree, the chart and the external folders on the server, and plan their deployment.

    Raises:
        InputError: the tree cannot be read or deployed.
    """
    repository = prepared.repository
    files = tracked_files(repository.root)
    tree = artifact.tree(repository.root, files.files, name=_TREE)
    server.put(tree.files)
    if prepared.chart is not None:
        server.put(artifact.chart_repository(prepared.chart, folder="charts"))
    external: dict[str, deploy.ServedSource | str] = {}
    for name, what in prepared.external.items():
        if isinstance(what, Path):
            label = "external-" + name.replace("/", "-")
            served = artifact.tree(what, tracked_files(what).files, name=label)
            server.put(served.files)
            external[name] = deploy.ServedSource(label, served.digest)
        else:
            external[name] = what
    plan = deploy.plan(
        repository,
        server=server.address,
        tree=deploy.ServedSource(_TREE, tree.digest),
        overrides=values,
        chart=chart_override(prepared, server.address),
        external=external,
    )
    return Revision(tree.digest, tree.digest, len(files.files), files.untracked), plan
