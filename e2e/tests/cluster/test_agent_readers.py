"""The agents' readers over an API in memory: what is run where, and what a wrong answer says."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

import pytest

from cilium_e2e.cluster.agents import AgentPod, CiliumAgents
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, Ref
from support.memory import FakeExec, MemoryTransport
from support.recordings import FOLDER

AGENT = AgentPod(Ref("v1", "Pod", "cilium-x", "cilium"), "node-x")
ANSWERS = {
    "cilium-dbg status -o json": "cilium-dbg-status.json",
    "cilium-dbg config --all -o json": "cilium-dbg-config-all.json",
    "cilium-dbg shell -- db/show --format=json health": "cilium-dbg-health.json",
    "bpftool -j cgroup show /run/cilium/cgroupv2": "bpftool-cgroup.json",
}


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def agents(api: MemoryTransport) -> CiliumAgents:
    def run(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        assert (ref, container) == (AGENT.ref, "cilium-agent")
        return FakeExec(*(FOLDER / ANSWERS[" ".join(command)]).read_text().splitlines())

    api.on_exec = run
    return CiliumAgents(Kube(api, clock=api.clock), "cilium")


def test_every_reader_reads_what_a_live_agent_said(agents: CiliumAgents) -> None:
    assert agents.status(AGENT).kube_proxy_replacement == "True"
    assert agents.options(AGENT)["CGroupRoot"] == "/run/cilium/cgroupv2"
    assert len(agents.modules(AGENT)) > 80
    assert {"cil_sock4_connect", "cil_sock4_sendmsg"} <= agents.attached(AGENT, "/run/cilium/cgroupv2")


@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("agent-process.txt", lambda agents: agents.process(AGENT).config_folder),
        ("node-netfilter.txt", lambda agents: agents.netfilter(AGENT).cilium_chains),
    ],
)
def test_scripts_are_run_by_a_shell(
    api: MemoryTransport, agents: CiliumAgents, file: str, read: Callable[[CiliumAgents], object]
) -> None:
    commands: list[Sequence[str]] = []

    def run(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        commands.append(command)
        return FakeExec(*(FOLDER / file).read_text().splitlines())

    api.on_exec = run
    assert read(agents)
    assert [command[:2] for command in commands] == [("sh", "-c")]


def test_loaded_options_come_from_the_folder_asked_for(api: MemoryTransport, agents: CiliumAgents) -> None:
    def run(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        assert command[-1] == "/some/where"
        return FakeExec(f"ipam {base64.b64encode(b'kubernetes').decode()}")

    api.on_exec = run
    assert agents.loaded(AGENT, "/some/where") == {"ipam": "kubernetes"}


def test_a_root_that_is_no_cgroup_is_told_in_the_kernels_words(
    api: MemoryTransport, agents: CiliumAgents
) -> None:
    answer = '{"error":"can\'t query bpf programs attached to /sys/fs/cgroup: Bad file descriptor"}'
    api.on_exec = lambda ref, container, command: FakeExec(answer, code=255)
    with pytest.raises(ClusterStateError, match="Bad file descriptor"):
        agents.attached(AGENT, "/sys/fs/cgroup")


def test_what_is_no_json(api: MemoryTransport, agents: CiliumAgents) -> None:
    api.on_exec = lambda ref, container, command: FakeExec("Error: connection refused")
    with pytest.raises(ClusterStateError, match="expected JSON, got 'Error: connection refused'"):
        agents.status(AGENT)


def test_who_answers_a_greeting_and_who_does_not(agents: CiliumAgents, api: MemoryTransport) -> None:
    def run(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        assert list(command[-4:]) == ["4240", "10.0.0.1", "fd00::1", "10.0.0.2"]
        return FakeExec("fd00::1 ", "10.0.0.1 HTTP/1.0 200 OK\r")

    api.on_exec = run
    assert agents.reaches(AGENT, ["10.0.0.1", "fd00::1", "10.0.0.2"], 4240) == {
        "10.0.0.1": "HTTP/1.0 200 OK",
        "fd00::1": "",
        "10.0.0.2": "",
    }
