"""The way to Hubble Relay: a forward to whichever relay pod runs, and flows on nodes that are silent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cilium_e2e.cluster.agents import AGENT_CONTAINER, CiliumAgents
from cilium_e2e.cluster.relay_tls import relay_tls
from cilium_e2e.hubble.relay import RelaySource, Tls
from cilium_e2e.kube import Kube, LocalForward
from cilium_e2e.model import ClusterStateError, Object, Ref

RELAY_SELECTOR = "k8s-app=hubble-relay"
RELAY_PORT = 4245


class RelayLink:
    """One flow stream, and the forward that carries it.

    Args:
        kube: the cluster's API.
        agents: its agents, which can make a silent node show a flow.
        namespace: where relay runs.

    Raises:
        ClusterStateError: on construction, when no relay runs, or when it speaks TLS and its certificates
            cannot be read.
        StreamLost: it cannot be reached.
    """

    def __init__(self, kube: Kube, agents: CiliumAgents, namespace: str) -> None:
        self._kube = kube
        self._agents = agents
        self._namespace = namespace
        self._forward: LocalForward | None = None
        # A missing relay or certificate is told at once, not as a stream that will not open.
        self._tls()
        self.source = RelaySource(self._address, tls=self._tls, poke=self._poke, clock=kube.clock)
        try:
            self.source.start()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End stream and forward."""
        self.source.close()
        if self._forward is not None:
            self._forward.close()
            self._forward = None

    def _address(self) -> str:
        """A forward to the relay pod of now; after a restart it is another one."""
        if self._forward is not None:
            self._forward.close()
        pod = Ref.of(self._pod())
        self._forward = LocalForward(self._kube.transport, pod, RELAY_PORT).__enter__()
        return self._forward.address

    def _tls(self) -> Tls | None:
        """What the relay pod of now asks for; the release may have changed since the last connection."""
        return relay_tls(self._kube, self._pod())

    def _pod(self) -> Object:
        pods = self._kube.list_all(Ref("v1", "Pod", namespace=self._namespace), label_selector=RELAY_SELECTOR)
        running = [
            pod
            for pod in pods
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        if not running:
            raise ClusterStateError(
                f"expected a running pod with {RELAY_SELECTOR}, found none",
                place=f"namespace {self._namespace}",
                hint="Does the release enable hubble.relay?",
            )
        return {"apiVersion": "v1", "kind": "Pod", **running[0]}

    def _poke(self, nodes: Sequence[str]) -> None:
        """Make silent nodes show a flow: the newest event of a node is only told after a newer one.

        One agent's health probe reaches every node's health endpoint; whether it finds them healthy does
        not matter here, nor whether there is an agent just now: whoever waits tells what stays missing.
        """
        del nodes
        with suppress(ClusterStateError):
            agent = self._agents.pods()[0]
            self._kube.run(
                agent.ref, ["cilium-health", "status", "--probe"], container=AGENT_CONTAINER, check=False
            )
