"""Recorded flows of a live cluster, read as the model's flows."""

from __future__ import annotations

import filecmp
from pathlib import Path

import pytest

import cilium_e2e.hubble
from cilium_e2e.hubble import flow_pb2, observer_pb2
from cilium_e2e.hubble.convert import from_flow, from_json, from_response
from cilium_e2e.hubble.generate import PROTOS, generate
from cilium_e2e.model import Direction, Flow, FlowVerdict, LostFlows, PolicyRef


@pytest.mark.parametrize(
    ("name", "flows", "lost"), [("demo-policy", 26, 0), ("no-policy", 33, 1), ("dns-policy", 3, 1)]
)
def test_every_recorded_line_is_read(recording, name, flows, lost):
    events = recording(name)
    assert sum(isinstance(event, Flow) for event in events) == flows
    assert sum(isinstance(event, LostFlows) for event in events) == lost
    assert all(f.node == "lab-worker" and f.time_s > 1.7e9 and f.uuid for f in events if isinstance(f, Flow))


def test_a_denied_flow(demo):
    flow = next(f for f in demo if f.verdict is FlowVerdict.DROPPED and f.source.pod == "frontend")
    assert (flow.protocol, flow.drop_reason, flow.direction) == ("TCP", "POLICY_DENIED", Direction.INGRESS)
    assert (flow.source.ip, flow.source.port, flow.source.identity) == ("10.244.1.173", 53726, 19682)
    assert (flow.destination.namespace, flow.destination.pod, flow.destination.port) == (
        "default",
        "demo",
        8081,
    )
    assert "k8s:app=demo" in flow.destination.labels
    assert flow.tcp_flags == ("SYN",)
    assert flow.is_reply is None
    assert flow.policies == ()
    assert flow.event_type == 5
    assert "DROPPED POLICY_DENIED INGRESS on lab-worker" in str(flow)


def test_an_allowed_flow_names_its_policy(demo):
    allowed = next(f for f in demo if f.policies)
    uid = "c81ece38-17b2-462a-ac67-56e4e630203d"
    assert allowed.policies == (PolicyRef("CiliumNetworkPolicy", "default", "demo-policy", uid),)
    assert allowed.verdict is FlowVerdict.FORWARDED
    assert allowed.is_reply is False
    assert any(f.is_reply for f in demo)


def test_l7_flows_keep_their_l7_part(recording):
    request, answer, refused = (e for e in recording("dns-policy") if isinstance(e, Flow))
    assert request.l7["type"] == "REQUEST"
    assert request.l7["dns"]["query"] == "demo.default.svc.cluster.local."
    assert request.destination.workload == "coredns"
    assert answer.l7["dns"]["ips"] == ["10.96.186.142"]
    assert refused.verdict is FlowVerdict.DROPPED
    assert refused.event_type == 129


def test_lost_events(recording):
    lost = recording("no-policy")[0]
    assert (lost.source, lost.count, lost.node) == ("HUBBLE_RING_BUFFER", 1, "lab-worker")


def test_what_is_newer_than_our_copy_of_the_api_is_kept_by_number():
    flow = flow_pb2.Flow(verdict=99, drop_reason_desc=250)
    read = from_flow(flow, node="n")
    assert (read.verdict, read.drop_reason, read.node) == (FlowVerdict.UNKNOWN, "250", "n")
    assert (read.protocol, read.direction, read.icmp) == ("", None, None)
    assert from_response(observer_pb2.GetFlowsResponse()) is None
    assert from_json({"unheard": {"of": 1}}) is None


def test_icmp_and_http_and_node_status():
    flow = flow_pb2.Flow()
    flow.l4.ICMPv6.type, flow.l7.http.code, flow.l7.http.method = 128, 403, "GET"
    flow.egress_denied_by.add(kind="NetworkPolicy", namespace="ns", name="deny")
    read = from_flow(flow)
    assert (read.protocol, read.icmp, read.source.port) == ("ICMPv6", (128, 0), 0)
    assert read.l7["http"] == {"code": 403, "method": "GET"}
    assert read.policies == (PolicyRef("NetworkPolicy", "ns", "deny"),)
    status = from_json(
        {"node_status": {"state_change": "NODE_GONE", "node_names": ["a", "b"], "message": "x"}}
    )
    assert (status.state, status.nodes, status.message) == ("NODE_GONE", ("a", "b"), "x")


def test_committed_code_is_what_the_protos_give(tmp_path):
    pytest.importorskip("grpc_tools")
    generate(tmp_path)
    committed = Path(cilium_e2e.hubble.__file__).parent
    for name in PROTOS:
        file = f"{name}_pb2.py"
        assert filecmp.cmp(tmp_path / "cilium_e2e" / "hubble" / file, committed / file, shallow=False), (
            f"{file} is not what {name}.proto gives: run python -m cilium_e2e.hubble.generate"
        )
