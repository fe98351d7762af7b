"""Counters count what was sent: the agents' own, and Hubble's where the release exports them."""

import urllib.request

import pytest

from cilium_e2e.cluster.agents import AgentPod
from cilium_e2e.cluster.counters import (
    DENIED_BY_DEFAULT,
    DENIED_BY_RULE,
    DROPS,
    FORWARDS,
    HUBBLE_FLOWS,
    Sample,
    parse_exposition,
    total,
)
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import DROP
from cilium_e2e.kube import Kube, LocalForward
from cilium_e2e.model import Destination, Direction, Expectation, Flow, Probe, Protocol, Ref
from cilium_e2e.scenario import Check, Lab, ticks
from cilium_e2e.suites.hubble.scene import OTHER_TCP, TCP, Scene, app, check, cilium_policy, flows_of, on

pytestmark = [pytest.mark.requires("hubble-relay"), pytest.mark.tier("full")]

PROBES = 20
COUNTED_WITHIN_S = 15.0
LOOK_EVERY_S = 0.5
HTTP_TIMEOUT_S = 10.0


def _many(scene: Scene, port: int, outcome: str) -> list[Check]:
    destination = Destination(scene.near, port, Protocol.TCP)
    return [
        Check(Probe.to(scene.client, destination, id=f"{destination} {number}"), Expectation(outcome))
        for number in range(PROBES)
    ]


def _agent(cluster: LiveCluster, node: str) -> AgentPod:
    return next(agent for agent in cluster.agents.pods() if agent.node == node)


@pytest.mark.parametrize(
    ("side", "reason", "word"),
    [("ingress", "POLICY_DENIED", DENIED_BY_DEFAULT), ("ingressDeny", "POLICY_DENY", DENIED_BY_RULE)],
)
def test_drops_are_counted(
    lab: Lab, cluster: LiveCluster, scene: Scene, side: str, reason: str, word: str
) -> None:
    """Denied by default or by a rule: that counter of that node rises by at least the drops that flows show.

    It counts everybody's drops on the node, so it may rise by more. What is let through is counted as well.
    """
    rules: dict[str, object] = {"ingress": [{"fromEndpoints": [app("client")], "toPorts": _ports(TCP)}]}
    if side == "ingressDeny":
        rules = {
            "ingress": [{"fromEndpoints": [{}]}],
            side: [{"fromEndpoints": [app("client")], "toPorts": _ports(OTHER_TCP)}],
        }
    policy = cilium_policy(scene.namespace, "counted", endpointSelector=app("near"), **rules)
    allowed, denied = _many(scene, TCP, "connected"), _many(scene, OTHER_TCP, "denied")
    node = scene.nodes[scene.near]
    agent = _agent(cluster, node)
    lab.judge([check(scene.client, scene.near, OTHER_TCP)], hold=0)
    with lab.in_force([policy], [str(scene.client), str(scene.near)]):
        before = cluster.agents.metrics(agent)
        judgement, flows = lab.witness([*allowed, *denied], hold=0)
        after = cluster.agents.metrics(agent)
    drops: list[Flow] = []
    for entry in denied:
        mine = [flow for flow in flows_of(judgement, entry.probe.id, flows) if flow.event_type == DROP]
        assert mine, f"no drop flow of {entry.probe.id}"
        assert {flow.drop_reason for flow in mine} == {reason}
        assert {(flow.direction, on(flow)) for flow in mine} == {(Direction.INGRESS, node)}
        drops += mine
    counted = _rise(before, after, DROPS, reason=word, direction="INGRESS")
    lab.evidence.notes["drops"] = f"{PROBES} probes, {len(drops)} drop flows, counter +{counted:g}"
    assert counted >= len(drops) >= PROBES
    # Each connection has at least its SYN, its answer, and the acknowledgement.
    assert _rise(before, after, FORWARDS) >= 3 * PROBES


def _ports(port: int) -> list[dict[str, object]]:
    return [{"ports": [{"port": str(port), "protocol": "TCP"}]}]


def _rise(before: list[Sample], after: list[Sample], name: str, **labels: str) -> float:
    return total(after, name, **labels) - total(before, name, **labels)


@pytest.mark.requires("hubble-metrics")
def test_hubbles_metrics_count_flows(lab: Lab, cluster: LiveCluster, kube: Kube, scene: Scene) -> None:
    """Where ``hubble.metrics.enabled`` has ``flow``, what a node exports rises with what was probed there."""
    config = kube.get(Ref("v1", "ConfigMap", "cilium-config", cluster.info.cilium_namespace))["data"]
    metrics = config.get("hubble-metrics", "").split()
    if not any(metric.partition(":")[0] == "flow" for metric in metrics):
        pytest.skip(f"hubble.metrics.enabled has no 'flow', only {', '.join(metrics) or 'none'}")
    if config.get("hubble-metrics-server-enable-tls") == "true":
        pytest.skip("Hubble's metrics are served over TLS, which this test does not speak")
    port = int(config["hubble-metrics-server"].rpartition(":")[2])
    agent = _agent(cluster, scene.nodes[scene.near])
    with LocalForward(cluster.kube, agent.ref, port) as forward:
        before = _scrape(forward.address)
        lab.judge(_many(scene, TCP, "connected"), hold=0)
        # Flows are counted when they are processed, which may be after the connection's end.
        for at_s in ticks(cluster.clock, LOOK_EVERY_S):
            rise = _rise(before, _scrape(forward.address), HUBBLE_FLOWS, verdict="FORWARDED", protocol="TCP")
            if rise >= 2 * PROBES:
                break
            assert at_s < COUNTED_WITHIN_S, f"{PROBES} connections, but {HUBBLE_FLOWS} rose by {rise:g} only"
    lab.evidence.notes["hubble metrics"] = f"{PROBES} connections, {HUBBLE_FLOWS} +{rise:g}"


def _scrape(address: str) -> list[Sample]:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    url = f"http://{address}/metrics"
    with opener.open(url, timeout=HTTP_TIMEOUT_S) as answer:
        return parse_exposition(answer.read().decode(), place=url)
