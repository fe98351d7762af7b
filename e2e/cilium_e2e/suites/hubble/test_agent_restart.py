"""An agent restarts: its node's pods stay connected, and flows lost meanwhile are not passed off as none."""

import pytest

from cilium_e2e.cluster.agents import AGENT_SELECTOR
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import FlowFilter, FlowsLost, Object, Ref, StreamLost, TimeWindow
from cilium_e2e.scenario import Lab, judge, require, ticks
from cilium_e2e.suites.hubble.scene import Scene, both_ways, check, flows_of, on

pytestmark = [
    pytest.mark.requires("hubble-relay"),
    pytest.mark.disruptive,
    pytest.mark.tier("full"),
    pytest.mark.usefixtures("disposable"),
    pytest.mark.timeout(480),
]

ROUND_S = 0.5
READY_WITHIN_S = 180.0
BACK_WITHIN_S = 150.0
LATE_S = 10.0


def test_an_agent_restart_is_survived(lab: Lab, cluster: LiveCluster, kube: Kube, scene: Scene) -> None:
    """Connections between existing pods succeed in every round until the new agent is ready.

    Afterwards flows of that node are seen again, and asking for those of the time between is refused: the
    agent's ring went with it.
    """
    node = scene.nodes[scene.far]
    # Longer than a retransmission: what counts is that existing pods stay connected, not each packet.
    checks = [
        check(scene.client, scene.far, timeout_s=3.0),
        check(scene.far, scene.near, timeout_s=3.0),
        check(scene.client, scene.near, timeout_s=3.0),
    ]
    before, _ = lab.witness(checks, hold=0)  # it is complete, so that only the restart can make a gap

    old = next(agent for agent in cluster.agents.pods() if agent.node == node)
    uid = kube.get(old.ref)["metadata"]["uid"]
    kube.delete(old.ref)
    for rounds, at_s in enumerate(ticks(cluster.clock, ROUND_S), start=1):
        require(judge(cluster, checks, converge_s=0.0, hold=0))
        agents = kube.list_all(
            Ref("v1", "Pod", namespace=cluster.info.cilium_namespace), label_selector=AGENT_SELECTOR
        )
        if any(_is_new(agent, node, uid) for agent in agents):
            lab.evidence.notes["agent restart"] = f"ready after {at_s:.1f} s, {rounds} rounds all connected"
            break
        assert at_s < READY_WITHIN_S, f"no new agent ready on {node} after {at_s:.0f} s"

    cluster.prove((), scene.pods)
    relay = cluster.relay()
    relay.wait_past(cluster.clock.time(), timeout_s=BACK_WITHIN_S)
    spanning = TimeWindow(before.started_s, cluster.clock.time())
    with pytest.raises((StreamLost, FlowsLost), match=node):
        cluster.flows(spanning, FlowFilter())

    after, flows = lab.witness(checks, hold=0)
    for entry in checks:
        both_ways(lab, after, entry.probe.id, flows)
    # The new agent is busy, and stamps its events when it comes to read them.
    for at_s in ticks(cluster.clock, ROUND_S):
        seen_on = {on(flow) for flow in flows_of(after, checks[0].probe.id, flows)}
        if node in seen_on:
            break
        assert at_s < LATE_S, f"expected flows of {checks[0].probe.id} from {node}, seen on {seen_on}"
        after, flows = lab.witness(checks, hold=0)


def _is_new(agent: Object, node: str, old_uid: str) -> bool:
    meta = agent["metadata"]
    replaced = meta["uid"] != old_uid and "deletionTimestamp" not in meta
    return replaced and agent["spec"].get("nodeName") == node and is_true(agent, "Ready")
