"""Flows and probes find each other, and near misses are told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilium_e2e.hubble import DROP, POLICY_VERDICT, FlowIndex, Wanted, evidence, explain, find
from cilium_e2e.model import (
    Direction,
    Flow,
    FlowPeer,
    FlowVerdict,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Probe,
    Protocol,
    Target,
    TimeWindow,
)

patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
FRONTEND, DEMO = Target.pod("default", "frontend"), Target.pod("default", "demo")
POLICY = PolicyRef("CiliumNetworkPolicy", "default", "demo-policy")


def made(port, source_port, *, target=DEMO, protocol=Protocol.TCP, to="10.244.1.174", ip="10.244.1.173"):
    probe = Probe("frontend to demo", FRONTEND, target, protocol, port)
    return probe, Outcome(probe.id, OutcomeKind.TIMEOUT, "", ip, source_port, to)


def test_denied_probe_has_its_drop_and_its_policy_verdict(demo):
    probe, outcome = made(8081, 53726)
    mine = evidence(demo, outcome, probe)
    assert [flow.event_type for flow in mine] == [POLICY_VERDICT, DROP]
    wanted = Wanted(verdict=FlowVerdict.DROPPED, direction=Direction.INGRESS, reason="POLICY_DENIED")
    assert find(mine, wanted) is mine[0]
    assert find(mine, replace(wanted, event_type=DROP)) is mine[1]


def test_allowed_probe_has_both_ways_and_its_policy(demo):
    probe, outcome = made(8080, 54478)
    mine = evidence(demo, outcome, probe)
    assert {flow.is_reply for flow in mine} >= {True, False}
    allowed = find(mine, Wanted(verdict=FlowVerdict.FORWARDED, policy=POLICY, reply=False))
    assert allowed is not None
    assert allowed.policies[0].name == "demo-policy"
    assert find(mine, Wanted(policy=replace(POLICY, uid="another"))) is None
    assert find(mine, Wanted(verdict=FlowVerdict.DROPPED)) is None
    assert all({flow.source.port, flow.destination.port} <= {54478, 8080, 0} for flow in mine)


def test_probe_through_a_service_is_matched_at_its_backend(demo):
    service = Target.service("default", "demo")
    probe, outcome = made(80, 54490, target=service, to="10.96.186.142")
    assert len(evidence(demo, outcome, probe)) >= 5
    assert evidence(demo, outcome, probe, destinations=["10.96.186.142"]) == []
    assert evidence(demo, outcome, probe, destinations=["10.96.186.142", "10.244.1.174"])


def test_same_source_port_towards_another_pod_is_another_probe(demo):
    probe, outcome = made(8081, 53726, to="10.244.1.199")
    assert evidence(demo, outcome, probe) == []
    probe, outcome = made(8080, 53726)
    assert evidence(demo, outcome, probe) == []


def test_masqueraded_source_is_found_by_its_alias():
    flow = Flow(1.0, FlowVerdict.FORWARDED, FlowPeer("172.18.0.3", 4000), FlowPeer("172.18.0.9", 80), "TCP")
    probe = Probe("out", FRONTEND, Target.world("web"), Protocol.HTTP, 80)
    outcome = Outcome("out", OutcomeKind.HTTP, "", "10.244.1.173", 4000, "172.18.0.9", status=200)
    assert evidence([flow], outcome, probe) == []
    assert evidence([flow], outcome, probe, aliases=["172.18.0.3"]) == [flow]


def ping(source="10.0.0.1", destination="10.0.0.2", icmp=(8, 0), protocol="ICMPv4", time_s=1.0):
    return Flow(time_s, FlowVerdict.FORWARDED, FlowPeer(source), FlowPeer(destination), protocol, icmp=icmp)


def test_icmp_is_matched_by_addresses_type_and_window():
    probe = Probe("ping", FRONTEND, DEMO, Protocol.ICMP, 0)
    outcome = Outcome("ping", OutcomeKind.CONNECTED, "", "10.0.0.1", 0, "10.0.0.2")
    request, reply = ping(), ping("10.0.0.2", "10.0.0.1", (0, 0))
    others = [
        ping(destination="10.0.0.3"),
        ping(icmp=(3, 3)),
        ping(time_s=99.0),
        Flow(1.0, FlowVerdict.FORWARDED, FlowPeer("10.0.0.1"), FlowPeer("10.0.0.2"), "TCP"),
    ]
    assert evidence([*others, request, reply], outcome, probe, window=TimeWindow(0, 2)) == [request, reply]
    text = explain(
        Wanted(verdict=FlowVerdict.DROPPED), others, outcome, probe, window=TimeWindow(0, 2), most=9
    )
    assert "destination 10.0.0.3 instead of 10.0.0.2" in text
    assert "97.000 s after the window" in text
    assert "no echo" in text
    assert "protocol TCP instead of ICMP" in text


def test_explanations_name_what_is_different(demo):
    probe, outcome = made(8081, 53726)
    wanted = Wanted(verdict=FlowVerdict.DROPPED, reason="POLICY_DENY", policy=POLICY, reply=True)
    text = explain(wanted, demo, outcome, probe)
    assert "expected a flow DROPPED POLICY_DENY by CiliumNetworkPolicy default/demo-policy, a reply" in text
    assert "2 flows of this probe were seen" in text
    assert "reason POLICY_DENIED instead of POLICY_DENY" in text
    assert "named no policy instead of" in text
    assert "; no reply" in text


def test_explanations_name_the_nearest_flow_of_others(demo):
    probe, outcome = made(8081, 1)
    text = explain(Wanted(), demo, outcome, probe, window=TimeWindow(0, 1))
    assert "no flow of 10.244.1.173:1 was seen, nearest" in text
    assert "source port" in text
    early = explain(Wanted(), demo, outcome, probe, window=TimeWindow(3e9, 4e9))
    assert "before the window" in early
    _, unknown = made(8081, 1, ip="10.9.9.9", to="10.9.9.8")
    text = explain(Wanted(), demo, unknown, probe)
    assert "of all 26 flows none has 10.9.9.9 or 10.9.9.8 at an end" in text


IPS = st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", ""])
PORTS = st.sampled_from([0, 80, 81, 4000, 4001])
flows = st.builds(
    Flow,
    time_s=st.floats(0, 10),
    verdict=st.sampled_from(FlowVerdict),
    source=st.builds(FlowPeer, ip=IPS, port=PORTS),
    destination=st.builds(FlowPeer, ip=IPS, port=PORTS),
    protocol=st.sampled_from(["TCP", "UDP", "ICMPv4", ""]),
    drop_reason=st.sampled_from(["", "POLICY_DENIED"]),
    is_reply=st.none() | st.booleans(),
)
probes = st.builds(
    Probe,
    id=st.just("p"),
    source=st.just(FRONTEND),
    target=st.sampled_from([DEMO, Target.service("ns", "svc"), Target.dns("a.example")]),
    protocol=st.sampled_from([Protocol.TCP, Protocol.UDP, Protocol.HTTP, Protocol.DNS]),
    port=st.sampled_from([80, 81]),
)
outcomes = st.builds(
    Outcome,
    probe_id=st.just("p"),
    kind=st.just(OutcomeKind.TIMEOUT),
    source_ip=IPS,
    source_port=PORTS,
    destination_ip=IPS,
)


@patient
@given(st.lists(flows, max_size=6), outcomes, probes)
def test_evidence_always_has_the_probes_protocol_and_source(seen, outcome, probe):
    window = TimeWindow(2, 8)
    mine = evidence(seen, outcome, probe, window=window)
    for flow in mine:
        assert flow.protocol == probe.protocol.transport
        assert flow.time_s in window
        ends = [(flow.source.ip, flow.source.port), (flow.destination.ip, flow.destination.port)]
        assert (outcome.source_ip, outcome.source_port) in ends
        assert outcome.source_port
    assert [f for f in seen if f in mine] == mine
    assert evidence(FlowIndex(seen), outcome, probe, window=window) == mine
    assert evidence(seen, outcome, probe) == [f for f in seen if evidence([f], outcome, probe)]


@patient
@given(flows, outcomes, probes)
def test_direction_does_not_matter_to_evidence(flow, outcome, probe):
    turned = replace(flow, source=flow.destination, destination=flow.source)
    assert bool(evidence([flow], outcome, probe)) == bool(evidence([turned], outcome, probe))


@patient
@given(st.lists(flows, max_size=5), outcomes, probes, st.sampled_from(FlowVerdict))
def test_there_is_always_an_explanation(seen, outcome, probe, verdict):
    text = explain(Wanted(verdict=verdict), seen, outcome, probe, window=TimeWindow(2, 8))
    assert text.startswith(f"expected a flow {verdict.value}")


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(event_type=5), Wanted(reply=False)])
def test_wanted_reads_well(wanted):
    assert "any flow" in str(wanted)
