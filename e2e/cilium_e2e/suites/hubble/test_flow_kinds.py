"""Every kind of flow, found by the source port of a real probe: who, where, which way, on which node."""

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import TRACE, TRACE_SOCK, Wanted, find
from cilium_e2e.model import Direction, FlowVerdict, Protocol, Target
from cilium_e2e.probe.places import HOST_TCP, WORLD_TCP
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.hubble.scene import (
    TCP,
    UDP,
    WORKLOAD,
    Scene,
    assert_peer,
    both_ways,
    check,
    flows_of,
    on,
)

pytestmark = pytest.mark.requires("hubble-relay")

WORLD_IDENTITIES = {2, 9, 10}
"""``reserved:world``; on dual-stack clusters ``world-ipv4`` and ``world-ipv6``."""
LOCAL_IDENTITIES = 1 << 24
"""From here on identities are a node's own, for prefixes that policies name."""


def test_tcp_udp_and_icmp_are_forwarded_both_ways(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """Each protocol, beside the client and on another node: request and reply, on the nodes of both ends."""
    protocols = ((TCP, Protocol.TCP), (UDP, Protocol.UDP), (0, Protocol.ICMP))
    checks = [
        check(scene.client, target, port, protocol)
        for target in (scene.near, scene.far)
        for port, protocol in protocols
    ]
    judgement, flows = lab.witness(checks, hold=0)
    endpoints = cluster.endpoints()
    for entry in checks:
        probe = entry.probe
        request, reply = both_ways(lab, judgement, probe.id, flows)
        assert_peer(request.source, scene.client, endpoints)
        assert_peer(request.destination, probe.target, endpoints)
        assert_peer(reply.source, probe.target, endpoints)
        assert_peer(reply.destination, scene.client, endpoints)
        if probe.protocol is not Protocol.ICMP:
            port = judgement.outcome(probe.id).source_port
            assert (request.source.port, request.destination.port) == (port, probe.port)
            assert (reply.source.port, reply.destination.port) == (probe.port, port)
        requests = [flow for flow in flows_of(judgement, probe.id, flows) if not flow.is_reply]
        assert {on(flow) for flow in requests} == {scene.nodes[scene.client], scene.nodes[probe.target]}


def test_a_deployments_pod_is_seen_with_its_workload(lab: Lab, scene: Scene) -> None:
    """The pod's name is random, the workload's is the Deployment's; as source and as destination."""
    asked = check(scene.client, scene.web)
    asks = check(scene.web, scene.near)
    judgement, flows = lab.witness([asked, asks], hold=0)
    request, reply = both_ways(lab, judgement, asked.probe.id, flows)
    assert (request.destination.pod, request.destination.workload) == (scene.web.name, WORKLOAD)
    assert (reply.source.pod, reply.source.workload) == (scene.web.name, WORKLOAD)
    request, _ = both_ways(lab, judgement, asks.probe.id, flows)
    assert (request.source.pod, request.source.workload) == (scene.web.name, WORKLOAD)


@pytest.mark.requires("kube-proxy-replacement")
def test_a_service_is_translated_at_the_socket(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """The ClusterIP is translated before there is a packet: TRANSLATED to a backend; packets never carry it.

    Finding: a translation's flow has no source port, the socket has none yet. It is found by its pod.
    """
    asked = check(scene.client, scene.service)
    judgement, flows = lab.witness([asked], hold=0)
    outcome = judgement.outcome(asked.probe.id)
    backends = {cluster.address(pod): pod for pod in (scene.near, scene.far)}
    wanted = Wanted(verdict=FlowVerdict.TRANSLATED, event_type=TRACE_SOCK)
    mine = [
        flow
        for flow in flows
        if flow.source.ip == outcome.source_ip and (flow.destination.ip, flow.destination.port) != ("", 0)
    ]
    translated = find((flow for flow in mine if flow.destination.ip in backends), wanted)
    assert translated is not None, "\n".join(["no translation to a backend among:", *map(str, mine)])
    assert (translated.source.pod, translated.destination.port) == (scene.client.name, TCP)
    assert translated.source.port == 0
    packet = lab.flow(
        judgement,
        asked.probe.id,
        Wanted(verdict=FlowVerdict.FORWARDED, event_type=TRACE, reply=False),
        flows=flows,
        destinations=backends,
    )
    assert str(backends[packet.destination.ip]) == outcome.answered_by
    cluster_ip = cluster.address(scene.service)
    carried = [flow for flow in flows if flow.event_type == TRACE and flow.destination.ip == cluster_ip]
    assert carried == []


@pytest.mark.requires("world")
def test_the_world_is_seen_as_the_world(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """A pod to an agent outside the cluster: at egress of the pod's node, to the identity reserved:world.

    An address that somebody's policy names just now has an identity of its own, with that label, too.
    """
    asked = check(scene.client, Target.world("one"), WORLD_TCP)
    judgement, flows = lab.witness([asked], hold=0)
    wanted = Wanted(verdict=FlowVerdict.FORWARDED, direction=Direction.EGRESS, event_type=TRACE, reply=False)
    flow = lab.flow(judgement, asked.probe.id, wanted, flows=flows)
    assert_peer(flow.source, scene.client, cluster.endpoints())
    assert flow.destination.identity in WORLD_IDENTITIES or flow.destination.identity >= LOCAL_IDENTITIES
    assert "reserved:world" in {
        label.removesuffix("-ipv4").removesuffix("-ipv6") for label in flow.destination.labels
    }
    assert (flow.destination.pod, on(flow)) == ("", scene.nodes[scene.client])


@pytest.mark.requires("host-agents")
def test_the_nodes_own_traffic_is_seen_as_the_hosts(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """A pod to its own node and back: the node is reserved:host, whatever address it uses."""
    node = Target.node(scene.nodes[scene.client])
    to_host = check(scene.near, node, HOST_TCP)
    from_host = check(node, scene.near)
    judgement, flows = lab.witness([to_host, from_host], hold=0)
    endpoints = cluster.endpoints()
    request, _ = both_ways(lab, judgement, to_host.probe.id, flows)
    assert_peer(request.source, scene.near, endpoints)
    assert "reserved:host" in request.destination.labels, request
    request, _ = both_ways(lab, judgement, from_host.probe.id, flows)
    assert "reserved:host" in request.source.labels, request
    assert_peer(request.destination, scene.near, endpoints)
