"""A kind cluster with the tree's Cilium on it, made for a run and unmade after it; or nothing left behind."""

from __future__ import annotations

import importlib
import os
import secrets
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import ClassVar

from cilium_e2e.cluster import preflight
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.cluster.kind import KindCluster
from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    ClusterStateError,
    HarnessError,
    SystemClock,
    Topology,
)
from cilium_e2e.session import ready
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.install import CREATE, Installation
from cilium_e2e.session.options import AUTO, Options
from cilium_e2e.session.prepare import Prepared, prepare
from cilium_e2e.session.registry import Record, Registry
from cilium_e2e.session.shield import uninterrupted
from cilium_e2e.session.teardown import delete, sweep
from cilium_e2e.session.timeline import Say, Timeline


def choose_backend(options: Options) -> tuple[Backend, Engine, str]:
    """The backend a run uses, with its engine, and why it is this one.

    Raises:
        BackendUnavailable: the one asked for cannot start here, or ``auto`` finds none that can.
    """
    if options.backend not in {AUTO, Backend.KIND.value}:
        raise BackendUnavailable(
            f"the backend {options.backend!r} is not built yet, expected auto, kind or existing",
            place="--backend",
        )
    engine = Engine()
    why = "a container engine answers" if options.backend == AUTO else "asked for"
    return Backend.KIND, engine, f"{why}: Docker {engine.version}"


@dataclass(frozen=True, slots=True)
class _Claimed:
    """All that is known before anything is made; ``kept`` is the record of a cluster to take up."""

    prepared: Prepared
    backend: Backend
    engine: Engine
    kind: KindCluster
    kept: Record | None


class KindSession:
    """One kind cluster from nothing to Cilium ready, and back to nothing.

    Args:
        options: what was asked for.
        say: told a line at a time what happens.
    """

    backend: ClassVar[Backend] = Backend.KIND

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._say = say
        self._registry = Registry(options.state)
        self._claimed: _Claimed | None = None
        self._making = False
        self._claims = ExitStack()
        self._keep = options.keep

    def prepare(self) -> None:
        """Look at all that is needed, own the cluster's name, and sweep what earlier runs left behind.

        Raises:
            InputError: something is not as it must be; no name is owned.
        """
        backend, engine, why = choose_backend(self._options)
        self._claims.callback(engine.close)
        self._say(f"backend: {backend.value} ({why})")
        try:
            prepared = prepare(self._options)
            host = preflight.look(engine.info(), local=engine.local)
            preflight.check(host, prepared.topology, prepared.repository.effective)
            kind = self._new(prepared.topology.name)
            self._sweep(engine, kind)
            kept = self._claim(kind, prepared.topology)
            if kept is None:
                # Looked at anew: what was swept may have filled the disk.
                preflight.check_room(preflight.look(engine.info(), local=engine.local), prepared.topology)
        except BaseException:
            self._claims.close()
            raise
        self._claimed = _Claimed(prepared, backend, engine, kind, kept)

    def start(self) -> Handle:
        """Make the cluster, or take up a kept one; whatever goes wrong, a new one is deleted again.

        A kept one that cannot be used stays as it is.

        Raises:
            InputError: before anything was made.
            ClusterStateError: the cluster could not be made, or Cilium on it did not become ready.
        """
        if self._claimed is None:
            self.prepare()
        claimed = self._claimed
        assert claimed is not None  # noqa: S101 - prepare() has raised otherwise
        self._making = True
        try:
            return self._make(claimed)
        except BaseException:
            self._keep = self._keep or claimed.kept is not None
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
        claimed = self._claimed
        if claimed is None:
            return
        kind = claimed.kind
        with uninterrupted(f"deleting cluster {kind.name}"), self._claims:
            self._claimed = None
            if not self._making:
                return  # nothing was made, and what was kept stays
            if self._keep:
                self._say(f"kept: cluster {kind.name}, KUBECONFIG={kind.kubeconfig_path}")
                record = self._registry.find(kind.name)
                if record is not None and record.handle:
                    self._say(f"  to use it again: --cluster-name {kind.name} --keep-cluster")
                self._say(f"  to delete it: cilium-e2e clusters delete {kind.name}")
            else:
                self._say(f"deleting cluster {kind.name} …")
                delete(kind, claimed.engine, self._registry)

    def _new(self, topology: str) -> KindCluster:
        """A cluster by name, not made yet."""
        kind = KindCluster(
            self._options.cluster_name or f"ce2e-{topology}-{secrets.token_hex(3)}",
            state=self._options.state,
            image=self._options.node_image,
            kind_path=self._options.kind_bin,
        )
        kind.ensure_kind()
        return kind

    def _sweep(self, engine: Engine, kind: KindCluster) -> None:
        """Delete what dead runs left; what of it stays is told, and does not keep this run from working."""
        try:
            sweep(self._registry, engine, kind, self._say)
        except ClusterStateError as error:
            self._say(str(error))

    def _claim(self, kind: KindCluster, topology: Topology) -> Record | None:
        """Own the name; answers the record of a kept cluster to take up, None for one to be made.

        Raises:
            BackendUnavailable: somebody else's cluster has this name, or a run that is alive has it, or the
                kept one is another than asked for.
        """
        self._claims.enter_context(self._registry.claim(kind.name))
        record = self._registry.find(kind.name)
        if record is not None and record.engine != _engine():
            raise BackendUnavailable(
                f"a cluster of this name is on another engine, {record.engine or 'the default one'}",
                place=f"--cluster-name {kind.name}",
                hint="Choose another name.",
            )
        if kind.name not in kind.names():
            return None
        if record is None or not record.keep or not record.handle:
            how = f"kind delete cluster --name {kind.name}"
            raise BackendUnavailable(
                f"a kind cluster {kind.name!r} exists already, and it is no kept one of ours",
                place="--cluster-name",
                hint=(
                    "Choose another name, or delete it: "
                    f"{how if record is None else f'cilium-e2e clusters delete {kind.name}'}"
                ),
            )
        if record.topology != topology.name:
            raise BackendUnavailable(
                f"the kept cluster has the topology {record.topology}, asked for is {topology.name}",
                place=f"--cluster-name {kind.name}",
                hint="Choose another name, or the same topology.",
            )
        return record

    def _make(self, claimed: _Claimed) -> Handle:
        prepared, kind, kept = claimed.prepared, claimed.kind, claimed.kept
        timeline = Timeline(SystemClock(), self._say)
        record = Record(kind.name, prepared.topology.name, _engine(), self._options.keep, {})
        if kept is None:
            # Known before it is made: what SIGKILL leaves of it can be swept.
            self._registry.write(record)
            # Two seconds of imports, while kind has the machine wait anyway.
            threading.Thread(
                target=importlib.import_module, args=("cilium_e2e.kube.live",), daemon=True
            ).start()
            with timeline.phase(CREATE):
                _create(kind, prepared.kind_config)
        else:
            self._say(f"cluster {kind.name} was kept, and is used again")
        installation = Installation(prepared, claimed.engine, kind.name, timeline, self._say)
        try:
            made = installation.run(kind.kubeconfig_path, again=kept is not None)
        finally:
            if self._options.timeline is not None:
                self._options.timeline.write_text(timeline.to_json(), encoding="utf-8")
        try:
            info = ready.cluster_info(made.kube, prepared, claimed.backend, kind.name, made.differences)
        finally:
            made.kube.transport.close()
        info = replace(
            info,
            world=made.world,
            host_agents=made.host_agents,
            capabilities=info.capabilities | ready.OFFERS,
        )
        handle = Handle(info, kind.kubeconfig_path, self._options.agent_image, tuple(timeline.lines()))
        self._registry.write(replace(record, handle=handle.to_data()))
        return handle


def _engine() -> str:
    """Which engine this process talks to."""
    return os.environ.get("DOCKER_HOST", "")


def _create(kind: KindCluster, config: str) -> None:
    """Create the cluster; its configuration lies beside its kubeconfig for as long as that takes."""
    file = kind.path / f"{kind.name}.kind.yaml"
    file.write_text(config, encoding="utf-8")
    try:
        kind.create(file)
    finally:
        file.unlink()
