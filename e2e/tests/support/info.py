"""A cluster in words: two nodes, one without an address, two agents outside, one on a node."""

from __future__ import annotations

from cilium_e2e.model import Backend, ClusterInfo, NodeInfo, WorldAgent

INFO = ClusterInfo(
    "x",
    Backend.KIND,
    "default",
    (NodeInfo("n1", "worker", ("172.18.0.2", "fc00::2")), NodeInfo("bare", "worker", ())),
    "cilium/cilium",
    "cilium",
    world=(WorldAgent("one", ("172.18.0.101", "fc00::101")), WorldAgent("two", ("172.18.0.102",))),
    host_agents=(("n1", "ce2e-hosts/n1"),),
)
