"""The way to Hubble Relay: a forward to whichever relay pod runs, and flows on nodes that are silent."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        namespace: where relay runs.
        poke: makes silent nodes show a flow.

    Raises:
        ClusterStateError: on construction, when no relay runs, or when it speaks TLS and its certificates
            cannot be read.
        StreamLost: it cannot be reached.
    """

    def __init__(self, kube: Kube, namespace: str, *, poke: Callable[[Sequence[str]], None]) -> None:
        self._kube = kube
        self._namespace = namespace
        self._forward: LocalForward | None = None
        # A missing relay or certificate is told at once, not as a stream that will not open.
        self._tls()
        self.source = RelaySource(self._address, tls=self._tls, poke=poke, clock=kube.clock)
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
