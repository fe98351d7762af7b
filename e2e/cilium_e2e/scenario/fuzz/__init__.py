"""Random policies on a cluster, against the oracle; a disagreement is shrunk to a scenario file."""

from cilium_e2e.scenario.fuzz.disagreement import TRIES, Finding, Telling, examine
from cilium_e2e.scenario.fuzz.generate import (
    DISTRIBUTION,
    Case,
    generate,
    name_of_case,
    speaks_of_outside,
)
from cilium_e2e.scenario.fuzz.shrink import Shrunk, shrink

__all__ = [
    "DISTRIBUTION",
    "TRIES",
    "Case",
    "Finding",
    "Shrunk",
    "Telling",
    "examine",
    "generate",
    "name_of_case",
    "shrink",
    "speaks_of_outside",
]
