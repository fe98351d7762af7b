"""Fixtures that several suites share: patience, the README's demo workload, leave to change the cluster."""

from collections.abc import Callable, Iterator

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.kube import Kube
from cilium_e2e.model import Backend, Ref, Target
from cilium_e2e.probe import Port
from cilium_e2e.repository import Repository
from cilium_e2e.scenario import PodSpec, Quarter, Residents, enforce, isolate, judge, remove, require
from cilium_e2e.suites.demo import ALLOWED_PORT, DEMO_POLICY, OTHER_PORT, Demo, check, demo_policy

SETTLED_WITHIN_S = 30.0
LOOK_EVERY_S = 0.5


@pytest.fixture(scope="session")
def settles(cluster: LiveCluster) -> Callable[[Callable[[], list[str]]], None]:
    """Looks until nothing is wrong: what is Ready may still have parts that come up, or retry something."""

    def wait(look: Callable[[], list[str]]) -> None:
        deadline = cluster.clock.monotonic() + SETTLED_WITHIN_S
        while wrong := look():
            if cluster.clock.monotonic() > deadline:
                pytest.fail("\n".join([f"still so after {SETTLED_WITHIN_S:g} s:", *wrong]), pytrace=False)
            cluster.clock.sleep(LOOK_EVERY_S)

    return wait


@pytest.fixture(scope="session")
def demo_workload(residents: Residents) -> tuple[Target, Target, Target]:
    """Pods demo, frontend and other, as the README's policy speaks of them; no policy yet."""
    ports = (Port(ALLOWED_PORT), Port(OTHER_PORT))
    specs = [
        PodSpec("demo", {"app": "demo"}, ports),
        PodSpec("frontend", {"app": "frontend"}),
        PodSpec("other", {"app": "other"}),
    ]
    name = residents.up("demo", {"demo": Quarter(specs)}).names["demo"]
    demo, frontend, other = (Target.pod(name, spec.name) for spec in specs)
    return demo, frontend, other


@pytest.fixture(scope="module")
def demo(
    cluster: LiveCluster, kube: Kube, repository: Repository, demo_workload: tuple[Target, Target, Target]
) -> Iterator[Demo]:
    """The tree's demo policy, moved into this worker's namespace, applied, and proven enforced.

    First the positive control: what is denied later was reachable, so only the policy makes the difference.
    """
    target, frontend, other = demo_workload
    ports = (ALLOWED_PORT, OTHER_PORT)
    control = judge(
        cluster, [check(pod, target, port, "connected") for pod in (frontend, other) for port in ports]
    )
    require(control)
    policy = isolate(demo_policy(repository), {DEMO_POLICY[0]: target.namespace})
    pods = [str(pod) for pod in demo_workload]
    try:
        ref, proof = enforce(cluster, kube, policy, pods)
        yield Demo(target, frontend, other, control, ref, proof)
    finally:
        remove(kube, Ref.of(policy))
    cluster.prove([ref], pods, gone=True)


@pytest.fixture
def disposable(cluster: LiveCluster) -> None:
    """The test changes what others may rely on: only on a cluster that was made for tests."""
    if cluster.info.backend is Backend.EXISTING:
        pytest.skip("it changes objects of the cluster by hand, which is done on disposable clusters only")
