"""README, "Load Balancing": a Service follows its pods, as they go and as they come."""

from collections.abc import Callable

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Destination, Object, Protocol, Ref, Target
from cilium_e2e.probe import service
from cilium_e2e.scenario import Lab, PodSpec, deploy, remove
from cilium_e2e.suites.connectivity.reach import (
    CLIENTS,
    SERVED,
    SERVERS,
    SERVICES,
    Pod,
    await_backends,
    everyone_answers,
    names,
    nobody,
    reach,
    target_of,
    tries,
)

pytestmark = [pytest.mark.flowless, pytest.mark.tier("full")]
HOLD = 4


@pytest.fixture
def nodes(cluster: LiveCluster) -> list[str]:
    """The nodes' names."""
    return [node.name for node in cluster.info.nodes]


@pytest.fixture
def namespace(make_namespace: Callable[[str], str]) -> str:
    """A namespace of this test's own: what comes and goes here must not disturb the others."""
    return make_namespace("endpoints")


@pytest.fixture
def clients(cluster: LiveCluster, kube: Kube, lab: Lab, namespace: str, nodes: list[str]) -> list[Target]:
    """A client on each node."""
    specs = [PodSpec(f"client-{number}", CLIENTS, SERVED, node) for number, node in enumerate(nodes)]
    return deploy(cluster, kube, namespace, specs, image=lab.image)


@pytest.fixture
def start(
    cluster: LiveCluster, kube: Kube, lab: Lab, namespace: str, pod_of: Callable[[Target, str], Pod]
) -> Callable[[str, str], Pod]:
    """Starts a server on a node."""

    def make(name: str, node: str) -> Pod:
        (target,) = deploy(cluster, kube, namespace, [PodSpec(name, SERVERS, SERVED, node)], image=lab.image)
        return pod_of(target, node)

    return make


@pytest.fixture
def shared(kube: Kube, namespace: str) -> Object:
    """A Service over all servers, those that will come included."""
    return kube.apply(service(namespace, "shared", selector=SERVERS, ports=SERVED))


def test_a_service_follows_its_pods(
    lab: Lab,
    kube: Kube,
    nodes: list[str],
    clients: list[Target],
    start: Callable[[str, str], Pod],
    shared: Object,
) -> None:
    """One of three backends is deleted: only the others answer. A new one comes: it answers too.

    All are deleted: nobody answers. Whenever Kubernetes has said it, Cilium has some seconds to follow; then
    nothing may be sent to who is gone, in five rounds of enough probes to find each backend.
    """
    tcp = Destination(target_of(shared), SERVICES[Protocol.TCP], Protocol.TCP)
    servers = [start(f"server-{number}", nodes[number % len(nodes)]) for number in range(3)]
    await_backends(kube, shared, [server.ip for server in servers])
    everyone_answers(lab, clients, tcp, names(servers))

    gone, *left = servers
    remove(kube, Ref("v1", "Pod", gone.target.name, gone.target.namespace))
    await_backends(kube, shared, [server.ip for server in left])
    checks = [
        check
        for client in clients
        for number in range(tries(len(servers)))
        for check in reach(client, tcp.target, SERVICES, by=names(left), tag=f"#{number}")
    ]
    lab.judge(checks, hold=0)
    # No time to converge any more: a single probe that comes out differently is a failure.
    lab.judge(checks, hold=HOLD, converge_s=0)
    everyone_answers(lab, clients, tcp, names(left))

    new = start("server-new", nodes[-1])
    await_backends(kube, shared, [server.ip for server in (*left, new)])
    everyone_answers(lab, clients, tcp, names([*left, new]))

    for server in (*left, new):
        remove(kube, Ref("v1", "Pod", server.target.name, server.target.namespace))
    await_backends(kube, shared, [])
    lab.judge([check for client in clients for check in nobody(client, tcp.target, SERVICES)])
