"""Hubble: flows from relay, and the matching of flows with probes.

:mod:`cilium_e2e.hubble.relay` and :mod:`cilium_e2e.hubble.convert` are imported where they are used: they
need gRPC and protobuf, which runs without a cluster do not.
"""

from cilium_e2e.hubble.collect import complete_flows
from cilium_e2e.hubble.matching import (
    ACCESS_LOG,
    DROP,
    POLICY_VERDICT,
    TRACE,
    TRACE_SOCK,
    FlowIndex,
    Wanted,
    evidence,
    explain,
    find,
)

__all__ = [
    "ACCESS_LOG",
    "DROP",
    "POLICY_VERDICT",
    "TRACE",
    "TRACE_SOCK",
    "FlowIndex",
    "Wanted",
    "complete_flows",
    "evidence",
    "explain",
    "find",
]
