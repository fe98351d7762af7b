"""The lines of an evidence file (JSON Lines): a header, one record a test, a summary.

``docs/reports.md`` describes the format; :data:`FORMAT` changes when a reader of the old one would go wrong.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cilium_e2e.model import ClusterInfo
from cilium_e2e.report.texts import bounded

FORMAT = 1

_LONGEST_REPR = 20_000
_PHASES = ("setup", "call", "teardown")


@dataclass(frozen=True, slots=True)
class Phase:
    """One report of pytest's about a test.

    Attributes:
        when: ``setup``, ``call``, ``teardown``; anything else is the death of the worker that ran it.
        outcome: ``passed``, ``failed`` or ``skipped``.
        duration_s: how long it took, in seconds.
        reason: why it failed, was skipped, or was expected to fail.
        longrepr: the failure as pytest prints it.
        expected_failure: whether the test is marked ``xfail`` and this is what came of it.
    """

    when: str
    outcome: str
    duration_s: float = 0.0
    reason: str = ""
    longrepr: str = ""
    expected_failure: bool = False


def outcome_of(phases: Sequence[Phase]) -> str:
    """What a test came to as a whole, the worst first.

    ``crashed`` (its worker died), ``failed``, ``error`` (set-up or tear-down failed), ``skipped``,
    ``xfailed``, ``xpassed``, ``passed``; ``unfinished`` where it never came to its end.
    """
    failed = {phase.when for phase in phases if phase.outcome == "failed"}
    skipped = [phase for phase in phases if phase.outcome == "skipped"]
    called = [phase for phase in phases if phase.when == "call"]
    judged = (
        ("crashed", any(phase.when not in _PHASES for phase in phases)),
        ("failed", "call" in failed),
        ("error", bool(failed)),
        ("unfinished", all(phase.when != "teardown" for phase in phases)),
        ("xfailed", any(phase.expected_failure for phase in skipped)),
        ("skipped", bool(skipped)),
        ("xpassed", any(phase.expected_failure for phase in called)),
        ("passed", bool(called)),
    )
    return next((outcome for outcome, holds in judged if holds), "unfinished")


@dataclass(slots=True)
class TestRecord:
    """What is known of a test so far.

    Attributes:
        nodeid: its id.
        worker: who ran it; empty without xdist.
        phases: its reports, in order.
        evidence: as :meth:`~cilium_e2e.model.Evidence.to_data` has it.
        topology: where it ran; empty where there is one for all.
    """

    __test__ = False  # pytest must not collect it

    nodeid: str
    worker: str = ""
    phases: list[Phase] = field(default_factory=list)
    evidence: dict[str, Any] = field(default_factory=dict)
    topology: str = ""

    @property
    def outcome(self) -> str:
        """See :func:`outcome_of`."""
        return outcome_of(self.phases)

    @property
    def ended(self) -> bool:
        """Whether no more will be reported of it."""
        return any(phase.when == "teardown" or phase.when not in _PHASES for phase in self.phases)

    def to_data(self, backend: str) -> dict[str, Any]:
        """The record as plain data; empty parts are left out."""
        durations: dict[str, float] = {}
        for phase in self.phases:
            if phase.when in _PHASES:
                durations[phase.when] = round(durations.get(phase.when, 0.0) + phase.duration_s, 4)
        reasons = dict.fromkeys(phase.reason for phase in self.phases if phase.reason)
        texts = [phase.longrepr for phase in self.phases if phase.longrepr]
        optional = {
            "topology": self.topology,
            "worker": self.worker,
            "durations_s": durations,
            "reason": "; ".join(reasons),
            "longrepr": bounded("\n".join(texts), _LONGEST_REPR),
            "evidence": self.evidence,
        }
        return {
            "type": "test",
            "nodeid": self.nodeid,
            "outcome": self.outcome,
            "backend": backend,
            **{name: part for name, part in optional.items() if part},
        }


def header(
    *, backend: str, harness: str, started_s: float, info: ClusterInfo | None, timeline: Sequence[str] = ()
) -> dict[str, Any]:
    """The first line.

    Args:
        backend: where the run happens, or what was asked for when nothing came of it.
        harness: the harness's version.
        started_s: when the file was begun, in seconds since the epoch.
        info: the cluster; None when there is none, or several, which get records of their own.
        timeline: the session's phases, one line each.
    """
    data: dict[str, Any] = {
        "type": "run",
        "format": FORMAT,
        "backend": backend,
        "harness": harness,
        "started_s": round(started_s, 3),
    }
    return data if info is None else {**data, **_of(info, timeline)}


def cluster_record(
    topology: str, *, info: ClusterInfo | None, timeline: Sequence[str] = (), error: str = ""
) -> dict[str, Any]:
    """The line of one cluster, after the first line of a run that has several.

    Args:
        topology: its topology.
        info: the cluster; None when it did not come up.
        timeline: its phases, one line each.
        error: why it did not come up.
    """
    data = {"type": "cluster", "topology": topology}
    if info is not None:
        return {**data, "backend": info.backend.value, **_of(info, timeline)}
    return {**data, "error": error} if error else data


def _of(info: ClusterInfo, timeline: Sequence[str]) -> dict[str, Any]:
    return {
        "cluster": info.name,
        "topology": info.topology,
        "release": info.release,
        "versions": dict(info.versions),
        "nodes": [dataclasses.asdict(node) for node in info.nodes],
        "capabilities": sorted(capability.value for capability in info.capabilities),
        "features": sorted(info.features),
        "differences": [str(difference) for difference in info.differences],
        "timeline": list(timeline),
    }


def summary(*, backend: str, exit_code: int, counts: Mapping[str, int], took_s: float) -> dict[str, Any]:
    """The last line; a file without it is of a run that was cut off.

    Args:
        backend: where the run happened.
        exit_code: pytest's.
        counts: outcome to number of tests.
        took_s: from the file's beginning, in seconds.
    """
    return {
        "type": "summary",
        "backend": backend,
        "exit": exit_code,
        "counts": dict(sorted(Counter(counts).items())),
        "took_s": round(took_s, 3),
    }
