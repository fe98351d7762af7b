"""What the API says that a datapath must know: Services' backends, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.datapath import Backend, Frontend, parse_frontends
from cilium_e2e.cluster.surroundings import (
    ServicePort,
    read,
    service_ports,
    wrong_backends,
    wrong_identities,
)
from cilium_e2e.kube import Kube
from cilium_e2e.model import Endpoint, Identity, Object
from support.memory import MemoryTransport, pod
from support.recordings import recorded


def service(**spec: Any) -> Object:
    ports = [{"name": "a", "port": 80, "protocol": "TCP"}, {"name": "b", "port": 53, "protocol": "UDP"}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "ns"},
        "spec": {"clusterIP": "10.96.0.9", "ports": ports, **spec},
    }


def sliced(*addresses: str, service: str = "s", family: str = "IPv4", ready: bool | None = True) -> Object:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service}-x",
            "namespace": "ns",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [
            {"name": "a", "port": 8080, "protocol": "TCP"},
            {"name": "b", "port": 5353, "protocol": "UDP"},
        ],
        "endpoints": [{"addresses": [a], "conditions": {"ready": ready}} for a in addresses],
    }


def backends(obj: Object, *slices: Object) -> dict[tuple[str, int], set[str]]:
    return {(p.ip, p.port): {str(b) for b in p.backends} for p in service_ports(obj, slices)}


def test_ready_addresses_by_port_name() -> None:
    found = backends(
        service(),
        sliced("10.0.0.1"),
        sliced("10.0.0.2", ready=None),
        sliced("10.0.0.3", ready=False),
        sliced("10.0.0.4", service="other"),
    )
    assert found == {
        ("10.96.0.9", 80): {"10.0.0.1:8080/TCP", "10.0.0.2:8080/TCP"},
        ("10.96.0.9", 53): {"10.0.0.1:5353/UDP", "10.0.0.2:5353/UDP"},
    }


def test_both_families() -> None:
    obj = service(clusterIPs=["10.96.0.9", "fd00:96::9"])
    found = backends(obj, sliced("10.0.0.1"), sliced("fd00::1", family="IPv6"))
    assert found["fd00:96::9", 80] == {"[fd00::1]:8080/TCP"}
    assert found["10.96.0.9", 80] == {"10.0.0.1:8080/TCP"}


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None"},
        {"clusterIP": ""},
        {"type": "ExternalName"},
        {"internalTrafficPolicy": "Local"},
        {"trafficDistribution": "PreferClose"},
    ],
)
def test_those_without_an_address_or_with_a_choice_of_each_nodes(spec: dict[str, Any]) -> None:
    assert backends(service(**spec), sliced("10.0.0.1")) == {}


def test_ciliums_own_annotations_choose_backends() -> None:
    obj = service()
    obj["metadata"]["annotations"] = {"service.cilium.io/global": "true"}
    assert backends(obj, sliced("10.0.0.1")) == {}


PORT = ServicePort("ns/s", "10.96.0.9", 80, "TCP", frozenset({Backend("10.0.0.1", 8080, "TCP")}))


def frontend(*found: Backend, kind: str = "ClusterIP", protocol: str = "TCP") -> Frontend:
    return Frontend(kind, "10.96.0.9", 80, protocol, frozenset(found))


@pytest.mark.parametrize(
    ("frontends", "wrong"),
    [
        ([frontend(Backend("10.0.0.1", 8080, "TCP"))], 0),
        ([frontend(Backend("10.0.0.1", 8080, ""), protocol="")], 0),
        ([frontend(kind="LocalRedirect")], 0),
        ([frontend()], 1),
        ([frontend(Backend("10.0.0.2", 8080, "TCP"))], 1),
        ([frontend(Backend("10.0.0.1", 8080, "UDP"), protocol="UDP")], 1),
        ([], 1),
    ],
)
def test_what_differs(frontends: list[Frontend], wrong: int) -> None:
    assert len(list(wrong_backends(frontends, [PORT], "n1"))) == wrong


def test_nobody_need_know_a_port_that_leads_nowhere() -> None:
    assert list(wrong_backends([], [ServicePort("ns/s", "10.96.0.9", 80, "TCP", frozenset())], "n1")) == []


def test_the_recorded_services_of_cluster_dns() -> None:
    frontends = parse_frontends(recorded("cilium-dbg-service-list"))
    dns = frozenset(Backend(ip, 53, "UDP") for ip in ("10.244.1.67", "10.244.1.209"))
    port = ServicePort("kube-system/kube-dns", "10.96.0.10", 53, "UDP", dns)
    assert list(wrong_backends(frontends, [port], "n1")) == []


NUMBERS = st.dictionaries(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1"]), st.integers(1, 3))


@given(NUMBERS, NUMBERS)
def test_a_peer_is_wrong_exactly_where_its_address_stands_for_another(
    ipcache: dict[str, int], truth: dict[str, int]
) -> None:
    peers = [
        Endpoint(1, "ns", f"p{number}", "n", (ip,), Identity(number, ())) for ip, number in truth.items()
    ]
    wrong = list(wrong_identities(ipcache, peers, "n1"))
    assert len(wrong) == sum(ipcache.get(ip) != number for ip, number in truth.items())


def test_pods_of_the_host_network_have_their_nodes_identity() -> None:
    own, host = pod("own", "ns", phase="Running"), pod("host", "ns", phase="Running")
    host["spec"]["hostNetwork"] = True
    api = MemoryTransport(own, host, pod("elsewhere", "other"))
    found = read(Kube(api, clock=api.clock), {"ns"})
    assert set(found.pods) == {"ns/own"}
    assert found.pods["ns/own"].settled


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "d", "e"]), st.integers(0, 2), min_size=1
    ),  # namespace to how many Services it has
    st.sets(st.sampled_from(["a", "b", "c", "d", "e"]), min_size=1),
)
def test_many_namespaces_together_say_what_each_says_alone(
    namespaces: dict[str, int], asked: set[str]
) -> None:
    api = MemoryTransport(
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": {"is": n}}}
            for n in namespaces
        ),
        *(pod("p", name, phase="Running") for name in namespaces),
        *(
            placed(what, name, number)
            for name, many in namespaces.items()
            for number in range(many)
            for what in (service(), sliced(f"10.0.0.{number}"))
        ),
    )
    kube = Kube(api, clock=api.clock)
    alone = [read(kube, {name}) for name in sorted(asked)]
    before = len(api.calls)
    found = read(kube, asked)
    assert found.pods == {name: facts for one in alone for name, facts in one.pods.items()}
    assert sorted(found.ports, key=str) == sorted((p for one in alone for p in one.ports), key=str)
    if len(asked) > 2:
        assert len(api.calls) - before <= 2 + 2 * len(asked), (
            "namespaces and Services are asked for once each"
        )


def placed(obj: Object, namespace: str, number: int) -> Object:
    """A Service or its EndpointSlice, moved to a namespace, under a name of its own."""
    meta, spec = obj["metadata"], obj.get("spec")
    labels = {"labels": {"kubernetes.io/service-name": f"s{number}"}} if spec is None else {}
    placed: Object = {**obj, "metadata": {**meta, "name": f"s{number}", "namespace": namespace, **labels}}
    return (
        placed
        if spec is None
        else {**placed, "spec": {**spec, "clusterIP": f"10.96.{ord(namespace)}.{number}"}}
    )


def test_no_namespace_no_question() -> None:
    api = MemoryTransport()
    assert read(Kube(api, clock=api.clock), set()).pods == {}
    assert api.calls == []
