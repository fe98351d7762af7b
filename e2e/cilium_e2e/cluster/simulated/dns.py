"""What name servers answer: the cluster's own, which knows Services and forwards one zone, and agents'."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from cilium_e2e.cluster.simulated.places import Listener
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import Ref
from cilium_e2e.probe.agent.zone import Zone
from cilium_e2e.probe.places import ZONE

DOMAIN = "cluster.local"
_LEAST_WORDS = 3
"""A Service's name, its namespace, and ``svc``."""
_RCODES = {0: "NOERROR", 3: "NXDOMAIN", 5: "REFUSED"}
_KINDS = {"A": 1, "AAAA": 28}
Answer = tuple[str, list[str]]
"""A response code and the addresses."""


class Names:
    """All name servers.

    Args:
        store: the API's objects.
        forward: answers the zone that exists outside only.
    """

    def __init__(self, store: Store, forward: Callable[[], Listener]) -> None:
        self._store = store
        self._forward = forward

    def ask(self, server: Listener, name: str, record: str) -> Answer:
        """A server's answer; an agent answers from its records, anything else is cluster DNS."""
        if server.records:
            return _zone(server, name, record)
        return self._cluster(name.rstrip(".").lower(), record)

    def _cluster(self, name: str, record: str) -> Answer:
        if record == "PTR":
            return self._reverse(name)
        if name == ZONE or name.endswith(f".{ZONE}"):
            return _zone(self._forward(), name, record)
        if not (name == DOMAIN or name.endswith(f".{DOMAIN}")):
            return "SERVFAIL", []  # nothing outside answers a simulated cluster
        words = name.removesuffix(f".{DOMAIN}").split(".")
        if words[-1:] != ["svc"] or len(words) < _LEAST_WORDS:
            return ("NOERROR" if words == ["svc"] else "NXDOMAIN"), []
        return self._service(words[:-3], words[-3], words[-2], record)

    def _service(self, host: list[str], name: str, namespace: str, record: str) -> Answer:
        """A Service's address, or of a headless one its pods' addresses, or one of them by its ``host``."""
        service = self._store.find(Ref("v1", "Service", name, namespace))
        if service is None:
            return "NXDOMAIN", []
        if service["spec"].get("clusterIP") != "None":
            return ("NXDOMAIN", []) if host else ("NOERROR", _of(service["spec"]["clusterIPs"], record))
        found = self._ready(name, namespace)
        if host:
            found = [ip for ip in found if [ip.replace(".", "-").replace(":", "-")] == host]
        return ("NOERROR", _of(found, record)) if found else ("NXDOMAIN", [])

    def _reverse(self, name: str) -> Answer:
        """The Service at an address, from the name that stands for the address."""
        for service in self._store.all(Ref("v1", "Service")):
            meta = service["metadata"]
            for ip in service["spec"].get("clusterIPs") or ():
                if ip != "None" and ipaddress.ip_address(ip).reverse_pointer == name:
                    return "NOERROR", [f"{meta['name']}.{meta['namespace']}.svc.{DOMAIN}"]
        return "NXDOMAIN", []

    def _ready(self, name: str, namespace: str) -> list[str]:
        slices = self._store.all(Ref("discovery.k8s.io/v1", "EndpointSlice", namespace=namespace))
        return [
            endpoint["addresses"][0]
            for found in slices
            if (found["metadata"].get("labels") or {}).get("kubernetes.io/service-name") == name
            for endpoint in found["endpoints"]
            if endpoint["conditions"]["ready"]
        ]


def _of(addresses: list[str], record: str) -> list[str]:
    if record not in _KINDS:
        return []
    return [ip for ip in addresses if (":" in ip) is (record == "AAAA")]


def _zone(server: Listener, name: str, record: str) -> Answer:
    code, packed = Zone.parse(server.records).look_up(name.rstrip(".").lower(), _KINDS.get(record, 0))
    return _RCODES[code], [str(ipaddress.ip_address(address)) for address in packed]
