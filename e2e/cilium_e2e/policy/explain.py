"""Why a cell is as it is: the deciding policy and rule, or why there is none, as data and as a sentence."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cilium_e2e.model import Decision, Direction, DropReason, PolicyRef, RuleRef, Verdict
from cilium_e2e.policy.oracle import Oracle, Side, verdict_of


class Cause(enum.Enum):
    """Why one side decides as it does."""

    NOT_ENFORCED = "nothing enforces policy there"
    NO_POLICY = "no policy selects it in this direction"
    RULE = "a rule allows it"
    DENY_RULE = "a deny rule matches it"
    DEFAULT_DENY = "no rule allows it"
    DEFAULT_ALLOW = "its policies ask for no default deny"
    LOCALHOST = "the local host always reaches its pods"


@dataclass(frozen=True, slots=True)
class SideExplanation:
    """Why one side decides as it does.

    Attributes:
        direction: which side.
        subject: the pod or peer whose policy it is.
        decision: what it says.
        cause: why.
        rules: the deciding rules.
        isolating: the policies that isolate the subject; empty where the mode or the identity does.
        l7: whether the proxy has a say, too.
    """

    direction: Direction
    subject: str
    decision: Decision
    cause: Cause
    rules: tuple[RuleRef, ...]
    isolating: tuple[PolicyRef, ...]
    l7: bool

    def __str__(self) -> str:
        word = self.direction.value.lower()
        reason = self._reason()
        decision = "not judged" if self.decision is Decision.NONE else self.decision.value
        return f"{word} at {self.subject} is {decision}: {reason}"

    def _reason(self) -> str:
        if self.cause is Cause.DENY_RULE:
            return f"{_join(self.rules)} {_verb(self.rules, 'denies', 'deny')} it"
        if self.cause is Cause.RULE:
            proxy = ", and the proxy judges each request" if self.l7 else ""
            return f"{_join(self.rules)} {_verb(self.rules, 'allows', 'allow')} it{proxy}"
        if self.cause is Cause.DEFAULT_DENY:
            by = _join(self.isolating) if self.isolating else "the enforcement mode or its identity"
            return f"{by} isolates it and no rule allows this"
        return str(self.cause.value)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a flow passes or not.

    Attributes:
        source, target, protocol, port: the flow.
        verdict: what becomes of it.
        sides: egress and ingress.
    """

    source: str
    target: str
    protocol: str
    port: int
    verdict: Verdict
    sides: tuple[SideExplanation, SideExplanation]

    @property
    def sentence(self) -> str:
        """One sentence for people."""
        unit = "type " if self.protocol.upper().startswith("ICMP") else ""
        flow = f"{self.source} → {self.target}, {unit}{self.port}/{self.protocol}"
        at = self.verdict.denied_at
        if at is not None:
            side = self.sides[0] if at is Direction.EGRESS else self.sides[1]
            reason = self.verdict.drop_reason
            shown = reason.value if isinstance(reason, DropReason) else ""
            return f"{flow}, is dropped ({shown}): {side}."
        return f"{flow}, passes: {self.sides[0]}; {self.sides[1]}."

    def __str__(self) -> str:
        return self.sentence


def _join(refs: tuple[RuleRef, ...] | tuple[PolicyRef, ...]) -> str:
    return " and ".join(str(ref) for ref in refs)


def _verb(refs: tuple[RuleRef, ...], one: str, many: str) -> str:
    return one if len(refs) == 1 else many


def _cause(side: Side, *, enforced: bool) -> Cause:
    if not enforced:
        return Cause.NOT_ENFORCED
    if not side.policy.enforced:
        return Cause.NO_POLICY
    if side.decision is Decision.DENIED:
        return Cause.DENY_RULE if side.deciding else Cause.DEFAULT_DENY
    if side.rules:
        return Cause.RULE
    origins = {entry.origin for entry in side.deciding}
    return Cause.LOCALHOST if origins == {"localhost"} else Cause.DEFAULT_ALLOW


def explain(oracle: Oracle, source: str, target: str, protocol: str, port: int) -> Explanation:
    """Explain one cell.

    Args:
        oracle: world and policies.
        source: a pod (``namespace/name``) or peer.
        target: likewise.
        protocol: ``TCP``, ``UDP``, ``SCTP``, ``ICMP`` or ``ICMPv6``.
        port: the destination port, for ICMP the message type.

    Raises:
        InputError: an unknown name or protocol.
    """
    egress, ingress = oracle.sides(source, target, protocol, port)

    def explained(side: Side, subject: str) -> SideExplanation:
        return SideExplanation(
            direction=side.direction,
            subject=subject,
            decision=side.decision,
            cause=_cause(side, enforced=oracle.participant(subject).enforced),
            rules=side.rules,
            isolating=side.policy.isolating,
            l7=bool(side.redirects),
        )

    return Explanation(
        source=source,
        target=target,
        protocol=protocol,
        port=port,
        verdict=verdict_of(egress, ingress),
        sides=(explained(egress, source), explained(ingress, target)),
    )
