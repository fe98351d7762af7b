"""The README's demo workload, and its policy in force, as the suites know them."""

from dataclasses import dataclass

from cilium_e2e.model import Object, PolicyRef, Proof, Target
from cilium_e2e.repository import Repository

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
        policy: the object on the cluster.
        proof: that it is enforced.
    """

    demo: Target
    frontend: Target
    other: Target
    policy: PolicyRef
    proof: Proof


def demo_policy(repository: Repository) -> Object:
    """The policy as the tree has it; for tests that require it."""
    return next(
        policy
        for policy in repository.policies
        if (policy["metadata"].get("namespace"), policy["metadata"]["name"]) == DEMO_POLICY
    )
