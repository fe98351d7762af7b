"""The Cilium agents of a cluster, asked through their own command line (``cilium-dbg``)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

from cilium_e2e.cluster.counters import Sample, parse_list
from cilium_e2e.cluster.datapath import (
    IPCACHE_MAP,
    Frontend,
    IpCache,
    decode_ipcache,
    parse_frontends,
    parse_ipcache,
)
from cilium_e2e.cluster.node_console import NodeConsoles, documents_in
from cilium_e2e.cluster.process import (
    CONFIG_FOLDER,
    CONFIG_SCRIPT,
    HELLO_SCRIPT,
    NETFILTER_SCRIPT,
    PROCESS_SCRIPT,
    AgentProcess,
    Netfilter,
    parse_config,
    parse_netfilter,
    parse_process,
)
from cilium_e2e.cluster.status import (
    AgentStatus,
    Module,
    parse_modules,
    parse_status,
)
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, Endpoint, Identity, Ref

AGENT_SELECTOR = "k8s-app=cilium"
AGENT_CONTAINER = "cilium-agent"
_UID_LABEL = "io.cilium.k8s.policy.uid"
_EXEC_TIMEOUT_S = 30.0
# It is asked again anyway, and an agent on a node that hangs must not hold up whoever asks.
_STATE_TIMEOUT_S = 10.0
_NO_MAP = "No such file or directory"
_NO_RULES: Mapping[str, str] = MappingProxyType({})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Question:
    """One thing an agent can be asked: by its command line, and below its API's root; empty for not there."""

    words: str
    path: str = ""


_POLICIES = _Question("policy get", "policy")
_ENDPOINTS = _Question("endpoint list", "endpoint")
_SERVICES = _Question("service list", "service")
_IPCACHE = _Question("bpf ipcache list")


@dataclass(frozen=True, slots=True)
class AgentPod:
    """A running agent: its pod and its node."""

    ref: Ref
    node: str


@dataclass(frozen=True, slots=True)
class AgentPolicies:
    """An agent's policy repository.

    Attributes:
        revision: counts its changes, from 1 when the agent starts.
        uids: the policies it holds.
        rules: a policy's UID to its rules as the agent holds them, JSON; the agent sorts what has no order.
    """

    revision: int
    uids: frozenset[str]
    rules: Mapping[str, str] = field(default_factory=lambda: _NO_RULES)


@dataclass(frozen=True, slots=True)
class AgentState:
    """What one agent says of policies and endpoints, read in this order."""

    policies: AgentPolicies
    endpoints: list[Endpoint]


class CiliumAgents:
    """All agents of a cluster, asked in parallel.

    Args:
        kube: the cluster's API.
        namespace: where the agents run.
        consoles: shells on their nodes, where there are such: what is asked often goes that way. Without
            them it takes an exec and the agent's command line.
    """

    def __init__(self, kube: Kube, namespace: str, consoles: NodeConsoles | None = None) -> None:
        self._kube = kube
        self._namespace = namespace
        self._consoles = consoles

    @property
    def namespace(self) -> str:
        """Where they run."""
        return self._namespace

    def pods(self) -> list[AgentPod]:
        """The running agents, by node.

        Raises:
            ClusterStateError: there is none.
        """
        found = self._kube.list_all(
            Ref("v1", "Pod", namespace=self._namespace), label_selector=AGENT_SELECTOR
        )
        running = [
            AgentPod(Ref("v1", "Pod", pod["metadata"]["name"], self._namespace), pod["spec"]["nodeName"])
            for pod in found
            if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        if not running:
            raise ClusterStateError(
                f"expected running pods with {AGENT_SELECTOR}, found none of {len(found)} running",
                place=f"namespace {self._namespace}",
            )
        return sorted(running, key=lambda agent: agent.node)

    def each(self, ask: Callable[[AgentPod], T], among: Sequence[AgentPod] = ()) -> list[T]:
        """Ask every agent, in parallel; answers in the order of :meth:`pods`, or of those given."""
        agents = among or self.pods()
        with ThreadPoolExecutor(max_workers=min(8, len(agents)), thread_name_prefix="agent") as pool:
            return list(pool.map(ask, agents))

    def run(self, agent: AgentPod, *command: str) -> str:
        """What a command prints that is run to its end in one agent's container.

        Raises:
            ClusterStateError: it failed; the message holds its words.
        """
        return self._run(agent, command, _EXEC_TIMEOUT_S)

    def _run(self, agent: AgentPod, command: Sequence[str], timeout_s: float) -> str:
        return self._kube.run(agent.ref, command, container=AGENT_CONTAINER, timeout_s=timeout_s).stdout

    def json(self, agent: AgentPod, *command: str) -> Any:
        """The JSON that a ``cilium-dbg`` command of one agent prints."""
        if self._consoles is not None:
            return self._consoles.dbg(agent.node, *command)
        return self._json(agent, "cilium-dbg", *command, "-o", "json")

    def _json(self, agent: AgentPod, *command: str) -> Any:
        answer = self.run(agent, *command)
        try:
            return json.loads(answer)
        except ValueError as error:
            raise ClusterStateError(
                f"expected JSON, got {answer[:200]!r}", place=f"{' '.join(command)} in {agent.ref}"
            ) from error

    def policies(self, agent: AgentPod) -> AgentPolicies:
        """What one agent's policy repository holds."""
        return parse_policies(self._ask(agent, _POLICIES)[0])

    def endpoints(self, agent: AgentPod) -> list[Endpoint]:
        """The endpoints of one agent."""
        return [parse_endpoint(entry, node=agent.node) for entry in self._ask(agent, _ENDPOINTS)[0]]

    def state(self, agent: AgentPod) -> AgentState:
        """What one agent holds and has realized.

        Raises:
            ClusterStateError: one question failed, or its answer is not what Cilium prints.
        """
        # The repository first: endpoints read after it may be newer than it, never older.
        policies, endpoints = self._ask(agent, _POLICIES, _ENDPOINTS)
        return AgentState(
            parse_policies(policies), [parse_endpoint(entry, node=agent.node) for entry in endpoints or ()]
        )

    def ipcache(self, agent: AgentPod) -> IpCache:
        """Which identity each address has on one agent's node; raises as :meth:`state`."""
        place = f"the ipcache on {agent.node}"
        if self._consoles is not None:
            try:
                return decode_ipcache(self._consoles.map(agent.node, IPCACHE_MAP), place=place)
            except ClusterStateError as error:
                if _NO_MAP not in str(error):
                    raise  # only where the map has another name, the command line knows better
        return parse_ipcache(self._ask(agent, _IPCACHE)[0] or {}, place=place)

    def frontends(self, agent: AgentPod) -> list[Frontend]:
        """Where one agent's node sends what is for Services; raises as :meth:`state`."""
        return parse_frontends(self._ask(agent, _SERVICES)[0] or ())

    def _ask(self, agent: AgentPod, *questions: _Question) -> list[Any]:
        """The answers to some questions, asked one after the other."""
        if self._consoles is not None:
            asked = [question.path for question in questions if question.path]
            got = iter(self._consoles.get(agent.node, *asked) if asked else ())
            return [
                next(got) if question.path else self._consoles.dbg(agent.node, question.words)
                for question in questions
            ]
        if len(questions) == 1:
            return [self.json(agent, *questions[0].words.split())]
        # In one exec: each costs more than all of these answers.
        script = "\n".join(
            ["set -e", *(f"cilium-dbg {question.words} -o json" for question in questions), ""]
        )
        place = f"cilium-dbg in {agent.ref}"
        answers = documents_in(self._run(agent, ["sh", "-c", script], _STATE_TIMEOUT_S), place)
        if len(answers) != len(questions):
            raise ClusterStateError(
                f"expected {len(questions)} JSON documents, got {len(answers)}", place=place
            )
        return answers

    def status(self, agent: AgentPod) -> AgentStatus:
        """What one agent says about itself."""
        return parse_status(self.json(agent, "status"))

    def options(self, agent: AgentPod) -> dict[str, Any]:
        """The configuration that one agent's process holds."""
        found: dict[str, Any] = self.json(agent, "config", "--all")
        return found

    def metrics(self, agent: AgentPod) -> list[Sample]:
        """One agent's counters, also where nothing exports them."""
        return parse_list(self.json(agent, "metrics", "list"))

    def modules(self, agent: AgentPod) -> list[Module]:
        """The health of one agent's modules."""
        text = self.run(agent, "cilium-dbg", "shell", "--", "db/show", "--format=json", "health")
        return parse_modules(text, place=str(agent.ref))

    def reaches(self, agent: AgentPod, addresses: Sequence[str], port: int) -> dict[str, str]:
        """What Cilium's health responders say to one agent now: address to status line, empty for none.

        Not ``cilium-health``: a new agent's prober knows no node for more than a minute.
        """
        lines = self.run(agent, "bash", "-c", HELLO_SCRIPT, str(port), *addresses).splitlines()
        answers = dict(line.partition(" ")[::2] for line in lines)
        return {address: answers.get(address, "").strip() for address in addresses}

    def process(self, agent: AgentPod) -> AgentProcess:
        """One agent's process, as its kernel sees it."""
        return parse_process(self.run(agent, "sh", "-c", PROCESS_SCRIPT), place=str(agent.ref))

    def loaded(self, agent: AgentPod, folder: str = CONFIG_FOLDER) -> dict[str, str]:
        """The options one agent's process read when it started."""
        return parse_config(self.run(agent, "sh", "-c", CONFIG_SCRIPT, folder), place=str(agent.ref))

    def netfilter(self, agent: AgentPod) -> Netfilter:
        """The packet filter of one agent's node."""
        return parse_netfilter(self.run(agent, "sh", "-c", NETFILTER_SCRIPT))

    def attached(self, agent: AgentPod, cgroup: str) -> frozenset[str]:
        """Names of the eBPF programs attached to a cgroup of one agent's node.

        Raises:
            ClusterStateError: the path is no cgroup v2 mount; the message holds the kernel's words.
        """
        found = self._json(agent, "bpftool", "-j", "cgroup", "show", cgroup)
        return frozenset(program["name"] for program in found or [])


def parse_policies(answer: dict[str, Any]) -> AgentPolicies:
    """``cilium-dbg policy get -o json``: a revision, and the rules as a JSON text of their own."""
    rules = json.loads(answer["policy"])
    held: dict[str, list[Any]] = {}
    for rule in rules:
        for label in rule.get("labels") or []:
            if label.get("key") == _UID_LABEL:
                held.setdefault(label["value"], []).append(rule)
    texts = {uid: json.dumps(mine, sort_keys=True) for uid, mine in held.items()}
    return AgentPolicies(int(answer["revision"]), frozenset(texts), texts)


def parse_endpoint(entry: dict[str, Any], *, node: str) -> Endpoint:
    """One entry of ``cilium-dbg endpoint list -o json``."""
    status = entry["status"]
    external = status.get("external-identifiers") or {}
    identity = status.get("identity") or {}
    addresses = (status.get("networking") or {}).get("addressing") or []
    realized = (status.get("policy") or {}).get("realized") or {}
    return Endpoint(
        id=entry["id"],
        namespace=external.get("k8s-namespace", ""),
        pod=external.get("k8s-pod-name", ""),
        node=node,
        ips=tuple(a[family] for family in ("ipv4", "ipv6") for a in addresses if a.get(family)),
        identity=Identity(identity.get("id", 0), tuple(sorted(identity.get("labels") or ()))),
        named_ports={
            port["name"]: (port["port"], port["protocol"])
            for port in status.get("named-ports") or []
            if port.get("name")
        },
        state=status.get("state", ""),
        policy_revision=realized.get("policy-revision", 0),
        policies=frozenset(_rule_uids(realized.get("l4") or {})),
        other_labels=tuple(sorted((status.get("labels") or {}).get("derived") or ())),
    )


def _rule_uids(l4: dict[str, Any]) -> set[str]:
    """UIDs of the policies that a realized L4 policy derives from, both directions."""
    prefix = f"k8s:{_UID_LABEL}="
    return {
        label.removeprefix(prefix)
        for direction in ("ingress", "egress")
        for rule in l4.get(direction) or []
        for labels in rule.get("derived-from-rules") or []
        for label in labels
        if label.startswith(prefix)
    }
