"""Scenarios: workloads, policies moved into isolation, outcomes judged."""

from cilium_e2e.scenario.isolation import isolate
from cilium_e2e.scenario.judgement import Check, Judged, Judgement, judge, require
from cilium_e2e.scenario.workload import PodSpec, ServiceSpec, deploy, namespace, remove

__all__ = [
    "Check",
    "Judged",
    "Judgement",
    "PodSpec",
    "ServiceSpec",
    "deploy",
    "isolate",
    "judge",
    "namespace",
    "remove",
    "require",
]
