"""Fixtures of the platform suite: every agent asked at once, and looks until it settles."""

from collections.abc import Callable
from typing import TypeVar

import pytest

from cilium_e2e.cluster.agents import AgentPod
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.process import AgentProcess
from cilium_e2e.cluster.status import AgentStatus

T = TypeVar("T")
EachAgent = Callable[[Callable[[AgentPod], T]], dict[str, T]]


@pytest.fixture(scope="session")
def each_agent(cluster: LiveCluster) -> EachAgent:  # type: ignore[type-arg]  # it is for any answer
    """Asks every node's agent, in parallel: node to answer. Fails where a node has none."""

    def ask(question: Callable[[AgentPod], T]) -> dict[str, T]:
        answers = dict(cluster.agents.each(lambda agent: (agent.node, question(agent))))
        nodes = {node.name for node in cluster.info.nodes}
        assert answers.keys() == nodes, f"expected an agent on each of {nodes}, got {set(answers)}"
        return answers

    return ask


@pytest.fixture(scope="session")
def statuses(cluster: LiveCluster, each_agent: EachAgent) -> dict[str, AgentStatus]:  # type: ignore[type-arg]
    """Every agent's status by node, as it was when this worker first asked."""
    return each_agent(cluster.agents.status)


@pytest.fixture(scope="session")
def processes(cluster: LiveCluster, each_agent: EachAgent) -> dict[str, AgentProcess]:  # type: ignore[type-arg]
    """Every agent's process by node, as it was when this worker first asked."""
    return each_agent(cluster.agents.process)
