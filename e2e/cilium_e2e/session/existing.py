"""An existing cluster as the place of a run: nothing is made on it but the run's own namespaces."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import ClassVar

from cilium_e2e.cluster.host_agents import NAMESPACE, HostAgents
from cilium_e2e.flux import explain
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    Capability,
    ClusterInfo,
    ClusterStateError,
    KubeError,
    Ref,
    SystemClock,
    WaitTimeout,
)
from cilium_e2e.session import ready
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options
from cilium_e2e.session.prepare import Prepared, prepare
from cilium_e2e.session.shield import uninterrupted
from cilium_e2e.session.timeline import Say, Timeline

_HELM = "helm.toolkit.fluxcd.io/v2"
_LOOK, _HOSTS = "look at the cluster", "agents on nodes"
_HOSTS_TIMEOUT_S = 120.0
_REFUSED = {400, 403, 422}
"""What admission answers with, whether built in or somebody's webhook."""


def _capabilities(info: ClusterInfo) -> frozenset[Capability]:
    """What the cluster itself shows that it can do; no topology file speaks of it."""
    found = set()
    if len(info.nodes) > 1:
        found.add(Capability.MULTI_NODE)
    if all(any(":" in ip for ip in node.ips) and any("." in ip for ip in node.ips) for node in info.nodes):
        found.add(Capability.DUAL_STACK)
    if info.host_agents:
        found.add(Capability.HOST_AGENTS)
    return frozenset(found)


class ExistingSession:
    """A cluster that a kubeconfig names, where Flux has installed the release before.

    Args:
        options: what was asked for; ``kubeconfig`` is needed.
        say: told a line at a time what happens.
    """

    backend: ClassVar[Backend] = Backend.EXISTING

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._say = say
        self._hosts = f"{NAMESPACE}-{secrets.token_hex(3)}"
        self._made = False
        self._prepared: Prepared | None = None

    def prepare(self) -> None:
        """Read the tree, and see that there is a kubeconfig.

        Raises:
            InputError: no kubeconfig, or a tree that cannot be used.
        """
        if self._options.kubeconfig is None:
            raise BackendUnavailable(
                "an existing cluster needs a kubeconfig",
                place="--backend existing",
                hint="Give --kubeconfig.",
            )
        self._prepared = prepare(self._options, installs=False)

    def start(self) -> Handle:
        """Look at the cluster, wait until it is ready, and put agents on its nodes where that is allowed.

        Raises:
            InputError: no kubeconfig, or one without access.
            ClusterStateError: the release under test is not there, or is not ready.
        """
        if self._prepared is None:
            self.prepare()
        options, prepared = self._options, self._prepared
        assert options.kubeconfig is not None and prepared is not None  # noqa: S101, PT018 - prepare() has raised
        timeline = Timeline(SystemClock(), self._say)

        from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

        self._say(f"backend: existing (asked for: {options.kubeconfig})")
        with closing(LiveTransport(options.kubeconfig, context=options.context)) as transport:
            kube = Kube(transport)
            with timeline.phase(_LOOK):
                with self._access():
                    nodes = len(kube.list_all(Ref("v1", "Node")))
                    self._release(kube, prepared)
                ready.nodes_and_agents(kube, prepared, nodes=nodes, timeout_s=options.timeout_s)
                ready.relay(kube, prepared, timeout_s=options.timeout_s)
            info = ready.cluster_info(
                kube,
                prepared,
                Backend.EXISTING,
                options.context or "existing",
                prepared.repository.differences,
            )
            try:
                host_agents = self._host_agents(kube, info, timeline)
            except BaseException:
                with self._telling():
                    self.stop()
                raise
            info = replace(info, topology="as it is", host_agents=host_agents)
            info = replace(info, capabilities=_capabilities(info))
        return Handle(
            info, options.kubeconfig, options.agent_image, tuple(timeline.lines()), context=options.context
        )

    def stop(self) -> None:
        """Delete the namespace of the agents on nodes; workers delete their own, and the cluster is not ours.

        Signals do not break this off, and a second call does nothing.

        Raises:
            KubeError: it could not be deleted.
        """
        if not self._made:
            return
        from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

        options = self._options
        with uninterrupted(f"deleting namespace {self._hosts}"):
            self._made = False
            assert options.kubeconfig is not None  # noqa: S101 - start() has used it
            with closing(LiveTransport(options.kubeconfig, context=options.context)) as transport:
                self._agents(Kube(transport)).delete()

    def _agents(self, kube: Kube) -> HostAgents:
        return HostAgents(kube, self._hosts, image=self._options.agent_image)

    def _host_agents(self, kube: Kube, info: ClusterInfo, timeline: Timeline) -> tuple[tuple[str, str], ...]:
        """Agents on the nodes' own networks; none where the cluster does not let us.

        That is no fault of the cluster: host networking is for few on many of them. It is said, and tests
        that need them are skipped with that reason.
        """
        agents = self._agents(kube)
        timeout_s = min(_HOSTS_TIMEOUT_S, self._options.timeout_s)
        nodes = [node.name for node in info.nodes]
        self._made = True
        try:
            with timeline.phase(_HOSTS, after=(_LOOK,)):
                return agents.start(nodes, timeout_s=timeout_s)
        except (KubeError, WaitTimeout) as error:
            if isinstance(error, KubeError) and error.status not in _REFUSED:
                raise
            self._say(f"no agents on the nodes' own networks, tests that need them are skipped: {error}")
        with self._telling():
            agents.delete()
            self._made = False
        return ()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Tell what cannot be deleted, and go on: what went wrong before is what counts."""
        try:
            yield
        except KubeError as error:
            self._say(f"namespace {self._hosts} may be left behind: {error}")

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Say plainly what a kubeconfig without access means, whichever call finds out."""
        try:
            yield
        except KubeError as error:
            if error.status not in {0, 401, 403}:
                raise
            raise BackendUnavailable(
                f"the cluster cannot be used: {error.message}",
                place=f"--kubeconfig {self._options.kubeconfig}",
                hint="The run needs to read nodes and to create namespaces, pods and policies.",
            ) from error

    def _release(self, kube: Kube, prepared: Prepared) -> None:
        """The release under test is there and ready."""
        release = prepared.repository.release
        found = kube.find(Ref(_HELM, "HelmRelease", release.ref.name, release.ref.namespace))
        if found is None:
            raise ClusterStateError(
                "the HelmRelease of the tree is not on the cluster",
                place=f"HelmRelease {release.name}",
                hint="Is this the cluster that Flux installs this tree on?",
            )
        if not is_true(found, "Ready"):
            raise ClusterStateError(explain.state(found), place=f"HelmRelease {release.name}")
