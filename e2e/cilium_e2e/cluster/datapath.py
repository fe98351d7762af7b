"""What one agent's datapath knows of peers and Services, from its maps and from ``cilium-dbg``'s words."""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import ClusterStateError

IpCache = Mapping[str, int]
"""Single addresses, in their canonical form, to the number of their identity."""

IPCACHE_MAP = "cilium_ipcache_v2"
"""The map's name since Cilium 1.18; before, its values were laid out in another way."""

# Bits, cluster, a byte to fill, family, address.
_IPCACHE_KEY = struct.Struct("=IHxB16s")
_NUMBER = struct.Struct("=I")
_ADDRESS_BYTES = {1: 4, 2: 16}
_BITS_BEFORE = 32
_IDENTITY = re.compile(r"\bidentity=(\d+)\b")


@dataclass(frozen=True, slots=True)
class Backend:
    """One backend of a Service; ``protocol`` is empty where the agent does not tell protocols apart."""

    ip: str
    port: int
    protocol: str

    def __str__(self) -> str:
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{host}:{self.port}{'/' if self.protocol else ''}{self.protocol}"


@dataclass(frozen=True, slots=True)
class Frontend:
    """One address of a Service and where the datapath sends what comes for it.

    Attributes:
        kind: ``ClusterIP``, ``NodePort``, ``LocalRedirect`` ...
        ip, port, protocol: the address.
        backends: those that new connections are sent to.
    """

    kind: str
    ip: str
    port: int
    protocol: str
    backends: frozenset[Backend]


def parse_ipcache(answer: Mapping[str, Any], *, place: str) -> IpCache:
    """``cilium-dbg bpf ipcache list -o json``: prefixes to lists of one line with the identity in it.

    Of the eBPF map itself, not the agent's memory of it, because packets are judged by the map. Prefixes of
    more than one address, and addresses of other clusters (``@ID``), are left out.

    Raises:
        ClusterStateError: a line has no identity.
    """
    found: dict[str, int] = {}
    for prefix, lines in answer.items():
        if "@" in prefix:
            continue
        network = ipaddress.ip_network(prefix, strict=False)
        if network.num_addresses != 1:
            continue
        for line in lines:
            number = _IDENTITY.search(str(line))
            if number is None:
                raise ClusterStateError(f"expected identity=N for {prefix}, got {line!r}", place=place)
            found[str(network.network_address)] = int(number.group(1))
    return found


def decode_ipcache(entries: Sequence[Mapping[str, Any]], *, place: str) -> IpCache:
    """The entries of :data:`IPCACHE_MAP` as bpftool prints them: what :func:`parse_ipcache` gives.

    A key has the bits that count of what follows the number of them itself, the number of the cluster, a byte
    to fill, the family and the address; a value begins with the identity. (``ipcache_key`` and
    ``remote_endpoint_info`` in Cilium's datapath; numbers in the byte order of the machine.)

    Raises:
        ClusterStateError: they are laid out in another way.
    """
    found: dict[str, int] = {}
    for entry in entries:
        if isinstance(entry.get("value"), dict):
            continue  # deleted while the map was read: an error in the place of its value
        try:
            key, value = _bytes(entry["key"]), _bytes(entry["value"])
            bits, cluster, family, address = _IPCACHE_KEY.unpack(key)
            width = _ADDRESS_BYTES[family]
            (identity,) = _NUMBER.unpack_from(value)
        except (KeyError, ValueError, TypeError, struct.error) as error:
            raise ClusterStateError(
                f"expected entries as {IPCACHE_MAP} has them, got {str(entry)[:200]} ({error!r})", place=place
            ) from error
        if not cluster and bits == _BITS_BEFORE + 8 * width:
            found[str(ipaddress.ip_address(address[:width]))] = identity
    return found


def _bytes(words: Sequence[str]) -> bytes:
    return bytes(int(word, 16) for word in words)


def parse_frontends(answer: Sequence[Mapping[str, Any]]) -> list[Frontend]:
    """``cilium-dbg service list -o json``: as realized; backends that are leaving are left out."""
    found = []
    for entry in answer:
        spec = (entry.get("status") or {}).get("realized") or entry.get("spec") or {}
        address = spec.get("frontend-address") or {}
        if "ip" not in address:
            continue
        backends = frozenset(
            Backend(canonical(backend["ip"]), backend.get("port", 0), _protocol(backend))
            for backend in spec.get("backend-addresses") or ()
            if backend.get("state", "active") == "active"
        )
        kind = (spec.get("flags") or {}).get("type", "")
        found.append(
            Frontend(kind, canonical(address["ip"]), address.get("port", 0), _protocol(address), backends)
        )
    return found


def canonical(address: str) -> str:
    """An address in the one form that can be compared."""
    return str(ipaddress.ip_address(address))


def _protocol(entry: Mapping[str, Any]) -> str:
    """Its protocol; ``ANY`` and ``NONE`` are an agent's words for not telling them apart."""
    word = str(entry.get("protocol", "")).upper()
    return "" if word in {"ANY", "NONE"} else word
