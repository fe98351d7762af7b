"""The connectivity suite's own tests: they pass on a network in memory, and fail where it has a fault."""

from __future__ import annotations

import importlib
import inspect
import itertools
from collections.abc import Callable, Iterator, Sequence

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import Destination, Outcome, OutcomeKind, Probe, Protocol, Target, WaitTimeout
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.connectivity import reach
from cilium_e2e.suites.connectivity.lookups import records
from cilium_e2e.suites.connectivity.test_session_affinity import frontends
from support.cluster import SmallCluster
from support.memory import MemoryTransport
from support.network import INFO, Network, grid

FILES = (
    *("pods", "services", "session_affinity", "hosts", "api_server", "node_ports"),
    *("world", "dns", "payloads", "ipv6", "endpoints"),
)
Case = tuple[Callable[..., None], dict[str, object]]


def cases() -> Iterator[tuple[str, Case]]:
    """Each test of the suite with each of its parameters."""
    for file in FILES:
        module = importlib.import_module(f"cilium_e2e.suites.connectivity.test_{file}")
        for name, test in inspect.getmembers(module, inspect.isfunction):
            if not name.startswith("test_"):
                continue
            marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
            rows = [
                [dict(_named(mark.args[0], value)) for value in map(_plain, mark.args[1])] for mark in marks
            ]
            for number, chosen in enumerate(itertools.product(*rows)):
                values = {key: value for row in chosen for key, value in row.items()}
                yield f"{file}::{name.removeprefix('test_')}[{number}]", (test, values)


def _plain(value):
    """A parameter without the marks that it may be given with."""
    if not isinstance(value, type(pytest.param())):
        return value
    return value.values[0] if len(value.values) == 1 else value.values


def _named(keys: object, values: object) -> Iterator[tuple[str, object]]:
    if isinstance(keys, str) and "," not in keys:
        yield keys, values
    else:
        yield from zip(keys, values, strict=True)  # type: ignore[call-overload]


CASES = dict(cases())


def run(name: str, *faults: str) -> Network:
    """Run one of the suite's tests on a network of its own."""
    test, values = CASES[name]
    network = Network(grid(), frozenset(faults))
    hosts = [Target.node(node.name) for node in network.info.nodes]

    def settles(look: Callable[[], list[str]]) -> None:
        assert look() == []

    fixtures = {
        "lab": Lab(network, network.kube, image=""),  # type: ignore[arg-type]
        "grid": network.grid,
        "cluster": network,
        "kube": network,
        "expose": network.expose,
        "hosts": hosts,
        "backend": network.grid.servers[0],
        "settles": settles,
        "nodes": [node.name for node in network.info.nodes],
        "clients": [pod.target for pod in network.grid.clients],
        "start": network.start,
        **values,
    }
    if "shared" in inspect.signature(test).parameters:
        fixtures["shared"] = network.expose("shared")
    test(**{key: fixtures[key] for key in inspect.signature(test).parameters})
    return network


@pytest.mark.parametrize("name", CASES)
def test_without_faults_all_pass_and_ask_something(name):
    assert run(name).asked


@pytest.mark.parametrize("name", CASES)
def test_where_nothing_works_none_passes(name):
    with pytest.raises(AssertionError, match="came out differently"):
        run(name, "nothing works")


FAULTS = {
    "pods are masqueraded": {
        *(
            f"pods::pods_{pair}[0]"
            for pair in ("of_a_node_reach_each_other", "reach_each_other_between_nodes")
        ),
        "services::a_service_is_reached_at_its_address[0]",
        "ipv6::pods_reach_each_other[0]",
    },
    "nodes are cut": {"pods::pods_reach_each_other_between_nodes[0]", "hosts::nodes_reach_every_pod[0]"},
    "a stranger answers": {"services::a_service_is_reached_at_its_address[0]"},
    "a backend is left out": {f"services::every_backend_of_a_service_answers[{n}]" for n in range(3)},
    "the dead are remembered": {"endpoints::a_service_follows_its_pods[0]"},
    "the dead are asked now and then": {"endpoints::a_service_follows_its_pods[0]"},
    "hairpins are lost": {"services::a_pod_reaches_itself_through_its_service[0]"},
    "headless lacks one": {"services::a_headless_service_leads_to_its_pods[0]"},
    "no affinity": {f"session_affinity::a_client_stays_with_one_backend[{n}]" for n in range(2)},
    "one affinity for all": {"session_affinity::a_client_stays_with_one_backend[0]"},
    "no masquerading": {
        "world::pods_reach_the_world_masqueraded[0]",
        "ipv6::pods_reach_the_world_masqueraded[0]",
    },
    "pods are routed": {"world::the_world_reaches_pods_through_services_only[0]"},
    "Local is Cluster": {
        "node_ports::a_local_policy_keeps_the_clients_address[0]",
        "node_ports::a_local_policy_is_served_by_nodes_with_a_backend_only[0]",
    },
    "node ports are local": {
        "node_ports::the_world_reaches_it_at_every_node[0]",
        "node_ports::pods_reach_it_at_every_node[0]",
        "ipv6::the_world_reaches_node_ports[0]",
    },
    "fragments are lost": {"payloads::between_pods_of_a_node[0]", "payloads::between_nodes[0]"},
    "echoes pass": {"payloads::fragmented_echoes_are_dropped[0]"},
    "nobody resolves": {"dns::what_is_not_there_does_not_exist[0]"},
}


@pytest.mark.parametrize(
    ("fault", "name"), [(fault, name) for fault, found in FAULTS.items() for name in sorted(found)]
)
def test_each_fault_is_found(fault, name):
    with pytest.raises(AssertionError, match=r"expected|came out differently|assert"):
        run(name, fault)


@pytest.mark.parametrize("backends", [1, 2, 3, 7, 50])
def test_so_many_draws_leave_nobody_out(backends):
    draws = reach.tries(backends)
    assert backends * (1 - 1 / backends) ** draws < 1e-9
    assert backends == 1 or backends * (1 - 1 / backends) ** (draws - 1) > 1e-10, "no more than needed"


@pytest.mark.parametrize(("clients", "backends"), [(2, 2), (3, 3), (4, 2), (9, 9)])
def test_so_many_ports_tell_clients_apart(clients, backends):
    assert (backends ** (1 - clients)) ** frontends(clients, backends) <= 1.01e-9


class Batches:
    """A cluster where everything in the first batch is answered by the first of the given, and so on."""

    info = INFO

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        api = SmallCluster()
        self.kube = Kube(api, clock=api.clock)
        self.clock = api.clock
        self.batches = 0

    def prober(self, source: Target) -> Batches:
        return self

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        if not batch:
            return []
        name = self.names[min(self.batches, len(self.names) - 1)]
        self.batches += 1
        return [Outcome(probe.id, OutcomeKind.CONNECTED, answered_by=name) for probe in batch]


def test_backends_may_answer_in_different_batches():
    """UDP's choice may coincide with what else opens sockets."""
    backends = ("ns/a", "ns/b", "ns/c")
    cluster = Batches(*backends)
    lab = Lab(cluster, cluster.kube, image="")  # type: ignore[arg-type]
    destination = Destination(Target.service("ns", "s"), 80, Protocol.UDP)
    reach.everyone_answers(lab, [Target.pod("ns", "x")], destination, frozenset(backends))
    assert cluster.batches == 3


def test_who_never_answers_is_named():
    cluster = Batches("ns/a")
    lab = Lab(cluster, cluster.kube, image="")  # type: ignore[arg-type]
    destination = Destination(Target.service("ns", "s"), 80, Protocol.TCP)
    with pytest.raises(AssertionError, match=r"ns/x never by ns/b"):
        reach.everyone_answers(lab, [Target.pod("ns", "x")], destination, frozenset({"ns/a", "ns/b"}))


def _slice(name: str, *endpoints: tuple[str, bool | None], service: str = "s") -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "ns", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [
            {"addresses": [ip], "conditions": {} if ready is None else {"ready": ready}}
            for ip, ready in endpoints
        ],
    }


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "ns"}}


def test_backends_are_awaited_over_all_slices():
    api = MemoryTransport(
        _slice("s-1", ("10.0.0.1", None), ("10.0.0.9", False)),
        _slice("other", ("10.0.0.7", True), service="other"),
    )
    api.last(5.0, lambda: api.put(_slice("s-2", ("fd00::1", True))))
    reach.await_backends(Kube(api, clock=api.clock), SERVICE, {"10.0.0.1", "fd00::1"})


def test_backends_that_do_not_come_are_told():
    api = MemoryTransport(_slice("s-1", ("10.0.0.1", True)))
    with pytest.raises(WaitTimeout, match=r"backends none of Service s within .* last seen: 10\.0\.0\.1"):
        reach.await_backends(Kube(api, clock=api.clock), SERVICE, set())


def test_records_and_addresses():
    assert records(Outcome("p", OutcomeKind.DNS, rcode="NXDOMAIN")) == frozenset()
    assert records(Outcome("p", OutcomeKind.DNS, rcode="NOERROR", detail="a, b")) == {"a", "b"}
    assert reach.address_of(("10.0.0.1", "fd00::1"), 6, what="x") == "fd00::1"
    with pytest.raises(AssertionError, match=r"x: expected an IPv6 address, got 10\.0\.0\.1"):
        reach.address_of(("10.0.0.1",), 6, what="x")
