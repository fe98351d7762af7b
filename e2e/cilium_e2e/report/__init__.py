"""What a run leaves behind for readers: properties of tests, JSON Lines, a failure's evidence, the state."""

from cilium_e2e.report.command import command
from cilium_e2e.report.failure import failure_lines
from cilium_e2e.report.properties import properties
from cilium_e2e.report.records import FORMAT, Phase, TestRecord, cluster_record, header, outcome_of, summary
from cilium_e2e.report.snapshot import snapshot
from cilium_e2e.report.texts import bounded, clean

__all__ = [
    "FORMAT",
    "Phase",
    "TestRecord",
    "bounded",
    "clean",
    "cluster_record",
    "command",
    "failure_lines",
    "header",
    "outcome_of",
    "properties",
    "snapshot",
    "summary",
]
