"""README, "Network Policies": the demo policy lets frontend reach demo on 8080/TCP, and nothing else."""

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import Ref
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import Lab, OracleView, live_policies, live_world
from cilium_e2e.suites.demo import (
    ALLOWED_PORT,
    DEMO_POLICY,
    OTHER_PORT,
    REQUIREMENT,
    Demo,
    check,
    demo_policy,
)

pytestmark = pytest.mark.flowless

needs_policy = pytest.mark.requires(REQUIREMENT)


@needs_policy
def test_without_the_policy_everybody_reaches_demo(demo: Demo) -> None:
    """The positive control, made on the same pods right before the policy was applied."""
    asked = {(entry.check.probe.source, entry.check.probe.port) for entry in demo.control.judged}
    assert asked == {
        (pod, port) for pod in (demo.frontend, demo.other) for port in (ALLOWED_PORT, OTHER_PORT)
    }
    assert not demo.control.failures


@needs_policy
def test_the_policy_allows_one_identity_on_one_port(lab: Lab, demo: Demo) -> None:
    """Allowed, wrong port denied, wrong identity denied; the oracle says so, too."""
    checks = [
        check(demo.frontend, demo.demo, ALLOWED_PORT, "connected"),
        check(demo.frontend, demo.demo, OTHER_PORT, "denied"),
        check(demo.other, demo.demo, ALLOWED_PORT, "denied"),
        check(demo.other, demo.demo, OTHER_PORT, "denied"),
    ]
    view = OracleView(live_world(lab.cluster, lab.kube), live_policies(lab.kube))
    sayings = {entry.probe.id: view.says(entry.probe) for entry in checks}
    live = lab.kube.get(Ref("cilium.io/v2", demo.policy.kind, demo.policy.name, demo.policy.namespace))
    lab.evidence.notes["policy"] = f"{demo.proof}; its rules: {live['spec'].get('ingress')}"
    lab.judge(checks, oracle={probe: saying.words for probe, saying in sayings.items()})
    for entry in checks:
        saying = sayings[entry.probe.id]
        assert saying.agrees(entry.expected), f"{entry.probe.id}: expected {entry.expected}, {saying.words}"


@needs_policy
def test_flux_applied_the_policy_of_the_tree(kube: Kube, repository: Repository) -> None:
    """The policy that Flux reconciled is the tree's, word for word, and Cilium takes it as valid."""
    namespace, name = DEMO_POLICY
    wanted = demo_policy(repository)
    live = kube.get(Ref("cilium.io/v2", "CiliumNetworkPolicy", name, namespace))
    assert live["spec"] == wanted["spec"]


def test_every_policy_of_the_cluster_is_valid(kube: Kube) -> None:
    """The API server stores policies that no agent enforces; only their Valid condition says so."""
    for kind in ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"):
        for policy in kube.list_all(Ref("cilium.io/v2", kind)):
            meta = policy["metadata"]
            valid = [c for c in policy.get("status", {}).get("conditions", []) if c["type"] == "Valid"]
            assert [c["status"] for c in valid] == ["True"], (
                f"{kind} {meta.get('namespace', '')}/{meta['name']}: expected Valid=True, got {valid}"
            )
