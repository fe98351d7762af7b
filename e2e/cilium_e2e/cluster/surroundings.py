"""What a proof compares the agents' datapath with: pods, their labels, and Services with their backends.

Read from the API for the namespaces that a proof is about; what other people do elsewhere is not waited for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from cilium_e2e.cluster.datapath import Backend, Frontend, IpCache, canonical
from cilium_e2e.kube import Kube
from cilium_e2e.model import Endpoint, Object, Ref
from cilium_e2e.policy.labels import NAMESPACE_LABELS, POLICY_CLUSTER, pod_labels

_SLICE_SERVICE = "kubernetes.io/service-name"
_K8S = "k8s:"
# A request costs the API server more than a few small objects do, and a proof asks again and again. Pods are
# large, and elsewhere there may be very many.
_TOGETHER_FROM = 3
# Of these a node's agent keeps a choice of the backends, by rules that are not repeated here.
_CHOOSING_ANNOTATIONS = ("service.cilium.io/", "service.kubernetes.io/topology-mode")


@dataclass(frozen=True, slots=True)
class PodFacts:
    """A pod that takes part in the pod network.

    Attributes:
        name: ``namespace/pod``.
        labels: its own, as the API has them now.
        namespace_labels: its namespace's.
        service_account: its service account.
        settled: whether it runs and is to stay; others come and go, and are waited for by nobody.
    """

    name: str
    labels: Mapping[str, str]
    namespace_labels: Mapping[str, str]
    service_account: str
    settled: bool


@dataclass(frozen=True, slots=True)
class ServicePort:
    """One port of a Service on one of its cluster addresses, with the backends it must have."""

    service: str
    ip: str
    port: int
    protocol: str
    backends: frozenset[Backend]

    def __str__(self) -> str:
        return f"Service {self.service} at {Backend(self.ip, self.port, self.protocol)}"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Pods by name, and the ports of Services, of some namespaces."""

    pods: Mapping[str, PodFacts]
    ports: tuple[ServicePort, ...]

    def lacks(self, endpoint: Endpoint) -> str:
        """Which label change of its pod an endpoint's identity does not show yet; empty for none.

        Labels of the default filter only count as missing where the agent does not know them at all: a
        release may filter others.
        """
        facts = self.pods.get(endpoint.name)
        if facts is None:
            return ""
        identity = {_plain(label) for label in endpoint.identity.labels}
        known = identity | {_plain(label) for label in endpoint.other_labels}
        wanted = pod_labels(
            facts.labels,
            namespace=endpoint.namespace,
            namespace_labels=facts.namespace_labels,
            service_account=facts.service_account,
            cluster="",
        )
        own = {str(label) for label in wanted.values() if label.key != POLICY_CLUSTER}
        if missing := sorted(own - known):
            return f"lacks {', '.join(missing)}"
        raw = {_plain(f"{_K8S}{key}={value}") for key, value in facts.labels.items()}
        raw |= {
            _plain(f"{_K8S}{NAMESPACE_LABELS}.{key}={value}") for key, value in facts.namespace_labels.items()
        }
        cluster = f"{_K8S}{POLICY_CLUSTER}="
        stale = [
            label
            for label in identity
            if label.startswith(_K8S) and label not in own | raw and not label.startswith(cluster)
        ]
        return f"still has {', '.join(sorted(stale))}" if stale else ""


def read(kube: Kube, namespaces: Collection[str]) -> Surroundings:
    """Pods and Services of some namespaces, asked for in parallel; backends where there are Services.

    Raises:
        KubeError: an answer other than success.
    """
    names = sorted(namespaces)
    if not names:
        return Surroundings({}, ())

    def listed(api_version: str, kind: str, namespace: str) -> list[Object]:
        return kube.list_all(Ref(api_version, kind, namespace=namespace))

    with ThreadPoolExecutor(max_workers=min(8, 4 * len(names)), thread_name_prefix="facts") as pool:
        pods = pool.map(lambda name: listed("v1", "Pod", name), names)
        labels = pool.map(lambda asked: _namespace_labels(kube, asked), _questions(names))
        services = pool.map(lambda asked: _services(kube, asked), _questions(names))
        served = [some for found in services for some in found]
        slices = pool.map(
            lambda name, some: listed("discovery.k8s.io/v1", "EndpointSlice", name) if some else [],
            names,
            served,
        )
        known = [own for found in labels for own in found]
        facts = {
            found.name: found for own, some in zip(known, pods, strict=True) for found in _pods(some, own)
        }
        ports = tuple(
            port
            for some, sliced in zip(served, slices, strict=True)
            for service in some
            for port in service_ports(service, sliced)
        )
    return Surroundings(facts, ports)


def _questions(names: Sequence[str]) -> list[Sequence[str]]:
    """The namespaces that one request asks about: each alone, or all together where they are many."""
    return [names] if len(names) >= _TOGETHER_FROM else [[name] for name in names]


def _namespace_labels(kube: Kube, names: Sequence[str]) -> list[Mapping[str, str]]:
    if len(names) == 1:
        return [_labels(kube.find(Ref("v1", "Namespace", names[0])))]
    found = {obj["metadata"]["name"]: obj for obj in kube.list_all(Ref("v1", "Namespace"))}
    return [_labels(found.get(name)) for name in names]


def _services(kube: Kube, names: Sequence[str]) -> list[list[Object]]:
    if len(names) == 1:
        return [kube.list_all(Ref("v1", "Service", namespace=names[0]))]
    everywhere = kube.list_all(Ref("v1", "Service"))
    return [[found for found in everywhere if found["metadata"]["namespace"] == name] for name in names]


def wrong_identities(ipcache: IpCache, peers: Sequence[Endpoint], node: str) -> Iterator[str]:
    """Peers whose addresses do not stand for their identities on a node, one line each."""
    for peer in peers:
        for ip in peer.ips:
            seen = ipcache.get(canonical(ip))
            if seen != peer.identity.number:
                holds = "nothing" if seen is None else f"identity {seen}"
                yield (
                    f"the ipcache on {node} has {holds} for {ip} of {peer.name}, "
                    f"expected {peer.identity.number}"
                )


def wrong_backends(frontends: Sequence[Frontend], ports: Sequence[ServicePort], node: str) -> Iterator[str]:
    """Service ports that lead elsewhere than their EndpointSlices say on a node, one line each."""
    for port in ports:
        at = [
            frontend
            for frontend in frontends
            if (frontend.ip, frontend.port) == (port.ip, port.port)
            and frontend.protocol in {"", port.protocol}
        ]
        if any(frontend.kind != "ClusterIP" for frontend in at):
            continue  # a redirect policy of Cilium's gave it other backends, on purpose
        if not at:
            if port.backends:
                yield f"the agent on {node} does not know {port}"
            continue
        exact = all(backend.protocol for backend in at[0].backends)
        wanted = port.backends if exact else frozenset(Backend(b.ip, b.port, "") for b in port.backends)
        seen = at[0].backends
        if seen != wanted:
            yield f"the agent on {node} sends {port} to {_list(seen)}, expected {_list(wanted)}"


def service_ports(service: Object, slices: Sequence[Object]) -> Iterator[ServicePort]:
    """The ports of a Service with the backends its EndpointSlices name ready.

    Not those of Services without an address, and of those where each node keeps a choice of the backends.
    """
    meta, spec = service["metadata"], service.get("spec") or {}
    chosen = (
        spec.get("internalTrafficPolicy") == "Local"
        or spec.get("trafficDistribution")
        or any(key.startswith(_CHOOSING_ANNOTATIONS) for key in meta.get("annotations") or ())
    )
    if chosen or spec.get("type") == "ExternalName":
        return
    mine = [
        entry
        for entry in slices
        if (entry["metadata"].get("labels") or {}).get(_SLICE_SERVICE) == meta["name"]
    ]
    addresses = spec.get("clusterIPs") or [spec.get("clusterIP", "")]
    for ip in addresses:
        if not ip or ip == "None":
            continue
        family = "IPv6" if ":" in ip else "IPv4"
        for port in spec.get("ports") or ():
            protocol = port.get("protocol", "TCP")
            backends = frozenset(
                Backend(canonical(address), number, protocol)
                for entry in mine
                if entry.get("addressType") == family
                for number in _numbers(entry, port.get("name") or "", protocol)
                for endpoint in entry.get("endpoints") or ()
                if (endpoint.get("conditions") or {}).get("ready") is not False
                for address in endpoint["addresses"]
            )
            yield ServicePort(
                f"{meta['namespace']}/{meta['name']}", canonical(ip), port["port"], protocol, backends
            )


def _numbers(entry: Object, name: str, protocol: str) -> Iterator[int]:
    for port in entry.get("ports") or ():
        same = (port.get("name") or "", port.get("protocol", "TCP")) == (name, protocol)
        if same and port.get("port"):
            yield int(port["port"])


def _pods(found: Sequence[Object], namespace_labels: Mapping[str, str]) -> Iterator[PodFacts]:
    for pod in found:
        meta, spec, status = pod["metadata"], pod.get("spec") or {}, pod.get("status") or {}
        if spec.get("hostNetwork"):
            continue
        yield PodFacts(
            f"{meta['namespace']}/{meta['name']}",
            meta.get("labels") or {},
            namespace_labels,
            spec.get("serviceAccountName", ""),
            status.get("phase") == "Running" and "deletionTimestamp" not in meta,
        )


def _plain(label: str) -> str:
    """A label's text; one without a value is written with and without its equals sign."""
    return label.removesuffix("=")


def _labels(obj: Mapping[str, Any] | None) -> Mapping[str, str]:
    return (obj or {}).get("metadata", {}).get("labels") or {}


def _list(backends: Collection[Backend]) -> str:
    return ", ".join(sorted(map(str, backends))) or "no backend"
