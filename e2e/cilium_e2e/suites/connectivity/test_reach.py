"""Connectivity without policy: every agent reaches every other, the API server, and a Service by name."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Destination, Expectation, Probe, Protocol, Target
from cilium_e2e.plugin.fixtures import HTTP, TCP, UDP, Agents
from cilium_e2e.scenario import Check, judge, require

CONNECTED = Expectation("connected")


def _name(target: Target) -> frozenset[str]:
    return frozenset({str(target)})


@pytest.mark.requires("multi-node")
def test_every_agent_reaches_every_other(cluster: LiveCluster, agents: Agents) -> None:
    """Pod to pod on the same and on other nodes, by TCP, UDP, HTTP and ICMP; the right pod answers."""
    ports = ((TCP, Protocol.TCP), (UDP, Protocol.UDP), (HTTP, Protocol.HTTP), (0, Protocol.ICMP))
    checks = [
        Check(
            Probe.to(source, Destination(target, port, protocol)),
            CONNECTED,
            frozenset() if protocol is Protocol.ICMP else _name(target),
        )
        for source in agents.pods.values()
        for target in agents.pods.values()
        if source != target
        for port, protocol in ports
    ]
    assert checks, "expected at least two nodes to probe between"
    require(judge(cluster, checks))


def test_every_agent_reaches_the_api_server(cluster: LiveCluster, agents: Agents) -> None:
    """The API server through its Service, which nothing but Cilium translates here."""
    api_server = Destination(Target.service("default", "kubernetes"), 443, Protocol.TCP)
    require(
        judge(cluster, [Check(Probe.to(source, api_server), CONNECTED) for source in agents.pods.values()])
    )


def test_every_agent_reaches_a_service_by_name(cluster: LiveCluster, agents: Agents) -> None:
    """Cluster DNS and Service translation, from every node; one of the Service's backends answers."""
    name = Target.dns(f"{agents.service.name}.{agents.namespace}.svc.cluster.local")
    backends = frozenset(map(str, agents.pods.values()))
    checks = [
        Check(Probe.to(source, Destination(name, port, protocol), timeout_s=3.0), CONNECTED, backends)
        for source in agents.pods.values()
        for port, protocol in ((TCP, Protocol.TCP), (UDP, Protocol.UDP), (HTTP, Protocol.HTTP))
    ]
    require(judge(cluster, checks))
