"""Scenarios: workloads, policies moved into isolation and put into force, outcomes judged."""

from cilium_e2e.scenario.isolation import isolate
from cilium_e2e.scenario.judgement import Check, Judged, Judgement, judge, require
from cilium_e2e.scenario.policies import enforce
from cilium_e2e.scenario.workload import PodSpec, ServiceSpec, deploy, namespace, remove

__all__ = [
    "Check",
    "Judged",
    "Judgement",
    "PodSpec",
    "ServiceSpec",
    "deploy",
    "enforce",
    "isolate",
    "judge",
    "namespace",
    "remove",
    "require",
]
