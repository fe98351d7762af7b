"""A failure's evidence for the terminal: what the assertion's own message does not say already."""

from __future__ import annotations

from collections.abc import Iterable

from cilium_e2e.model import CheckRecord, Evidence

_MOST = 6
_LINES_A_NOTE = 10


def failure_lines(evidence: Evidence, said: str) -> list[str]:
    """Lines of evidence; empty where there is nothing but the failure itself.

    Args:
        evidence: what the test left behind.
        said: the failure's text as pytest prints it; nothing in it is repeated.
    """
    lines: list[str] = []
    unmet = [check for check in evidence.checks if not check.met]
    for check in unmet[:_MOST]:
        lines += _check(check, said)
    if len(unmet) > _MOST:
        lines.append(f"… and {len(unmet) - _MOST} more checks that were not met")
    lines += _last("proof", map(str, evidence.proofs), said)
    lines += _last("flow", map(str, evidence.flows), said)
    for name, text in evidence.notes.items():
        note = [line for line in text.splitlines() if line]
        lines.append(f"{name}: {note[0] if len(note) == 1 else ''}".rstrip())
        if len(note) > 1:
            lines += [f"  {line}" for line in note[:_LINES_A_NOTE]]
        if len(note) > _LINES_A_NOTE:
            lines.append(f"  … and {len(note) - _LINES_A_NOTE} more lines (--evidence FILE has them)")
    if evidence.reproduce:
        lines.append(f"just this again: {evidence.reproduce}")
    return lines


def _check(check: CheckRecord, said: str) -> list[str]:
    line = f"{check.probe.source} → {check.probe.destination}: expected {check.wanted}, seen {check.outcome}"
    lines = [] if line in said else [line]
    if check.oracle and check.oracle not in said:
        where = "" if lines else f"{check.probe.source} → {check.probe.destination}: "
        lines.append(f"  {where}the oracle says {check.oracle}")
    return lines


def _last(name: str, values: Iterable[str], said: str) -> list[str]:
    """The last of several values, for they are nearest to the failure."""
    new = [value for value in dict.fromkeys(values) if value not in said]
    return [f"{name}: {value}" for value in new[-_MOST:]]
