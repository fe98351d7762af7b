"""Fixtures of the connectivity suite: agents in pairs on each node, and Services over them."""

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Ref, Target
from cilium_e2e.probe import service
from cilium_e2e.scenario import PodSpec, Quarter, Residents
from cilium_e2e.session import Handle
from cilium_e2e.suites.connectivity.reach import SERVED, SERVERS, Expose, Grid, Pod, await_backends


@pytest.fixture(scope="session")
def pod_of(kube: Kube) -> Callable[[Target, str], Pod]:
    """A running pod with the addresses that Cilium gave it."""

    def look(target: Target, node: str) -> Pod:
        status = kube.get(Ref("v1", "Pod", target.name, target.namespace))["status"]
        return Pod(target, node, tuple(entry["ip"] for entry in status["podIPs"]))

    return look


@pytest.fixture(scope="session")
def grid(
    handle: Handle,
    residents: Residents,
    pod_of: Callable[[Target, str], Pod],
) -> Grid:
    """Servers and clients, one of each on every node, and two of each at least; one grid a worker."""
    nodes = [node.name for node in handle.info.nodes]
    nodes *= 2 if len(nodes) == 1 else 1
    specs = [
        PodSpec(f"{role}-{number}", {"role": role, "pod": f"{role}-{number}"}, SERVED, node)
        for role in ("server", "client")
        for number, node in enumerate(nodes)
    ]
    namespace = residents.up("reach", {"reach": Quarter(specs)}).names["reach"]
    pods = [pod_of(Target.pod(namespace, spec.name), spec.node) for spec in specs]
    return Grid(namespace, tuple(pods[: len(nodes)]), tuple(pods[len(nodes) :]))


@pytest.fixture
def hosts(cluster: LiveCluster) -> list[Target]:
    """Every node, as target and, where its own network has an agent, as source."""
    return [Target.node(node.name) for node in cluster.info.nodes]


@pytest.fixture
def expose(kube: Kube, grid: Grid) -> Iterator[Expose]:
    """Makes a Service in the grid's namespace, by default over all servers on the ports they serve.

    It is deleted after the test. Options are those of :func:`cilium_e2e.probe.service`; with ``backends``
    (pods) it waits until Kubernetes lists just their addresses, of the Service's families.
    """
    made: list[Ref] = []

    def make(purpose: str, *, backends: tuple[Pod, ...] = (), **options: Any) -> Object:
        # A name of its own each time: what DNS remembers of a Service that is gone is no news of this one.
        name = f"{purpose}-{secrets.token_hex(2)}"
        settings = {"selector": SERVERS, "ports": SERVED, **options}
        applied = kube.apply(service(grid.namespace, name, **settings))
        made.append(Ref.of(applied))
        if backends:
            families = [6 if family == "IPv6" else 4 for family in applied["spec"]["ipFamilies"]]
            await_backends(kube, applied, {pod.ip_of(family) for pod in backends for family in families})
        return applied

    yield make
    for ref in made:
        kube.delete(ref)
