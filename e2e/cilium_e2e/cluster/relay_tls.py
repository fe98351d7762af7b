"""Whether relay speaks TLS, and the certificates its clients need, read from the pod that runs.

The chart mounts everything relay has to do with TLS through one projected volume. Its items name the Secrets
(also a user's own, ``existingSecret``) and the ConfigMap of a CA bundle, and there is a ``server.crt`` among
them exactly when relay's server side uses TLS (``hubble.relay.tls.server.enabled``). The values of a release
would only say what was asked for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cilium_e2e.hubble.relay import Tls
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, KubeError, Object, Ref

SERVER_NAME = "instance.hubble-relay.cilium.io"
"""Under the wildcard of the chart's certificate for relay; Hubble's own command line asks for it, too."""

_SERVER_CERTIFICATE, _CA = "server.crt", "hubble-server-ca.crt"
_CLIENT_CERTIFICATE, _CLIENT_KEY = "client.crt", "client.key"
_CA_KEY = "ca.crt"


def relay_tls(kube: Kube, pod: Object) -> Tls | None:
    """What a client of a relay pod needs; None where its server side speaks plain text.

    Relay's own client certificate, which it shows to the agents, is shown to relay in turn: it counts where
    relay asks for one (``hubble.relay.tls.server.mtls``) and is not asked for elsewhere.

    Args:
        kube: the cluster's API.
        pod: relay's pod.

    Raises:
        ClusterStateError: relay speaks TLS, and its certificates cannot be read or are no PEM.
    """
    namespace = pod["metadata"]["namespace"]
    files = _projected(pod)
    if _SERVER_CERTIFICATE not in files:
        return None
    reader = _Reader(kube, namespace)
    server, _ = files[_SERVER_CERTIFICATE]
    authorities = [reader.read(server, _CA_KEY)] if reader.has(server, _CA_KEY) else []
    if _CA in files:
        authorities.append(reader.read(*files[_CA]))
    if not authorities:
        raise _unreadable(
            f"expected {_CA_KEY} in {server} or an item {_CA}, found neither",
            namespace,
            pod["metadata"]["name"],
        )
    own = {name: reader.read(*files[name]) for name in (_CLIENT_CERTIFICATE, _CLIENT_KEY) if name in files}
    complete = len(own) == 2
    return Tls(
        ca=b"\n".join(dict.fromkeys(authorities)),
        certificate=own[_CLIENT_CERTIFICATE] if complete else b"",
        key=own[_CLIENT_KEY] if complete else b"",
        server_name=SERVER_NAME,
    )


def _projected(pod: Object) -> dict[str, tuple[Ref, str]]:
    """The files of the pod's projected volumes: path to the object it comes from, and its key there."""
    namespace = pod["metadata"]["namespace"]
    found: dict[str, tuple[Ref, str]] = {}
    for volume in pod["spec"].get("volumes") or []:
        for source in (volume.get("projected") or {}).get("sources") or []:
            for field, kind in (("secret", "Secret"), ("configMap", "ConfigMap")):
                part: Mapping[str, Any] = source.get(field) or {}
                for item in part.get("items") or []:
                    found[item["path"]] = (Ref("v1", kind, part["name"], namespace), item["key"])
    return found


class _Reader:
    """Reads keys of Secrets and ConfigMaps, each object once."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._objects: dict[Ref, Object] = {}

    def has(self, ref: Ref, key: str) -> bool:
        return key in self._data(ref)

    def read(self, ref: Ref, key: str) -> bytes:
        """A PEM text."""
        data = self._data(ref)
        if key not in data:
            raise _unreadable(f"expected the key {key}, found {', '.join(sorted(data)) or 'none'}", *_at(ref))
        try:
            plain = base64.b64decode(data[key], validate=True) if ref.kind == "Secret" else data[key].encode()
        except (binascii.Error, ValueError) as error:
            raise _unreadable(f"expected base64 under {key}: {error}", *_at(ref)) from None
        if b"-----BEGIN " not in plain:
            raise _unreadable(
                f"expected PEM under {key}, got {len(plain)} bytes of something else", *_at(ref)
            )
        return bytes(plain)

    def _data(self, ref: Ref) -> dict[str, str]:
        if ref not in self._objects:
            try:
                self._objects[ref] = self._kube.get(ref)
            except KubeError as error:
                raise _unreadable(f"{ref.kind} cannot be read: {error.message}", *_at(ref)) from error
        data: dict[str, str] = self._objects[ref].get("data") or {}
        return data


def _at(ref: Ref) -> tuple[str, str]:
    return ref.namespace, ref.name


def _unreadable(message: str, namespace: str, name: str) -> ClusterStateError:
    return ClusterStateError(
        f"relay's server side uses TLS, and the certificates for it cannot be read: {message}",
        place=f"{namespace}/{name}",
        hint="The kubeconfig's user must be allowed to get the Secrets of hubble-relay.",
    )
