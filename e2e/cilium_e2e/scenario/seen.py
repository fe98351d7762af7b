"""Flows that explain failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cilium_e2e.hubble import evidence
from cilium_e2e.model import Flow, Outcome
from cilium_e2e.scenario.judgement import Judged

MOST_FLOWS = 6


@dataclass(frozen=True, slots=True)
class Seen:
    """What Hubble saw of some failed checks.

    Attributes:
        flows: all flows of their time.
        lack: why there are none; empty where they could be had.
        again: probe id to outcome, where the checks were asked once more for the sake of their flows,
            because no flow stream was open the first time.
    """

    flows: Sequence[Flow] = ()
    lack: str = ""
    again: Mapping[str, Outcome] = field(default_factory=dict)

    def of(self, entry: Judged) -> list[Flow]:
        """The flows of one check."""
        return evidence(self.flows, self._outcome(entry), entry.check.probe)

    def lines(self, entry: Judged, mine: Sequence[Flow]) -> list[str]:
        """One check's flows ``mine`` in words, or why there are none."""
        outcome = self.again.get(entry.check.probe.id)
        lines = [] if outcome is None else [f"asked once more with a flow stream open: {outcome}"]
        if self.lack:
            return [*lines, self.lack]
        if not mine:
            return [*lines, f"no flow of this probe among the {len(self.flows)} of its time"]
        return [*lines, *(f"flow: {flow}" for flow in mine[-MOST_FLOWS:])]

    def _outcome(self, entry: Judged) -> Outcome:
        return self.again.get(entry.check.probe.id, entry.outcome)
