"""README, "Monitoring": ``hubble observe``, run where it needs nothing else, and what it really shows."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from cilium_e2e.cluster.agents import AGENT_CONTAINER
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import DROP, TRACE, evidence
from cilium_e2e.hubble.convert import from_json
from cilium_e2e.kube import Kube
from cilium_e2e.model import Flow, FlowVerdict, Probe
from cilium_e2e.scenario import Judgement, Lab
from cilium_e2e.scenario.lab import ATTEMPTS
from cilium_e2e.suites.hubble.scene import OTHER_TCP, TCP, Scene, app, check, cilium_policy

pytestmark = [pytest.mark.requires("hubble-relay"), pytest.mark.tier("full")]

MOST = 1000
Hubble = Callable[..., list[str]]


@pytest.fixture
def hubble(cluster: LiveCluster, kube: Kube, scene: Scene) -> Hubble:
    """Runs the command line in the agent of the servers' node; there it asks that agent alone."""
    node = scene.nodes[scene.near]
    agent = next(one for one in cluster.agents.pods() if one.node == node)
    there = kube.run(agent.ref, ["sh", "-c", "command -v hubble"], container=AGENT_CONTAINER, check=False)
    if there.returncode:
        pytest.skip("the agents' image has no hubble command line")

    def run(*arguments: str) -> list[str]:
        done = kube.run(agent.ref, ["hubble", *arguments], container=AGENT_CONTAINER)
        return done.stdout.splitlines()

    return run


@dataclass(frozen=True)
class Probed:
    """One dependency that works and one that a policy denies, and all flows of them."""

    judgement: Judgement
    works: Probe
    denied: Probe
    flows: list[Flow]


@pytest.fixture
def probe_both(lab: Lab, scene: Scene) -> Callable[[], Probed]:
    """Makes both, anew with each call."""
    return lambda: _probe_both(lab, scene)


def _probe_both(lab: Lab, scene: Scene) -> Probed:
    rule = {
        "fromEndpoints": [app("client")],
        "toPorts": [{"ports": [{"port": str(TCP), "protocol": "TCP"}]}],
    }
    policy = cilium_policy(scene.namespace, "observed", endpointSelector=app("near"), ingress=[rule])
    works, denied = (
        check(scene.client, scene.near),
        check(scene.client, scene.near, OTHER_TCP, outcome="denied"),
    )
    lab.judge([works, check(scene.client, scene.near, OTHER_TCP)], hold=0)
    with lab.in_force([policy], [str(scene.client), str(scene.near)]):
        # Once all is complete, every flow is readable from the ring.
        judgement, flows = lab.witness([works, denied], hold=0)
    return Probed(judgement, works.probe, denied.probe, flows)


def _observed(
    probe_both: Callable[[], Probed], observe: Callable[[], list[str]]
) -> tuple[Probed, list[Flow]]:
    """What a command shows of probes just made; both again where others' flows have overwritten theirs.

    A node keeps some thousand flows, and neighbours may make as many in a second.
    """
    for _ in range(ATTEMPTS):
        probed = probe_both()
        shown = _flows(observe())
        if _mine(shown, probed.judgement, probed.denied):
            break
    return probed, shown


def _flows(lines: list[str]) -> list[Flow]:
    found = [from_json(json.loads(line)) for line in lines if line.strip()]
    return [event for event in found if isinstance(event, Flow)]


def _mine(flows: list[Flow], judgement: Judgement, probe: Probe) -> list[Flow]:
    return evidence(flows, judgement.outcome(probe.id), probe)


def test_observe_as_written_shows_flows(hubble: Hubble, probe_both: Callable[[], Probed]) -> None:
    """Claim "hubble observe": the latest flows, one a line, of one node when it is run in an agent.

    Finding: run elsewhere it asks localhost:4245, and needs a port-forward to relay beside it.
    """
    probe_both()
    lines = hubble("observe")
    flows = [line for line in lines if " -> " in line or " <- " in line or " <> " in line]
    assert flows, lines


def test_observe_shows_dependencies(hubble: Hubble, probe_both: Callable[[], Probed], scene: Scene) -> None:
    """Without a filter by type it lists what works and what is denied: the very flows that relay gave."""
    words = ("observe", "--namespace", scene.namespace, "--last", str(MOST), "-o", "jsonpb")
    probed, shown = _observed(probe_both, lambda: hubble(*words))
    uuids = {flow.uuid for flow in shown}
    for probe, event_type in ((probed.works, TRACE), (probed.denied, DROP)):
        found = _mine(probed.flows, probed.judgement, probe)
        mine = [flow for flow in found if flow.event_type == event_type]
        assert mine
        assert {flow.uuid for flow in mine} <= uuids


def test_observe_type_drop_shows_no_dependencies(
    hubble: Hubble, probe_both: Callable[[], Probed], scene: Scene
) -> None:
    """Finding: "hubble observe --type drop" does not check service dependencies, it lists dropped packets.

    The denied connection is there, with its reason; the dependency that works is not.
    """
    words = ("observe", "--type", "drop", "--namespace", scene.namespace, "--last", str(MOST))
    probed, shown = _observed(probe_both, lambda: hubble(*words, "-o", "jsonpb"))
    assert hubble("observe", "--type", "drop"), "as written, it has the drops just made to show"
    assert {flow.verdict for flow in shown} == {FlowVerdict.DROPPED}
    assert {flow.event_type for flow in shown} == {DROP}
    mine = _mine(shown, probed.judgement, probed.denied)
    assert [flow.drop_reason for flow in mine][:1] == ["POLICY_DENIED"]
    assert _mine(shown, probed.judgement, probed.works) == []
