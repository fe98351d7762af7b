"""README, "Hubble": each packet of the demo policy is seen, with its verdict, its reason, and the policy."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble.matching import POLICY_VERDICT, Wanted, evidence, explain, find
from cilium_e2e.model import (
    Destination,
    Direction,
    DropReason,
    Expectation,
    Flow,
    FlowFilter,
    FlowVerdict,
    Outcome,
    Probe,
    Protocol,
    Target,
    TimeWindow,
)
from cilium_e2e.scenario import Check, judge, require
from cilium_e2e.suites.demo import ALLOWED_PORT, OTHER_PORT, REQUIREMENT, Demo

pytestmark = [pytest.mark.requires("hubble-relay"), pytest.mark.tier("full")]


def _probe_and_flows(
    cluster: LiveCluster, source: Target, target: Target, port: int, expected: str
) -> tuple[Probe, Outcome, list[Flow], TimeWindow]:
    """Make one probe that comes out as expected, and bring the flows of its time."""
    # Open before the probe: the stream starts with what comes after it.
    cluster.relay()
    probe = Probe.to(source, Destination(target, port, Protocol.TCP))
    judgement = judge(cluster, [Check(probe, Expectation(expected))], hold=0)
    require(judgement)
    # The nodes of a kind cluster share this machine's clock, so the window needs no slack.
    window = TimeWindow(judgement.started_s, cluster.clock.time())
    flows = cluster.flows(window, FlowFilter(namespaces=(target.namespace,)))
    return probe, judgement.outcome(probe.id), flows, window


def _flow(wanted: Wanted, flows: list[Flow], outcome: Outcome, probe: Probe, window: TimeWindow) -> Flow:
    found = find(evidence(flows, outcome, probe, window=window), wanted)
    assert found is not None, explain(wanted, flows, outcome, probe, window=window)
    return found


@pytest.mark.requires(REQUIREMENT)
def test_the_forwarded_flow_names_the_policy(cluster: LiveCluster, demo: Demo) -> None:
    """Frontend → demo:8080 is FORWARDED at ingress, allowed by the demo policy, with both identities."""
    probe, outcome, flows, window = _probe_and_flows(
        cluster, demo.frontend, demo.demo, ALLOWED_PORT, "connected"
    )
    wanted = Wanted(
        verdict=FlowVerdict.FORWARDED,
        direction=Direction.INGRESS,
        policy=demo.policy,
        event_type=POLICY_VERDICT,
    )
    flow = _flow(wanted, flows, outcome, probe, window)
    identities = {endpoint.name: endpoint.identity for endpoint in cluster.endpoints()}
    for peer, pod in ((flow.source, demo.frontend), (flow.destination, demo.demo)):
        assert (peer.namespace, peer.pod) == (pod.namespace, pod.name)
        assert peer.identity == identities[str(pod)].number
        assert f"k8s:app={pod.name}" in peer.labels
    assert flow.node, "expected the flow to name its node"


@pytest.mark.requires(REQUIREMENT)
@pytest.mark.parametrize(("source", "port"), [("frontend", OTHER_PORT), ("other", ALLOWED_PORT)])
def test_the_dropped_flow_says_why(cluster: LiveCluster, demo: Demo, source: str, port: int) -> None:
    """A wrong port and a wrong identity are DROPPED at ingress: no rule allows them (POLICY_DENIED)."""
    pod: Target = getattr(demo, source)
    probe, outcome, flows, window = _probe_and_flows(cluster, pod, demo.demo, port, "denied")
    wanted = Wanted(
        verdict=FlowVerdict.DROPPED,
        direction=Direction.INGRESS,
        reason=DropReason.POLICY_DENIED.value,
    )
    flow = _flow(wanted, flows, outcome, probe, window)
    assert (flow.source.namespace, flow.source.pod) == (pod.namespace, pod.name)
    assert (flow.destination.namespace, flow.destination.pod) == (demo.demo.namespace, demo.demo.name)
    assert flow.destination.port == port


def test_relay_sees_every_node(cluster: LiveCluster) -> None:
    """Relay is connected to every node of the cluster, so that an absent flow means something."""
    connected = {
        name
        for status in cluster.relay().nodes()
        if status.state == "NODE_CONNECTED"
        for name in status.nodes
    }
    nodes = {node.name for node in cluster.info.nodes}
    assert {name.rpartition("/")[2] for name in connected} == nodes
