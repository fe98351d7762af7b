"""Silent nodes are made to show a flow: by the agents on them where there are some, else by Cilium's."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.poking import HEALTH_PORT, Poke
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Outcome, OutcomeKind, Probe, StreamLost, Target
from support.memory import FakeExec, MemoryTransport, pod


def cilium_node(name: str, health: dict[str, str]) -> Object:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name},
        "spec": {"health": health},
    }


class Host:
    """A node's own agent."""

    def __init__(self, probes: list[Probe], error: Exception | None = None) -> None:
        self.probes = probes
        self.error = error

    def run(self, batch: list[Probe]) -> list[Outcome]:
        self.probes += batch
        if self.error:
            raise self.error
        return [Outcome(probe.id, OutcomeKind.TIMEOUT) for probe in batch]


@pytest.fixture
def api() -> MemoryTransport:
    agent = pod("cilium-1", "cilium", phase="Running")
    agent["metadata"]["labels"] = {"k8s-app": "cilium"}
    agent["spec"]["nodeName"] = "n1"
    found = MemoryTransport(
        agent,
        cilium_node("n1", {"ipv4": "10.0.0.4", "ipv6": "fd00::4"}),
        cilium_node("n2", {"ipv6": "fd00::5"}),
    )
    found.execs = []
    found.on_exec = lambda ref, container, command: (found.execs.append(list(command)), FakeExec())[1]
    return found


@pytest.fixture
def probes() -> list[Probe]:
    return []


def poke(api: MemoryTransport, probes: list[Probe], hosts: list[str], error: Exception | None = None) -> Poke:
    kube = Kube(api, clock=api.clock)
    return Poke(kube, CiliumAgents(kube, "cilium"), hosts, lambda source: Host(probes, error))


def test_each_silent_node_connects_to_its_own_health_endpoint(
    api: MemoryTransport, probes: list[Probe]
) -> None:
    knock = poke(api, probes, ["n1", "n2", "n3"])
    knock(["kind/n1", "n2"])
    knock(["n1"])
    asked = sorted((str(p.source), str(p.target), p.port) for p in probes)
    assert asked == [
        ("node:n1", "ip:10.0.0.4", HEALTH_PORT),
        ("node:n1", "ip:10.0.0.4", HEALTH_PORT),
        ("node:n2", "ip:fd00::5", HEALTH_PORT),
    ]
    assert len({p.id for p in probes}) == 3
    assert api.execs == []


@pytest.mark.parametrize("hosts", [[], ["n1"], ["n1", "n3"]])
def test_where_a_silent_node_has_none_cilium_probes_all_nodes(
    api: MemoryTransport, probes: list[Probe], hosts: list[str]
) -> None:
    """n3 has an agent, but Cilium knows no health endpoint there; n2 has no agent."""
    poke(api, probes, hosts)(["n2", "n3"] if "n3" in hosts else ["n1", "n2"])
    assert probes == []
    assert api.execs == [["cilium-health", "status", "--probe"]]


def test_what_cannot_be_asked_breaks_no_wait(api: MemoryTransport, probes: list[Probe]) -> None:
    poke(api, probes, ["n1"], StreamLost("cut"))(["n1"])
    assert [p.source for p in probes] == [Target.node("n1")]
