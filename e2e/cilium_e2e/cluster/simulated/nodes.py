"""Nodes, and what a new kind cluster has on them: namespaces, cluster DNS, the API's Service, Flux."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cilium_e2e.cluster.simulated.addresses import Addresses, NodePlan
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.kinds import CILIUM, cilium_crds, flux_crds
from cilium_e2e.cluster.simulated.places import API_PORT
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import Object, Ref

DNS_SERVICE = 10
_API_SERVICE = 1
_NOT_READY = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
_CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease", "flux-system")
_REGISTER_S, _NODE_S = 0.5, 0.2
_TOLERATE = [{"operator": "Exists"}]
_CONTROLLERS = ("source-controller", "kustomize-controller", "helm-controller")


class Nodes:
    """The nodes' objects, which follow their agents; and what Cilium's operator does when it starts.

    Args:
        store: the API's objects.
        agents: Cilium's.
        network_is_up: told a node whose network works from now on.
    """

    def __init__(self, store: Store, agents: Agents, network_is_up: Callable[[str], None]) -> None:
        self._store = store
        self._clock = store.clock
        self._agents = agents
        self._network_is_up = network_is_up
        self._up: set[str] = set()
        self._registered = False
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        if change.ref.kind != "Pod" or not is_true(change.object, "Ready"):
            return
        labels = change.object["metadata"].get("labels") or {}
        if labels.get("io.cilium/app") == "operator" and not self._registered:
            self._registered = True
            self._clock.after(_REGISTER_S, self._register)
        node = change.object["spec"].get("nodeName", "")
        if labels.get("k8s-app") == "cilium" and node not in self._up:
            self._up.add(node)
            self._clock.after(_NODE_S, lambda: self._ready(node))

    def _register(self) -> None:
        for definition in cilium_crds():
            self._store.write(definition, manager="cilium-operator")
        for node in sorted(self._up):
            self._publish(node)

    def _ready(self, name: str) -> None:
        def ready(node: Object) -> None:
            taints = node["spec"].get("taints") or []
            node["spec"]["taints"] = [taint for taint in taints if taint["key"] != _NOT_READY["key"]]
            node["status"]["conditions"] = [
                _condition("NetworkUnavailable", "False", "CiliumIsUp", "Cilium is running on this node"),
                _condition("Ready", "True", "KubeletReady", "kubelet is posting ready status"),
            ]

        self._store.update(Ref("v1", "Node", name), ready, manager="kubelet")
        if self._registered:
            self._publish(name)
        self._network_is_up(name)

    def _publish(self, name: str) -> None:
        agent = self._agents.agents[name]
        addresses = [{"type": "InternalIP", "ip": ip} for ip in agent.plan.ips]
        addresses.append({"type": "CiliumInternalIP", "ip": agent.router()})
        self._store.write(
            {
                "apiVersion": CILIUM,
                "kind": "CiliumNode",
                "metadata": {"name": name},
                "spec": {
                    "addresses": addresses,
                    "health": {"ipv6" if ":" in agent.health() else "ipv4": agent.health()},
                    "ipam": {"podCIDRs": list(agent.plan.cidrs)},
                },
            },
            manager="cilium-agent",
        )


def _condition(kind: str, status: str, reason: str, message: str) -> Object:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def node_object(plan: NodePlan, version: str, *, alone: bool = False) -> Object:
    """A node before it has a network.

    Args:
        plan: the node.
        version: of its kubelet.
        alone: whether the cluster has no other; kind lets it run everything then.
    """
    labels = {
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": plan.name,
        "kubernetes.io/os": "linux",
    }
    taints = [dict(_NOT_READY)]
    if plan.role == "control-plane":
        labels["node-role.kubernetes.io/control-plane"] = ""
        if not alone:
            taints.append(dict(_CONTROL_PLANE))
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": plan.name, "labels": labels},
        "spec": {"podCIDR": plan.cidrs[0], "podCIDRs": list(plan.cidrs), "taints": taints},
        "status": {
            "addresses": [
                *({"type": "InternalIP", "address": ip} for ip in plan.ips),
                {"type": "Hostname", "address": plan.name},
            ],
            "conditions": [
                _condition(
                    "Ready",
                    "False",
                    "KubeletNotReady",
                    "container runtime network not ready: cni plugin not initialized",
                )
            ],
            "nodeInfo": {"kubeletVersion": version, "kernelVersion": "simulated", "osImage": "simulated"},
        },
    }


def furnish(store: Store, plans: Iterable[NodePlan], addresses: Addresses, *, version: str) -> None:
    """Everything a cluster has before Cilium is installed."""
    nodes = list(plans)
    for name in _NAMESPACES:
        labels = {"kubernetes.io/metadata.name": name}
        store.write(
            {
                **_named("v1", "Namespace", name),
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            }
            | {"metadata": {"name": name, "labels": labels}}
        )
    for plan in nodes:
        store.write(node_object(plan, version, alone=len(nodes) == 1))
    for definition in flux_crds():
        store.write(definition)
    api = [ip for plan in nodes if plan.role == "control-plane" for ip in plan.ips[:1]]
    _service(
        store,
        "default",
        "kubernetes",
        addresses.cluster_ips(number=_API_SERVICE),
        [("https", 443, "TCP", API_PORT)],
    )
    store.write(
        {
            **_named("discovery.k8s.io/v1", "EndpointSlice", "kubernetes", "default"),
            "addressType": "IPv6" if ":" in api[0] else "IPv4",
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}} for ip in api],
            "ports": [{"name": "https", "protocol": "TCP", "port": API_PORT}],
        }
        | {
            "metadata": {
                "name": "kubernetes",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "kubernetes"},
            }
        }
    )
    _dns(store, addresses)
    for name in _CONTROLLERS:
        _deployment(
            store, "flux-system", name, {"app": name}, 1, {"hostNetwork": True, "tolerations": _TOLERATE}, ()
        )


def _dns(store: Store, addresses: Addresses) -> None:
    labels = {"k8s-app": "kube-dns"}
    ports = (("dns", 53, "UDP"), ("dns-tcp", 53, "TCP"), ("metrics", 9153, "TCP"))
    _service(
        store,
        "kube-system",
        "kube-dns",
        addresses.cluster_ips(number=DNS_SERVICE),
        [(name, port, protocol, port) for name, port, protocol in ports],
        labels,
    )
    tolerations = [{"key": _CONTROL_PLANE["key"], "operator": "Exists"}]
    store.write(_named("v1", "ServiceAccount", "coredns", "kube-system"))
    spec = {"serviceAccountName": "coredns", "tolerations": tolerations}
    _deployment(store, "kube-system", "coredns", labels, 2, spec, ports)
    store.write({**_named("v1", "ConfigMap", "coredns", "kube-system"), "data": {"Corefile": ".:53 {\n}\n"}})


def _named(api_version: str, kind: str, name: str, namespace: str = "") -> Object:
    meta = {"name": name, "namespace": namespace} if namespace else {"name": name}
    return {"apiVersion": api_version, "kind": kind, "metadata": meta}


def _service(
    store: Store,
    namespace: str,
    name: str,
    ips: list[str],
    ports: list[tuple[str, int, str, int]],
    selector: dict[str, str] | None = None,
) -> None:
    spec: Object = {
        "type": "ClusterIP",
        "clusterIP": ips[0],
        "clusterIPs": ips,
        "ipFamilies": ["IPv6" if ":" in ip else "IPv4" for ip in ips],
        "sessionAffinity": "None",
        "ports": [{"name": n, "port": p, "protocol": t, "targetPort": g} for n, p, t, g in ports],
    }
    if selector:
        spec["selector"] = selector
    store.write({**_named("v1", "Service", name, namespace), "spec": spec})


def _deployment(
    store: Store,
    namespace: str,
    name: str,
    labels: dict[str, str],
    replicas: int,
    spec: Object,
    ports: Iterable[tuple[str, int, str]],
) -> None:
    container = {
        "name": name,
        "image": name,
        "ports": [{"name": n, "containerPort": p, "protocol": t} for n, p, t in ports],
    }
    template = {"metadata": {"labels": labels}, "spec": {**spec, "containers": [container]}}
    workload = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    store.write({**_named("apps/v1", "Deployment", name, namespace), "spec": workload})
