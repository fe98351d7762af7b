"""Shells on nodes: what they are asked, what they answer, and how they end."""

from __future__ import annotations

import subprocess
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


def test_questions_share_one_shell_a_node() -> None:
    first, second = FakeExec('= {"revision": 3}', "= []"), FakeExec("= null")
    opened = Opened(first, second)
    consoles = NodeConsoles(opened)
    assert consoles.get("n1", "policy") == {"revision": 3}
    assert consoles.dbg("n1", "bpf", "ipcache", "list") == []
    assert consoles.get("n2", "endpoint") is None
    assert opened.nodes == ["n1", "n2"]
    assert (first.sent, second.sent) == (["get policy", "dbg bpf ipcache list"], ["get endpoint"])
    consoles.close()
    assert first.closed
    assert second.closed


def test_a_failure_has_the_agents_words_and_the_shell_stays() -> None:
    stream = FakeExec("! curl: (7) Couldn't connect to server", "! ", "= 1")
    consoles = NodeConsoles(Opened(stream))
    with pytest.raises(ClusterStateError, match=r"the agent on n1, asked 'get policy'.*connect to server"):
        consoles.get("n1", "policy")
    with pytest.raises(ClusterStateError, match="without a word"):
        consoles.get("n1", "policy")
    assert consoles.get("n1", "policy") == 1


def test_what_is_no_json_is_shown() -> None:
    with pytest.raises(ClusterStateError, match="expected JSON, got 'Usage"):
        NodeConsoles(Opened(FakeExec("= Usage: something"))).dbg("n1", "what")


@pytest.mark.parametrize("end", [StreamLost("gone", place="here"), None])
def test_a_lost_shell_is_opened_anew_once(end: Exception | None) -> None:
    broken = FakeExec(end) if end else FakeExec()
    consoles = NodeConsoles(Opened(broken, FakeExec("= 2")))
    assert consoles.get("n1", "policy") == 2
    assert broken.closed


def test_lost_twice_is_an_error() -> None:
    consoles = NodeConsoles(Opened(FakeExec(), FakeExec(stderr="bash: curl: not found")))
    with pytest.raises(StreamLost, match="the shell ended: bash: curl: not found"):
        consoles.get("n1", "policy")


def test_a_shell_that_hangs_is_not_used_again() -> None:
    hanging, fresh = FakeExec(WaitTimeout("no line came", place="exec")), FakeExec("= 3")
    consoles = NodeConsoles(Opened(hanging, fresh))
    with pytest.raises(WaitTimeout):
        consoles.get("n1", "policy")
    assert hanging.closed
    assert consoles.get("n1", "policy") == 3, "a late answer must not be taken for that of another question"


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
        curl = r'for last; do :; done; printf "[\n \"%s\"\n]\n" "$last"'
        assert self.ask(tmp_path, "get policy", "get endpoint", curl=curl) == [
            '= [  "http://localhost/v1/policy" ]',
            '= [  "http://localhost/v1/endpoint" ]',
        ]

    def test_curls_words_are_the_failures(self, tmp_path: Path) -> None:
        assert self.ask(tmp_path, "get policy", curl="echo 'curl: (7) no' >&2; exit 7") == ["! curl: (7) no"]

    def test_the_command_line_runs_in_the_agents_namespaces(self, tmp_path: Path) -> None:
        nsenter = 'echo "\\"$*\\""; echo warning >&2'
        assert self.ask(tmp_path, "dbg bpf ipcache list", pgrep="echo 77", nsenter=nsenter) == [
            '= "-t 77 -m -p timeout 8 cilium-dbg bpf ipcache list -o json"'
        ]

    def test_its_words_are_the_failures(self, tmp_path: Path) -> None:
        tools = {"pgrep": "echo 77", "nsenter": "echo 'cannot open map' >&2; exit 1"}
        assert self.ask(tmp_path, "dbg bpf ipcache list", **tools) == ["! cannot open map"]

    def test_no_agent_runs(self, tmp_path: Path) -> None:
        asked = ["dbg bpf ipcache list", "get policy", "dbg bpf ipcache list"]
        assert self.ask(tmp_path, *asked, pgrep="exit 1", curl="echo 1") == [
            "! no process of an agent",
            "= 1",
            "! no process of an agent",
        ]
