"""Façade over the Kubernetes API. The live transport is imported on demand: its client takes seconds."""

from cilium_e2e.kube.facade import FIELD_MANAGER, Completed, Kube, condition, is_true
from cilium_e2e.kube.forward import LocalForward
from cilium_e2e.kube.pods import pod_states
from cilium_e2e.kube.together import at_once

__all__ = [
    "FIELD_MANAGER",
    "Completed",
    "Kube",
    "LocalForward",
    "at_once",
    "condition",
    "is_true",
    "pod_states",
]
