"""EndpointSlices, and the Services as every agent has them in its maps a moment later."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import Object, Ref

_SYNC_S, _REALIZE_S = 0.05, 0.08
_SLICE = Ref("discovery.k8s.io/v1", "EndpointSlice")
_NAME = "kubernetes.io/service-name"


@dataclass(frozen=True, slots=True)
class Backend:
    """An address behind a Service, its port, and the node it is on."""

    ip: str
    port: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class Frontend:
    """One address and port of a Service.

    Attributes:
        ip, port, protocol: what is dialled; an empty address is every address of a node.
        namespace, name: the Service.
        kind: ``ClusterIP``, ``NodePort``, ``LoadBalancer`` or ``ExternalIPs``.
        affinity: whether a client stays with one backend.
        local: whether only backends of the same node count (``externalTrafficPolicy: Local``).
        backends: what it leads to.
    """

    ip: str
    port: int
    protocol: str
    namespace: str
    name: str
    kind: str
    affinity: bool
    local: bool
    backends: tuple[Backend, ...]


class Services:
    """The controllers of Services, and what agents have made of it.

    Args:
        store: the API's objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._clock = store.clock
        self._pending = False
        self._realizing = False
        self.frontends: dict[tuple[str, int, str], Frontend] = {}
        """By address, port and protocol; as agents have it now."""
        store.subscribers.append(self._changed)

    def find(self, ip: str, port: int, protocol: str, nodes: Iterable[str]) -> Frontend | None:
        """The Service at an address; ``nodes`` are the addresses at which node ports are served."""
        found = self.frontends.get((ip, port, protocol))
        if found is None and ip in nodes:
            found = self.frontends.get(("", port, protocol))
        return found

    def _changed(self, change: Change) -> None:
        if change.ref.kind in {"Service", "Pod"} and not self._pending:
            self._pending = True
            self._clock.after(_SYNC_S, self._sync)
        if change.ref.kind in {"Service", "EndpointSlice"} and not self._realizing:
            self._realizing = True
            self._clock.after(_REALIZE_S, self._realize)

    def _sync(self) -> None:
        self._pending = False
        pods: dict[str, list[Object]] = defaultdict(list)
        for pod in self._store.all(Ref("v1", "Pod")):
            if pod["status"].get("podIP") and pod["status"].get("phase") == "Running":
                pods[pod["metadata"]["namespace"]].append(pod)
        for service in self._store.all(Ref("v1", "Service")):
            if service["spec"].get("selector"):
                self._slices(service, pods[service["metadata"]["namespace"]])

    def _slices(self, service: Object, pods: list[Object]) -> None:
        meta, spec = service["metadata"], service["spec"]
        wanted = spec["selector"].items()
        groups: dict[tuple[str, tuple[tuple[str, str, int], ...]], list[Object]] = defaultdict(list)
        for pod in pods:
            if not wanted <= (pod["metadata"].get("labels") or {}).items():
                continue
            ports = _ports(spec.get("ports") or (), pod)
            for entry in pod["status"]["podIPs"]:
                family = "IPv6" if ":" in entry["ip"] else "IPv4"
                if family in spec.get("ipFamilies", ["IPv4"]):
                    groups[family, ports].append(_endpoint(pod, entry["ip"]))
        kept = set()
        for (family, ports), endpoints in groups.items():
            digest = hashlib.sha256(repr((family, ports)).encode()).hexdigest()[:5]
            name = f"{meta['name']}-{digest}"
            kept.add(name)
            self._store.write(
                {
                    "apiVersion": _SLICE.api_version,
                    "kind": _SLICE.kind,
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        "labels": {_NAME: meta["name"]},
                        "ownerReferences": [
                            {"apiVersion": "v1", "kind": "Service", "name": meta["name"], "uid": meta["uid"]}
                        ],
                    },
                    "addressType": family,
                    "endpoints": sorted(endpoints, key=lambda endpoint: str(endpoint["addresses"])),
                    "ports": [{"name": n, "protocol": p, "port": number} for n, p, number in ports],
                }
            )
        for found in self._of(meta["namespace"], meta["name"]):
            if found["metadata"]["name"] not in kept:
                self._store.delete(Ref.of(found))

    def _of(self, namespace: str, name: str) -> list[Object]:
        slices = self._store.all(Ref(_SLICE.api_version, _SLICE.kind, namespace=namespace))
        return [found for found in slices if (found["metadata"].get("labels") or {}).get(_NAME) == name]

    def _realize(self) -> None:
        self._realizing = False
        found: dict[tuple[str, int, str], Frontend] = {}
        for service in self._store.all(Ref("v1", "Service")):
            if "deletionTimestamp" in service["metadata"] or service["spec"].get("type") == "ExternalName":
                continue
            for frontend in self._frontends(service):
                found[frontend.ip, frontend.port, frontend.protocol] = frontend
        self.frontends = found

    def _frontends(self, service: Object) -> Iterable[Frontend]:
        meta, spec = service["metadata"], service["spec"]
        slices = self._of(meta["namespace"], meta["name"])
        local = spec.get("externalTrafficPolicy") == "Local"
        affinity = spec.get("sessionAffinity") == "ClientIP"
        for port in spec.get("ports") or ():
            backends = {family: tuple(_backends(slices, port, family)) for family in ("IPv4", "IPv6")}
            outside = [*(spec.get("externalIPs") or ()), *_ingress(service)]
            places = [(ip, port["port"], "ClusterIP", False) for ip in spec["clusterIPs"] if ip != "None"]
            places += [(ip, port["port"], "ExternalIPs", local) for ip in outside]
            if port.get("nodePort"):
                places.append(("", port["nodePort"], "NodePort", local))
            for ip, number, kind, only_local in places:
                family = "IPv6" if ":" in ip else "IPv4"
                yield Frontend(
                    ip,
                    number,
                    port["protocol"],
                    meta["namespace"],
                    meta["name"],
                    kind,
                    affinity,
                    only_local,
                    backends[family],
                )


def _ingress(service: Object) -> list[str]:
    entries = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    return [entry["ip"] for entry in entries if entry.get("ip")]


def _backends(slices: list[Object], port: Object, family: str) -> Iterable[Backend]:
    for found in slices:
        if found["addressType"] != family:
            continue
        for entry in found["ports"]:
            if (entry.get("name") or "", entry["protocol"]) != (port.get("name") or "", port["protocol"]):
                continue
            for endpoint in found["endpoints"]:
                if endpoint["conditions"].get("ready", True):
                    yield Backend(endpoint["addresses"][0], entry["port"], endpoint.get("nodeName", ""))


def _ports(ports: Iterable[Object], pod: Object) -> tuple[tuple[str, str, int], ...]:
    """The Service's ports as a pod has them; one that it has no container port for is left out."""
    found = []
    for port in ports:
        target: Any = port.get("targetPort", port["port"])
        if isinstance(target, str):
            named: list[int] = [
                entry["containerPort"]
                for container in pod["spec"]["containers"]
                for entry in container.get("ports") or ()
                if entry.get("name") == target and entry.get("protocol", "TCP") == port["protocol"]
            ]
            if not named:
                continue
            target = named[0]
        found.append((str(port.get("name") or ""), str(port["protocol"]), int(target)))
    return tuple(found)


def _endpoint(pod: Object, ip: str) -> Object:
    meta = pod["metadata"]
    leaving = "deletionTimestamp" in meta
    ready = is_true(pod, "Ready") and not leaving
    return {
        "addresses": [ip],
        "conditions": {"ready": ready, "serving": is_true(pod, "Ready"), "terminating": leaving},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": {
            "kind": "Pod",
            "name": meta["name"],
            "namespace": meta["namespace"],
            "uid": meta["uid"],
        },
    }
