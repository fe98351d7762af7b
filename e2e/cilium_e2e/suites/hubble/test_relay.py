"""Relay: what it says of itself and of the nodes, TLS, and a restart that loses no flow unsaid."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.relay_link import RELAY_PORT, RELAY_SELECTOR
from cilium_e2e.hubble.relay import RelaySource
from cilium_e2e.kube import Kube, LocalForward
from cilium_e2e.model import Ref, StreamLost
from cilium_e2e.scenario import Lab, remove
from cilium_e2e.suites.hubble.scene import Scene, both_ways, check, pod_of

pytestmark = pytest.mark.requires("hubble-relay")

BACK_WITHIN_S = 120.0


def test_relay_says_what_hubble_status_says(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """Every node is connected, has version and uptime, and has seen more flows after a probe than before.

    These are the numbers that ``hubble status`` and ``hubble list nodes`` print.
    """
    relay = cluster.relay()
    before = {report.name: report for report in relay.node_reports()}
    lab.witness([check(scene.client, scene.far), check(scene.far, scene.near)], hold=0)
    reports = relay.node_reports()
    assert {report.name.rpartition("/")[2] for report in reports} == {n.name for n in cluster.info.nodes}
    for report in reports:
        assert report.state == "NODE_CONNECTED"
        assert report.version, f"expected {report.name} to say its version"
        assert report.uptime_s > before[report.name].uptime_s > 0
        assert report.flows_most > 0
        if report.name.rpartition("/")[2] in scene.nodes.values():
            assert report.flows_seen > before[report.name].flows_seen
    status = relay.status()
    assert (status.connected, status.unavailable, status.unavailable_nodes) == (len(reports), 0, ())
    assert status.version
    assert 0 < status.flows_kept <= status.flows_most == sum(report.flows_most for report in reports)
    assert status.flows_seen >= sum(report.flows_seen for report in reports)


@pytest.mark.requires("hubble-relay-tls")
def test_relay_with_tls_refuses_plain_text(cluster: LiveCluster, kube: Kube) -> None:
    """The suite's own stream uses the release's certificates; who has none gets nothing."""
    assert cluster.relay().status().version
    pod = pod_of(kube, cluster.info.cilium_namespace, RELAY_SELECTOR)
    with LocalForward(cluster.kube, Ref("v1", "Pod", pod.name, pod.namespace), RELAY_PORT) as forward:
        plain = RelaySource(forward.address, call_timeout_s=3.0)
        try:
            with pytest.raises(StreamLost):
                plain.start()
        finally:
            plain.close()


@pytest.mark.disruptive
@pytest.mark.tier("full")
@pytest.mark.usefixtures("disposable")
def test_a_relay_restart_is_survived(lab: Lab, cluster: LiveCluster, kube: Kube, scene: Scene) -> None:
    """Flows made while relay is away are read from the nodes' rings afterwards, or their gap is declared."""
    relay = cluster.relay()
    opened = relay.reconnects
    namespace = cluster.info.cilium_namespace
    old = pod_of(kube, namespace, RELAY_SELECTOR)
    remove(kube, Ref("v1", "Pod", old.name, namespace))
    away = check(scene.client, scene.near)
    judgement = lab.judge([away], hold=0)
    new = pod_of(kube, namespace, RELAY_SELECTOR)
    assert new != old
    # A new relay has to find the nodes first; the wait tells which one it lacks.
    relay.wait_past(cluster.clock.time(), timeout_s=BACK_WITHIN_S)
    assert relay.reconnects > opened
    try:
        flows = lab.flows(judgement)
    except StreamLost as gap:
        lab.evidence.notes["relay restart"] = f"declared: {gap}"
    else:
        both_ways(lab, judgement, away.probe.id, flows)
        lab.evidence.notes["relay restart"] = "no gap: the flows made meanwhile were read afterwards"
    back = check(scene.client, scene.far)
    judgement, flows = lab.witness([back], hold=0)
    both_ways(lab, judgement, back.probe.id, flows)
