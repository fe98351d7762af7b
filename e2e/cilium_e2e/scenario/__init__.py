"""Scenarios: workloads, policies moved into isolation and put into force, outcomes judged."""

from cilium_e2e.scenario.isolation import isolate
from cilium_e2e.scenario.judgement import SILENCE_S, Check, Judged, Judgement, judge, require
from cilium_e2e.scenario.lab import InForce, Lab
from cilium_e2e.scenario.live_world import live_policies, live_world
from cilium_e2e.scenario.oracle_view import OracleView, Saying
from cilium_e2e.scenario.pace import ticks
from cilium_e2e.scenario.policies import enforce, enforce_all
from cilium_e2e.scenario.residents import Quarter, Resident, Residents
from cilium_e2e.scenario.workload import PodSpec, ServiceSpec, deploy, namespace, remove

__all__ = [
    "SILENCE_S",
    "Check",
    "InForce",
    "Judged",
    "Judgement",
    "Lab",
    "OracleView",
    "PodSpec",
    "Quarter",
    "Resident",
    "Residents",
    "Saying",
    "ServiceSpec",
    "deploy",
    "enforce",
    "enforce_all",
    "isolate",
    "judge",
    "live_policies",
    "live_world",
    "namespace",
    "remove",
    "require",
    "ticks",
]
