"""The README's demo workload, and its policy in force, as the suites know them."""

from dataclasses import dataclass

from cilium_e2e.model import Destination, Expectation, Object, PolicyRef, Probe, Proof, Protocol, Target
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import SILENCE_S, Check, Judgement

ALLOWED_PORT = 8080
OTHER_PORT = 8081
DEMO_POLICY = ("default", "demo-policy")
REQUIREMENT = f"policy:{'/'.join(DEMO_POLICY)}"
"""What tests of the policy require: not every tree has it."""


@dataclass(frozen=True, slots=True)
class Demo:
    """The README's demo workload with its policy in force.

    Attributes:
        demo: what the policy selects.
        frontend: what it allows.
        other: what it does not.
        control: everybody reached demo on both ports before there was a policy.
        policy: the object on the cluster.
        proof: that it is enforced.
    """

    demo: Target
    frontend: Target
    other: Target
    control: Judgement
    policy: PolicyRef
    proof: Proof


def check(source: Target, target: Target, port: int, outcome: str) -> Check:
    """One TCP probe, its expected outcome, and that it is the target itself that answers."""
    probe = Probe.to(source, Destination(target, port, Protocol.TCP), timeout_s=SILENCE_S)
    answered_by = frozenset({str(target)}) if outcome == "connected" else frozenset()
    return Check(probe, Expectation(outcome), answered_by)


def demo_policy(repository: Repository) -> Object:
    """The policy as the tree has it; for tests that require it."""
    return next(
        policy
        for policy in repository.policies
        if (policy["metadata"].get("namespace"), policy["metadata"]["name"]) == DEMO_POLICY
    )
