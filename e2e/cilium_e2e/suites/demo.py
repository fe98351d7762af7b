"""The README's demo workload, and its policy in force, as the suites know them."""

from dataclasses import dataclass

from cilium_e2e.model import PolicyRef, Proof, Target

ALLOWED_PORT = 8080
OTHER_PORT = 8081
DEMO_POLICY = ("default", "demo-policy")


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
