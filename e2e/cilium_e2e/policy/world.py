"""The state of a cluster as far as policy sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from cilium_e2e.model import Endpoint
from cilium_e2e.policy.options import Options

_NO_TEXTS: Mapping[str, str] = MappingProxyType({})
_NO_PORTS: Mapping[str, tuple[int, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod on the pod network. A pod on the host network is its node to policy, and is left out.

    Attributes:
        namespace, name: the object's.
        labels: its own, all of them; the label filter is applied later.
        service_account: empty where unknown.
        named_ports: container port names to (number, protocol).
        node: the node it runs on; empty where that does not matter.
        cluster: another cluster's name, empty for the local one. Such pods are peers only.
        identity: labels ``source:key=value`` as an agent reports them, used instead of everything above
            that makes up an identity; empty to compute them.
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_TEXTS)
    service_account: str = ""
    named_ports: Mapping[str, tuple[int, str]] = field(default_factory=lambda: _NO_PORTS)
    node: str = ""
    cluster: str = ""
    identity: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """``namespace/name``, by which it is asked about."""
        return f"{self.namespace}/{self.name}"


def pod_from_endpoint(endpoint: Endpoint) -> Pod:
    """The pod behind an agent's endpoint, with the identity the agent gave it."""
    return Pod(
        namespace=endpoint.namespace,
        name=endpoint.pod,
        named_ports=endpoint.named_ports,
        node=endpoint.node,
        identity=endpoint.identity.labels,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Everything that is no pod.

    Attributes:
        name: by which it is asked about.
        labels: reserved labels, for example ``reserved:host``.
        address: the prefix or address of something outside the cluster, or of a node.
        node: the Kubernetes node it stands for. Such a peer is the local host to pods on the same node and
            a remote node to all others, whatever ``labels`` says of host and remote-node.
        node_labels: Kubernetes labels of a node.
        dns_names: names resolved to the address.
        enforced: whether policy is enforced at the peer itself (health, ingress, init; the host with host
            firewall).
    """

    name: str
    labels: tuple[str, ...] = ()
    address: str = ""
    node: str = ""
    node_labels: Mapping[str, str] = field(default_factory=lambda: _NO_TEXTS)
    dns_names: tuple[str, ...] = ()
    enforced: bool = False

    @property
    def key(self) -> str:
        """Its name."""
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CIDRGroup:
    """A CiliumCIDRGroup."""

    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_TEXTS)
    cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    """A port of a Service; the target is a number or the name of a container port."""

    port: int
    protocol: str = "TCP"
    target: int | str = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A Kubernetes Service.

    Attributes:
        namespace, name, labels, selector: the object's; without selector it is an external service.
        backends: addresses of its endpoints, used where it has no selector.
        ports: what a probe of the Service itself is translated with.
    """

    namespace: str
    name: str
    labels: Mapping[str, str] = field(default_factory=lambda: _NO_TEXTS)
    selector: Mapping[str, str] = field(default_factory=lambda: _NO_TEXTS)
    backends: tuple[str, ...] = ()
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Who there is to talk.

    Attributes:
        namespaces: name to labels, ``kubernetes.io/metadata.name`` included.
        pods, peers: everything that sends or receives; their keys are unique.
        cidr_groups, services: what policies refer to.
        options: the release's.
    """

    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    peers: tuple[Peer, ...] = ()
    cidr_groups: tuple[CIDRGroup, ...] = ()
    services: tuple[Service, ...] = ()
    options: Options = field(default_factory=Options)
