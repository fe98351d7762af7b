"""A test's place of work: everything done in it becomes evidence, and failures explain themselves."""

from __future__ import annotations

import json

import pytest

from cilium_e2e.hubble import Wanted
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Destination,
    EnforcementNotProven,
    Expectation,
    Flow,
    FlowPeer,
    FlowsLost,
    FlowVerdict,
    KubeError,
    OutcomeKind,
    PolicyError,
    Probe,
    Protocol,
    Ref,
    Target,
)
from cilium_e2e.scenario import Check, Lab
from support.cluster import NOW_S
from support.lab import LabCluster, with_pods

DEMO, FRONTEND = Target.pod("x", "demo"), Target.pod("x", "frontend")
PODS = [DEMO, FRONTEND]
UP, DOWN = OutcomeKind.CONNECTED, OutcomeKind.TIMEOUT
RULED_OUT = (
    "  nothing wrong found with policies, nodes, Cilium's agents, the network between nodes, "
    "the pods that took part, cluster DNS, relay"
)


def check(expected="connected", port=8080, by=()):
    probe = Probe.to(FRONTEND, Destination(DEMO, port, Protocol.TCP), id=f"to {port}")
    return Check(probe, Expectation(expected), frozenset(by))


def policy(name="p"):
    meta = {"name": name, "namespace": "x"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": {}}


def ref(name="p"):
    return Ref("cilium.io/v2", "CiliumNetworkPolicy", name, "x")


def flow(port=40000, *, verdict=FlowVerdict.DROPPED, reason="POLICY_DENIED", node="n1"):
    source = FlowPeer(ip="10.0.0.1", port=port, namespace="x", pod="frontend")
    target = FlowPeer(ip="10.0.0.2", port=8080, namespace="x", pod="demo")
    return Flow(1.0, verdict, source, target, "TCP", drop_reason=reason, node=node)


@pytest.fixture
def api():
    return with_pods(*PODS)


@pytest.fixture
def cluster(api):
    return LabCluster(api, kinds={8080: UP})


@pytest.fixture
def lab(cluster, api):
    failures = []
    made = Lab(
        cluster,
        Kube(api, clock=api.clock),
        image="python:x",
        on_failure=lambda error: failures.append((error, api.stored(ref()))),
    )
    made.failures = failures
    return made


def test_what_is_met_is_evidence_and_asks_for_no_flows(lab, cluster):
    judgement = lab.judge([check(by=[str(DEMO)]), check("denied", 8081)])
    assert judgement.failures == []
    first, second = lab.evidence.checks
    assert (first.expected, first.answered_by, first.met, first.flaps) == ("connected", {str(DEMO)}, True, 0)
    assert first.outcome == judgement.outcome("to 8080")
    assert (second.expected, second.outcome.kind) == ("denied", DOWN)
    assert first.converged_s == second.converged_s == judgement.converged_s > 0
    assert cluster.log == []
    lab.judge([check()])
    assert len(lab.evidence.checks) == 3, "it only grows"


def test_a_failure_is_told_with_flows_and_is_evidence(lab, cluster):
    cluster.kinds = {}
    mine = [flow(), flow(verdict=FlowVerdict.FORWARDED, reason="", node="n2")]
    cluster.seen = [*mine, flow(port=50000)]
    with pytest.raises(AssertionError) as caught:
        lab.judge([check(), check("denied", 8081)], converge_s=2.0)
    assert str(caught.value).splitlines() == [
        "1 of 2 probes came out differently:",
        RULED_OUT,
        "  x/frontend → x/demo:8080/TCP: expected connected, seen timeout after 0.010 s",
        f"    flow: {mine[0]}",
        f"    flow: {mine[1]}",
    ]
    assert [entry.met for entry in lab.evidence.checks] == [False, True]
    assert lab.evidence.flows == mine
    assert json.loads(json.dumps(lab.evidence.to_data()))["flows"] == [str(one) for one in mine]
    (_, start_s, end_s), *more = cluster.log
    assert more == [], "asked once"
    assert start_s == NOW_S
    assert end_s == cluster.clock.time()


def test_only_the_last_flows_are_told_and_all_are_kept(lab, cluster):
    cluster.kinds = {}
    cluster.seen = [flow(node=f"n{number}") for number in range(9)]
    with pytest.raises(AssertionError) as caught:
        lab.judge([check()], converge_s=1.0)
    told = [line.rpartition(" ")[2] for line in str(caught.value).splitlines() if "flow:" in line]
    assert told == ["n3", "n4", "n5", "n6", "n7", "n8"]
    assert len(lab.evidence.flows) == 9


@pytest.mark.parametrize(
    ("features", "seen", "told"),
    [
        ((), (), "no flows: the release has no Hubble relay"),
        (("hubble-relay",), FlowsLost("3 lost", place="node n1"), "no flows: node n1: 3 lost"),
        (("hubble-relay",), [flow(port=50000)], "no flow of this probe among the 1 of its time"),
    ],
)
def test_missing_flows_hide_no_failure(lab, cluster, features, seen, told):
    cluster.kinds, cluster.features, cluster.seen = {}, frozenset(features), seen
    with pytest.raises(AssertionError) as caught:
        lab.judge([check()], converge_s=1.0)
    assert str(caught.value).splitlines()[1:] == [
        RULED_OUT,
        "  x/frontend → x/demo:8080/TCP: expected connected, seen timeout after 0.010 s",
        f"    {told}",
    ]
    assert lab.evidence.flows == []


@pytest.fixture
def unfollowed(lab):
    """A lab whose flow stream is not open; gives how often it was opened."""
    opened = []

    def follow():
        opened.append(True)
        return ""

    lab.follow = follow
    return opened


def test_without_a_flow_stream_what_failed_is_asked_once_more_with_one(lab, cluster, unfollowed):
    cluster.kinds, cluster.seen = {8081: UP}, [flow()]
    cluster.features = frozenset({"hubble-relay"})
    with pytest.raises(AssertionError) as caught:
        lab.judge([check(), check(port=8081)], converge_s=1.0)
    assert str(caught.value).splitlines()[2:] == [
        "  x/frontend → x/demo:8080/TCP: expected connected, seen timeout after 0.010 s",
        "    asked once more with a flow stream open: timeout after 0.010 s",
        f"    flow: {flow()}",
    ]
    assert unfollowed == [True]
    assert [entry.met for entry in lab.evidence.checks] == [False, True], "the first outcome stands"


def test_a_flow_stream_that_cannot_be_opened_hides_no_failure(lab, cluster):
    cluster.kinds, cluster.features = {}, frozenset({"hubble-relay"})
    lab.follow = lambda: "no flow stream was open from the start: relay is away"
    with pytest.raises(AssertionError) as caught:
        lab.judge([check()], converge_s=1.0)
    assert str(caught.value).splitlines()[-1] == "    no flow stream was open from the start: relay is away"


def test_what_passes_opens_no_flow_stream(lab, unfollowed):
    lab.judge([check()])
    assert unfollowed == []


def test_policies_are_in_force_inside_and_gone_after(lab, cluster, api):
    with lab.in_force([policy("p"), policy("q")], PODS, timeout_s=9.0) as held:
        assert [(one.name, one.uid) for one in held.refs] == [("p", "uid-p"), ("q", "uid-q")]
        assert held.ref == held.refs[0]
        assert [entry.endpoint for entry in held.proof.endpoints] == ["x/demo", "x/frontend"]
        assert api.stored(ref("q")) is not None
        assert lab.evidence.proofs == [held.proof]
    assert api.stored(ref("p")) is api.stored(ref("q")) is None
    assert cluster.log == [("proven", ["p", "q"], 1.0), ("gone", ["p", "q"], 9.0)]
    assert [proof.gone for proof in lab.evidence.proofs] == [False, True]
    assert lab.failures == []


def test_a_failure_inside_is_seen_before_the_policy_is_removed(lab, cluster, api):
    error = RuntimeError("inside")
    with pytest.raises(RuntimeError, match="inside"), lab.in_force([policy()], PODS):
        raise error
    (seen, stored), *more = lab.failures
    assert seen is error
    assert more == []
    assert stored["metadata"]["name"] == "p"
    assert api.stored(ref()) is None
    assert [what for what, *_ in cluster.log] == ["proven"], "its absence is not awaited any more"


def test_what_is_not_enforced_is_removed(lab, cluster, api):
    cluster.unproven = "p"
    with (
        pytest.raises(EnforcementNotProven, match="n1 is behind"),
        lab.in_force([policy()], PODS, timeout_s=3.0),
    ):
        pytest.fail("never in force")
    assert api.stored(ref()) is None
    assert lab.failures[0][1] is not None, "seen while it was there"
    assert lab.evidence.proofs == []


def test_what_stays_in_force_after_its_removal_fails_the_test(lab, cluster):
    cluster.unproven = "gone"
    with pytest.raises(EnforcementNotProven), lab.in_force([policy()], PODS):
        pass


def test_the_second_policy_is_refused_and_the_first_is_removed(lab, api):
    kept = api.apply

    def apply(obj, **given):
        if obj["metadata"]["name"] == "q":
            raise KubeError(422, "Invalid", "no such field", place="q")
        return kept(obj, **given)

    api.apply = apply
    with pytest.raises(PolicyError, match="no such field"), lab.in_force([policy("p"), policy("q")], PODS):
        pytest.fail("never in force")
    assert api.stored(ref("p")) is None


def test_a_failure_names_the_proofs_in_force_then_and_no_others(lab, cluster):
    cluster.kinds = {}
    cluster.seen = [flow()]
    with lab.in_force([policy("before")], PODS):
        pass
    with (
        lab.in_force([policy("p")], PODS),
        lab.in_force([policy("q")], PODS),
        pytest.raises(AssertionError) as caught,
    ):
        lab.judge([check()], converge_s=1.0)
    lines = [line.strip() for line in str(caught.value).splitlines() if "enforced" in line]
    assert [line.split(":")[0] for line in lines] == ["CiliumNetworkPolicy x/p", "CiliumNetworkPolicy x/q"]


def test_a_wanted_flow_is_found_and_kept(lab, cluster):
    judgement = lab.judge([check()])
    cluster.seen = [flow(verdict=FlowVerdict.FORWARDED, reason=""), flow()]
    found = lab.flow(judgement, "to 8080", Wanted(verdict=FlowVerdict.DROPPED))
    assert found == flow()
    assert lab.evidence.flows == [found]
    assert len(cluster.log) == 1


def test_flows_that_are_given_are_not_asked_for_again(lab, cluster):
    judgement = lab.judge([check()])
    lab.flow(judgement, "to 8080", Wanted(reason="POLICY_DENIED"), flows=[flow()])
    assert cluster.log == []


def test_a_flow_that_is_not_there_fails_with_the_nearest(lab, cluster):
    judgement = lab.judge([check()])
    cluster.seen = [flow()]
    with pytest.raises(AssertionError, match="1 flows of this probe were seen, nearest first"):
        lab.flow(judgement, "to 8080", Wanted(verdict=FlowVerdict.FORWARDED))
    assert lab.evidence.flows == []


def test_a_flow_that_cannot_be_known_is_an_error_of_the_run(lab, cluster):
    judgement = lab.judge([check()])
    cluster.seen = FlowsLost("3 lost", place="node n1")
    with pytest.raises(FlowsLost):
        lab.flow(judgement, "to 8080", Wanted())


def test_aliases_and_destinations_widen_the_search(lab):
    judgement = lab.judge([check()])
    masked = Flow(
        1.0,
        FlowVerdict.FORWARDED,
        FlowPeer(ip="172.18.0.2", port=40000),
        FlowPeer(ip="10.0.0.3", port=8080),
        "TCP",
    )
    with pytest.raises(AssertionError):
        lab.flow(judgement, "to 8080", Wanted(), flows=[masked])
    wide = {"aliases": ["172.18.0.2"], "destinations": ["10.0.0.3"]}
    assert lab.flow(judgement, "to 8080", Wanted(), flows=[masked], **wide) == masked
