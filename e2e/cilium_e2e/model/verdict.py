"""Policy verdicts: what the oracle says, in the terms of Cilium's policy engine."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class Decision(enum.Enum):
    """What one side says to a flow; ``NONE`` where nothing enforces policy on that side."""

    ALLOWED = "allowed"
    DENIED = "denied"
    NONE = "none"


class Direction(enum.StrEnum):
    """The side a decision is made on, from the enforcing endpoint's point of view."""

    EGRESS = "EGRESS"
    INGRESS = "INGRESS"


class DropReason(enum.Enum):
    """Why a flow is dropped by policy, as Hubble's ``drop_reason_desc`` names it."""

    POLICY_DENIED = "POLICY_DENIED"
    """No rule allows it: default deny."""

    POLICY_DENY = "POLICY_DENY"
    """A deny rule matches it."""


@dataclass(frozen=True, slots=True, order=True)
class PolicyRef:
    """A policy object by name.

    Attributes:
        kind: ``CiliumNetworkPolicy``, ``CiliumClusterwideNetworkPolicy`` or ``NetworkPolicy``.
        namespace: empty for cluster-wide policies.
        name: the object's name.
        uid: the object's UID, empty where it is not on an API server.
        generation: which of its contents is meant, as the API server counts them; 0 for any. Two references
            that differ only in it are equal: they name the same policy.
    """

    kind: str
    namespace: str
    name: str
    uid: str = ""
    generation: int = field(default=0, compare=False)

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}"


@dataclass(frozen=True, slots=True, order=True)
class RuleRef:
    """One rule inside a policy, for explanations.

    Attributes:
        policy: the object it stands in.
        direction: the side it decides.
        deny: whether it is a deny rule.
        path: the field path of the rule, for example ``spec.ingress[0]`` or ``specs[1].egressDeny[2]``.
    """

    policy: PolicyRef
    direction: Direction
    deny: bool
    path: str

    def __str__(self) -> str:
        return f"{self.policy}, {self.path}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Both sides of a flow's policy decision.

    Attributes:
        egress, ingress: the decision at the source and at the destination.
        rules: the rules that decide, those of the denying side where one denies.
        l7: whether an allowing rule hands the flow to the L7 proxy, which may still refuse a request.
        drop_reason: what Hubble shows for the drop; None where the flow passes.
        unverified: True where no table of Cilium's own engine covers the semantics used.
    """

    egress: Decision
    ingress: Decision
    rules: tuple[RuleRef, ...] = ()
    l7: bool = False
    drop_reason: DropReason | None = None
    unverified: bool = False

    @property
    def passes(self) -> bool:
        """Whether the flow gets through: neither side denies it."""
        return Decision.DENIED not in (self.egress, self.ingress)

    @property
    def denied_at(self) -> Direction | None:
        """The side that drops the flow; egress comes first on the wire. None where it passes."""
        if self.egress is Decision.DENIED:
            return Direction.EGRESS
        if self.ingress is Decision.DENIED:
            return Direction.INGRESS
        return None
