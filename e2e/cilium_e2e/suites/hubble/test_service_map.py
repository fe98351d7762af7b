"""README, "Automatic service topology": the map that flows draw is exactly what was probed."""

import pytest

from cilium_e2e.hubble.servicemap import Edge, service_map
from cilium_e2e.model import FlowFilter, Protocol, Target
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.hubble.scene import (
    OTHER_TCP,
    TCP,
    UDP,
    WORKLOAD,
    Scene,
    app,
    check,
    cilium_policy,
)

pytestmark = [pytest.mark.requires("hubble-relay"), pytest.mark.tier("full")]


def test_the_service_map_is_what_was_probed(lab: Lab, scene: Scene) -> None:
    """Every edge that was probed and no other, allowed and denied, by workload, port and protocol."""
    rule = {
        "fromEndpoints": [app("client")],
        "toPorts": [{"ports": [{"port": str(TCP), "protocol": "TCP"}]}],
    }
    policy = cilium_policy(scene.namespace, "map", endpointSelector=app("near"), ingress=[rule])
    denied = [
        check(scene.client, scene.near, OTHER_TCP, outcome="denied"),
        check(scene.web, scene.near, TCP, outcome="denied"),
    ]
    allowed = [
        check(scene.client, scene.near, TCP),
        check(scene.client, scene.far, UDP, Protocol.UDP),
        check(scene.client, scene.far, 0, Protocol.ICMP),
        check(scene.client, scene.web, OTHER_TCP),
        check(scene.web, scene.far, TCP),
        check(scene.far, scene.web, TCP),
    ]
    lab.judge([check(one.probe.source, one.probe.target, one.probe.port) for one in denied], hold=0)
    with lab.in_force([policy], scene.pods):
        _, flows = lab.witness([*allowed, *denied], FlowFilter(namespaces=(scene.namespace,)), hold=0)
    found = service_map(flows)
    lab.evidence.notes["service map"] = str(found)

    def edge(entry: Check) -> Edge:
        probe = entry.probe
        source, destination = (_workload(pod, scene) for pod in (probe.source, probe.target))
        connected = str(entry.expected) == "connected"
        return Edge(source, destination, probe.port, probe.protocol.transport, connected)

    assert {str(one) for one in found.edges} == {str(edge(entry)) for entry in [*allowed, *denied]}


def _workload(pod: Target, scene: Scene) -> str:
    return f"{scene.namespace}/{WORKLOAD}" if pod == scene.web else str(pod)
