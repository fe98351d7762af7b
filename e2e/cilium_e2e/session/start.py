"""Make a kind cluster and let Flux install the tree's Cilium on it; or leave nothing behind."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from pathlib import Path

from cilium_e2e.cluster import images as image_loader
from cilium_e2e.cluster import node_endpoint
from cilium_e2e.cluster.agents import AGENT_SELECTOR
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.cluster.live import RELAY_SELECTOR, LiveCluster
from cilium_e2e.flux import artifact, deploy, manifest, reconcile
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    ClusterInfo,
    Difference,
    NodeInfo,
    Object,
    Ref,
    Revision,
    SystemClock,
)
from cilium_e2e.repository import tracked_files
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import AUTO, Options
from cilium_e2e.session.prepare import (
    Prepared,
    chart_override,
    image_overrides,
    overrides,
    prepare,
)
from cilium_e2e.session.timeline import Say, Timeline

_TREE = "tree"


def choose_backend(options: Options) -> tuple[Backend, Engine]:
    """The backend a run uses, with its engine.

    Raises:
        BackendUnavailable: the one asked for cannot start here, or ``auto`` finds none that can.
    """
    if options.backend not in {AUTO, Backend.KIND.value}:
        raise BackendUnavailable(
            f"the backend {options.backend!r} is not built yet, expected auto or kind", place="--backend"
        )
    return Backend.KIND, Engine()


class KindSession:
    """One kind cluster from nothing to Cilium ready, and back to nothing.

    Args:
        options: what was asked for.
        say: told a line at a time what happens.
    """

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._say = say
        self._engine: Engine | None = None
        self._kind: KindCluster | None = None

    def start(self) -> Handle:
        """Make the cluster; whatever goes wrong, it is deleted again (unless it is to be kept).

        Raises:
            InputError: before anything was made.
            ClusterStateError: the cluster could not be made, or Cilium on it did not become ready.
        """
        prepared = prepare(self._options)
        backend, self._engine = choose_backend(self._options)
        name = self._options.cluster_name or f"ce2e-{prepared.topology.name}-{secrets.token_hex(3)}"
        kind = KindCluster(
            name,
            state=self._options.state,
            image=self._options.node_image,
            kind_path=self._options.kind_bin,
        )
        kind.ensure_kind()
        if name in kind.names():
            raise BackendUnavailable(
                f"a kind cluster {name!r} exists already",
                place="--cluster-name",
                hint=f"Choose another name, or delete it: kind delete cluster --name {name}",
            )
        self._kind = kind
        try:
            return self._make(prepared, backend, self._engine, kind)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Delete the cluster and what belongs to it, or say how to, when it is to be kept."""
        if self._kind is None or self._engine is None:
            return
        kind, engine, self._kind = self._kind, self._engine, None
        if self._options.keep:
            self._say(f"kept: cluster {kind.name}, KUBECONFIG={kind.kubeconfig_path}")
            self._say(f"  to delete: kind delete cluster --name {kind.name}")
            self._say(f"             docker rm -f {kind.name}-artifacts")
            return
        self._say(f"deleting cluster {kind.name} …")
        for container in engine.ours(kind.name):
            engine.remove(container)
        kind.delete()
        engine.close()

    def _make(self, prepared: Prepared, backend: Backend, engine: Engine, kind: KindCluster) -> Handle:
        timeline = Timeline(SystemClock(), self._say)
        server = ArtifactServer(engine, kind.name, image=self._options.agent_image)
        local, image_values, differences = image_overrides(prepared.images(), engine.has_image)
        with timeline.phase("create cluster"):
            kind.create(prepared.topology.kind_config)
        nodes = [node.name for node in engine.nodes(kind.name) if node.role == "control-plane"]
        flux = manifest.parse(
            prepared.flux,
            origin=prepared.flux_origin,
            node=nodes[0],
            api_host="localhost",
            api_port=node_endpoint.PORT,
        )
        with timeline.phase("API endpoint on every node"):
            node_endpoint.install(engine, kind.name)
        with timeline.phase("load images"):
            wanted = [*flux.images, self._options.agent_image]
            image_loader.load(engine, kind.name, [*filter(engine.has_image, wanted), *local])

        from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

        transport = LiveTransport(kind.kubeconfig_path)
        kube = Kube(transport)
        timeout_s = self._options.timeout_s
        with timeline.phase("install Flux"):
            reconcile.install(kube, flux, timeout_s=timeout_s)
        with timeline.phase("publish the tree"):
            server.start()
            revision, plan = publish(prepared, server, overrides(prepared, image_values))
            reconcile.apply(kube, plan)
        if revision.untracked:
            self._say(f"  published with untracked files: {', '.join(revision.untracked)}")
        with timeline.phase("Flux's controllers"):
            reconcile.wait_controllers(kube, flux, timeout_s=timeout_s)
        with timeline.phase("reconcile the release") as progress:
            reconcile.wait_release(kube, plan, timeout_s=timeout_s, progress=progress)
        with timeline.phase("nodes, agents, relay"):
            self._await_ready(kube, prepared, timeout_s)
        with timeline.phase("remaining layers") as progress:
            reconcile.wait_layers(kube, plan, timeout_s=timeout_s, progress=progress)
        for line in timeline.lines():
            self._say(f"  {line}")
        info = _info(
            kube,
            prepared,
            backend,
            kind.name,
            [*prepared.repository.differences, *differences, *plan.differences],
        )
        transport.close()
        return Handle(info, kind.kubeconfig_path, self._options.agent_image, tuple(timeline.lines()))

    def _await_ready(self, kube: Kube, prepared: Prepared, timeout_s: float) -> None:
        namespace = prepared.repository.release.target_namespace
        count = len(prepared.topology.nodes)

        def nodes_ready(found: Sequence[Object]) -> bool | None:
            return True if sum(is_true(node, "Ready") for node in found) == count else None

        def pods_ready(expected: int) -> object:
            def judge(found: Sequence[Object]) -> bool | None:
                return True if sum(is_true(pod, "Ready") for pod in found) >= expected else None

            return judge

        kube.wait(Ref("v1", "Node"), nodes_ready, timeout_s=timeout_s, what=f"{count} nodes to be ready")
        pods = Ref("v1", "Pod", namespace=namespace)
        wanted = [(AGENT_SELECTOR, count, "agents")]
        if prepared.repository.features.hubble_relay:
            wanted.append((RELAY_SELECTOR, 1, "relay"))
        for selector, expected, what in wanted:
            kube.wait(
                pods,
                pods_ready(expected),  # type: ignore[arg-type]
                timeout_s=timeout_s,
                label_selector=selector,
                what=f"{expected} {what} to be ready",
            )


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


def attach(handle: Handle, options: Options) -> LiveCluster:
    """The cluster of a handle, as workers use it."""
    from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

    transport = LiveTransport(handle.kubeconfig)

    def republish() -> Revision:
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
        reconcile.wait_layers(kube, plan, timeout_s=options.timeout_s, progress=lambda _: None)
        return revision

    return LiveCluster(handle.info, transport, publisher=republish)


def _info(
    kube: Kube, prepared: Prepared, backend: Backend, name: str, differences: Sequence[Difference]
) -> ClusterInfo:
    release = prepared.repository.release
    nodes = []
    for node in kube.list_all(Ref("v1", "Node")):
        labels = node["metadata"].get("labels") or {}
        role = "control-plane" if "node-role.kubernetes.io/control-plane" in labels else "worker"
        ips = tuple(a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP")
        nodes.append(NodeInfo(node["metadata"]["name"], role, ips))
    kubelet = kube.list_all(Ref("v1", "Node"))[0]["status"]["nodeInfo"]
    return ClusterInfo(
        name=name,
        backend=backend,
        topology=prepared.topology.name,
        nodes=tuple(sorted(nodes, key=lambda node: node.name)),
        release=release.name,
        cilium_namespace=release.target_namespace,
        capabilities=prepared.topology.capabilities,
        features=prepared.repository.features.names,
        versions=(
            ("chart", prepared.chart_version),
            ("Kubernetes", kubelet["kubeletVersion"]),
            ("kernel", kubelet["kernelVersion"]),
        ),
        differences=tuple(dict.fromkeys(differences)),
    )
