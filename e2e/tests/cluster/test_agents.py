"""What agents say of their policies and endpoints, read from recordings of live ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cilium_e2e.cluster.agents import CiliumAgents, parse_endpoint, parse_policies
from cilium_e2e.cluster.node_console import NodeConsoles
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, Endpoint, KubeError, Object
from support.memory import FakeExec, MemoryTransport, pod
from support.recordings import FOLDER, items, recorded

UID = "c81ece38-17b2-462a-ac67-56e4e630203d"
DEMO = recorded("cilium-dbg-endpoint-list-demo-policy")


class Answering(FakeExec):
    """A stream that answers each question by itself."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        super().__init__()
        self._answers = answers

    def send_line(self, line: str) -> None:
        super().send_line(line)
        way, _, rest = line.partition(" ")
        self.lines += [self._answers[one] for one in (rest.split() if way == "get" else [rest])]
        self.lines.append("\x010")


def demo() -> dict[str, Endpoint]:
    found = [parse_endpoint(entry, node="lab-worker") for entry in DEMO]
    return {endpoint.name: endpoint for endpoint in found}


class TestPolicies:
    def test_an_empty_repository(self) -> None:
        found = parse_policies(recorded("cilium-dbg-policy-get"))
        assert (found.revision, found.uids) == (3, frozenset())

    def test_the_demo_policy(self) -> None:
        rules, _, revision = (FOLDER / "cilium-dbg-policy-get.txt").read_text().rpartition("Revision: ")
        found = parse_policies({"policy": rules, "revision": int(revision)})
        assert (found.revision, found.uids) == (4, {UID})

    def test_rules_without_labels(self) -> None:
        assert parse_policies({"policy": '[{"labels": null}, {}]', "revision": 1}).uids == frozenset()


class TestEndpoints:
    def test_pods_have_their_names_and_others_their_numbers(self) -> None:
        found = demo()
        assert {"default/demo", "default/frontend", "default/other"} <= set(found)
        assert "lab-worker/endpoint-573" in found  # the host's
        assert len(found) == 9

    def test_addresses_and_identities_are_those_of_the_api(self) -> None:
        found = [parse_endpoint(e, node="n") for e in [*DEMO, *recorded("cilium-dbg-endpoint-list")]]
        by_name = {endpoint.name: endpoint for endpoint in found}
        compared = 0
        for obj in items("ciliumendpoints"):
            name = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
            if name in by_name:
                compared += 1
                addresses = obj["status"]["networking"]["addressing"]
                assert by_name[name].ips == tuple(a["ipv4"] for a in addresses)
                assert by_name[name].identity.number == obj["status"]["identity"]["id"]
                assert by_name[name].identity.labels == tuple(sorted(obj["status"]["identity"]["labels"]))
        assert compared >= 3

    def test_only_the_selected_endpoint_lists_the_policy(self) -> None:
        listing = {name for name, endpoint in demo().items() if UID in endpoint.policies}
        assert listing == {"default/demo"}

    def test_all_have_realized_the_revision(self) -> None:
        assert {endpoint.policy_revision for endpoint in demo().values()} == {4}
        assert {endpoint.state for endpoint in demo().values()} == {"ready"}

    def test_reserved_identities(self) -> None:
        numbers = {e.identity.number for e in demo().values() if e.identity.reserved}
        assert numbers == {1, 4}

    def test_an_endpoint_that_is_only_just_made(self) -> None:
        found = parse_endpoint({"id": 7, "status": {"state": "waiting-for-identity"}}, node="n")
        assert (found.name, found.ips, found.identity.number) == ("n/endpoint-7", (), 0)
        assert (found.policy_revision, found.policies) == (0, frozenset())

    def test_both_families_and_named_ports(self) -> None:
        entry: dict[str, Any] = {
            "id": 7,
            "status": {
                "networking": {"addressing": [{"ipv4": "10.0.0.1", "ipv6": "fd00::1"}]},
                "named-ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"port": 1}],
            },
        }
        found = parse_endpoint(entry, node="n")
        assert found.ips == ("10.0.0.1", "fd00::1")
        assert found.named_ports == {"http": (8080, "TCP")}


def agent_pod(name: str, node: str, **more: Any) -> Object:
    obj = pod(name, "cilium", phase="Running", **more)
    obj["metadata"]["labels"] = {"k8s-app": "cilium"}
    obj["spec"]["nodeName"] = node
    return obj


class TestAsking:
    def agents(self, *pods: Object, answer: str = "{}") -> tuple[CiliumAgents, MemoryTransport]:
        api = MemoryTransport(*pods)
        api.on_exec = lambda ref, container, command: FakeExec(answer)
        return CiliumAgents(Kube(api, clock=api.clock), "cilium"), api

    def test_running_agents_by_node(self) -> None:
        leaving = agent_pod("leaving", "n0")
        leaving["metadata"]["deletionTimestamp"] = "now"
        other = pod("relay", "cilium", phase="Running")
        pending = agent_pod("pending", "n3")
        pending["status"]["phase"] = "Pending"
        agents, _ = self.agents(agent_pod("b", "n2"), agent_pod("a", "n1"), leaving, other, pending)
        assert [(a.ref.name, a.node) for a in agents.pods()] == [("a", "n1"), ("b", "n2")]

    def test_no_agent_is_an_error(self) -> None:
        agents, _ = self.agents()
        with pytest.raises(ClusterStateError, match="namespace cilium: expected running pods with k8s-app"):
            agents.pods()

    def test_each_keeps_the_order(self) -> None:
        agents, _ = self.agents(*(agent_pod(f"p{i}", f"n{i}") for i in range(9)))
        assert agents.each(lambda agent: agent.node) == [f"n{i}" for i in range(9)]

    def test_the_agent_s_own_command_line_is_asked(self) -> None:
        agents, api = self.agents(agent_pod("a", "n1"), answer=json.dumps(DEMO))
        asked: list[tuple[str, str, list[str]]] = []

        def answer(ref: Any, container: str, command: Any) -> FakeExec:
            asked.append((str(ref), container, list(command)))
            return FakeExec(*json.dumps(DEMO, indent=1).splitlines())

        api.on_exec = answer
        assert len(agents.endpoints(agents.pods()[0])) == 9
        assert asked == [("Pod cilium/a", "cilium-agent", ["cilium-dbg", "endpoint", "list", "-o", "json"])]

    def test_an_answer_that_is_no_json_is_shown(self) -> None:
        agents, _ = self.agents(agent_pod("a", "n1"), answer="Error: cannot connect")
        with pytest.raises(ClusterStateError, match="Pod cilium/a: expected JSON, got 'Error: cannot"):
            agents.policies(agents.pods()[0])

    def test_a_refusal_is_passed_on(self) -> None:
        agents, api = self.agents(agent_pod("a", "n1"))
        api.fail("exec", KubeError(403, "Forbidden", "no exec for you"))
        with pytest.raises(KubeError, match="no exec for you"):
            agents.policies(agents.pods()[0])

    def test_policies_and_endpoints_take_one_exec(self) -> None:
        agents, api = self.agents(agent_pod("a", "n1"))
        rules, _, _ = (FOLDER / "cilium-dbg-policy-get.txt").read_text().rpartition("Revision: ")
        answers = [[{"policy": rules, "revision": 4}, DEMO], [{"10.0.0.1/32": ["identity=7"]}], [None]]
        scripts: list[str] = []

        def answer(ref: Any, container: str, command: Any) -> FakeExec:
            scripts.append(" ".join(command) if command[0] != "sh" else command[-1])
            return FakeExec(*"\n".join(json.dumps(d, indent=1) for d in answers.pop(0)).splitlines())

        api.on_exec = answer
        agent = agents.pods()[0]
        state = agents.state(agent)
        assert (state.policies.revision, state.policies.uids) == (4, {UID})
        assert '"any:app": "frontend"' in state.policies.rules[UID]
        assert len(state.endpoints) == 9
        assert (agents.ipcache(agent), agents.frontends(agent)) == ({"10.0.0.1": 7}, [])
        first, *others = (script.splitlines() for script in scripts)
        assert first == ["set -e", "cilium-dbg policy get -o json", "cilium-dbg endpoint list -o json"], (
            "endpoints may be newer than the repository, never older"
        )
        assert others == [["cilium-dbg bpf ipcache list -o json"], ["cilium-dbg service list -o json"]]

    def test_where_there_are_consoles_they_are_asked(self) -> None:
        rules, _, _ = (FOLDER / "cilium-dbg-policy-get.txt").read_text().rpartition("Revision: ")
        said = {
            "http://localhost/v1/policy": {"policy": rules, "revision": 4},
            "http://localhost/v1/endpoint": DEMO,
            "http://localhost/v1/service": [],
            "cilium_ipcache_v2": [
                {
                    "key": ["0x40", *["0x00"] * 6, "0x01", "0x0a", "0x00", "0x00", "0x01", *["0x00"] * 12],
                    "value": ["0x07", *["0x00"] * 23],
                }
            ],
            "status": {"asked": "by shell"},
        }
        stream = Answering({question: json.dumps(answer) for question, answer in said.items()})
        _, api = self.agents(agent_pod("a", "n1"))
        consoles = NodeConsoles(lambda node: stream)
        agents = CiliumAgents(Kube(api, clock=api.clock), "cilium", consoles)
        api.on_exec = lambda ref, container, command: pytest.fail(f"an exec of {command}")
        agent = agents.pods()[0]
        assert agents.state(agent).policies.uids == {UID}
        assert agents.policies(agent).revision == 4
        assert len(agents.endpoints(agent)) == 9
        assert agents.ipcache(agent) == {"10.0.0.1": 7}
        assert agents.json(agent, "status") == {"asked": "by shell"}
        assert agents.frontends(agent) == []

    def test_an_older_release_has_the_ipcache_under_another_name(self) -> None:
        missing = json.dumps({"error": "bpf obj get (/sys/fs/bpf/x): No such file or directory"})
        stream = FakeExec(missing, "\x01255", '{"10.0.0.1/32": ["identity=7"]}', "\x010")
        _, api = self.agents(agent_pod("a", "n1"))
        agents = CiliumAgents(Kube(api, clock=api.clock), "cilium", NodeConsoles(lambda node: stream))
        assert agents.ipcache(agents.pods()[0]) == {"10.0.0.1": 7}
        assert stream.sent == ["map cilium_ipcache_v2", "dbg bpf ipcache list"]

    def test_a_map_that_cannot_be_read_is_an_error(self) -> None:
        stream = FakeExec('{"error": "Operation not permitted"}', "\x01255")
        _, api = self.agents(agent_pod("a", "n1"))
        agents = CiliumAgents(Kube(api, clock=api.clock), "cilium", NodeConsoles(lambda node: stream))
        with pytest.raises(ClusterStateError, match="not permitted"):
            agents.ipcache(agents.pods()[0])

    @pytest.mark.parametrize("answer", ["{}", "[] [] []", "[] what"])
    def test_an_agent_that_says_something_else(self, answer: str) -> None:
        agents, _ = self.agents(agent_pod("a", "n1"), answer=answer)
        with pytest.raises(ClusterStateError, match=r"cilium-dbg in Pod cilium/a: expected (2 )?JSON"):
            agents.state(agents.pods()[0])
