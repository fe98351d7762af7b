"""The agents on the nodes' own networks: one pod a node, in a namespace of the run's own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

from cilium_e2e.kube import Kube, is_true, pod_states
from cilium_e2e.model import Object, Ref, Target
from cilium_e2e.probe import MANAGED_BY, config_map, pod
from cilium_e2e.probe.places import HOST_PORTS

NAMESPACE = "ce2e-hosts"
"""Where they are on a cluster of ours; on others a suffix keeps runs apart."""

_CONTENT = "cilium-e2e/content"


class HostAgents:
    """One agent for each node.

    Args:
        kube: the cluster's API.
        namespace: of their own; it allows what host networking needs, to nobody but them.
        image: a Python image.
    """

    def __init__(self, kube: Kube, namespace: str = NAMESPACE, *, image: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._image = image
        self._pods = Ref("v1", "Pod", namespace=namespace)

    def start(
        self, nodes: Sequence[str], *, timeout_s: float, check: Callable[[], None] = lambda: None
    ) -> tuple[tuple[str, str], ...]:
        """Run them, and wait until they serve; those that run already as they should stay.

        Args:
            nodes: the nodes' names.
            timeout_s: how long each wait may take, in seconds.
            check: called between waits and at each change; what it raises ends the start.

        Returns:
            node name to pod (``namespace/name``), by node.

        Raises:
            KubeError: the cluster refuses them; status 403 with the words of its admission.
            WaitTimeout: they did not become ready; the message has the state of each.
        """
        self._own_namespace(timeout_s)
        wanted = {node: self._pod(node) for node in sorted(nodes)}
        contents = {node: _content_of(obj) for node, obj in wanted.items()}
        found = {obj["metadata"]["name"]: obj for obj in self._kube.list_all(self._pods)}
        old = [name for name, obj in found.items() if contents.get(name) != _content_of(obj)]
        check()
        # The old ones first, ConfigMap included: a port of a node is free only then.
        self._remove(old, timeout_s, check)
        self._kube.apply(config_map(self._namespace))
        for node, obj in wanted.items():
            if node not in found or node in old:
                self._kube.apply(obj)

        def ready(pods: Sequence[Object]) -> bool | None:
            check()
            return (
                True
                if wanted.keys() <= {p["metadata"]["name"] for p in pods if is_true(p, "Ready")}
                else None
            )

        self._kube.wait(
            self._pods,
            ready,
            timeout_s=timeout_s,
            what=f"an agent on the network of each node ({', '.join(wanted)})",
            describe=pod_states,
        )
        return tuple((node, f"{self._namespace}/{node}") for node in wanted)

    def delete(self) -> None:
        """Ask for the deletion of all of it; what is gone already is fine."""
        self._kube.delete(Ref("v1", "Namespace", self._namespace))

    def _own_namespace(self, timeout_s: float) -> None:
        self._kube.apply(
            {
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": self._namespace,
                    "labels": {**MANAGED_BY, "pod-security.kubernetes.io/enforce": "privileged"},
                },
            }
        )
        # Pods are refused until the namespace's default service account exists.
        self._kube.wait(
            Ref("v1", "ServiceAccount", "default", self._namespace),
            lambda found: found[0] if found else None,
            timeout_s=timeout_s,
            what=f"the default service account of {self._namespace}",
        )

    def _remove(self, names: Sequence[str], timeout_s: float, check: Callable[[], None]) -> None:
        for name in names:
            self._kube.delete(Ref("v1", "Pod", name, self._namespace))

        def gone(pods: Sequence[Object]) -> bool | None:
            check()
            return None if set(names) & {p["metadata"]["name"] for p in pods} else True

        if names:
            self._kube.wait(
                self._pods,
                gone,
                timeout_s=timeout_s,
                what=f"older agents to be gone ({', '.join(names)})",
                describe=pod_states,
            )

    def _pod(self, node: str) -> Object:
        """A node's pod, with a digest of all that makes it: pods cannot be changed, only made anew."""
        obj = pod(
            self._namespace,
            node,
            labels=MANAGED_BY,
            ports=HOST_PORTS,
            node=node,
            image=self._image,
            host_network=True,
            agent=str(Target.node(node)),
        )
        parts = json.dumps([obj, config_map(self._namespace)["data"]], sort_keys=True)
        obj["metadata"]["annotations"] = {_CONTENT: hashlib.sha256(parts.encode()).hexdigest()[:16]}
        return obj


def _content_of(obj: Object) -> str:
    """The digest a pod was made with; empty for one that is on its way out, or is somebody else's."""
    meta = obj["metadata"]
    if "deletionTimestamp" in meta or (obj.get("status") or {}).get("phase") in {"Failed", "Succeeded"}:
        return ""
    return str((meta.get("annotations") or {}).get(_CONTENT, ""))
