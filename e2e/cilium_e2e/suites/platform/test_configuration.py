"""README, "Cilium Configuration": what the release says is what running agents do."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from cilium_e2e.cluster.agents import AgentPod
from cilium_e2e.cluster.effective import Reported, settings, stale
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.process import AgentProcess
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Ref
from cilium_e2e.repository import Repository

pytestmark = pytest.mark.flowless

EachAgent = Callable[..., dict[str, Any]]


def _changed(config: Object) -> str:
    """When and by whom an object was last written."""
    last = max(config["metadata"].get("managedFields") or [], key=lambda entry: entry.get("time", ""))
    return f"last written at {last.get('time')} by {last.get('manager')}"


def _per_node(kube: Kube, namespace: str) -> frozenset[str]:
    """Options that a CiliumNodeConfig sets for some nodes."""
    configs = kube.list_known(Ref("cilium.io/v2", "CiliumNodeConfig", namespace=namespace))
    return frozenset(name for config in configs for name in config["spec"].get("defaults") or {})


def test_agents_do_what_the_release_says(
    cluster: LiveCluster, repository: Repository, each_agent: EachAgent
) -> None:
    """Each value of the README, as status and options of every running agent report it.

    "IPAM Mode", "Mount Reuse", "Complete Replacement", "Host Legacy Routing" (as the status has it), "L7
    Proxy", "Hubble Observability", "Exclusive", and the rest of what the release decides.
    """

    def report(agent: AgentPod) -> Reported:
        agents = cluster.agents
        return Reported(agents.status(agent), agents.options(agent), agents.loaded(agent))

    wanted = settings(repository.effective, repository.features)
    for node, reported in each_agent(report).items():
        wrong = [text for setting in wanted if (text := setting.differs(reported))]
        assert not wrong, "\n".join([f"the agent on {node} does not do what the release says:", *wrong])


def test_running_agents_have_the_newest_configuration(
    kube: Kube, cluster: LiveCluster, each_agent: EachAgent
) -> None:
    """Changed values reach running agents: what each one loaded is what the ConfigMap says now.

    Without the chart's ``rollOutCiliumPods`` a changed value stops at the ConfigMap, and all looks well.
    """
    namespace = cluster.info.cilium_namespace

    def loaded(agent: AgentPod) -> tuple[str, Mapping[str, str]]:
        folder = cluster.agents.process(agent).config_folder
        assert folder, f"{agent.ref}: expected --config-dir on the agent's command line"
        started = kube.get(agent.ref)["status"]["startTime"]
        return started, cluster.agents.loaded(agent, folder)

    answers = each_agent(loaded)
    config = kube.get(Ref("v1", "ConfigMap", "cilium-config", namespace))
    overridden = _per_node(kube, namespace)
    for node, (started, options) in answers.items():
        behind = stale(options, config["data"], overridden)
        about = (
            f"the agent on {node}, started at {started}, does not have what ConfigMap cilium-config "
            f"({_changed(config)}) says. Restart the agents, or set rollOutCiliumPods: true in the release."
        )
        assert not behind, "\n".join([about, *behind])


@pytest.mark.requires("real")
def test_agents_reach_the_api_server_at_the_local_endpoint(
    kube: Kube, repository: Repository, processes: dict[str, AgentProcess]
) -> None:
    """Claim "localhost:7445": each agent's own connections to the API go there and nowhere else.

    Told by its process' environment and by its sockets: a variable that is set and not used is found.
    """
    host, port = repository.features.api_host, repository.features.api_port
    if not host:
        pytest.skip("the release names no k8sServiceHost: agents use the in-cluster Service")
    slices = kube.list_all(
        Ref("discovery.k8s.io/v1", "EndpointSlice", namespace="default"),
        label_selector="kubernetes.io/service-name=kubernetes",
    )
    direct = {
        (a, p["port"]) for s in slices for e in s["endpoints"] for a in e["addresses"] for p in s["ports"]
    }
    service = kube.get(Ref("v1", "Service", "kubernetes", "default"))["spec"]
    direct |= {(address, entry["port"]) for address in service["clusterIPs"] for entry in service["ports"]}
    for node, process in processes.items():
        told = [process.environment.get(f"KUBERNETES_SERVICE_{name}") for name in ("HOST", "PORT")]
        assert told == [host, str(port)], (
            f"{node}: the agent was started with {told}, the release says {host}:{port}"
        )
        seen = sorted(map(str, process.connections))
        used = [c for c in process.connections if c.port == port and (c.loopback or host != "localhost")]
        assert used, f"{node}: expected a connection to {host}:{port}, the agent has {seen}"
        around = [str(c) for c in process.connections if (c.address, c.port) in direct]
        assert not around, f"{node}: the agent goes around {host}:{port}"


@pytest.mark.requires("real")
def test_the_operator_uses_the_local_endpoint(
    kube: Kube, cluster: LiveCluster, repository: Repository
) -> None:
    """Claim "Configured to use localhost:7445": every container of Cilium on the host's network is told so.

    The operator's image has no shell to look at its sockets with; it is ready, so what it was told works.
    """
    host, port = repository.features.api_host, str(repository.features.api_port)
    if not host:
        pytest.skip("the release names no k8sServiceHost: the operator uses the in-cluster Service")
    namespace = cluster.info.cilium_namespace
    pods = kube.list_all(Ref("v1", "Pod", namespace=namespace), label_selector="io.cilium/app=operator")
    assert pods, "expected pods of the operator"
    for pod in pods:
        for container in pod["spec"]["containers"]:
            variables = {entry["name"]: entry.get("value") for entry in container.get("env") or []}
            told = (variables.get("KUBERNETES_SERVICE_HOST"), variables.get("KUBERNETES_SERVICE_PORT"))
            assert told == (host, port), f"{pod['metadata']['name']}/{container['name']}"
