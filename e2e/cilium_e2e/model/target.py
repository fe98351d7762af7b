"""Who talks to whom: the grammar of probe sources and targets.

::

    target      = pod | service | node | world | dns | address
    pod         = namespace "/" pod
    service     = "svc:" namespace "/" name
    node        = "node:" name
    world       = "world:" name          an agent outside the cluster, on the cluster's network
    dns         = "dns:" name            a DNS name, resolved by the probing agent itself
    address     = "ip:" IP                  an IPv4 or IPv6 address, dialled as it is
    destination = target ":" port "/" protocol

Names follow Kubernetes: RFC 1123 labels or subdomains. IPv6 addresses are written without brackets and in
their shortest form (RFC 5952): ``ip:fd00::1:8080/TCP``.
"""

from __future__ import annotations

import enum
import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from cilium_e2e.model.errors import InputError

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
# DNS names in probes may carry the root dot and underscores (SRV-style names).
_DNS_NAME = r"(?=.{1,254}$)[a-zA-Z0-9_](?:[-a-zA-Z0-9_.]*[a-zA-Z0-9_])?\.?"

_POD = re.compile(rf"(?P<namespace>{_LABEL})/(?P<name>{_SUBDOMAIN})")
_SERVICE = re.compile(rf"svc:(?P<namespace>{_LABEL})/(?P<name>{_LABEL})")
_NODE = re.compile(rf"node:(?P<name>{_SUBDOMAIN})")
_WORLD = re.compile(rf"world:(?P<name>{_LABEL})")
_DNS = re.compile(rf"dns:(?P<name>{_DNS_NAME})")
_ADDRESS = re.compile(r"ip:(?P<name>[0-9a-f:.]+)")

GRAMMAR = "ns/pod, svc:ns/name, node:name, world:name, dns:name or ip:address"


class TargetKind(enum.Enum):
    """What a target is; the value is the prefix it is written with."""

    POD = ""
    SERVICE = "svc:"
    NODE = "node:"
    WORLD = "world:"
    DNS = "dns:"
    ADDRESS = "ip:"


class Protocol(enum.Enum):
    """What a probe speaks. HTTP is carried by TCP, DNS by UDP; ICMP has no port."""

    TCP = "TCP"
    UDP = "UDP"
    SCTP = "SCTP"
    HTTP = "HTTP"
    DNS = "DNS"
    ICMP = "ICMP"

    @property
    def transport(self) -> str:
        """The protocol a policy's ``toPorts`` and a Hubble flow's ``l4`` know it by."""
        return {"HTTP": "TCP", "DNS": "UDP"}.get(self.value, self.value)


_PATTERNS = {
    TargetKind.SERVICE: _SERVICE,
    TargetKind.NODE: _NODE,
    TargetKind.WORLD: _WORLD,
    TargetKind.DNS: _DNS,
    TargetKind.ADDRESS: _ADDRESS,
    TargetKind.POD: _POD,
}
_NAMESPACED = {TargetKind.POD, TargetKind.SERVICE}


@dataclass(frozen=True, slots=True)
class Target:
    """A thing that can be probed, or (pods, nodes, world) that can probe.

    Build it with :meth:`parse` or the named constructors; ``str()`` gives the grammar's form back.
    """

    kind: TargetKind
    name: str
    namespace: str = ""

    def __post_init__(self) -> None:
        if (self.kind in _NAMESPACED) != bool(self.namespace):
            raise InputError(
                f"a {self.kind.name.lower()} target {'needs' if not self.namespace else 'has no'} namespace",
                place=f"target {self.name!r}",
            )
        if self.kind is TargetKind.ADDRESS and not _is_address(self.name):
            raise InputError(
                f"expected {GRAMMAR}, and an address in its shortest form, got {self.name!r}",
                place=f"target {self.name!r}",
            )

    @classmethod
    def pod(cls, namespace: str, name: str) -> Self:
        """The pod ``namespace/name``."""
        return cls(TargetKind.POD, name, namespace)

    @classmethod
    def service(cls, namespace: str, name: str) -> Self:
        """The Service ``svc:namespace/name``, reached at its ClusterIP."""
        return cls(TargetKind.SERVICE, name, namespace)

    @classmethod
    def node(cls, name: str) -> Self:
        """The node ``node:name``, reached at its internal address."""
        return cls(TargetKind.NODE, name)

    @classmethod
    def world(cls, name: str) -> Self:
        """The agent ``world:name`` outside the cluster."""
        return cls(TargetKind.WORLD, name)

    @classmethod
    def dns(cls, name: str) -> Self:
        """The DNS name ``dns:name``, resolved where the probe runs."""
        return cls(TargetKind.DNS, name)

    @classmethod
    def address(cls, ip: str) -> Self:
        """The address ``ip:IP``.

        Raises:
            InputError: no address, or one that is not written in its shortest form.
        """
        return cls(TargetKind.ADDRESS, ip)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a target in the grammar's form.

        Raises:
            InputError: the text is no target; the message repeats the grammar.
        """
        for kind, pattern in _PATTERNS.items():
            if (match := pattern.fullmatch(text)) is not None:
                return cls(kind, match["name"], match.groupdict().get("namespace", "") or "")
        raise InputError(f"expected {GRAMMAR}, got {text!r}", place=f"target {text!r}")

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind.value}{where}{self.name}"


def _is_address(text: str) -> bool:
    """Whether it is an address as the library writes it: one address is one target only so."""
    try:
        return str(ipaddress.ip_address(text)) == text
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Destination:
    """A target with the port and protocol to reach it on: ``default/demo:8080/TCP``.

    ``port`` is 1-65535, or 0 for ICMP, which has none and is written ``ns/pod:ICMP``.
    """

    target: Target
    port: int
    protocol: Protocol

    def __post_init__(self) -> None:
        least, most = (0, 0) if self.protocol is Protocol.ICMP else (1, 65535)
        if not least <= self.port <= most:
            raise InputError(
                f"expected a port from {least} to {most} for {self.protocol.value}, got {self.port}",
                place=f"destination {self.target}",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``target:port/protocol`` or ``target:ICMP``.

        Raises:
            InputError: the text is no destination; the message says which part is wrong.
        """
        place = f"destination {text!r}"
        head, colon, tail = text.rpartition(":")
        if not colon:
            raise InputError(
                f"expected TARGET:PORT/PROTOCOL, for example default/demo:8080/TCP, got {text!r}",
                place=place,
            )
        port_text, _, protocol_text = tail.rpartition("/")
        try:
            protocol = Protocol[protocol_text.upper()]
        except KeyError:
            known = ", ".join(p.value for p in Protocol)
            raise InputError(
                f"expected one of the protocols {known}, got {protocol_text!r}", place=place
            ) from None
        if protocol is Protocol.ICMP and not port_text:
            return cls(Target.parse(head), 0, protocol)
        if not (port_text.isascii() and port_text.isdigit()):
            raise InputError(f"expected a port number, got {port_text!r}", place=place)
        return cls(Target.parse(head), int(port_text), protocol)

    def __str__(self) -> str:
        port = self.protocol.value if self.protocol is Protocol.ICMP else f"{self.port}/{self.protocol.value}"
        return f"{self.target}:{port}"
