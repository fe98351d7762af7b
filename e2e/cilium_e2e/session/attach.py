"""The cluster of a handle, as workers use it."""

from __future__ import annotations

from cilium_e2e.cluster.container_exec import Containers
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.node_console import COMMAND, NodeConsoles
from cilium_e2e.flux import reconcile
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.kube import Kube
from cilium_e2e.model import Backend, BackendUnavailable, Revision
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options
from cilium_e2e.session.prepare import image_overrides, overrides, prepare
from cilium_e2e.session.publishing import publish


def attach(handle: Handle, options: Options) -> LiveCluster:
    """Connect to a running cluster."""
    from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

    transport = LiveTransport(handle.kubeconfig, context=handle.context)

    def republish() -> Revision:
        if handle.info.backend is Backend.EXISTING:
            raise BackendUnavailable(
                "the tree of an existing cluster is published by its own Flux", place="backend existing"
            )
        prepared = prepare(options)
        engine = Engine()
        try:
            server = ArtifactServer(engine, handle.info.name, image=handle.agent_image)
            _, image_values, _ = image_overrides(prepared.images(), engine.has_image)
            revision, plan = publish(prepared, server, overrides(prepared, image_values))
        finally:
            engine.close()
        kube = Kube(transport)
        reconcile.apply(kube, plan)
        reconcile.wait_release(kube, plan, timeout_s=options.timeout_s, progress=lambda _: None, again=True)
        reconcile.wait_layers(kube, plan, timeout_s=options.timeout_s, progress=lambda _: None)
        return revision

    if handle.info.backend is not Backend.KIND:
        return LiveCluster(handle.info, transport, publisher=republish)
    containers = Containers(Engine)
    # kind names a node's container as the node.
    consoles = NodeConsoles(lambda node: containers.exec(node, COMMAND))
    return LiveCluster(handle.info, transport, publisher=republish, containers=containers, consoles=consoles)
