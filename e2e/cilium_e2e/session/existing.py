"""An existing cluster as the place of a run: nothing is made on it but the run's own namespaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

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
)
from cilium_e2e.session import ready
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options
from cilium_e2e.session.prepare import Prepared, prepare
from cilium_e2e.session.timeline import Say, Timeline

_HELM = "helm.toolkit.fluxcd.io/v2"


def _capabilities(info: ClusterInfo) -> frozenset[Capability]:
    """What the cluster itself shows that it can do; no topology file speaks of it."""
    found = set()
    if len(info.nodes) > 1:
        found.add(Capability.MULTI_NODE)
    if all(any(":" in ip for ip in node.ips) and any("." in ip for ip in node.ips) for node in info.nodes):
        found.add(Capability.DUAL_STACK)
    return frozenset(found)


class ExistingSession:
    """A cluster that a kubeconfig names, where Flux has installed the release before.

    Args:
        options: what was asked for; ``kubeconfig`` is needed.
        say: told a line at a time what happens.
    """

    def __init__(self, options: Options, say: Say) -> None:
        self._options = options
        self._say = say

    def start(self) -> Handle:
        """Look at the cluster, and wait until it is ready.

        Raises:
            InputError: no kubeconfig, or one without access.
            ClusterStateError: the release under test is not there, or is not ready.
        """
        options = self._options
        if options.kubeconfig is None:
            raise BackendUnavailable(
                "an existing cluster needs a kubeconfig",
                place="--backend existing",
                hint="Give --kubeconfig.",
            )
        prepared = prepare(options, installs=False)
        timeline = Timeline(SystemClock(), self._say)

        from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

        self._say(f"backend: existing (asked for: {options.kubeconfig})")
        with closing(LiveTransport(options.kubeconfig, context=options.context)) as transport:
            kube = Kube(transport)
            with timeline.phase("look at the cluster"):
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
            info = replace(info, topology="as it is", capabilities=_capabilities(info))
        return Handle(
            info, options.kubeconfig, options.agent_image, tuple(timeline.lines()), context=options.context
        )

    def stop(self) -> None:
        """Nothing: the workers delete their namespaces, and the cluster is not ours."""

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
