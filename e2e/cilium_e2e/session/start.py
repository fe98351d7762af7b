"""Make a kind cluster and let Flux install the tree's Cilium on it; or leave nothing behind."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cilium_e2e.cluster import images as image_loader
from cilium_e2e.cluster import node_endpoint
from cilium_e2e.cluster.agents import AGENT_SELECTOR
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.relay_link import RELAY_SELECTOR
from cilium_e2e.flux import artifact, deploy, manifest, reconcile
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    ClusterInfo,
    ClusterStateError,
    Difference,
    HarnessError,
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
from cilium_e2e.session.shield import uninterrupted
from cilium_e2e.session.timeline import Say, Timeline

_TREE = "tree"


def choose_backend(options: Options) -> tuple[Backend, Engine, str]:
    """The backend a run uses, with its engine, and why it is this one.

    Raises:
        BackendUnavailable: the one asked for cannot start here, or ``auto`` finds none that can.
    """
    if options.backend not in {AUTO, Backend.KIND.value}:
        raise BackendUnavailable(
            f"the backend {options.backend!r} is not built yet, expected auto or kind", place="--backend"
        )
    engine = Engine()
    why = "a container engine answers" if options.backend == AUTO else "asked for"
    return Backend.KIND, engine, f"{why}: Docker {engine.version}"


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
        backend, engine, why = choose_backend(self._options)
        self._say(f"backend: {backend.value} ({why})")
        try:
            prepared = prepare(self._options)
            kind = self._unused(prepared.topology.name)
        except BaseException:
            engine.close()
            raise
        self._engine, self._kind = engine, kind
        try:
            return self._make(prepared, backend, engine, kind)
        except BaseException:
            try:
                self.stop()
            except HarnessError as error:
                self._say(str(error))  # what went wrong before is what the user must see
            raise

    def stop(self) -> None:
        """Delete the cluster and what belongs to it, or say how to, when it is to be kept.

        Signals do not break this off, and a second call does nothing.

        Raises:
            ClusterStateError: something of it could not be deleted; the message says how to do it by hand.
        """
        if self._kind is None or self._engine is None:
            return
        kind, engine = self._kind, self._engine
        with uninterrupted(f"deleting cluster {kind.name}"):
            self._kind = None
            try:
                if self._options.keep:
                    self._say(f"kept: cluster {kind.name}, KUBECONFIG={kind.kubeconfig_path}")
                    self._say(f"  to delete: kind delete cluster --name {kind.name}")
                    self._say(f"             docker rm -f {kind.name}-artifacts")
                else:
                    self._say(f"deleting cluster {kind.name} …")
                    _delete(kind, engine)
            finally:
                engine.close()

    def _unused(self, topology: str) -> KindCluster:
        """A cluster that does not exist yet.

        Raises:
            BackendUnavailable: there is no kind, or it has a cluster of this name, which is left alone.
        """
        state = self._options.state
        kind = KindCluster(
            self._options.cluster_name or f"ce2e-{topology}-{secrets.token_hex(3)}",
            state=state,
            image=self._options.node_image,
            kind_path=self._options.kind_bin,
        )
        # A kubeconfig below the user's tree must never be published with it.
        (state / ".gitignore").write_text("*\n", encoding="utf-8")
        kind.ensure_kind()
        if kind.name in kind.names():
            raise BackendUnavailable(
                f"a kind cluster {kind.name!r} exists already",
                place="--cluster-name",
                hint=f"Choose another name, or delete it: kind delete cluster --name {kind.name}",
            )
        return kind

    def _make(self, prepared: Prepared, backend: Backend, engine: Engine, kind: KindCluster) -> Handle:
        timeline = Timeline(SystemClock(), self._say)
        server = ArtifactServer(engine, kind.name, image=self._options.agent_image)
        local, image_values, differences = image_overrides(prepared.images(), engine.has_image)
        with timeline.phase("create cluster"):
            _create(kind, prepared.kind_config)
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

        with closing(LiveTransport(kind.kubeconfig_path)) as transport:
            kube = Kube(transport)
            declared = self._install(prepared, timeline, kube, server, flux, image_values)
            for line in timeline.lines():
                self._say(f"  {line}")
            differences = [*prepared.repository.differences, *differences, *declared]
            info = _info(kube, prepared, backend, kind.name, differences)
        return Handle(info, kind.kubeconfig_path, self._options.agent_image, tuple(timeline.lines()))

    def _install(
        self,
        prepared: Prepared,
        timeline: Timeline,
        kube: Kube,
        server: ArtifactServer,
        flux: manifest.FluxManifest,
        image_values: dict[str, object],
    ) -> list[Difference]:
        """Flux, the tree, the release; answers what the deployment changed about the tree."""
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
        return plan.differences

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


def _create(kind: KindCluster, config: str) -> None:
    """Create the cluster; its configuration lies beside its kubeconfig for as long as that takes."""
    file = kind.kubeconfig_path.with_suffix(".kind.yaml")
    file.write_text(config, encoding="utf-8")
    try:
        kind.create(file)
    finally:
        file.unlink()


def _delete(kind: KindCluster, engine: Engine) -> None:
    """Delete our containers and the cluster; what fails does not keep the rest."""
    failures: list[str] = []
    try:
        for container in engine.ours(kind.name):
            engine.remove(container)
    except HarnessError as error:
        failures.append(str(error))
    try:
        kind.delete()
    except HarnessError as error:
        failures.append(str(error))
    if failures:
        raise ClusterStateError(
            f"not all of it could be deleted: {'; '.join(failures)}",
            place=f"cluster {kind.name}",
            hint=(
                f"Do it by hand: kind delete cluster --name {kind.name}; docker rm -f {kind.name}-artifacts"
            ),
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
