"""A running cluster as the oracle's world: what the agents and the API server say now, nothing assumed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cilium_e2e.kube import Kube, at_once
from cilium_e2e.model import Cluster, ClusterInfo, ClusterStateError, Endpoint, Object, Ref
from cilium_e2e.policy import (
    CIDRGroup,
    Enforcement,
    Options,
    Peer,
    Pod,
    PolicyObject,
    Service,
    ServicePort,
    World,
    parse_cidr_group,
    parse_policy,
)

CONFIG_MAP = "cilium-config"
API_SERVER = "kube-apiserver"
"""The peer that stands for an API server which is no node of the cluster."""

_API_SERVICE = ("default", "kubernetes")
_SERVICE_NAME = "kubernetes.io/service-name"
_POLICY_KINDS = (
    Ref("cilium.io/v2", "CiliumNetworkPolicy"),
    Ref("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
    Ref("networking.k8s.io/v1", "NetworkPolicy"),
)
_KINDS = (
    Ref("v1", "Namespace"),
    Ref("v1", "Pod"),
    Ref("v1", "Node"),
    Ref("v1", "Service"),
    Ref("discovery.k8s.io/v1", "EndpointSlice"),
    Ref("cilium.io/v2alpha1", "CiliumCIDRGroup"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveObjects:
    """The API's objects that a world is made of, all namespaces each."""

    namespaces: Sequence[Object]
    pods: Sequence[Object]
    nodes: Sequence[Object]
    services: Sequence[Object]
    slices: Sequence[Object]
    cidr_groups: Sequence[Object] = ()


def live_world(
    cluster: Cluster,
    kube: Kube,
    *,
    dns_names: Mapping[str, Sequence[str]] | None = None,
    since_s: float | None = None,
) -> World:
    """The cluster as it is now.

    Pods are the agents' endpoints, with the identities the agents gave them. Nodes are peers ``node:NAME``,
    agents outside the cluster ``world:NAME``: each is asked about by the name a probe has for it.

    Args:
        cluster: gives endpoints, nodes and agents outside.
        kube: its API.
        dns_names: agent outside (``one``) to the names that pods have resolved to its address.
        since_s: when something was changed last, by the cluster's clock; endpoints of a later proof will do.

    Raises:
        ClusterStateError: the agents' configuration is missing, or a read failed.
    """
    config = kube.find(Ref("v1", "ConfigMap", CONFIG_MAP, cluster.info.cilium_namespace))
    if config is None:
        raise ClusterStateError(
            "expected the agents' configuration, found none",
            place=f"ConfigMap {cluster.info.cilium_namespace}/{CONFIG_MAP}",
        )
    namespaces, pods, nodes, services, slices, groups = _lists(kube, _KINDS)
    objects = LiveObjects(
        namespaces=namespaces, pods=pods, nodes=nodes, services=services, slices=slices, cidr_groups=groups
    )
    return world_of(
        cluster.info,
        cluster.endpoints(since_s=since_s),
        objects,
        options_of(config.get("data") or {}),
        dns_names=dns_names,
    )


def live_policies(kube: Kube) -> list[PolicyObject]:
    """All policies the API server has, of all three kinds, as the agents read them.

    Raises:
        PolicyError: one cannot be read at all.
    """
    return [
        parse_policy(policy, strict=False)
        for stored in _lists(kube, _POLICY_KINDS)
        for policy in stored
        if "deletionTimestamp" not in policy["metadata"]
    ]


def _lists(kube: Kube, kinds: Sequence[Ref]) -> list[list[Object]]:
    """All objects of each kind, asked for at the same time; none of a kind whose CRD is not installed.

    Kubernetes' own kinds are always there: of them a 404 is an error.
    """

    def listed(kind: Ref) -> list[Object]:
        return kube.list_known(kind) if kind.api_version.startswith("cilium.io/") else kube.list_all(kind)

    return at_once(listed, kinds)


def options_of(config: Mapping[str, str]) -> Options:
    """What the agents' configuration (the data of ``cilium-config``) means for policies.

    An option that is missing has the agent's default.

    Raises:
        ClusterStateError: a mode that no agent knows.
    """
    default = Options()

    def on(name: str, default: bool) -> bool:  # noqa: FBT001 - one of two values, not a mode
        return config.get(name, str(default).lower()).lower() == "true"

    try:
        enforcement = Enforcement(config.get("enable-policy", default.enforcement.value).lower())
    except ValueError:
        known = ", ".join(mode.value for mode in Enforcement)
        raise ClusterStateError(
            f"expected enable-policy to be one of {known}, got {config['enable-policy']!r}",
            place=f"ConfigMap {CONFIG_MAP}",
        ) from None
    return Options(
        enforcement=enforcement,
        host_firewall=on("enable-host-firewall", default.host_firewall),
        node_selector_labels=on("enable-node-selector-labels", default.node_selector_labels),
        localhost_allowed=config.get("allow-localhost", "auto") != "policy",
        cidr_matches_nodes="nodes" in config.get("policy-cidr-match-mode", "").replace(",", " ").split(),
        ipv4=on("enable-ipv4", default.ipv4),
        ipv6=on("enable-ipv6", default.ipv6),
        cluster_name=config.get("cluster-name") or default.cluster_name,
        default_local_cluster=on("policy-default-local-cluster", default.default_local_cluster),
        l7_proxy=on("enable-l7-proxy", default.l7_proxy),
        icmp_rules=on("enable-icmp-rules", default.icmp_rules),
        non_default_deny=on("enable-non-default-deny-policies", default.non_default_deny),
        kube_proxy_replacement=on("kube-proxy-replacement", default.kube_proxy_replacement),
    )


def world_of(
    info: ClusterInfo,
    endpoints: Iterable[Endpoint],
    objects: LiveObjects,
    options: Options,
    *,
    dns_names: Mapping[str, Sequence[str]] | None = None,
) -> World:
    """See :func:`live_world`; from what was read already."""
    pods = {(p["metadata"]["namespace"], p["metadata"]["name"]): p for p in objects.pods}
    # A pod that was made again under its name may have its former endpoint beside it for a moment.
    current = {e.name: e for e in sorted(endpoints, key=lambda e: e.state == "ready") if e.pod}
    return World(
        namespaces={n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in objects.namespaces},
        pods=tuple(
            _pod(endpoint, pods.get((endpoint.namespace, endpoint.pod))) for endpoint in current.values()
        ),
        peers=(*_nodes(info, objects, options), *_world(info, dns_names or {})),
        cidr_groups=tuple(_cidr_group(group) for group in objects.cidr_groups),
        services=tuple(_service(service, objects.slices) for service in objects.services),
        options=options,
    )


def _pod(endpoint: Endpoint, obj: Object | None) -> Pod:
    """The agent's word for the identity, the API's for labels (Services select by them) and port names."""
    metadata = (obj or {}).get("metadata") or {}
    spec = (obj or {}).get("spec") or {}
    declared = {
        port["name"]: (port["containerPort"], port.get("protocol", "TCP"))
        for container in spec.get("containers") or []
        for port in container.get("ports") or []
        if port.get("name")
    }
    return Pod(
        namespace=endpoint.namespace,
        name=endpoint.pod,
        labels=metadata.get("labels") or {},
        service_account=spec.get("serviceAccountName", ""),
        named_ports={**endpoint.named_ports, **declared},
        node=endpoint.node,
        identity=endpoint.identity.labels,
    )


def _nodes(info: ClusterInfo, objects: LiveObjects, options: Options) -> list[Peer]:
    """The nodes; one that is an API server's address is that, too, and API servers elsewhere are peers."""
    servers = _addresses(objects.slices, *_API_SERVICE)
    labels = {node["metadata"]["name"]: node["metadata"].get("labels") or {} for node in objects.nodes}
    peers = []
    for node in info.nodes:
        reserved = ["reserved:remote-node"]
        if not servers.isdisjoint(node.ips):
            reserved.append(f"reserved:{API_SERVER}")
        peers.append(
            Peer(
                name=f"node:{node.name}",
                labels=tuple(reserved),
                address=node.ips[0] if node.ips else "",
                node=node.name,
                node_labels=labels.get(node.name, {}),
                enforced=options.host_firewall,
            )
        )
    elsewhere = sorted(servers - {ip for node in info.nodes for ip in node.ips})
    return peers + [
        Peer(
            name=API_SERVER if len(elsewhere) == 1 else f"{API_SERVER}@{address}",
            labels=(f"reserved:{API_SERVER}",),
            address=address,
        )
        for address in elsewhere
    ]


def _world(info: ClusterInfo, dns_names: Mapping[str, Sequence[str]]) -> list[Peer]:
    return [
        Peer(
            name=f"world:{agent.name}",
            address=agent.ips[0] if agent.ips else "",
            dns_names=tuple(dns_names.get(agent.name, ())),
        )
        for agent in info.world
    ]


def _cidr_group(obj: Object) -> CIDRGroup:
    spec = parse_cidr_group(obj, strict=False).spec
    return CIDRGroup(
        name=obj["metadata"]["name"],
        labels=obj["metadata"].get("labels") or {},
        cidrs=(spec and spec.external_cidrs) or (),
    )


def _service(obj: Object, slices: Sequence[Object]) -> Service:
    metadata, spec = obj["metadata"], obj.get("spec") or {}
    selector = spec.get("selector") or {}
    return Service(
        namespace=metadata["namespace"],
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        selector=selector,
        backends=()
        if selector
        else tuple(sorted(_addresses(slices, metadata["namespace"], metadata["name"]))),
        ports=tuple(
            ServicePort(
                port=port["port"],
                protocol=port.get("protocol", "TCP"),
                target=port.get("targetPort", port["port"]),
            )
            for port in spec.get("ports") or []
        ),
    )


def _addresses(slices: Iterable[Object], namespace: str, service: str) -> set[str]:
    """The addresses behind a Service, by its EndpointSlices."""
    return {
        address
        for entry in slices
        if entry["metadata"].get("namespace") == namespace
        and (entry["metadata"].get("labels") or {}).get(_SERVICE_NAME) == service
        for endpoint in entry.get("endpoints") or []
        for address in endpoint.get("addresses") or []
    }
