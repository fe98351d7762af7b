"""README's demo policy as things change: labels come and go, and the policy itself."""

from collections.abc import Iterator

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble.matching import Wanted
from cilium_e2e.kube import Kube
from cilium_e2e.model import Direction, DropReason, Flow, FlowVerdict, Object, Target
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import Lab, isolate
from cilium_e2e.scenario.relabel import relabel
from cilium_e2e.suites.demo import ALLOWED_PORT, DEMO_POLICY, OTHER_PORT, REQUIREMENT, check, demo_policy

# A changed label reaches other nodes within Cilium's ten seconds, no sooner.
pytestmark = [
    pytest.mark.requires(REQUIREMENT, "hubble-relay", "policy-enforcement-default"),
    pytest.mark.tier("full"),
]

Workload = tuple[Target, Target, Target]
DROPPED = Wanted(
    verdict=FlowVerdict.DROPPED, direction=Direction.INGRESS, reason=DropReason.POLICY_DENIED.value
)


@pytest.fixture
def workload(cluster: LiveCluster, kube: Kube, demo_workload: Workload) -> Iterator[Workload]:
    """Demo, frontend and other; their labels are theirs again afterwards."""
    cluster.relay()  # before the first probe: the stream starts with what comes after it
    yield demo_workload
    for pod in demo_workload:
        relabel(cluster, kube, pod, {"app": pod.name})


@pytest.fixture
def policy(repository: Repository, workload: Workload) -> Object:
    """The tree's policy, moved into this worker's namespace; not applied."""
    return isolate(demo_policy(repository), {DEMO_POLICY[0]: workload[0].namespace})


def _reach(lab: Lab, sources: list[Target], demo: Target) -> None:
    lab.judge([check(source, demo, ALLOWED_PORT, "connected") for source in sources], hold=1)


def _flow(lab: Lab, source: Target, demo: Target, outcome: str, wanted: Wanted) -> Flow:
    """The flow that shows why a probe came out so; asked again where Hubble lost some meanwhile."""
    asked = check(source, demo, ALLOWED_PORT, outcome)
    judgement, flows = lab.witness([asked], hold=1)
    return lab.flow(judgement, asked.probe.id, wanted, flows=flows)


def test_a_pod_gains_and_loses_access_with_its_label(lab: Lab, workload: Workload, policy: Object) -> None:
    """Another label is another identity, at once and in both directions; flows carry the new one."""
    demo, frontend, other = workload
    _reach(lab, [frontend, other], demo)  # the positive control
    with lab.in_force([policy], workload) as held:
        before = _flow(lab, other, demo, "denied", DROPPED).source.identity

        gained = relabel(lab.cluster, lab.kube, other, {"app": "frontend"}).identity
        assert gained.number != before
        allowed = Wanted(verdict=FlowVerdict.FORWARDED, direction=Direction.INGRESS, policy=held.ref)
        flow = _flow(lab, other, demo, "connected", allowed)
        assert flow.source.identity == gained.number

        lost = relabel(lab.cluster, lab.kube, frontend, {"app": "somebody"}).identity
        flow = _flow(lab, frontend, demo, "denied", DROPPED)
        assert flow.source.identity == lost.number


def test_the_protected_pod_follows_its_label(lab: Lab, workload: Workload, policy: Object) -> None:
    """The policy lets go of a pod that loses the label it selects by, and takes it back with it."""
    demo, _, other = workload
    _reach(lab, [other], demo)  # the positive control
    with lab.in_force([policy], workload):
        _flow(lab, other, demo, "denied", DROPPED)
        relabel(lab.cluster, lab.kube, demo, {"app": "free"})
        _reach(lab, [other], demo)
        relabel(lab.cluster, lab.kube, demo, {"app": "demo"})
        _flow(lab, other, demo, "denied", DROPPED)


def test_without_the_policy_there_is_access_again(lab: Lab, workload: Workload, policy: Object) -> None:
    """What it denied comes back as soon as its absence is proven, on the wrong port, too."""
    demo, frontend, other = workload
    denied = [check(other, demo, ALLOWED_PORT, "denied"), check(frontend, demo, OTHER_PORT, "denied")]
    again = [check(other, demo, ALLOWED_PORT, "connected"), check(frontend, demo, OTHER_PORT, "connected")]
    lab.judge(again, hold=0)  # the positive control
    with lab.in_force([policy], workload):
        judgement, flows = lab.witness(denied, hold=1)
        for entry in judgement.judged:
            lab.flow(judgement, entry.check.probe.id, DROPPED, flows=flows)
    # No patience: the proof says that the datapath has let go of it.
    lab.judge(again, converge_s=0.0, hold=2)
