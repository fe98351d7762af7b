"""Numbers for identities: the cluster's, which are objects of the API, and each node's own for addresses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from cilium_e2e.cluster.simulated.kinds import CILIUM
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import Object
from cilium_e2e.policy.labels import LabelSet

RESERVED = {
    "host": 1,
    "world": 2,
    "unmanaged": 3,
    "health": 4,
    "init": 5,
    "remote-node": 6,
    "kube-apiserver": 7,
    "ingress": 8,
    "world-ipv4": 9,
    "world-ipv6": 10,
}
"""Reserved identities; source: pkg/identity/numericidentity.go of Cilium 1.18."""

_LEAST, _MOST = 256, 65535
_LOCAL = 1 << 24


def texts(labels: LabelSet) -> tuple[str, ...]:
    """Labels as agents write them, sorted; one without a value has no equals sign."""
    return tuple(sorted(str(label).removesuffix("=") for label in labels.values()))


class Identities:
    """Gives each set of labels its number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._numbers: dict[tuple[str, ...], int] = {}
        self._local: dict[tuple[str, ...], int] = {}

    def of_pod(self, labels: tuple[str, ...]) -> int:
        """The number of a pod's identity; a new one becomes a CiliumIdentity."""
        if labels not in self._numbers:
            taken = set(self._numbers.values())
            number = _LEAST + int.from_bytes(hashlib.sha256(repr(labels).encode()).digest()[:4]) % (
                _MOST - _LEAST
            )
            while number in taken:
                number = number + 1 if number < _MOST else _LEAST
            self._numbers[labels] = number
            self._store.write(self._object(number, labels), manager="cilium-agent")
        return self._numbers[labels]

    def of(self, labels: Iterable[str]) -> int:
        """The number of any identity's labels."""
        known = tuple(sorted(labels))
        reserved = [text.removeprefix("reserved:") for text in known if text.startswith("reserved:")]
        if (
            any(text.startswith(("cidr:", "cidrgroup:", "fqdn:")) for text in known)
            and "host" not in reserved
        ):
            return self._local.setdefault(known, _LOCAL + 1 + len(self._local))
        for name in ("host", "kube-apiserver", *RESERVED):
            if name in reserved:
                return RESERVED[name]
        return self._numbers.get(known, 0)

    def _object(self, number: int, labels: tuple[str, ...]) -> Object:
        pairs = dict(text.partition("=")[::2] for text in labels)
        namespace = pairs.get("k8s:io.kubernetes.pod.namespace", "")
        return {
            "apiVersion": CILIUM,
            "kind": "CiliumIdentity",
            "metadata": {"name": str(number), "labels": {"io.kubernetes.pod.namespace": namespace}},
            "security-labels": pairs,
        }
