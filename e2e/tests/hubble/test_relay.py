"""The relay client against a relay in this process."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from cilium_e2e.hubble.relay import RelaySource, Tls
from cilium_e2e.model import FlowFilter, FlowVerdict, StreamLost, TimeWindow, WaitTimeout

ALL = FlowFilter()
ROOT = str(Path(__file__).parents[2])


def window(start_s):
    return TimeWindow(start_s, time.time() + 5)


def talk(relay, *nodes):
    """A flow of each node, and one more that makes it readable."""
    made = []
    for node in nodes or ("node-1", "node-2"):
        made.append(relay.flow(node).flow.uuid)
        relay.flow(node)
    return made


def until(true):
    end = time.monotonic() + 5
    while not true() and time.monotonic() < end:
        time.sleep(0.01)


def test_flows_from_the_start_on_are_kept_once(relay):
    talk(relay)
    with RelaySource(relay.address()) as source:
        begin = time.time()
        wanted = set(talk(relay))
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        flows = source.flows(TimeWindow(begin, end), ALL)
    uuids = [flow.uuid for flow in flows]
    assert len(uuids) == len(set(uuids))
    assert wanted <= set(uuids)
    assert {flow.node for flow in flows} == {"node-1", "node-2"}


def test_waiting_needs_a_newer_flow_of_every_node(relay):
    with RelaySource(relay.address()) as source:
        talk(relay, "node-1")
        now = time.time()
        talk(relay, "node-1")
        with pytest.raises(WaitTimeout, match="no newer flow of node-2"):
            source.wait_past(now, timeout_s=0.5)
        talk(relay, "node-2")
        source.wait_past(now, timeout_s=5)


def test_silent_nodes_are_poked(relay):
    poked = []

    def poke(nodes):
        poked.append(list(nodes))
        talk(relay, *nodes)

    with RelaySource(relay.address(), poke=poke) as source:
        source.wait_past(time.time(), timeout_s=5)
    assert poked[0] == ["node-1", "node-2"]


def test_node_that_relay_does_not_reach_is_named(relay):
    relay.states["node-2"] = "NODE_UNAVAILABLE"
    with RelaySource(relay.address()) as source:
        talk(relay, "node-1")
        with pytest.raises(WaitTimeout, match="node-2 is NODE_UNAVAILABLE"):
            source.wait_past(time.time(), timeout_s=0.3)
        status = source.status()
    assert (status.connected, status.unavailable, status.unavailable_nodes) == (1, 1, ("node-2",))
    assert (status.flows_seen, status.version) == (9, "1.18")


def test_relay_that_is_not_there(relay):
    relay.refuse = "no peers"
    with pytest.raises(StreamLost, match="UNAVAILABLE: no peers"):
        RelaySource(relay.address()).__enter__()
    relay.down()
    with pytest.raises(StreamLost, match=r"DEADLINE_EXCEEDED|UNAVAILABLE"):
        RelaySource(relay.address(), call_timeout_s=0.3).__enter__()


def test_losses_are_told_and_the_edge_of_a_ring_is_none(relay):
    relay.lose("node-1", 3)
    talk(relay)
    with RelaySource(relay.address()) as source:
        begin = time.time()
        talk(relay)
        relay.lose("node-1", 1)
        relay.lose("node-2", 3, begin + 3.0)
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        until(
            lambda: len(source.lost(TimeWindow(begin, end + 3))) == 2
        )  # a ring's loss is on the stream only
        lost = source.lost(TimeWindow(begin, end + 3))
        assert source.lost(TimeWindow(begin - 9, begin - 8)) == []
    assert {(x.source, x.node, x.count) for x in lost} == {
        ("PERF_EVENT_RING_BUFFER", "node-1", 7),
        ("HUBBLE_RING_BUFFER", "node-2", 7),
    }


def test_stream_that_breaks_is_resumed_without_a_gap(relay):
    with RelaySource(relay.address()) as source:
        begin = time.time()
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        relay.cut_streams()
        wanted = set(talk(relay))
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        flows = source.flows(TimeWindow(begin, end), ALL)
        assert wanted <= {flow.uuid for flow in flows}
        until(lambda: source.reconnects)
        assert source.reconnects == 1


def test_relay_that_comes_back_elsewhere_is_found(relay):
    with RelaySource(relay.address) as source:
        begin = time.time()
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        relay.down()
        relay.port = 0
        wanted = set(talk(relay))
        end = time.time()
        talk(relay)
        relay.up()
        source.wait_past(end, timeout_s=10)
        assert wanted <= {flow.uuid for flow in source.flows(TimeWindow(begin, end), ALL)}


def test_ring_that_was_overwritten_meanwhile_is_a_gap(relay):
    with RelaySource(relay.address()) as source:
        begin = time.time()
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        heard = time.time()
        with relay.changed:  # at once: a stream that stays would be told of what it lost
            relay.rings["node-2"].clear()
            relay.cut_streams()
        time.sleep(0.002)
        talk(relay)
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        with pytest.raises(StreamLost, match="node node-2 may be missing"):
            source.flows(TimeWindow(begin, end), ALL)
        assert source.flows(TimeWindow(end, end + 1), ALL) is not None
        assert heard < end


def test_agent_that_restarts_is_a_gap_though_relay_stays(relay):
    with RelaySource(relay.address()) as source:
        begin = time.time()
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        middle = time.time()
        with relay.changed:
            relay.started["node-2"] = time.time()
        talk(relay)
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        with pytest.raises(StreamLost, match=r"node node-2 .* restarted"):
            source.flows(TimeWindow(begin, middle), ALL)


def test_node_error_is_looked_into_and_filled_from_history(relay):
    with RelaySource(relay.address()) as source:
        begin = time.time()
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        relay.say("NODE_ERROR", "node-2", message="connection lost")
        until(lambda: any(s.state == "NODE_ERROR" for s in source.nodes()))
        states = {s.nodes: (s.state, s.message) for s in source.nodes()}
        assert states["node-2",] == ("NODE_ERROR", "connection lost")
        assert states["node-1",][0] == "NODE_CONNECTED"
        talk(relay)
        end = time.time()
        talk(relay)
        source.wait_past(end, timeout_s=5)
        assert source.flows(TimeWindow(begin, end), ALL)


def test_filters_and_memory(relay):
    with RelaySource(relay.address(), max_flows=10) as source:
        begin = time.time()
        relay.flow("node-1", verdict=2)
        talk(relay)
        source.wait_past(begin, timeout_s=5)
        assert len(source.flows(window(begin), FlowFilter(verdicts=(FlowVerdict.DROPPED,)))) == 1
        assert source.flows(window(begin), FlowFilter(source_ips=("10.9.9.9",))) == []
        assert source.flows(window(begin), FlowFilter(destination_ips=("10.0.0.2",)))
        assert source.flows(window(begin), FlowFilter(namespaces=("nowhere",))) == []
        for _ in range(8):
            talk(relay)
        later = time.time()
        talk(relay)
        source.wait_past(later, timeout_s=5)
        with pytest.raises(StreamLost, match="only the latest 10 flows"):
            source.flows(window(begin), ALL)
        with pytest.raises(StreamLost, match="kept from"):
            source.flows(window(begin - 100), ALL)


@pytest.mark.parametrize("mutual", [False, True])
def test_tls(new_relay, mutual):
    trustme = pytest.importorskip("trustme")
    authority, other = trustme.CA(), trustme.CA()
    served = authority.issue_cert("instance.hubble-relay.cilium.io")
    own = authority.issue_cert("ui.hubble-relay.cilium.io")
    chain = served.cert_chain_pems[0].bytes()
    credentials = grpc.ssl_server_credentials(
        [(served.private_key_pem.bytes(), chain)],
        root_certificates=authority.cert_pem.bytes() if mutual else None,
        require_client_auth=mutual,
    )
    relay = new_relay(credentials)
    relay.up()
    tls = Tls(
        ca=authority.cert_pem.bytes(),
        certificate=own.cert_chain_pems[0].bytes() if mutual else b"",
        key=own.private_key_pem.bytes() if mutual else b"",
        server_name="instance.hubble-relay.cilium.io",
    )
    with RelaySource(relay.address(), tls=tls) as source:
        now = time.time()
        talk(relay)
        source.wait_past(now, timeout_s=5)
        assert source.flows(window(now), ALL)
    wrong = Tls(ca=other.cert_pem.bytes(), server_name="instance.hubble-relay.cilium.io")
    with pytest.raises(StreamLost):
        RelaySource(relay.address(), tls=wrong, call_timeout_s=0.5).__enter__()


def test_only_a_flow_source_needs_grpc():
    rooms = "cilium_e2e.hubble, cilium_e2e.probe"
    code = f"import sys, {rooms}; print(*({{'grpc', 'google.protobuf'}} & {{*sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ROOT}, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == []
