"""README, "Verify Installation" and "eBPF data plane": Cilium runs, is well, and has loaded its programs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from cilium_e2e.cluster.agents import AGENT_CONTAINER, AgentPod
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.status import AgentStatus, Module
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Ref
from cilium_e2e.repository import Repository, dig

pytestmark = pytest.mark.flowless

EachAgent = Callable[..., dict[str, Any]]
Settles = Callable[[Callable[[], list[str]]], None]

ROLLED_OUT_WITHIN_S = 30.0
LOG_LINES = 50_000
BAD_LINE = re.compile(r"\blevel=(?:error|fatal|panic)\b|^panic:|^fatal error:")
SOCKET_PROGRAMS = {"cil_sock4_connect", "cil_sock4_sendmsg", "cil_sock4_recvmsg"}
OWN_NAMESPACES = "ce2e-"


@dataclass(frozen=True)
class Excuse:
    """A complaint of an agent that means no harm: what it matches, and why it may be there."""

    pattern: str
    reason: str


NO_ENVOY = Excuse(
    r'cilium-envoy\\?": executable file not found',
    "this run turned Envoy off, and an agent image without Envoy cannot tell its version",
)


@pytest.fixture(scope="module")
def excuses(repository: Repository) -> Sequence[Excuse]:
    """What may be complained of in this run; a tree that turns Envoy off itself has no such excuse."""
    no_envoy = dig(repository.overrides, "envoy.enabled") is False
    return (NO_ENVOY,) if no_envoy else ()


def _unexcused(lines: Sequence[str], excuses: Sequence[Excuse]) -> list[str]:
    return [line for line in lines if not any(re.search(excuse.pattern, line) for excuse in excuses)]


def _behind(workload: Object) -> str:
    """Why a Deployment or DaemonSet does not run as its object now says; empty where it does."""
    status, spec = workload["status"], workload["spec"]
    wanted = status.get("desiredNumberScheduled", spec.get("replicas", 1))
    updated = status.get("updatedNumberScheduled", status.get("updatedReplicas", 0))
    available = status.get("numberAvailable", status.get("availableReplicas", 0))
    current = status.get("observedGeneration") == workload["metadata"]["generation"]
    if current and wanted > 0 and updated == available == wanted:
        return ""
    return f"{workload['metadata']['name']}: {wanted} wanted, {updated} updated, {available} available"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("DaemonSet", "cilium"),
        ("Deployment", "cilium-operator"),
        pytest.param("DaemonSet", "cilium-envoy", marks=pytest.mark.requires("envoy-daemonset")),
        pytest.param("Deployment", "hubble-relay", marks=pytest.mark.requires("hubble-relay")),
        pytest.param("Deployment", "hubble-ui", marks=pytest.mark.requires("hubble-ui")),
    ],
)
def test_every_component_runs_as_configured(kube: Kube, cluster: LiveCluster, kind: str, name: str) -> None:
    """Claims "operator status", "Hubble status": all pods are there, of the newest template, and ready."""
    ref = Ref("apps/v1", kind, name, cluster.info.cilium_namespace)
    kube.wait(
        ref,
        lambda found: True if found and not _behind(found[0]) else None,
        timeout_s=ROLLED_OUT_WITHIN_S,
        what="every pod to be updated and available",
        describe=lambda found: "; ".join(map(_behind, found)) or "it does not exist",
    )


def test_nothing_has_crashed(kube: Kube, cluster: LiveCluster) -> None:
    """Claim "Provision adequate resources": no container of Cilium died, for memory, a panic, or anything."""
    pods = kube.list_all(Ref("v1", "Pod", namespace=cluster.info.cilium_namespace))
    assert pods
    crashed = [
        f"{pod['metadata']['name']}/{container['name']}: {last.get('reason')} (exit code {last['exitCode']}) "
        f"{last.get('message', '')[-500:]}"
        for pod in pods
        for container in pod["status"].get("initContainerStatuses", [])
        + pod["status"].get("containerStatuses", [])
        if (last := (container.get("lastState") or {}).get("terminated")) and last["exitCode"] != 0
    ]
    assert not crashed


def test_every_agent_is_well(cluster: LiveCluster, each_agent: EachAgent, settles: Settles) -> None:
    """Claim "Check Cilium status": each part of each agent says Ok, and no controller fails."""
    hubble = "Ok" if "hubble" in cluster.info.features else "Disabled"

    def look() -> list[str]:
        answers: dict[str, AgentStatus] = each_agent(cluster.agents.status)
        return [
            f"{node}: {name} is {state}: {message}"
            for node, status in answers.items()
            for name, (state, message) in status.states.items()
            if state != (hubble if name == "hubble" else "Ok")
        ] + [f"{node}: {failure}" for node, status in answers.items() for failure in status.failing]

    settles(look)


@pytest.mark.requires("real")
def test_no_module_is_degraded(
    cluster: LiveCluster, each_agent: EachAgent, excuses: Sequence[Excuse], settles: Settles
) -> None:
    """No part of an agent is degraded: a Ready agent whose datapath could not be set up says so only here."""

    def look() -> list[str]:
        answers: dict[str, list[Module]] = each_agent(cluster.agents.modules)
        assert all(any(m.name.startswith("agent.datapath") for m in found) for found in answers.values())
        bad = [
            f"{node}: {module.name} is {module.level}: {module.message}"
            for node, found in answers.items()
            for module in found
            if module.level not in {"OK", "Stopped"}
        ]
        return _unexcused(bad, excuses)

    settles(look)


def test_every_node_reaches_every_node(
    kube: Kube, cluster: LiveCluster, each_agent: EachAgent, settles: Settles
) -> None:
    """Claim "container networking": host and health pod of every node answer every node."""
    addresses: dict[str, str] = {}
    for node in kube.list_all(Ref("cilium.io/v2", "CiliumNode")):
        name = node["metadata"]["name"]
        pods = [ip for ip in (node["spec"].get("health") or {}).values() if ip]
        assert pods, f"{name}: expected a health endpoint"
        addresses |= dict.fromkeys(pods, f"the health pod of {name}")
        hosts = [entry["ip"] for entry in node["spec"]["addresses"] if entry["type"] == "InternalIP"]
        addresses |= dict.fromkeys(hosts, f"the host of {name}")

    def ask(agent: AgentPod) -> dict[str, str]:
        port = int(cluster.agents.options(agent)["ClusterHealthPort"])
        return cluster.agents.reaches(agent, list(addresses), port)

    def look() -> list[str]:
        return [
            f"from {node} to {addresses[address]}, {address}: {answer or 'no answer'}"
            for node, answers in each_agent(ask).items()
            for address, answer in answers.items()
            if " 200 " not in answer
        ]

    settles(look)


@pytest.mark.requires("real")
def test_agents_log_no_errors(kube: Kube, each_agent: EachAgent, excuses: Sequence[Excuse]) -> None:
    """Claim "Check Cilium agent logs": they hold no error and no panic but for those excused here by name."""

    def log(agent: AgentPod) -> list[str]:
        text = kube.retry(
            lambda: kube.transport.logs(agent.ref, container=AGENT_CONTAINER, tail_lines=LOG_LINES)
        )
        return text.splitlines()

    for node, lines in each_agent(log).items():
        assert any("level=info" in line for line in lines), (
            f"{node}: expected a log with levels, got {lines[:3]}"
        )
        bad = _unexcused([line for line in lines if BAD_LINE.search(line)], excuses)
        assert not bad, f"{node}: {len(bad)} lines, the first: {bad[0][:500]}"


@pytest.mark.requires("real")
@pytest.mark.requires("kube-proxy-replacement")
def test_socket_load_balancing_is_attached(cluster: LiveCluster, each_agent: EachAgent) -> None:
    """Claims "Mount Reuse", "eBPF implementation": programs hang on the cgroup the agent was told to use.

    With a root that is no cgroup v2 mount agents turn Ready all the same, and load no datapath.
    """

    def attached(agent: AgentPod) -> tuple[str, frozenset[str]]:
        root = str(cluster.agents.options(agent)["CGroupRoot"])
        return root, cluster.agents.attached(agent, root)

    for node, (root, programs) in each_agent(attached).items():
        missing = SOCKET_PROGRAMS - programs
        assert not missing, f"{node}: {sorted(missing)} are not attached to {root}"


@pytest.mark.requires("real")
def test_every_endpoint_has_its_programs(
    cluster: LiveCluster, each_agent: EachAgent, statuses: dict[str, AgentStatus]
) -> None:
    """Claim "eBPF Data Plane": on each node every endpoint has realized policy, by a program of its own."""
    for node, status in statuses.items():
        if status.attach_mode != "tcx":
            pytest.skip(f"{node} attaches by {status.attach_mode or 'unknown means'}, only tcx leaves links")

    def look(agent: AgentPod) -> tuple[list[Any], set[str]]:
        # First the links: an endpoint that appears in between would have none yet.
        script = "cd /sys/fs/bpf/cilium && find endpoints devices -path '*/links/*'"
        links = set(cluster.agents.run(agent, "sh", "-c", script).splitlines())
        return cluster.agents.endpoints(agent), links

    for node, (endpoints, links) in each_agent(look).items():
        settled = [e for e in endpoints if e.namespace and not e.namespace.startswith(OWN_NAMESPACES)]
        assert [e.name for e in endpoints if not e.policy_revision and e in settled] == [], node
        without = [e.name for e in settled if f"endpoints/{e.id}/links/cil_from_container" not in links]
        assert not without, f"{node}: no program on {without}"
        for link in ("cilium_host/links/cil_to_host", "cilium_net/links/cil_to_host"):
            assert f"devices/{link}" in links, f"{node}: {link} is not among {sorted(links)}"
        assert any(link.endswith("/cil_from_netdev") for link in links), f"{node}: {sorted(links)}"
