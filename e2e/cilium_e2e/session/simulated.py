"""A simulated cluster as the place of a run: nothing of it is real, and everything it says is marked so.

Each process that runs tests has a cluster of its own, made from the same input; they behave alike.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from cilium_e2e.cluster.host_agents import HostAgents
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.simulated import Simulation, faults
from cilium_e2e.flux import artifact, deploy, explain, reconcile
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    Difference,
    InputError,
    Object,
    ReconcileError,
    Ref,
    Revision,
    WaitTimeout,
)
from cilium_e2e.repository import clusters_folder, load, load_topology, tracked_files
from cilium_e2e.session import ready
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options
from cilium_e2e.session.prepare import Prepared, chart_override, read_chart, read_external
from cilium_e2e.session.timeline import Say, Timeline

NAME = "simulated"
_HELM = "helm.toolkit.fluxcd.io/v2"
_SERVER = "simulated"
_ORIGIN = "the simulated cluster"
_TREE = "tree"
_FINAL = {"InstallFailed", "UpgradeFailed"}
_LASTS_S = 30.0


class SimulatedSession:
    """A cluster in memory, from its input to Cilium ready; it takes a moment.

    Args:
        options: what was asked for.
        say: told a line at a time what happens.
        why: why it is this backend.
    """

    backend: ClassVar[Backend] = Backend.SIMULATED

    def __init__(self, options: Options, say: Say, why: str = "asked for") -> None:
        self._options = options
        self._say = say
        self._why = why
        self._folder: Path | None = None
        self._installed: _Installed | None = None

    def prepare(self) -> None:
        """Make it once, for what it is and for its errors; those who run tests make their own.

        Raises:
            InputError: the input cannot be used, or the fault is unknown.
            ClusterStateError: the tree does not become ready.
        """
        self._say(f"backend: simulated ({self._why}): no packet is sent, no kernel and no Cilium is involved")
        if self._options.inject:
            fault = faults.find(self._options.inject)
            self._say(f"injected fault: {fault.name}: {fault.description}")
        self._installed = _Installed(self._options, self._say)

    def start(self) -> Handle:
        """Let this process have it; see :meth:`prepare`."""
        if self._installed is None:
            self.prepare()
        installed = self._installed
        assert installed is not None  # noqa: S101 - it is made, or prepare() has raised
        with _LOCK:
            _MADE[_key(self._options)] = installed
        self._folder = Path(tempfile.mkdtemp(prefix="cilium-e2e-simulated-"))
        return Handle(
            installed.info,
            self._folder / "no.kubeconfig",
            self._options.agent_image,
            tuple(installed.timeline.lines()),
        )

    def stop(self) -> None:
        """Forget it."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        with _LOCK:
            _MADE.pop(_key(self._options), None)


_MADE: dict[str, _Installed] = {}
_LOCK = threading.Lock()


def _key(options: Options) -> str:
    return repr(options)


def attach(handle: Handle, options: Options) -> LiveCluster:
    """This process' simulated cluster, as workers use it; with the fault that was asked for."""
    with _LOCK:
        installed = _MADE.pop(_key(options), None)
    if installed is None:
        installed = _Installed(options, _unheard)
    simulation = installed.simulation
    if options.inject:
        faults.find(options.inject).install(simulation)
    return LiveCluster(
        handle.info,
        simulation.transport,
        publisher=installed.publish,
        containers=simulation,
        flow_source=simulation.relay,
        clock=simulation.clock,
    )


def _unheard(line: str) -> None:
    """Workers say nothing: the controller has said it."""
    del line


class _Installed:
    """A simulated cluster with the tree's release on it."""

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._say = say
        prepared = _prepare(options)
        self.simulation = Simulation(NAME, prepared.repository, prepared.topology)
        self._kube = Kube(self.simulation.transport, clock=self.simulation.clock)
        self.timeline = Timeline(self.simulation.clock, say)
        with self.timeline.phase("reconcile the tree"):
            _, plan, differences = self._reconcile(prepared)
        with self.timeline.phase("nodes, agents, relay"):
            ready.nodes_and_agents(
                self._kube, prepared, nodes=len(prepared.topology.nodes), timeout_s=options.timeout_s
            )
            ready.relay(self._kube, prepared, timeout_s=options.timeout_s)
        with self.timeline.phase("agents on nodes"):
            nodes = [node.name for node in self.simulation.places.nodes.values()]
            hosts = HostAgents(self._kube, image=options.agent_image).start(
                nodes, timeout_s=options.timeout_s
            )
        del plan
        self.info: ClusterInfo = replace(
            ready.cluster_info(self._kube, prepared, Backend.SIMULATED, NAME, differences),
            world=self.simulation.world,
            host_agents=hosts,
            capabilities=prepared.topology.capabilities | ready.OFFERS,
        )

    def publish(self) -> Revision:
        """Read the tree as it is now and have the simulated Flux reconcile it."""
        prepared = _prepare(self._options)
        self.simulation.tree.repository = prepared.repository
        revision, _, _ = self._reconcile(prepared)
        return revision

    def _reconcile(self, prepared: Prepared) -> tuple[Revision, deploy.Deployment, list[Difference]]:
        repository = prepared.repository
        files = tracked_files(repository.root)
        tree = artifact.tree(repository.root, files.files, name=_TREE)
        plan = deploy.plan(
            repository,
            server=_SERVER,
            tree=deploy.ServedSource(_TREE, tree.digest),
            overrides=repository.overrides,
            chart=chart_override(prepared, _SERVER),
            external={layer.name: deploy.SKIP for layer in repository.external},
        )
        self._kube.apply_all(plan.sources)
        self._kube.apply_all(plan.kustomizations)
        self._wait(plan)
        revision = Revision(tree.digest, tree.digest, len(files.files), files.untracked)
        return revision, plan, [*repository.differences, *_declared(plan)]

    def _wait(self, plan: deploy.Deployment) -> None:
        """Wait for release and layers, one after the other: time would run away from whoever waits beside.

        Raises:
            ReconcileError: Flux reports that it cannot; the message holds its words.
        """
        timeout_s = self._options.timeout_s
        helm = Ref(_HELM, "HelmRelease", plan.release.name, plan.release.namespace)
        since: list[float] = []

        def judge(found: list[Object]) -> bool | None:
            if found and is_true(found[0], "Ready"):
                return True
            ready_now: Object = next(
                (
                    c
                    for obj in found
                    for c in (obj.get("status") or {}).get("conditions") or ()
                    if c["type"] == "Ready"
                ),
                {},
            )
            if ready_now.get("reason") in _FINAL and ready_now.get("status") == "False":
                since.append(self._kube.clock.monotonic())
                if since[-1] - since[0] > _LASTS_S:
                    raise ReconcileError(ready_now["message"], place=str(helm))
            return None

        try:
            self._kube.wait(
                helm,
                lambda found: judge(list(found)),
                timeout_s=timeout_s,
                what=f"{helm} to be ready",
                describe=lambda found: "; ".join(map(explain.state, found)) or "not there yet",
            )
        except WaitTimeout as error:
            lines = explain.namespace(self._kube, plan.target_namespace)
            raise ReconcileError("\n".join([error.message, *lines]), place=error.place) from error
        reconcile.wait_layers(self._kube, plan, timeout_s=timeout_s, progress=lambda _: None)


def _declared(plan: deploy.Deployment) -> list[Difference]:
    """The plan's differences; that outside layers are left out is this backend's doing, not the user's."""
    return [
        replace(one, reason="nothing is fetched from outside", origin=_ORIGIN)
        if one.instead == "left out" and one.origin.endswith(f"={deploy.SKIP}")
        else one
        for one in plan.differences
    ]


def _prepare(options: Options) -> Prepared:
    """Read and check the input; Flux's own manifest is not part of it, nor is anything fetched.

    Raises:
        InputError: something in it cannot be used.
    """
    if options.kubeconfig is not None:
        raise InputError("a simulated cluster has no kubeconfig", place="--kubeconfig")
    topology = load_topology(clusters_folder(options.repository, options.clusters), options.topology)
    repository = load(
        options.repository, options.path, options.release, values=options.values, topology=topology
    )
    chart = read_chart(options, repository)
    external = read_external(options, repository)
    return Prepared(options, topology, "", repository, chart, b"", "", external)
