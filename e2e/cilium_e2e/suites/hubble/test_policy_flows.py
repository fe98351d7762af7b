"""Policy verdicts as flows: which policy let a packet through, and why another one was dropped."""

from collections.abc import Mapping, Sequence

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import DROP, POLICY_VERDICT, Wanted
from cilium_e2e.model import Direction, DropReason, Endpoint, FlowVerdict, Object, Protocol, Target
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.hubble.scene import (
    OTHER_TCP,
    TCP,
    UDP,
    Scene,
    app,
    assert_peer,
    check,
    cilium_policy,
    flows_of,
    kubernetes_policy,
    on,
)

pytestmark = pytest.mark.requires("hubble-relay")

DIRECTIONS = [Direction.INGRESS, pytest.param(Direction.EGRESS, marks=pytest.mark.tier("full"))]
PORT = {"port": str(TCP), "protocol": "TCP"}


def _policy(kind: str, direction: Direction, namespace: str) -> Object:
    """Client may reach near on one TCP port, and nothing else: said at one of the two sides."""
    name = f"allow-{direction.value.lower()}"
    if kind == "NetworkPolicy":
        ports = [{"protocol": "TCP", "port": TCP}]
        if direction is Direction.INGRESS:
            rules = {"ingress": [{"from": [{"podSelector": app("client")}], "ports": ports}]}
            return kubernetes_policy(
                namespace, name, podSelector=app("near"), policyTypes=["Ingress"], **rules
            )
        rules = {"egress": [{"to": [{"podSelector": app("near")}], "ports": ports}]}
        return kubernetes_policy(namespace, name, podSelector=app("client"), policyTypes=["Egress"], **rules)
    to_ports: Sequence[Mapping[str, object]] = [{"ports": [PORT]}]
    if direction is Direction.INGRESS:
        rule = {"fromEndpoints": [app("client")], "toPorts": to_ports}
        return cilium_policy(namespace, name, endpointSelector=app("near"), ingress=[rule])
    rule = {"toEndpoints": [app("near")], "toPorts": to_ports}
    return cilium_policy(namespace, name, endpointSelector=app("client"), egress=[rule])


def _control(lab: Lab, *checks: Check) -> None:
    """What a policy will deny is reachable without it."""
    probes = [entry.probe for entry in checks]
    lab.judge([check(p.source, p.target, p.port, p.protocol) for p in probes], hold=0)


def _assert_ends(lab: Lab, flow_of: tuple[Target, Target], endpoints: Sequence[Endpoint]) -> None:
    flow = lab.evidence.flows[-1]
    for peer, pod in zip((flow.source, flow.destination), flow_of, strict=True):
        assert_peer(peer, pod, endpoints)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    "kind", ["CiliumNetworkPolicy", pytest.param("NetworkPolicy", marks=pytest.mark.tier("full"))]
)
def test_a_verdict_names_the_policy_that_allowed_it(
    lab: Lab, cluster: LiveCluster, scene: Scene, kind: str, direction: Direction
) -> None:
    """FORWARDED at the policy's side, naming it; by default DROPPED there, POLICY_DENIED, naming nobody.

    A denied packet makes two flows: the verdict's, and the drop's.
    """
    pair = (scene.client, scene.near)
    allowed = check(*pair)
    denied = [
        check(*pair, OTHER_TCP, outcome="denied"),
        check(*pair, UDP, Protocol.UDP, outcome="denied"),
    ]
    _control(lab, *denied)
    with lab.in_force([_policy(kind, direction, scene.namespace)], [*map(str, pair)]) as held:
        judgement, flows = lab.witness([allowed, *denied], hold=0)
    endpoints = cluster.endpoints()
    verdict = lab.flow(
        judgement,
        allowed.probe.id,
        Wanted(
            verdict=FlowVerdict.FORWARDED, direction=direction, policy=held.ref, event_type=POLICY_VERDICT
        ),
        flows=flows,
    )
    assert verdict.policies == (held.ref,)
    assert on(verdict) == scene.nodes[scene.near if direction is Direction.INGRESS else scene.client]
    _assert_ends(lab, pair, endpoints)
    for entry in denied:
        for event_type in (POLICY_VERDICT, DROP):
            dropped = lab.flow(
                judgement,
                entry.probe.id,
                Wanted(
                    verdict=FlowVerdict.DROPPED,
                    direction=direction,
                    reason=DropReason.POLICY_DENIED.value,
                    event_type=event_type,
                ),
                flows=flows,
            )
            assert dropped.policies == (), "no rule denied it, so there is nobody to name"
            assert dropped.destination.port == entry.probe.port
            _assert_ends(lab, pair, endpoints)
        answered = [flow for flow in flows_of(judgement, entry.probe.id, flows) if flow.is_reply]
        assert answered == [], "what is denied has no answer"


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_verdict_names_the_policy_that_denied_it(lab: Lab, scene: Scene, direction: Direction) -> None:
    """A deny rule beats an allow of everything: DROPPED, POLICY_DENY, the verdict names the denying one."""
    ingress = direction is Direction.INGRESS
    subject = app("near") if ingress else app("client")
    side, peers = ("ingress", "fromEndpoints") if ingress else ("egress", "toEndpoints")
    other = app("client") if ingress else app("near")
    allow = cilium_policy(scene.namespace, "allow-all", endpointSelector=subject, **{side: [{peers: [{}]}]})
    rule = {peers: [other], "toPorts": [{"ports": [PORT]}]}
    deny = cilium_policy(scene.namespace, "deny", endpointSelector=subject, **{f"{side}Deny": [rule]})
    denied = check(scene.client, scene.near, outcome="denied")
    allowed = check(scene.client, scene.near, OTHER_TCP)
    _control(lab, denied)
    with lab.in_force([allow, deny], [str(scene.client), str(scene.near)]) as held:
        judgement, flows = lab.witness([allowed, denied], hold=0)
    reason = DropReason.POLICY_DENY.value
    allowing, denying = held.refs
    stopped = Wanted(
        verdict=FlowVerdict.DROPPED,
        direction=direction,
        reason=reason,
        policy=denying,
        event_type=POLICY_VERDICT,
    )
    assert lab.flow(judgement, denied.probe.id, stopped, flows=flows).policies == (denying,)
    drop = Wanted(verdict=FlowVerdict.DROPPED, direction=direction, reason=reason, event_type=DROP)
    lab.flow(judgement, denied.probe.id, drop, flows=flows)
    passed = Wanted(
        verdict=FlowVerdict.FORWARDED, direction=direction, policy=allowing, event_type=POLICY_VERDICT
    )
    assert lab.flow(judgement, allowed.probe.id, passed, flows=flows).policies == (allowing,)
