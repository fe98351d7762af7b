"""README, "Network Policies": the demo policy lets frontend reach demo on 8080/TCP, and nothing else."""

from collections.abc import Sequence

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Destination, Expectation, Probe, Protocol, Ref, Target
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import Check, Judged, judge, require
from cilium_e2e.suites.demo import ALLOWED_PORT, DEMO_POLICY, OTHER_PORT, REQUIREMENT, Demo, demo_policy

needs_policy = pytest.mark.requires(REQUIREMENT)

CONNECTED, DENIED = Expectation("connected"), Expectation("denied")


def _check(source: Target, target: Target, port: int, expected: Expectation) -> Check:
    probe = Probe.to(source, Destination(target, port, Protocol.TCP))
    return Check(probe, expected, frozenset({str(target)}))


def test_without_the_policy_everybody_reaches_demo(
    cluster: LiveCluster, demo_workload: Sequence[Target]
) -> None:
    """The positive control: what is denied later is reachable, and only the policy makes the difference."""
    demo, frontend, other = demo_workload
    require(
        judge(
            cluster,
            [
                _check(source, demo, port, CONNECTED)
                for source in (frontend, other)
                for port in (ALLOWED_PORT, OTHER_PORT)
            ],
        )
    )


@needs_policy
def test_the_policy_allows_one_identity_on_one_port(cluster: LiveCluster, demo: Demo) -> None:
    """Allowed, wrong port denied, wrong identity denied."""
    checks = [
        _check(demo.frontend, demo.demo, ALLOWED_PORT, CONNECTED),
        _check(demo.frontend, demo.demo, OTHER_PORT, DENIED),
        _check(demo.other, demo.demo, ALLOWED_PORT, DENIED),
    ]

    def explain(entry: Judged) -> str:
        del entry
        live = cluster.api.get(Ref("cilium.io/v2", demo.policy.kind, demo.policy.name, demo.policy.namespace))
        return f"{demo.proof}\nits rules: {live['spec'].get('ingress')}"

    require(judge(cluster, checks), explain=explain)


@needs_policy
def test_flux_applied_the_policy_of_the_tree(kube: Kube, repository: Repository) -> None:
    """The policy that Flux reconciled is the tree's, word for word, and Cilium takes it as valid."""
    namespace, name = DEMO_POLICY
    wanted = demo_policy(repository)
    live = kube.get(Ref("cilium.io/v2", "CiliumNetworkPolicy", name, namespace))
    assert live["spec"] == wanted["spec"]
    valid = [c for c in live.get("status", {}).get("conditions", []) if c["type"] == "Valid"]
    assert [c["status"] for c in valid] == ["True"], f"expected Valid=True, got {valid}"
