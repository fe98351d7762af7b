"""Each sabotage of a cluster, and the words in which its cause is named."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.diagnosis import Diagnosis, Suspects, diagnose
from cilium_e2e.cluster.symptoms import Cause, Finding
from cilium_e2e.kube import Kube
from cilium_e2e.model import KubeError, Object, PolicyRef, Ref
from support.cluster import HEALTH, HOSTS, NOW_S, SmallCluster, at, lease, ready
from support.memory import pod

POLICY = PolicyRef("CiliumNetworkPolicy", "ns", "demo", "u-demo", 1)
STORED: Object = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "demo", "namespace": "ns", "uid": "u-demo", "generation": 1},
    "spec": {},
}
STORED_REF = Ref.of(STORED)
AGENT = Ref("v1", "Pod", "cilium-n2", "cilium")
SUSPECTS = Suspects(NOW_S - 30.0, (POLICY,), frozenset({"ns/a"}))


@pytest.fixture
def api() -> Iterator[SmallCluster]:
    found = SmallCluster()
    found.put(STORED)
    found.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns"}})
    found.put(ready(pod("a", "ns", phase="Running")))
    found.held.add("u-demo")
    yield found
    found.let_go.set()


def look(api: SmallCluster, suspects: Suspects = SUSPECTS, *, budget_s: float = 5.0) -> Diagnosis:
    kube = Kube(api, clock=api.clock)
    return diagnose(kube, CiliumAgents(kube, "cilium"), suspects, budget_s=budget_s)


def words(api: SmallCluster, suspects: Suspects = SUSPECTS) -> list[str]:
    found = look(api, suspects)
    assert found.unanswered == {}
    return [str(finding) for finding in found.findings]


def test_all_is_well(api: SmallCluster) -> None:
    found = look(api)
    assert found.findings == ()
    assert found.lines() == [
        (
            "nothing wrong found with policies, nodes, Cilium's agents, the network between nodes, "
            "the pods that took part, cluster DNS, relay"
        )
    ]


class TestPolicies:
    def test_deleted(self, api: SmallCluster) -> None:
        api.remove(STORED_REF)
        api.held.clear()
        assert words(api) == [
            "policy gone or changed: CiliumNetworkPolicy ns/demo was deleted behind the run's back"
        ]

    def test_with_its_namespace(self, api: SmallCluster) -> None:
        api.remove(STORED_REF)
        api.remove(Ref("v1", "Namespace", "ns"))
        assert words(api)[0].endswith("was deleted behind the run's back, with its namespace")

    def test_changed_and_by_whom(self, api: SmallCluster) -> None:
        writes = [
            {"manager": "cilium-e2e", "operation": "Apply", "time": at(-20)},
            {"manager": "kubectl-edit", "operation": "Update", "time": at(-5)},
            {"manager": "cilium-operator", "operation": "Update", "time": at(-1), "subresource": "status"},
        ]
        api.change(STORED_REF, metadata={"generation": 2, "managedFields": writes})
        assert words(api) == [
            (
                "policy gone or changed: CiliumNetworkPolicy ns/demo was changed behind the run's back "
                f"(generation 1 became 2), last managed by kubectl-edit (Update, {at(-5)})"
            )
        ]

    def test_made_anew(self, api: SmallCluster) -> None:
        api.change(STORED_REF, metadata={"uid": "u-other"})
        assert "was deleted behind the run's back and made anew" in words(api)[0]

    def test_refused(self, api: SmallCluster) -> None:
        api.change(
            STORED_REF, status={"conditions": [{"type": "Valid", "status": "False", "message": "bad port"}]}
        )
        assert "is refused by Cilium: bad port" in words(api)[0]

    def test_an_agent_that_does_not_hold_it(self, api: SmallCluster) -> None:
        api.held.clear()
        assert words(api) == [
            f"policy gone or changed: the agent on node {name} does not hold CiliumNetworkPolicy ns/demo"
            for name in ("n1", "n2")
        ]


class TestNodes:
    def test_paused(self, api: SmallCluster) -> None:
        """Its kubelet falls silent at once; the control plane takes 40 s to call it not ready."""
        api.put(lease("n2", 21.0))
        api.hanging.add("n2")
        api.silent |= {HOSTS["n2"], HEALTH["n2"]}
        found = look(api, budget_s=1.0)
        assert found.unanswered == {}
        assert [str(finding) for finding in found.findings] == [
            (
                "node down: node n2 has not been heard of for 21 s (its kubelet's lease): "
                "paused, stopped, or cut off"
            ),
            "Cilium agent down: the agent on node n2 does not answer (no answer within 0.9 s)",
            "node-to-node network broken: node n1 does not reach node n2 at all",
        ]

    def test_not_ready(self, api: SmallCluster) -> None:
        broken = ready(
            {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n2"}},
            is_ready=False,
            message="Kubelet stopped posting node status.",
        )
        api.put(broken)
        assert words(api) == ["node down: node n2 is not Ready (Kubelet stopped posting node status.)"]

    def test_clocks_that_differ_accuse_nobody(self, api: SmallCluster) -> None:
        for name in ("n1", "n2"):
            api.put(lease(name, 3600.0))
        assert words(api) == []


class TestAgents:
    def test_killed(self, api: SmallCluster) -> None:
        ended = {"finishedAt": at(-3), "reason": "Error", "exitCode": 137}
        container = {
            "name": "cilium-agent",
            "restartCount": 1,
            "lastState": {"terminated": ended},
            "state": {},
        }
        api.change(AGENT, status={"conditions": [], "containerStatuses": [container]})
        assert words(api) == [
            (
                "Cilium agent down: the agent on node n2 (cilium-n2) is not ready (phase Running); had its "
                f"container cilium-agent end at {at(-3)} (Error, exit code 137; 1 restarts so far)"
            )
        ]

    def test_an_old_restart_explains_nothing(self, api: SmallCluster) -> None:
        ended = {"finishedAt": at(-300), "reason": "Error", "exitCode": 1}
        api.change(
            AGENT,
            status={"containerStatuses": [{"name": "cilium-agent", "lastState": {"terminated": ended}}]},
        )
        assert words(api) == []

    def test_replaced(self, api: SmallCluster) -> None:
        api.change(AGENT, metadata={"creationTimestamp": at(-4)})
        assert "(cilium-n2) was made anew since the test began" in words(api)[0]

    def test_missing(self, api: SmallCluster) -> None:
        api.remove(AGENT)
        assert words(api) == ["Cilium agent down: node n2 has no agent"]


class TestNetwork:
    def test_a_tunnel_that_drops(self, api: SmallCluster) -> None:
        api.silent |= set(HEALTH.values())
        found = words(api)
        assert found[0] == (
            "node-to-node network broken: node n1 reaches node n2 itself but not its health endpoint: "
            "traffic of pods between them is lost (the tunnel's, with VXLAN UDP 8472, or its routes)"
        )
        assert len(found) == 2, "both directions"

    def test_dns_scaled_to_zero(self, api: SmallCluster) -> None:
        ref = Ref("apps/v1", "Deployment", "coredns", "kube-system")
        scaled = [{"manager": "kubectl", "operation": "Update", "subresource": "scale"}]
        api.change(ref, spec={"replicas": 0}, status={"readyReplicas": 0}, metadata={"managedFields": scaled})
        assert words(api) == [
            (
                "cluster DNS down: Deployment kube-system/coredns is scaled to zero, "
                "last managed by kubectl (Update)"
            )
        ]

    def test_dns_without_a_ready_pod(self, api: SmallCluster) -> None:
        api.change(Ref("apps/v1", "Deployment", "coredns", "kube-system"), status={"readyReplicas": 0})
        assert words(api) == [
            "cluster DNS down: Deployment kube-system/coredns has no ready pod, of 2 wanted"
        ]

    def test_relay_scaled_to_zero(self, api: SmallCluster) -> None:
        api.change(Ref("apps/v1", "Deployment", "hubble-relay", "cilium"), spec={"replicas": 0})
        assert words(api) == ["Hubble relay down: Deployment cilium/hubble-relay is scaled to zero"]

    def test_a_release_without_relay(self, api: SmallCluster) -> None:
        api.remove(Ref("apps/v1", "Deployment", "hubble-relay", "cilium"))
        assert words(api) == []


class TestProbes:
    def test_a_probe_agent_that_is_gone(self, api: SmallCluster) -> None:
        api.remove(Ref("v1", "Pod", "a", "ns"))
        cut = replace(SUSPECTS, streams=("the stream was lost", "the stream was lost"))
        assert words(api, cut) == [
            "probe agent down: pod ns/a does not exist",
            "exec stream cut: the stream was lost",
        ]

    def test_a_probe_agent_that_was_killed(self, api: SmallCluster) -> None:
        ended = {"finishedAt": at(-2), "reason": "OOMKilled", "exitCode": 137}
        status = {"name": "agent", "restartCount": 2, "lastState": {"terminated": ended}}
        api.change(Ref("v1", "Pod", "a", "ns"), status={"containerStatuses": [status]})
        assert "(OOMKilled, exit code 137; 2 restarts so far)" in words(api)[0]


def test_what_the_failure_points_at_comes_first(api: SmallCluster) -> None:
    api.remove(STORED_REF)
    api.change(Ref("apps/v1", "Deployment", "hubble-relay", "cilium"), spec={"replicas": 0})
    api.change(Ref("apps/v1", "Deployment", "coredns", "kube-system"), spec={"replicas": 0})

    def order(suspects: Suspects) -> list[Cause]:
        return [finding.cause for finding in look(api, suspects).findings]

    assert order(SUSPECTS) == [Cause.POLICY, Cause.DNS, Cause.RELAY]
    assert order(replace(SUSPECTS, flows=True)) == [Cause.RELAY, Cause.POLICY, Cause.DNS]
    assert order(replace(SUSPECTS, dns=True)) == [Cause.DNS, Cause.POLICY, Cause.RELAY]


def test_a_look_that_fails_is_told_and_hides_nothing(api: SmallCluster) -> None:
    api.fail("list", KubeError(403, "Forbidden", "no leases for you"), kind="Lease")
    api.remove(STORED_REF)
    lines = look(api).lines()
    assert lines[0].startswith("likely cause: policy gone or changed")
    assert lines[-1] == "not looked at: nodes (no leases for you)"


def test_an_api_server_that_does_not_answer(api: SmallCluster) -> None:
    for method in ("get", "list"):
        api.fail(method, KubeError(0, "NoAnswer", "connection refused"), times=99)
    found = look(api)
    assert str(found.findings[0]) == "the API server does not answer: connection refused"


def test_it_is_bounded_in_time(api: SmallCluster) -> None:
    api.hanging |= {"n1", "n2"}
    start = time.monotonic()
    found = look(api, budget_s=0.5)
    assert time.monotonic() - start < 2.0
    assert [finding.cause for finding in found.findings] == [Cause.AGENT, Cause.AGENT]


def test_not_everything_is_said() -> None:
    lines = Diagnosis(tuple(Finding(Cause.POD, str(number)) for number in range(10))).lines()
    assert (len(lines), lines[-1]) == (9, "and 2 findings more")
