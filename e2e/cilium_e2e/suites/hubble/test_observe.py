"""README, "Monitoring": ``hubble observe``, run where it needs nothing else, and what it really shows."""

import json
from collections.abc import Callable

import pytest

from cilium_e2e.cluster.agents import AGENT_CONTAINER
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import DROP, TRACE, evidence
from cilium_e2e.hubble.convert import from_json
from cilium_e2e.kube import Kube
from cilium_e2e.model import Flow, FlowVerdict, Probe
from cilium_e2e.scenario import Judgement, Lab
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


@pytest.fixture
def probed(lab: Lab, scene: Scene) -> tuple[Judgement, Probe, Probe, list[Flow]]:
    """One dependency that works and one that a policy denies, and all flows of them."""
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
        judgement = lab.judge([works, denied], hold=0)
        # Once all is complete, every flow is readable from the ring.
        flows = lab.flows(judgement)
    return judgement, works.probe, denied.probe, flows


def _flows(lines: list[str]) -> list[Flow]:
    found = [from_json(json.loads(line)) for line in lines if line.strip()]
    return [event for event in found if isinstance(event, Flow)]


def _mine(flows: list[Flow], judgement: Judgement, probe: Probe) -> list[Flow]:
    return evidence(flows, judgement.outcome(probe.id), probe)


@pytest.mark.usefixtures("probed")
def test_observe_as_written_shows_flows(hubble: Hubble) -> None:
    """Claim "hubble observe": the latest flows, one a line, of one node when it is run in an agent.

    Finding: run elsewhere it asks localhost:4245, and needs a port-forward to relay beside it.
    """
    lines = hubble("observe")
    flows = [line for line in lines if " -> " in line or " <- " in line or " <> " in line]
    assert flows, lines


def test_observe_shows_dependencies(
    hubble: Hubble, probed: tuple[Judgement, Probe, Probe, list[Flow]], scene: Scene
) -> None:
    """Without a filter by type it lists what works and what is denied: the very flows that relay gave."""
    judgement, works, denied, flows = probed
    shown = _flows(hubble("observe", "--namespace", scene.namespace, "--last", str(MOST), "-o", "jsonpb"))
    uuids = {flow.uuid for flow in shown}
    for probe, event_type in ((works, TRACE), (denied, DROP)):
        mine = [flow for flow in _mine(flows, judgement, probe) if flow.event_type == event_type]
        assert mine
        assert {flow.uuid for flow in mine} <= uuids


def test_observe_type_drop_shows_no_dependencies(
    hubble: Hubble, probed: tuple[Judgement, Probe, Probe, list[Flow]], scene: Scene
) -> None:
    """Finding: "hubble observe --type drop" does not check service dependencies, it lists dropped packets.

    The denied connection is there, with its reason; the dependency that works is not.
    """
    judgement, works, denied, _ = probed
    assert hubble("observe", "--type", "drop"), "as written, it has the drops just made to show"
    words = ("observe", "--type", "drop", "--namespace", scene.namespace, "--last", str(MOST))
    shown = _flows(hubble(*words, "-o", "jsonpb"))
    assert {flow.verdict for flow in shown} == {FlowVerdict.DROPPED}
    assert {flow.event_type for flow in shown} == {DROP}
    assert [flow.drop_reason for flow in _mine(shown, judgement, denied)][:1] == ["POLICY_DENIED"]
    assert _mine(shown, judgement, works) == []
