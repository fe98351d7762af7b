"""Counters of an agent: its own list (``cilium-dbg metrics list``), and what Prometheus would scrape."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import ClusterStateError

DROPS = "cilium_drop_count_total"
FORWARDS = "cilium_forward_count_total"
HUBBLE_FLOWS = "hubble_flows_processed_total"
DENIED_BY_DEFAULT, DENIED_BY_RULE = "Policy denied", "Policy denied by denylist"
"""Cilium's words for Hubble's POLICY_DENIED and POLICY_DENY."""

_SAMPLE = re.compile(
    r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})?\s+(?P<value>\S+)(?:\s+-?\d+)?\s*"
)
_LABEL = re.compile(r'\s*(?P<key>[a-zA-Z_][a-zA-Z0-9_]*)="(?P<value>(?:[^"\\]|\\.)*)"\s*(?:,|$)')
_ESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of one metric."""

    name: str
    labels: Mapping[str, str]
    value: float


def parse_list(answer: Iterable[Mapping[str, Any]]) -> list[Sample]:
    """``cilium-dbg metrics list -o json``, where labels and a value of zero are left out."""
    return [
        Sample(entry["name"], dict(entry.get("labels") or {}), float(entry.get("value", 0.0)))
        for entry in answer
    ]


def parse_exposition(text: str, *, place: str) -> list[Sample]:
    """The text format of Prometheus; times of samples are ignored.

    Raises:
        ClusterStateError: it is something else.
    """
    samples = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SAMPLE.fullmatch(line)
        try:
            if match is None:
                raise ValueError("it is no sample")  # noqa: TRY301 - told like a bad number, below
            samples.append(Sample(match["name"], _labels(match["labels"] or ""), float(match["value"])))
        except ValueError as error:
            raise ClusterStateError(
                f"expected metrics, got {line[:200]!r} in line {number}: {error}", place=place
            ) from None
    return samples


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """The sum of a metric over everything but the given labels; 0 where it has counted nothing yet."""
    return sum(
        sample.value
        for sample in samples
        if sample.name == name and labels.items() <= dict(sample.labels).items()
    )


def _labels(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        match = _LABEL.match(text, at)
        if match is None:
            raise ValueError(f"its labels are unreadable from {text[at : at + 40]!r} on")
        found[match["key"]] = re.sub(r'\\[\\"n]', lambda part: _ESCAPED[part[0]], match["value"])
        at = match.end()
    return found
