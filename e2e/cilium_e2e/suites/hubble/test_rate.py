"""No loss at a stated rate: every one of many connections has its flows."""

from contextlib import suppress

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import FlowIndex, evidence
from cilium_e2e.model import (
    Destination,
    Flow,
    FlowFilter,
    Outcome,
    Probe,
    Protocol,
    StreamLost,
    Target,
    TimeWindow,
)
from cilium_e2e.scenario import Lab, ticks
from cilium_e2e.suites.hubble.scene import TCP, Scene

RATE = 100
"""Connections a second. Each makes about ten flows: a node's ring of 4,095 turns over in a few seconds."""
CONNECTIONS = 1000
BATCH = 25
PATIENCE_S = 60.0
"""How long the flow stream, which nobody loses, may be behind the nodes' histories, which are overwritten."""
LOOK_EVERY_S = 1.0
ENOUGH = 0.8
"""How much of the rate must be achieved for the test to mean anything."""


@pytest.mark.requires("hubble-relay")
@pytest.mark.disruptive
@pytest.mark.tier("full")
def test_no_flow_is_lost_at_100_connections_a_second(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """1,000 connections in ten seconds between two nodes: each is seen by its source port, none is lost.

    It runs alone: its load could make others lose flows, and theirs it.
    """
    destination = Destination(scene.far, TCP, Protocol.TCP)
    prober = cluster.prober(scene.client)
    probes: list[Probe] = []
    outcomes: list[Outcome] = []
    _follow(cluster, scene, destination)
    start_s = cluster.clock.time()
    for _ in ticks(cluster.clock, BATCH / RATE):
        batch = _batch(scene.client, destination, first=len(probes))
        outcomes += prober.run(batch)
        probes += batch
        if len(probes) >= CONNECTIONS:
            break
    window = TimeWindow(start_s, cluster.clock.time())
    achieved = CONNECTIONS / (window.end_s - window.start_s)
    lab.evidence.notes["rate"] = f"{CONNECTIONS} connections at {achieved:.0f}/s, {RATE}/s wanted"
    failed = [outcome for outcome in outcomes if not outcome.connected]
    assert failed == []
    assert achieved >= ENOUGH * RATE, lab.evidence.notes["rate"]

    # Complete, and refused if Hubble says that it lost any.
    flows = _all_of(cluster, window, FlowFilter(namespaces=(scene.namespace,)))
    assert cluster.relay().lost(window) == []
    index = FlowIndex(flows)
    unseen = [
        outcome.source_port
        for probe, outcome in zip(probes, outcomes, strict=True)
        if {flow.is_reply for flow in evidence(index, outcome, probe)} < {False, True}
    ]
    lab.evidence.notes["flows"] = f"{len(flows)} flows of {CONNECTIONS} connections"
    assert unseen == [], f"{len(unseen)} connections are not seen both ways"


def _batch(source: Target, destination: Destination, *, first: int = 0) -> list[Probe]:
    return [
        Probe.to(source, destination, timeout_s=3.0, id=str(number)) for number in range(first, first + BATCH)
    ]


def _follow(cluster: LiveCluster, scene: Scene, destination: Destination) -> None:
    """Connect at the same rate until the stream itself has brought something newer of both nodes.

    Tests before this one restart relay and agents, and until relay is connected to each of them again, only
    looks at histories would speak for it: they are overwritten within seconds.
    """
    since_s = cluster.clock.time()
    both = {scene.nodes[scene.client], scene.nodes[scene.far]}
    for waited_s in ticks(cluster.clock, BATCH / RATE):
        cluster.prober(scene.client).run(_batch(scene.client, destination))
        late = {node.rpartition("/")[2] for node in cluster.relay().unfollowed(since_s)}
        missing = sorted(late & both)
        if not missing:
            return
        assert waited_s < PATIENCE_S, f"the stream brings nothing of {', '.join(missing)}"


def _all_of(cluster: LiveCluster, window: TimeWindow, wanted: FlowFilter) -> list[Flow]:
    """All flows of a window; what the stream has not brought yet is waited for, what is lost for good not.

    Raises:
        FlowsLost: Hubble says so.
        StreamLost: some are still missing after a minute.
    """
    for waited_s in ticks(cluster.clock, LOOK_EVERY_S):
        with suppress(StreamLost):
            return cluster.flows(window, wanted)
        if waited_s >= PATIENCE_S:
            break
    return cluster.flows(window, wanted)
