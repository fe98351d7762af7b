"""What a test did and what it saw, kept as it goes: for reports, and for whoever must explain a failure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cilium_e2e.model.flow import Flow
from cilium_e2e.model.probe import Outcome, Probe
from cilium_e2e.model.proof import Proof
from cilium_e2e.model.verdict import PolicyRef


@dataclass(frozen=True, slots=True)
class CheckRecord:
    """A probe that was judged.

    Attributes:
        probe: what was asked.
        expected: the expectation's text.
        answered_by: who had to answer, ``namespace/pod`` each; empty for anyone.
        outcome: the last outcome.
        met: whether it was met to the end.
        flaps: how often it was met and then not.
        converged_s: how long its whole judgement took to converge, in seconds.
        oracle: what the oracle says of it (``allowed``, ``denied ...``), empty where it was not asked.
        met_after_s: when it was met for good, in seconds from the judgement's start; None where it never was.
        lost_in: the rounds, from 1, in which it was not met any more; as many as there were flaps.
        rounds: how many times it was asked.
    """

    probe: Probe
    expected: str
    answered_by: frozenset[str]
    outcome: Outcome
    met: bool
    flaps: int
    converged_s: float
    oracle: str = ""
    met_after_s: float | None = None
    lost_in: tuple[int, ...] = ()
    rounds: int = 0

    @property
    def wanted(self) -> str:
        """The expectation, and who had to answer."""
        who = f" by {' or '.join(sorted(self.answered_by))}" if self.answered_by else ""
        return f"{self.expected}{who}"

    def to_data(self) -> dict[str, Any]:
        """As plain data, without what is empty."""
        seen = self.outcome
        data = {
            "probe": self.probe.id,
            "source": str(self.probe.source),
            "destination": str(self.probe.destination),
            "expected": self.expected,
            "must_answer": sorted(self.answered_by),
            "seen": str(seen),
            "answered_by": seen.answered_by,
            "from": f"{seen.source_ip}:{seen.source_port}" if seen.source_ip else "",
            "elapsed_s": round(seen.elapsed_s, 4),
            "flaps": self.flaps,
            "converged_s": round(self.converged_s, 3),
            "oracle": self.oracle,
            "met_after_s": "" if self.met_after_s is None else round(self.met_after_s, 3),
            "lost_in": list(self.lost_in),
            "rounds": self.rounds,
        }
        return {"met": self.met, **{key: value for key, value in data.items() if value not in ("", [], 0)}}


@dataclass(slots=True)
class Evidence:
    """What one test left behind; it only grows.

    Attributes:
        checks: probes with their outcomes.
        proofs: policies shown to be enforced, or gone.
        flows: flows that a test asked for and found, or that explain a failure.
        notes: anything else, by a short name.
        reproduce: the command that runs just this again.
    """

    checks: list[CheckRecord] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    flows: list[Flow] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    reproduce: str = ""

    def to_data(self) -> dict[str, Any]:
        """As plain data that JSON can carry; empty parts are left out."""
        parts: Mapping[str, Any] = {
            "checks": [check.to_data() for check in self.checks],
            "proofs": [_proof(proof) for proof in self.proofs],
            "flows": [str(flow) for flow in self.flows],
            "notes": dict(self.notes),
            "reproduce": self.reproduce,
        }
        return {name: part for name, part in parts.items() if part}


def _identified(policies: Iterable[PolicyRef]) -> list[str]:
    return [f"{policy} ({policy.uid})" for policy in policies]


def _proof(proof: Proof) -> dict[str, Any]:
    return {
        "policies": _identified(proof.policies),
        "gone": proof.gone,
        **({"absent": _identified(proof.absent)} if proof.absent else {}),
        "endpoints": {entry.endpoint: entry.revision for entry in proof.endpoints},
        "realized_s": round(proof.realized_s, 3),
        **({"detail": list(proof.detail)} if proof.detail else {}),
    }
