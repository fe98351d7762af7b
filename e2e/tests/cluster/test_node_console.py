"""Shells on nodes: what they are asked, what they answer, and how they end."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cilium_e2e.cluster.node_console import COMMAND, NodeConsoles
from cilium_e2e.model import ClusterStateError, StreamLost, WaitTimeout
from support.memory import FakeExec


class Opened:
    """Opens the streams it is given, one after the other, and remembers for which node."""

    def __init__(self, *streams: FakeExec) -> None:
        self.streams = list(streams)
        self.nodes: list[str] = []

    def __call__(self, node: str) -> FakeExec:
        self.nodes.append(node)
        return self.streams.pop(0)


def answer(*lines: str, code: int = 0) -> list[str]:
    """The lines of an answer, with its end."""
    return [*lines, "", f"\x01{code}"]


def test_questions_share_one_shell_a_node() -> None:
    first = FakeExec(*answer('{"revision": 3}', "[]"), *answer("{", "}"))
    second = FakeExec(*answer("null"), *answer("[]"))
    opened = Opened(first, second)
    consoles = NodeConsoles(opened)
    assert consoles.get("n1", "policy", "endpoint") == [{"revision": 3}, []]
    assert consoles.dbg("n1", "bpf", "ipcache", "list") == {}
    assert consoles.get("n2", "endpoint") == [None]
    assert consoles.map("n2", "cilium_x") == []
    assert opened.nodes == ["n1", "n2"]
    assert first.sent == [
        "get http://localhost/v1/policy http://localhost/v1/endpoint",
        "dbg bpf ipcache list",
    ]
    assert second.sent[-1] == "map cilium_x"
    consoles.close()
    assert first.closed
    assert second.closed


def test_a_failure_has_the_agents_words_and_the_shell_stays() -> None:
    stream = FakeExec(*answer("curl: (7) Couldn't connect", code=7), *answer(code=1), *answer("1"))
    consoles = NodeConsoles(Opened(stream))
    with pytest.raises(ClusterStateError, match=r"the agent on n1, asked 'get .*policy'.*7: .*connect"):
        consoles.get("n1", "policy")
    with pytest.raises(ClusterStateError, match="exit code 1: without a word"):
        consoles.get("n1", "policy")
    assert consoles.get("n1", "policy") == [1]


def test_what_is_no_json_is_shown() -> None:
    with pytest.raises(ClusterStateError, match="expected JSON, got 'Usage"):
        NodeConsoles(Opened(FakeExec(*answer("Usage: something")))).dbg("n1", "what")


def test_an_answer_too_few() -> None:
    with pytest.raises(ClusterStateError, match="expected 2 JSON documents, got 1"):
        NodeConsoles(Opened(FakeExec(*answer("{}")))).get("n1", "policy", "endpoint")


@pytest.mark.parametrize("end", [StreamLost("gone", place="here"), None])
def test_a_lost_shell_is_opened_anew_once(end: Exception | None) -> None:
    broken = FakeExec("{", end) if end else FakeExec("{")
    consoles = NodeConsoles(Opened(broken, FakeExec(*answer("2"))))
    assert consoles.get("n1", "policy") == [2]
    assert broken.closed


def test_lost_twice_is_an_error() -> None:
    consoles = NodeConsoles(Opened(FakeExec(), FakeExec(stderr="bash: curl: not found")))
    with pytest.raises(StreamLost, match="the shell ended: bash: curl: not found"):
        consoles.get("n1", "policy")


def test_a_shell_that_hangs_is_not_used_again() -> None:
    hanging, fresh = FakeExec(WaitTimeout("no line came", place="exec")), FakeExec(*answer("3"))
    consoles = NodeConsoles(Opened(hanging, fresh))
    with pytest.raises(WaitTimeout):
        consoles.get("n1", "policy")
    assert hanging.closed
    assert consoles.get("n1", "policy") == [3], "a late answer must not be taken for another question's"


class TestLoop:
    """The loop itself, in a real shell with other tools in the place of the node's."""

    def ask(self, tmp_path: Path, *questions: str, **tools: str) -> list[str]:
        for name, body in tools.items():
            (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
            (tmp_path / name).chmod(0o755)
        done = subprocess.run(
            COMMAND,
            input="".join(f"{question}\n" for question in questions),
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    def test_the_agents_socket_is_asked(self, tmp_path: Path) -> None:
        curl = r'printf "%s\n" "${*: -2}"'
        assert self.ask(tmp_path, "get http://a http://b", "get http://c http://d", curl=curl) == [
            *answer("http://a http://b"),
            *answer("http://c http://d"),
        ]

    def test_curls_words_are_the_failures(self, tmp_path: Path) -> None:
        seen = self.ask(tmp_path, "get http://x", curl="echo 'curl: (7) no' >&2; exit 7")
        assert seen == answer("curl: (7) no", code=7)

    @pytest.fixture
    def agent(self, tmp_path: Path) -> Iterator[str]:
        """The number of a process that is called as the agent's is."""
        named = tmp_path / "cilium-agent"
        shutil.copy("/bin/sleep", named)
        process = subprocess.Popen([named, "60"])
        yield f"echo {process.pid}"
        process.kill()
        process.wait()

    def test_the_command_line_runs_in_the_agents_namespaces(self, tmp_path: Path, agent: str) -> None:
        nsenter = 'echo "\\"$*\\""; echo warning >&2'
        first, *end = self.ask(tmp_path, "dbg bpf ipcache list", pgrep=agent, nsenter=nsenter)
        pid = agent.removeprefix("echo ")
        assert first == f'"-t {pid} -m -p cilium-dbg bpf ipcache list -o json"'
        assert end == answer()

    def test_a_map_is_dumped_in_the_agents_namespaces(self, tmp_path: Path, agent: str) -> None:
        nsenter = 'echo "$*"; echo warning >&2'
        first, *end = self.ask(tmp_path, "map cilium_x", pgrep=agent, nsenter=nsenter)
        pid = agent.removeprefix("echo ")
        assert first == f"-t {pid} -m -p bpftool -j map dump pinned /sys/fs/bpf/tc/globals/cilium_x"
        assert end == answer()

    def test_a_maps_failure_is_told_once(self, tmp_path: Path, agent: str) -> None:
        tools = {"pgrep": agent, "nsenter": "echo 'no such map' >&2; exit 255"}
        assert self.ask(tmp_path, "map cilium_x", **tools) == answer("no such map", code=255)

    def test_its_words_are_the_failures(self, tmp_path: Path, agent: str) -> None:
        tools = {"pgrep": agent, "nsenter": "echo 'cannot open map' >&2; exit 1"}
        assert self.ask(tmp_path, "dbg bpf ipcache list", **tools) == answer("cannot open map", code=1)

    def test_no_agent_runs(self, tmp_path: Path) -> None:
        asked = ["dbg bpf ipcache list", "get http://x", "dbg bpf ipcache list"]
        seen = self.ask(tmp_path, *asked, pgrep="exit 1", curl="echo 1")
        nobody = answer("no process of an agent", code=1)
        assert seen == [*nobody, *answer("1"), *nobody]

    def test_another_process_of_that_number_is_not_entered(self, tmp_path: Path) -> None:
        seen = self.ask(tmp_path, "dbg bpf ipcache list", pgrep=f"echo {os.getpid()}", nsenter="echo 1")
        assert seen == answer("no process of an agent", code=1)
