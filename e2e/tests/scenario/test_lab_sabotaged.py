"""A lab whose cluster is sabotaged: what its errors say, and what becomes evidence."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Destination,
    EnforcementNotProven,
    Evidence,
    Expectation,
    FlowsLost,
    KubeError,
    Object,
    Outcome,
    OutcomeKind,
    Probe,
    Protocol,
    Ref,
    StreamLost,
    Target,
)
from cilium_e2e.scenario import Check, Lab
from support.cluster import HEALTH, SmallCluster
from support.lab import LabCluster, with_pods

A, B = Target.pod("ns", "a"), Target.pod("ns", "b")
DENIED = Check(Probe.to(A, Destination(B, 8080, Protocol.TCP)), Expectation("denied"))
REACHED = Check(Probe.to(A, Destination(B, 8080, Protocol.TCP)), Expectation("connected"))
POLICY: Object = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "deny", "namespace": "ns"},
    "spec": {"endpointSelector": {}, "ingress": [{}]},
}
POLICY_REF = Ref.of(POLICY)
DELETED = "policy gone or changed: CiliumNetworkPolicy ns/deny was deleted behind the run's back"


@pytest.fixture
def api() -> SmallCluster:
    return with_pods(A, B)


@pytest.fixture
def cluster(api: SmallCluster) -> LabCluster:
    return LabCluster(api)


@pytest.fixture
def lab(cluster: LabCluster) -> Lab:
    return Lab(cluster, Kube(cluster.api, clock=cluster.clock), image="x", evidence=Evidence())


def failure(lab: Lab, check: Check) -> list[str]:
    with pytest.raises(AssertionError) as caught:
        lab.judge([check], converge_s=2.0)
    lines = str(caught.value).splitlines()
    assert lab.evidence.notes["diagnosis"].splitlines()[0].strip() == lines[1].strip()
    return lines


def test_a_healthy_cluster_rules_the_others_out(lab: Lab) -> None:
    assert failure(lab, REACHED)[1].startswith("  nothing wrong found with policies, nodes, Cilium's agents")


def test_a_policy_deleted_behind_the_runs_back_is_named(
    lab: Lab, api: SmallCluster, cluster: LabCluster
) -> None:
    cluster.kind = OutcomeKind.CONNECTED
    with lab.in_force([POLICY], [B]):
        api.remove(POLICY_REF)
        assert failure(lab, DENIED)[1] == f"  likely cause: {DELETED}"


def test_without_its_policy_no_success_counts(lab: Lab, api: SmallCluster, cluster: LabCluster) -> None:
    """What is allowed with the policy is allowed without it, too: that proves nothing."""
    cluster.kind = OutcomeKind.CONNECTED
    with lab.in_force([POLICY], [B]):
        lab.judge([REACHED])
        api.remove(POLICY_REF)
        with pytest.raises(EnforcementNotProven) as caught:
            lab.judge([REACHED])
    assert f"all probes came out as expected, but not under the policies: {DELETED}" in str(caught.value)
    assert lab.evidence.notes["diagnosis"] == DELETED
    lab.judge([REACHED])


def test_neither_a_passing_error_nor_an_old_refusal_breaks_what_is_proven(
    lab: Lab, api: SmallCluster
) -> None:
    """Cilium's word on a policy carries no generation, and may speak of the one before."""
    with lab.in_force([POLICY], [B]):
        api.change(
            POLICY_REF, status={"conditions": [{"type": "Valid", "status": "False", "message": "old"}]}
        )
        api.fail("get", KubeError(503, "Unavailable", "busy"), kind="CiliumNetworkPolicy")
        lab.judge([DENIED])


def test_a_change_made_by_the_test_itself_is_in_force(lab: Lab) -> None:
    changed = {**POLICY, "spec": {"endpointSelector": {}, "egress": [{}]}}
    with lab.in_force([POLICY], [B]), lab.in_force([changed], [B]) as held:
        assert held.ref.generation == 2
        lab.judge([DENIED])


def test_a_proof_that_times_out_names_the_node(lab: Lab, api: SmallCluster, cluster: LabCluster) -> None:
    cluster.unproven = POLICY_REF.name
    api.remove(Ref("v1", "Pod", "cilium-n2", "cilium"))
    with pytest.raises(EnforcementNotProven) as caught, lab.in_force([POLICY], [B], timeout_s=1.0):
        pytest.fail("it was not proven")
    assert str(caught.value).splitlines()[1:] == ["  likely cause: Cilium agent down: node n2 has no agent"]
    assert api.stored(POLICY_REF) is None, "cleaned up all the same"


@pytest.mark.parametrize("error", [FlowsLost("lost 3"), StreamLost("no relay")])
def test_flows_that_cannot_be_had_name_relay(
    lab: Lab, api: SmallCluster, cluster: LabCluster, error: Exception
) -> None:
    cluster.seen = error
    api.change(Ref("apps/v1", "Deployment", "hubble-relay", "cilium"), spec={"replicas": 0})
    judgement = lab.judge([DENIED])
    with pytest.raises(type(error)) as caught:
        lab.flows(judgement)
    assert "likely cause: Hubble relay down: Deployment cilium/hubble-relay is scaled to zero" in str(
        caught.value
    )


def test_a_broken_tunnel_is_named(lab: Lab, api: SmallCluster) -> None:
    api.silent |= set(HEALTH.values())
    assert "node n1 reaches node n2 itself but not its health endpoint" in failure(lab, REACHED)[1]


def test_dns_that_nobody_serves_is_named(lab: Lab, api: SmallCluster) -> None:
    api.change(Ref("apps/v1", "Deployment", "coredns", "kube-system"), spec={"replicas": 0})
    name = Check(
        Probe.to(A, Destination(Target.parse("dns:svc.ns.svc.cluster.local"), 8080, Protocol.TCP)),
        Expectation("connected"),
    )
    assert (
        failure(lab, name)[1]
        == "  likely cause: cluster DNS down: Deployment kube-system/coredns is scaled to zero"
    )


def test_a_lost_stream_is_named_and_is_no_denial(lab: Lab, cluster: LabCluster) -> None:
    cluster.kind, cluster.detail = OutcomeKind.INFRA_ERROR, "no answer of the agent at ns/a: it was cut"
    assert failure(lab, DENIED)[1] == f"  likely cause: exec stream cut: {cluster.detail}"


def test_a_probe_agent_killed_mid_run_is_named(lab: Lab, cluster: LabCluster, api: SmallCluster) -> None:
    cluster.kind = OutcomeKind.INFRA_ERROR
    api.remove(Ref("v1", "Pod", "a", "ns"))
    assert failure(lab, DENIED)[1] == "  likely cause: probe agent down: pod ns/a does not exist"


def test_a_stream_that_was_lost_once_is_survived_and_told(lab: Lab, cluster: LabCluster) -> None:
    lab.judge([DENIED])
    assert "streams lost and opened anew" not in lab.evidence.notes
    run = cluster.run

    def lost_once(batch: Sequence[Probe]) -> list[Outcome]:
        cluster.reopened = 1
        return run(batch)

    cluster.run = lost_once  # type: ignore[method-assign]
    lab.judge([DENIED])
    assert lab.evidence.notes["streams lost and opened anew"] == "ns/a: 1 times"


def test_times_are_evidence(lab: Lab) -> None:
    lab.judge([DENIED])
    (record,) = lab.evidence.checks
    assert (record.met_after_s, record.lost_in, record.rounds) == (pytest.approx(1.0), (), 3)
    assert record.to_data()["met_after_s"] == 1.0
