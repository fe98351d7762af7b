"""Service maps: from recordings of a live cluster, and of any traffic whatever."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.hubble.matching import ACCESS_LOG, DROP, POLICY_VERDICT, TRACE, TRACE_SOCK
from cilium_e2e.hubble.servicemap import Edge, service_map
from cilium_e2e.model import Direction, Flow, FlowPeer, FlowVerdict


def allowed(*edge):
    return Edge(*edge, allowed=True)


def denied(*edge):
    return Edge(*edge, allowed=False)


FRONTEND, OTHER, DEMO = "default/frontend", "default/other", "default/demo"


def test_the_recorded_demo_policy(demo):
    found = service_map(demo)
    assert dict(found.edges) == {
        allowed(FRONTEND, DEMO, 8080, "TCP"): 2,
        denied(FRONTEND, DEMO, 8081, "TCP"): 1,
        denied(OTHER, DEMO, 8080, "TCP"): 2,
    }
    assert str(found).splitlines()[0] == "default/frontend → default/demo:8080/TCP allowed (2)"


def test_the_recording_without_a_policy(recording):
    flows = [event for event in recording("no-policy") if isinstance(event, Flow)]
    assert dict(service_map(flows).edges) == {
        allowed(FRONTEND, DEMO, 8080, "TCP"): 2,
        allowed(FRONTEND, DEMO, 8081, "TCP"): 1,
        allowed(OTHER, DEMO, 8080, "TCP"): 1,
    }


def test_l7_flows_are_none_of_its_business(recording):
    flows = [event for event in recording("dns-policy") if isinstance(event, Flow)]
    assert {flow.event_type for flow in flows} == {ACCESS_LOG}
    assert dict(service_map(flows).edges) == {}


PODS = {
    "web": FlowPeer(ip="10.0.0.1", namespace="ns", pod="web-5c9f-x7k2p", workload="web"),
    "api": FlowPeer(ip="10.0.1.2", namespace="ns", pod="api"),
    "world": FlowPeer(ip="192.0.2.7", labels=("reserved:world-ipv4", "reserved:world")),
    "node": FlowPeer(ip="172.18.0.2", labels=("reserved:host", "reserved:kube-apiserver")),
    "unknown": FlowPeer(ip="203.0.113.1"),
}
NAMES = {
    "web": "ns/web",
    "api": "ns/api",
    "world": "reserved:world",
    "node": "reserved:host",
    "unknown": "203.0.113.1",
}


@st.composite
def connections(draw):
    """Connections between different ends, each from a port of its own, each with its fate."""
    drawn = draw(
        st.lists(
            st.tuples(
                st.permutations(sorted(PODS)),
                st.sampled_from(["TCP", "UDP", "SCTP"]),
                st.integers(1, 1023),
                st.sampled_from(["allowed", "allowed across", "denied", "denied across"]),
            ),
            max_size=12,
        )
    )
    return [
        (ends[0], ends[1], protocol, port, fate, 40_000 + number)
        for number, (ends, protocol, port, fate) in enumerate(drawn)
    ]


def flows_of(source, destination, protocol, port, fate, source_port):
    """What Hubble shows of one connection: both nodes', both ways'."""
    near = dataclasses.replace(PODS[source], port=source_port)
    far = dataclasses.replace(PODS[destination], port=port)
    forward = Flow(1.0, FlowVerdict.FORWARDED, near, far, protocol, event_type=TRACE, is_reply=False)
    back = Flow(2.0, FlowVerdict.FORWARDED, far, near, protocol, event_type=TRACE, is_reply=True)
    unsure = dataclasses.replace(forward, is_reply=None)
    socket = Flow(0.5, FlowVerdict.TRANSLATED, near, far, protocol, event_type=TRACE_SOCK)
    verdict = dataclasses.replace(forward, event_type=POLICY_VERDICT, direction=Direction.INGRESS)
    drop = dataclasses.replace(forward, verdict=FlowVerdict.DROPPED, is_reply=None)
    # The other node does not know the workload of a pod that is not its own.
    far_off = dataclasses.replace(forward, source=dataclasses.replace(near, workload=""))
    stopped = [dataclasses.replace(drop, event_type=kind) for kind in (POLICY_VERDICT, DROP)]
    return {
        "allowed": [socket, unsure, verdict, forward, back],
        "allowed across": [socket, unsure, far_off, verdict, back],
        "denied": [socket, *stopped],
        "denied across": [socket, forward, *stopped],
    }[fate]


def expected(made):
    counts: dict[Edge, int] = {}
    for source, destination, protocol, port, fate, _ in made:
        edge = (allowed if fate.startswith("allowed") else denied)(
            NAMES[source], NAMES[destination], port, protocol
        )
        counts[edge] = counts.get(edge, 0) + 1
    return counts


@given(connections(), st.randoms(use_true_random=False))
def test_the_map_is_what_was_made_whatever_the_order(made, random):
    flows = [flow for one in made for flow in flows_of(*one)]
    random.shuffle(flows)
    assert dict(service_map(flows).edges) == expected(made)


@given(connections())
def test_flows_seen_twice_are_counted_once(made):
    flows = [flow for one in made for flow in flows_of(*one)]
    assert service_map(flows + flows) == service_map(flows)


@given(connections(), connections())
def test_more_flows_never_take_an_edge_away(some, more):
    more = [(*one[:5], one[5] + 1000) for one in more]
    few = [flow for one in some for flow in flows_of(*one)]
    many = few + [flow for one in more for flow in flows_of(*one)]
    for edge, count in service_map(few).edges.items():
        assert service_map(many).edges[edge] >= count


def test_a_dropped_reply_denies_the_connection_it_answers():
    request, reply = [
        flow for flow in flows_of("web", "api", "TCP", 80, "allowed", 40_000) if flow.event_type == TRACE
    ][1:]
    dropped = dataclasses.replace(reply, verdict=FlowVerdict.DROPPED, event_type=DROP, is_reply=None)
    for flows in ([request, dropped], [dropped, request]):
        assert list(service_map(flows).edges) == [denied("ns/web", "ns/api", 80, "TCP")]


def test_a_ping_is_one_edge_and_an_icmp_error_none():
    request = Flow(
        1.0,
        FlowVerdict.FORWARDED,
        PODS["web"],
        PODS["api"],
        "ICMPv4",
        is_reply=False,
        event_type=TRACE,
        icmp=(8, 0),
    )
    reply = dataclasses.replace(
        request, source=PODS["api"], destination=PODS["web"], is_reply=True, icmp=(0, 0)
    )
    error = dataclasses.replace(request, icmp=(3, 1))
    assert dict(service_map([request, reply, error]).edges) == {allowed("ns/web", "ns/api", 0, "ICMP"): 1}
    assert str(service_map([request])) == "ns/web → ns/api/ICMP allowed (1)"


def test_a_reply_alone_tells_of_its_request():
    back = flows_of("web", "api", "TCP", 80, "allowed", 40_000)[-1]
    assert list(service_map([back]).edges) == [allowed("ns/web", "ns/api", 80, "TCP")]
