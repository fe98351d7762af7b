"""A test's evidence as properties: pairs of plain strings, as JUnit XML carries them.

Names may come several times, as JUnit allows. ``expected`` and ``seen`` come in pairs, one pair for each
check that was not met. What is left out is counted under ``left-out``.
"""

from __future__ import annotations

from collections.abc import Iterable

from cilium_e2e.model import CheckRecord, Evidence, PolicyRef, Proof
from cilium_e2e.report.texts import bounded, clean

MOST = 20
"""How many values one name may have in one test."""

LONGEST = 2000
"""Characters of the longest value."""

_ENDPOINTS = 12


def properties(evidence: Evidence, *, backend: str, topology: str, reason: str) -> list[tuple[str, str]]:
    """All properties of a test.

    Args:
        evidence: what it left behind.
        backend: where it ran.
        topology: on what kind of cluster.
        reason: why it failed or was skipped; empty when neither.
    """
    pairs = [("backend", backend), ("topology", topology)]
    if reason:
        pairs.append(("reason", reason))
    if evidence.checks:
        pairs += _checks(evidence.checks)
    pairs += _many("proof", (_proof(proof) for proof in evidence.proofs))
    pairs += _many("flow", map(str, evidence.flows))
    pairs += [(f"note: {name}", text) for name, text in evidence.notes.items()][:MOST]
    if evidence.reproduce:
        pairs.append(("reproduce", evidence.reproduce))
    return [(name, clean(bounded(value, LONGEST))) for name, value in pairs]


def _checks(checks: list[CheckRecord]) -> list[tuple[str, str]]:
    unmet = [check for check in checks if not check.met]
    pairs = [
        ("checks", str(len(checks))),
        ("unmet", str(len(unmet))),
        ("flaps", str(sum(check.flaps for check in checks))),
        ("slowest-convergence-s", f"{max(check.converged_s for check in checks):.3f}"),
    ]
    for check in unmet[:MOST]:
        what = f"{check.probe.source} → {check.probe.destination}"
        pairs.append(("expected", f"{what}: {check.wanted}"))
        pairs.append(("seen", f"{what}: {check.outcome}"))
    if len(unmet) > MOST:
        pairs.append(("left-out", f"{len(unmet) - MOST} expected and seen"))
    return pairs


def _many(name: str, values: Iterable[str]) -> list[tuple[str, str]]:
    everything = list(dict.fromkeys(values))
    pairs = [(name, value) for value in everything[:MOST]]
    if len(everything) > MOST:
        pairs.append(("left-out", f"{len(everything) - MOST} {name}"))
    return pairs


def _proof(proof: Proof) -> str:
    """Policies, endpoints with the revision each has realized, and how long that took."""
    policies = _identified(proof.policies) or "no policy"
    shown = [f"{entry.endpoint} at revision {entry.revision}" for entry in proof.endpoints[:_ENDPOINTS]]
    if len(proof.endpoints) > _ENDPOINTS:
        shown.append(f"and {len(proof.endpoints) - _ENDPOINTS} more")
    state = "gone" if proof.gone else "enforced"
    if proof.absent:
        state += f", in place of {_identified(proof.absent)},"
    return f"{policies}: {state} after {proof.realized_s:.3f} s; endpoints: {', '.join(shown) or 'none'}"


def _identified(policies: Iterable[PolicyRef]) -> str:
    return ", ".join(f"{policy} ({policy.uid or 'no uid'})" for policy in policies)
