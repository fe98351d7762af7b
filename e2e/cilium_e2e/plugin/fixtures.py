"""Fixtures for suites and for users' own tests: the cluster, a worker's namespace, agents on each node."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Backend, BackendUnavailable, Target
from cilium_e2e.plugin.clusters import CLUSTERS, handle_of
from cilium_e2e.plugin.evidence import evidence_of
from cilium_e2e.plugin.flow_stream import FlowStream, declines_flows
from cilium_e2e.plugin.reporting import on_failure
from cilium_e2e.probe import Port
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import Lab, PodSpec, Quarter, Residents, ServiceSpec, namespace
from cilium_e2e.session import Handle, Options
from cilium_e2e.session.choice import attach

TCP = 8080
UDP = 8080
HTTP = 8081
_STREAM = pytest.StashKey[tuple[Handle, FlowStream]]()
_TEST = pytest.StashKey[pytest.Item]()


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


def worker_name() -> str:
    """This process among xdist's workers, ``gw0`` and so on; ``main`` where there are none."""
    return os.environ.get("PYTEST_XDIST_WORKER", "main")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Open or close the worker's flow stream as the test needs it, if there is a stream yet."""
    item.session.stash[_TEST] = item
    handle, stream = item.session.stash.get(_STREAM, (None, None))
    if stream is not None and handle == handle_of(item):
        stream.expect(item)


@pytest.fixture(scope="session")
def run_options(pytestconfig: pytest.Config) -> Options:
    """What the run was asked for."""
    clusters = pytestconfig.stash[CLUSTERS]
    return clusters.options[clusters.first]


@pytest.fixture(scope="session")
def handle(pytestconfig: pytest.Config) -> Handle:
    """The running cluster as plain data."""
    clusters = pytestconfig.stash[CLUSTERS]
    return clusters.handles[clusters.first]


@pytest.fixture(scope="session")
def cluster(handle: Handle, run_options: Options, request: pytest.FixtureRequest) -> Iterator[LiveCluster]:
    """The cluster under test; connections are this worker's own."""
    attached = attach(handle, run_options)
    stash = request.session.stash
    stream = FlowStream(attached, handle.info)
    stash[_STREAM] = handle, stream
    stream.expect(stash[_TEST])
    yield attached
    if stash.get(_STREAM, None) == (handle, stream):
        del stash[_STREAM]
    try:
        stream.settle()
    finally:
        attached.close()


if TYPE_CHECKING:  # it brings the engine's client
    from cilium_e2e.cluster.kind import KindCluster


@pytest.fixture(scope="session")
def kind_cluster(handle: Handle, run_options: Options, pytestconfig: pytest.Config) -> KindCluster:
    """In place of pytest-kind's fixture: the running cluster, neither created nor deleted here.

    pytest finds this one first, because this module is registered after the plugins that are installed.
    """
    if handle.info.backend is not Backend.KIND:
        pytest.skip(f"the backend is {handle.info.backend.value}, not kind")
    from cilium_e2e.cluster.kind import KindCluster  # noqa: PLC0415 - see above

    found = KindCluster(handle.info.name, state=handle.kubeconfig.parent, kind_path=run_options.kind_bin)
    found.kubeconfig_path = handle.kubeconfig
    found.ensure_kind()
    if kubectl := pytestconfig.getoption("--kind-kubectl-bin", default=None):
        found.kubectl_path = Path(kubectl)
    else:
        with suppress(BackendUnavailable):  # only some of its methods need kubectl
            found.ensure_kubectl()
    return found


@pytest.fixture(scope="session")
def kube(cluster: LiveCluster) -> Kube:
    """The cluster's API."""
    return cluster.api


@pytest.fixture(scope="session")
def repository(pytestconfig: pytest.Config) -> Repository:
    """The tree under test."""
    clusters = pytestconfig.stash[CLUSTERS]
    return clusters.tree(clusters.first)


@pytest.fixture(scope="session")
def flow_stream(cluster: LiveCluster, handle: Handle, request: pytest.FixtureRequest) -> FlowStream:
    """This worker's flow stream; ``cluster`` has brought it, unless somebody has put another in its place."""
    return request.session.stash.setdefault(_STREAM, (handle, FlowStream(cluster, handle.info)))[1]


@pytest.fixture
def lab(
    cluster: LiveCluster, kube: Kube, handle: Handle, flow_stream: FlowStream, request: pytest.FixtureRequest
) -> Lab:
    """The test's place of work; what is done in it becomes evidence in every report.

    The flow stream is open before it, so that flows can be asked for after any probe; but not for tests that
    say they ask for none.
    """
    evidence = evidence_of(request.node)
    followed = not declines_flows(request.node)
    if followed and (why := flow_stream.open()):
        evidence.notes["hubble"] = why
    return Lab(
        cluster,
        kube,
        image=handle.agent_image,
        evidence=evidence,
        on_failure=on_failure(request),
        follow=None if followed else flow_stream.open,
    )


@pytest.fixture(scope="session")
def make_namespace(kube: Kube) -> Iterator[Callable[[str], str]]:
    """Makes namespaces of this worker's own, ``ce2e-<worker>-<purpose>-<random>``; deleted at its end."""
    with ExitStack() as stack:

        def make(purpose: str) -> str:
            name = f"ce2e-{worker_name()}-{purpose}-{secrets.token_hex(2)}"
            return stack.enter_context(namespace(kube, name))

        yield make


@pytest.fixture(scope="session")
def residents(cluster: LiveCluster, kube: Kube, handle: Handle, run_options: Options) -> Iterator[Residents]:
    """Workloads that this worker's tests share; where the cluster is kept, the next run finds them."""
    made = Residents(
        cluster,
        kube,
        image=handle.agent_image,
        worker=worker_name(),
        keep=run_options.keep and handle.info.backend is Backend.KIND,
    )
    yield made
    made.close()


@pytest.fixture(scope="session")
def agents(handle: Handle, residents: Residents) -> Agents:
    """One agent on each node, with a Service over all of them."""
    labels = {"app": "agents"}
    ports = (Port(TCP, "TCP"), Port(UDP, "UDP"), Port(HTTP, "HTTP"))
    nodes = [node.name for node in handle.info.nodes]
    specs = [PodSpec(f"agent-{number}", labels, ports, node) for number, node in enumerate(nodes)]
    quarter = Quarter(specs, [ServiceSpec("agents", labels, ports)])
    name = residents.up("agents", {"agents": quarter}).names["agents"]
    pods = {node: Target.pod(name, spec.name) for node, spec in zip(nodes, specs, strict=True)}
    return Agents(name, pods, Target.service(name, "agents"))
