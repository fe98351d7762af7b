"""Probes: the resident agent, the batch client that speaks with it, and the objects that deploy it."""

from cilium_e2e.probe.client import BatchClient, known_agent
from cilium_e2e.probe.protocol import Answer, Hello, decode, decode_outcomes, encode_batch, encode_probe
from cilium_e2e.probe.workload import (
    BATCH_COMMAND,
    CONFIG_MAP,
    CONTAINER,
    GROUP,
    HOME,
    IMAGE,
    MANAGED_BY,
    ONCE_COMMAND,
    RUN,
    Port,
    agent_files,
    config_map,
    pod,
    pod_spec,
    serve_command,
    service,
)

__all__ = [
    "BATCH_COMMAND",
    "CONFIG_MAP",
    "CONTAINER",
    "GROUP",
    "HOME",
    "IMAGE",
    "MANAGED_BY",
    "ONCE_COMMAND",
    "RUN",
    "Answer",
    "BatchClient",
    "Hello",
    "Port",
    "agent_files",
    "config_map",
    "decode",
    "decode_outcomes",
    "encode_batch",
    "encode_probe",
    "known_agent",
    "pod",
    "pod_spec",
    "serve_command",
    "service",
]
