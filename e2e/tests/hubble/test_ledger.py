"""What is complete, what is missing, and what only looks as if it were."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilium_e2e.hubble import complete_flows
from cilium_e2e.hubble.ledger import RING, Ledger
from cilium_e2e.model import (
    Flow,
    FlowFilter,
    FlowPeer,
    FlowsLost,
    FlowVerdict,
    LostFlows,
    NodeStatus,
    StreamLost,
    TimeWindow,
)

ALL = FlowFilter()


def flow(node, time_s):
    return Flow(time_s, FlowVerdict.FORWARDED, FlowPeer(), FlowPeer(), node=node, uuid=f"{node}{time_s}")


def ledger_of(*nodes, max_flows=100):
    ledger = Ledger(max_flows=max_flows)
    ledger.start_s = 100.0
    ledger.expected = list(nodes)
    return ledger


def read(ledger, *events, live=True, now_s=100.0, reading=None):
    reading = reading or ledger.begin(live=live, now_s=now_s)
    for node, time_s in events:
        made = flow(node, time_s)
        ledger.take(node, time_s, made.uuid, reading, lambda made=made: made)
    return reading


def test_history_that_overlaps_fills_a_hole():
    ledger = ledger_of("a", "b")
    read(ledger, ("a", 101.0), ("b", 102.0))
    history = ledger.begin(live=False, now_s=110.0)
    assert history.since_s == pytest.approx(100.9)
    read(ledger, ("a", 101.0), ("a", 105.0), ("b", 102.0), ("b", 106.0), reading=history)
    ledger.end(history)
    assert ledger.gaps == []
    assert [f.time_s for f in ledger.flows(TimeWindow(100, 110), ALL)] == [101.0, 102.0, 105.0, 106.0]
    assert ledger.behind(105.0) == ["a"]
    assert ledger.behind(104.0) == []


def test_history_that_begins_too_late_or_never_is_a_gap():
    ledger = ledger_of("a", "b")
    read(ledger, ("a", 101.0), ("b", 102.0), live=False)
    history = ledger.begin(live=False, now_s=110.0)
    read(ledger, ("a", 105.0), reading=history)
    ledger.end(history)
    gaps = {(gap.node, gap.start_s, gap.end_s) for gap in ledger.gaps}
    assert gaps == {("a", 101.0, 105.0), ("b", 102.0, 110.0)}
    with pytest.raises(StreamLost, match="node a"):
        ledger.flows(TimeWindow(104, 104.5), ALL)
    assert ledger.flows(TimeWindow(100, 100.5), ALL) == []


def overtaken():
    """A live stream that is behind at 101, and a history that begins at 105."""
    ledger = ledger_of("a")
    live = read(ledger, ("a", 101.0))
    history = ledger.begin(live=False, now_s=110.0)
    read(ledger, ("a", 105.0), ("a", 109.0), reading=history)
    ledger.end(history)
    return ledger, live


def test_what_history_lacks_the_live_stream_still_brings():
    ledger, live = overtaken()
    assert ledger.gaps == []
    assert (ledger.behind(104.0), ledger.lagging(104.0)) == ([], ["a"])
    assert ledger.lagging(101.0) == [], "of then nothing is missing"
    with pytest.raises(StreamLost, match=r"node a may be missing for 4\.000 s from 101\.000"):
        ledger.flows(TimeWindow(102, 104), ALL)
    read(ledger, ("a", 103.0), reading=live)
    assert ledger.lagging(104.0) == ["a"]
    read(ledger, ("a", 105.0), reading=live)
    assert ledger.lagging(104.0) == []
    assert sorted(f.time_s for f in ledger.flows(TimeWindow(100, 110), ALL)) == [101.0, 103.0, 105.0, 109.0]


def test_a_node_may_be_behind_and_lagging():
    ledger, _ = overtaken()
    assert (ledger.behind(109.5), ledger.lagging(109.5)) == (["a"], ["a"])


def test_a_new_stream_must_bring_what_the_old_one_has_not():
    ledger, _ = overtaken()
    again = ledger.begin(live=True, now_s=110.0)
    assert again.since_s == pytest.approx(100.9)
    assert ledger.lagging(104.0) == ["a"], "until it has"
    read(ledger, ("a", 104.0), reading=again)
    (gap,) = ledger.gaps
    assert (gap.start_s, gap.end_s) == (101.0, 104.0)

    ledger, _ = overtaken()
    read(ledger, ("a", 101.0), ("a", 103.0), ("a", 105.0))
    assert (ledger.gaps, ledger.lagging(104.0)) == ([], [])


def late():
    """A new stream that has brought only one of two nodes, and a look at history under way."""
    ledger = ledger_of("a", "b")
    read(ledger, ("a", 101.0), ("b", 101.0))
    again = ledger.begin(live=True, now_s=110.0)
    read(ledger, ("b", 101.0), ("b", 109.0), reading=again)
    return ledger, again, ledger.begin(live=False, now_s=120.0)


def test_a_stream_that_gets_a_node_late_lacks_only_what_no_history_has_brought():
    """A restarted relay answers before it is connected to every node."""
    ledger, again, history = late()
    read(ledger, ("a", 101.0), ("a", 119.0), ("b", 109.0), ("b", 119.0), reading=history)
    ledger.end(history)
    assert ledger.unfollowed(105.0) == ["a"]
    read(ledger, ("a", 123.0), ("b", 123.0), reading=again)
    assert [(gap.node, gap.start_s, gap.end_s) for gap in ledger.gaps] == [("a", 119.0, 123.0)]
    assert ledger.unfollowed(105.0) == []


def test_what_neither_a_late_stream_nor_a_history_has_brought_is_missing():
    ledger, again, history = late()
    read(ledger, ("a", 119.0), ("a", 120.0), ("b", 109.0), reading=history)
    ledger.end(history)
    read(ledger, ("a", 123.0), reading=again)
    assert [(gap.node, gap.start_s, gap.end_s) for gap in ledger.gaps] == [("a", 101.0, 123.0)]
    with pytest.raises(StreamLost, match="node a"):
        ledger.flows(TimeWindow(105, 106), ALL)


def test_an_empty_history_is_made_up_for_by_the_live_stream_alone():
    ledger = ledger_of("a")
    live = read(ledger, ("a", 101.0))
    ledger.end(ledger.begin(live=False, now_s=110.0))
    assert (ledger.gaps, ledger.lagging(105.0)) == ([], ["a"])
    read(ledger, ("a", 110.5), reading=live)
    assert ledger.lagging(105.0) == []


def test_of_a_node_that_relay_had_lost_only_history_speaks():
    ledger = ledger_of("a")
    live = read(ledger, ("a", 101.0))
    ledger.status(NodeStatus("NODE_ERROR", ("a",), "EOF"), time_s=103.0)
    history = ledger.begin(live=False, now_s=110.0)
    read(ledger, ("a", 105.0), reading=history)
    ledger.end(history)
    read(ledger, ("a", 106.0), reading=live)
    (gap,) = ledger.gaps
    assert (gap.start_s, gap.end_s) == (101.0, 105.0)


def test_node_nobody_has_heard_is_behind_and_read_from_the_start():
    ledger = ledger_of("a", "b")
    read(ledger, ("a", 105.0))
    assert ledger.behind(101.0) == ["b"]
    assert ledger.begin(live=True, now_s=106.0).since_s == pytest.approx(99.9)


def test_node_that_left_holds_nothing_up():
    ledger = ledger_of("a", "b")
    read(ledger, ("a", 105.0), ("b", 101.0))
    ledger.expected = ["a"]
    assert ledger.behind(104.0) == []
    assert ledger.begin(live=True, now_s=106.0).since_s == pytest.approx(104.9)


def test_names_with_and_without_the_cluster_are_one():
    ledger = ledger_of("kind/a")
    read(ledger, ("a", 105.0))
    assert ledger.behind(104.0) == []
    ledger.expected = ["a"]
    ledger.heard = {"kind/a": 105.0}
    assert ledger.behind(104.0) == []


def test_suspect_node_is_behind_until_history_clears_it():
    ledger = ledger_of("a")
    read(ledger, ("a", 101.0), ("a", 108.0))
    ledger.status(NodeStatus("NODE_ERROR", ("a",), "EOF"), time_s=105.0)
    assert ledger.behind(102.0) == ["a"]
    history = ledger.begin(live=False, now_s=110.0)
    assert history.since_s == pytest.approx(100.9)
    read(ledger, ("a", 101.0), ("a", 104.0), ("a", 108.0), reading=history)
    ledger.end(history)
    assert ledger.behind(102.0) == []
    assert ledger.gaps == []
    assert ledger.nodes() == [NodeStatus("NODE_ERROR", ("a",), "EOF")]


def test_restart_of_an_agent():
    ledger = ledger_of("a")
    ledger.started("a", 10.0, 10.2)
    read(ledger, ("a", 101.0), ("a", 109.0))
    ledger.started("a", 9.9, 10.1)
    assert ledger.gaps == []
    ledger.started("a", 105.0, 105.1)
    (gap,) = ledger.gaps
    assert (gap.start_s, gap.end_s, gap.why) == (101.0, 105.1, "its agent has restarted")


def test_losses():
    ledger = ledger_of("a")
    live, history = ledger.begin(live=True, now_s=100.0), ledger.begin(live=False, now_s=100.0)
    for reading in (live, history):
        ledger.take_lost(LostFlows("PERF_EVENT_RING_BUFFER", 5, "a", 103.0), reading)
    ledger.take_lost(LostFlows(RING, 1, "a", 100.5), live)
    ledger.take_lost(LostFlows(RING, 1, "a", 104.0), history)
    assert len(ledger.lost(TimeWindow(100, 110))) == 1
    ledger.take_lost(LostFlows(RING, 1, "a", 104.0), live)
    assert len(ledger.lost(TimeWindow(100, 110))) == 2
    assert len(ledger.lost(TimeWindow(100, 102.5))) == 1
    assert ledger.lost(TimeWindow(105, 110)) == []


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("ab"), st.lists(st.floats(101, 199), min_size=2, max_size=12, unique=True)
    ),
    st.lists(st.integers(0, 12), min_size=1, max_size=4),
)
def test_readings_that_break_anywhere_lose_nothing_while_rings_hold(rings, cuts):
    rings = {node: sorted(times) for node, times in rings.items()}
    ledger = ledger_of(*rings)
    for cut in [*cuts, 99]:
        reading = ledger.begin(live=True, now_s=100.0)
        merged = sorted((t, node) for node, times in rings.items() for t in times if t >= reading.since_s)
        read(ledger, *((node, t) for t, node in merged[:cut]), reading=reading)
    assert ledger.gaps == []
    seen = ledger.flows(TimeWindow(100, 200), ALL)
    assert sorted((f.time_s, f.node) for f in seen) == sorted((t, n) for n, ts in rings.items() for t in ts)


class Source:
    def __init__(self, losses):
        self.losses = losses
        self.waited = None

    def wait_past(self, time_s, *, timeout_s):
        self.waited = time_s

    def lost(self, window):
        return self.losses

    def flows(self, window, filter):  # noqa: A002 - Hubble's word
        return ["flow"]


def test_complete_flows_are_waited_for_and_without_loss():
    source = Source([])
    assert complete_flows(source, TimeWindow(1, 2)) == ["flow"]
    assert source.waited == 2
    with pytest.raises(FlowsLost, match=r"5 on a \(OBSERVER_EVENTS_QUEUE\)"):
        complete_flows(Source([LostFlows("OBSERVER_EVENTS_QUEUE", 5, "a", 1.5)]), TimeWindow(1, 2))


def test_losses_are_told_by_node_and_not_one_by_one():
    class Source:
        def wait_past(self, time_s, *, timeout_s):
            pass

        def lost(self, window):
            return [LostFlows(RING, 1, node, 101.0 + n) for n in range(1000) for node in ("a", "b")]

    with pytest.raises(FlowsLost) as caught:
        complete_flows(Source(), TimeWindow(100, 2000))
    assert f"1000 on a ({RING}); 1000 on b ({RING})." in str(caught.value)


def test_a_flow_is_read_once_and_only_when_its_window_is_asked_for():
    ledger = Ledger(max_flows=10)
    reading = ledger.begin(live=True, now_s=0.0)
    read = []

    def reader(time_s):
        def read_it():
            read.append(time_s)
            return Flow(time_s, FlowVerdict.FORWARDED, FlowPeer(), FlowPeer(), node="n", uuid=str(time_s))

        return read_it

    for time_s in (1.0, 2.0, 3.0):
        ledger.take("n", time_s, str(time_s), reading, reader(time_s))
    assert read == []
    for _ in range(2):
        assert [flow.time_s for flow in ledger.flows(TimeWindow(1.5, 2.5), FlowFilter())] == [2.0]
    assert read == [2.0]
