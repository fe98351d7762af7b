"""README, "Security Context": the capability lists are in force in the processes, and SYS_MODULE is not."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.process import CAPABILITIES, AgentProcess, capabilities
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Ref
from cilium_e2e.repository import Repository, dig
from cilium_e2e.session import Handle

pytestmark = pytest.mark.flowless

EachAgent = Callable[..., dict[str, Any]]
LISTS = "securityContext.capabilities"
POD_WITHIN_S = 60.0


@pytest.fixture
def listed(repository: Repository) -> frozenset[str]:
    """The agent's list of the release."""
    if dig(repository.effective, "securityContext.privileged"):
        pytest.skip("the release runs its agents privileged: lists of capabilities do not count")
    found = dig(repository.effective, f"{LISTS}.ciliumAgent")
    if found is None:
        pytest.skip(f"the release sets no {LISTS}.ciliumAgent: the chart's own list is in force")
    return frozenset(found)


def _agent_pods(kube: Kube, cluster: LiveCluster) -> list[Object]:
    return [kube.get(agent.ref) for agent in cluster.agents.pods()]


@pytest.mark.requires("real")
def test_agents_have_no_capability_beyond_the_list(
    listed: frozenset[str], processes: dict[str, AgentProcess]
) -> None:
    """Claim "sets required capabilities while dropping SYS_MODULE": as the kernel has it for the process."""
    for node, process in processes.items():
        for name, held in (("effective", process.effective), ("bounding", process.bounding)):
            beyond = sorted(held - listed)
            assert not beyond, f"{node}: {beyond} are {name} in the agent's process, and not on the list"
            assert "SYS_MODULE" not in held, node


@pytest.mark.requires("real")
@pytest.mark.tier("full")
@pytest.mark.usefixtures("disposable")  # it may ask a privileged pod what the node can give
def test_agents_have_every_capability_of_the_list(
    kube: Kube,
    cluster: LiveCluster,
    handle: Handle,
    listed: frozenset[str],
    processes: dict[str, AgentProcess],
) -> None:
    """Claim "Required Capabilities, Cilium Agent": each of the list is effective in the running process.

    One that the node itself does not have cannot be given to anybody; that is said, and not passed.
    """
    unknown = sorted(listed - set(CAPABILITIES))
    assert not unknown, f"the kernel knows no capability {unknown}"
    missing = {
        node: lacking for node, process in processes.items() if (lacking := listed - process.effective)
    }
    for node, lacking in missing.items():
        withheld = lacking & _held_by_privileged(kube, cluster, handle, node)
        assert not withheld, f"{node}: the agent's process lacks {sorted(withheld)}, which the node can give"
    if missing:
        text = "; ".join(f"{node} has no {', '.join(sorted(names))}" for node, names in missing.items())
        pytest.skip(f"all others of the list are effective; {text}, for any process")


def _held_by_privileged(kube: Kube, cluster: LiveCluster, handle: Handle, node: str) -> frozenset[str]:
    """What a privileged container on a node is given: all that the node has."""
    ref = Ref("v1", "Pod", f"ce2e-capabilities-{secrets.token_hex(3)}", cluster.info.cilium_namespace)
    container = {
        "name": "look",
        "image": handle.agent_image,
        "command": ["grep", "CapEff", "/proc/self/status"],
        "securityContext": {"privileged": True},
    }
    spec = {
        "nodeName": node,
        "hostNetwork": True,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "tolerations": [{"operator": "Exists"}],
        "containers": [container],
    }
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": spec}
    kube.apply({**pod, "metadata": {"name": ref.name, "namespace": ref.namespace}})
    try:
        kube.wait(
            ref,
            lambda found: True if found and found[0]["status"].get("phase") == "Succeeded" else None,
            timeout_s=POD_WITHIN_S,
            what="a privileged pod to say what its node has",
            describe=lambda found: str([entry.get("status") for entry in found]),
        )
        text = kube.retry(lambda: kube.transport.logs(ref, container="look", tail_lines=1))
    finally:
        kube.delete(ref, grace_period_s=0)
    return capabilities(text.partition(":")[2])


@pytest.mark.requires("real")
def test_clean_state_has_the_list(kube: Kube, cluster: LiveCluster, repository: Repository) -> None:
    """Claim "Clean State: NET_ADMIN,SYS_ADMIN,SYS_RESOURCE": that the running pods ask for, nothing else.

    The container has ended long before a test can look into it, so its pod's word must do.
    """
    wanted = dig(repository.effective, f"{LISTS}.cleanCiliumState")
    if wanted is None:
        pytest.skip(f"the release sets no {LISTS}.cleanCiliumState: the chart's own list is in force")
    for pod in _agent_pods(kube, cluster):
        containers = [c for c in pod["spec"]["initContainers"] if c["name"] == "clean-cilium-state"]
        assert containers, f"{pod['metadata']['name']} has no container clean-cilium-state"
        asked: Mapping[str, Any] = containers[0]["securityContext"]["capabilities"]
        name = pod["metadata"]["name"]
        assert set(asked["add"]) == set(wanted), (
            f"{name}: it asks for {asked['add']}, the release says {wanted}"
        )
        assert asked["drop"] == ["ALL"], f"{name}: it drops {asked['drop']}"


@pytest.mark.requires("real")
def test_no_container_asks_for_sys_module(kube: Kube, cluster: LiveCluster, listed: frozenset[str]) -> None:
    """Claim "Talos Compliance: Adheres to Talos security restrictions for kernel module loading".

    No container of an agent's pod lists SYS_MODULE; one that does would not start on Talos. One short-lived
    container, ``mount-bpf-fs``, is privileged without a list: what that gives is the node's affair.
    """
    del listed
    for pod in _agent_pods(kube, cluster):
        name = pod["metadata"]["name"]
        containers = [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]
        asking = [
            c["name"]
            for c in containers
            if {"SYS_MODULE", "ALL"} & set(dig(c, "securityContext.capabilities.add") or [])
        ]
        assert not asking, f"{name}: {asking} ask for SYS_MODULE"
        privileged = {c["name"] for c in containers if dig(c, "securityContext.privileged")}
        assert privileged <= {"mount-bpf-fs"}, f"{name}: {privileged} are privileged"
