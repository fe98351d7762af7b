"""Fixtures for suites and for users' own tests: the cluster, a worker's namespace, agents on each node."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Target
from cilium_e2e.plugin.lifecycle import HANDLE, OPTIONS
from cilium_e2e.probe import Port
from cilium_e2e.repository import Repository, clusters_folder, load, load_topology
from cilium_e2e.scenario import PodSpec, ServiceSpec, deploy, namespace
from cilium_e2e.session import Handle, Options
from cilium_e2e.session.start import attach

TCP = 8080
UDP = 8080
HTTP = 8081


@dataclass(frozen=True, slots=True)
class Agents:
    """One agent on each node, and a Service over all of them.

    Attributes:
        namespace: where they are.
        pods: node name to the agent there.
        service: the Service.
    """

    namespace: str
    pods: dict[str, Target]
    service: Target


@pytest.fixture(scope="session")
def run_options(pytestconfig: pytest.Config) -> Options:
    """What the run was asked for."""
    return pytestconfig.stash[OPTIONS]


@pytest.fixture(scope="session")
def handle(pytestconfig: pytest.Config) -> Handle:
    """The running cluster as plain data."""
    return pytestconfig.stash[HANDLE]


@pytest.fixture(scope="session")
def cluster(handle: Handle, run_options: Options) -> Iterator[LiveCluster]:
    """The cluster under test; connections are this worker's own."""
    attached = attach(handle, run_options)
    yield attached
    attached.close()


@pytest.fixture(scope="session")
def kube(cluster: LiveCluster) -> Kube:
    """The cluster's API."""
    return cluster.api


@pytest.fixture(scope="session")
def repository(run_options: Options) -> Repository:
    """The tree under test."""
    topology = load_topology(
        clusters_folder(run_options.repository, run_options.clusters), run_options.topology
    )
    return load(
        run_options.repository,
        run_options.path,
        run_options.release,
        values=run_options.values,
        topology=topology,
    )


@pytest.fixture(scope="session")
def make_namespace(kube: Kube) -> Iterator[Callable[[str], str]]:
    """Makes namespaces of this worker's own, ``ce2e-<worker>-<purpose>-<random>``; deleted at its end."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    with ExitStack() as stack:

        def make(purpose: str) -> str:
            name = f"ce2e-{worker}-{purpose}-{secrets.token_hex(2)}"
            return stack.enter_context(namespace(kube, name))

        yield make


@pytest.fixture(scope="session")
def agents(cluster: LiveCluster, kube: Kube, handle: Handle, make_namespace: Callable[[str], str]) -> Agents:
    """One agent on each node, with a Service over all of them."""
    name = make_namespace("agents")
    labels = {"app": "agents"}
    ports = (Port(TCP, "TCP"), Port(UDP, "UDP"), Port(HTTP, "HTTP"))
    nodes = [node.name for node in handle.info.nodes]
    specs = [PodSpec(f"agent-{number}", labels, ports, node) for number, node in enumerate(nodes)]
    pods = deploy(
        cluster, kube, name, specs, [ServiceSpec("agents", labels, ports)], image=handle.agent_image
    )
    return Agents(name, dict(zip(nodes, pods, strict=True)), Target.service(name, "agents"))


@pytest.fixture(autouse=True)
def _requirements(request: pytest.FixtureRequest) -> None:
    """Skip what the cluster cannot show, and say what is missing."""
    for mark in request.node.iter_markers("requires"):
        info = request.getfixturevalue("handle").info
        present = info.features | {capability.value for capability in info.capabilities}
        if missing := [name for name in mark.args if name not in present]:
            pytest.skip(f"topology {info.topology} with this release has no {', '.join(missing)}")
