"""Proof that a policy is enforced where it must be, before any packet is judged by it.

An agent's policy repository has a revision. Once it holds a policy at revision N, every endpoint whose
datapath has realized N or later enforces it, also endpoints that only lose traffic by it (default deny)
and so list no rule of it. Deletion is proven the same way, by the policy's absence.

Neither an object's generation nor its resourceVersion reaches an agent's repository: it keeps the rules, the
object's UID, and a revision that everybody's policies move. So a change of a policy that keeps its UID is
seen by its rules: those held for the new generation must be others than those held on the same node for the
generation proven before. Whoever changes a policy has its old generation proven first, at no endpoint.

A policy speaks of identities, and packets carry addresses. So a proof also waits until each endpoint's
identity is that of its pod's labels of now, until every node's ipcache has the identities of all settled pods
in the namespaces concerned, and until every node sends for the Services there to the backends they have.
These are looked at once the policies are as wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cilium_e2e.cluster.agents import AgentPod, AgentState, CiliumAgents
from cilium_e2e.cluster.bounded import started
from cilium_e2e.cluster.surroundings import Surroundings, read, wrong_backends, wrong_identities
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    Endpoint,
    EndpointProof,
    EnforcementNotProven,
    KubeError,
    PolicyRef,
    Proof,
)

# Realization takes about 0.25 s; asking more often than this only loads the agents.
_POLL_S = 0.05
# An agent that hangs is asked anew after this; its own time limit counts from when its exec has been opened.
_ANSWER_S = 12.0
_MOST_LINES = 12
_Held = dict[str, str]
"""Node name to a policy's rules there."""


class Enforcement:
    """Proofs over one cluster; it remembers the rules it has seen, so that a change shows.

    Args:
        kube: the cluster's API.
        agents: its agents.
    """

    def __init__(self, kube: Kube, agents: CiliumAgents) -> None:
        self._kube = kube
        self._agents = agents
        self.seen: tuple[float, list[Endpoint]] | None = None
        """All endpoints as the last proof saw them, and when its look began, by the clock's ``monotonic``."""
        # By UID: the generation asked for last, the rules seen for it by node, and those it had to replace.
        self._last: dict[str, tuple[int, _Held, _Held]] = {}

    def prove(
        self,
        policies: Sequence[PolicyRef],
        endpoints: Collection[str],
        *,
        gone: bool = False,
        absent: Sequence[PolicyRef] = (),
        timeout_s: float,
    ) -> Proof:
        """See :meth:`cilium_e2e.model.Cluster.prove`."""
        clock = self._kube.clock
        attempt = _Attempt(
            tuple(policies), frozenset(endpoints), gone, self._before(policies), absent=tuple(absent)
        )
        start = clock.monotonic()
        while True:
            looked_s = clock.monotonic()
            missing, proofs = attempt.look(self._kube, self._agents)
            took_s = clock.monotonic() - start
            if not missing or took_s > timeout_s:
                self._remember(attempt)
            if not missing:
                self.seen = looked_s, attempt.endpoints
                return Proof(attempt.policies, gone, tuple(proofs), took_s, attempt.detail(), attempt.absent)
            if took_s > timeout_s:
                raise EnforcementNotProven(
                    f"not {'gone' if gone else 'enforced'} within {timeout_s:g} s: {_lines(missing)}",
                    place=", ".join(map(str, [*policies, *absent])),
                    hint="Look at the agent's log and at `cilium-dbg policy get` on that node.",
                )
            clock.sleep(_POLL_S)

    def _before(self, policies: Sequence[PolicyRef]) -> dict[str, _Held]:
        """By UID, the rules that must not be held any more."""
        found = {}
        for policy in policies:
            generation, held, before = self._last.get(policy.uid, (0, {}, {}))
            if policy.generation:
                found[policy.uid] = held if policy.generation > generation > 0 else before
        return found

    def _remember(self, attempt: _Attempt) -> None:
        """Keep the rules as they are held now, proven or not: a refused change leaves the old ones."""
        for policy in attempt.absent:
            self._last.pop(policy.uid, None)
        for policy in attempt.policies:
            if attempt.gone:
                self._last.pop(policy.uid, None)
            elif policy.generation:
                held = {
                    node: rules[policy.uid] for node, rules in attempt.rules.items() if policy.uid in rules
                }
                self._last[policy.uid] = (policy.generation, held, attempt.before.get(policy.uid, {}))


_Said = TypeVar("_Said")


@dataclass(frozen=True, slots=True)
class _Answer(Generic[_Said]):
    """What one agent said; nothing, for the reason in ``failure``, where ``said`` is None."""

    agent: AgentPod
    said: _Said | None
    failure: str = ""

    @property
    def node(self) -> str:
        return self.agent.node

    def __str__(self) -> str:
        return f"the agent on {self.node} did not answer ({self.failure})"


def _ask(question: Callable[[AgentPod], _Said], agent: AgentPod) -> _Answer[_Said]:
    """One agent's answer.

    Raises:
        KubeError: waiting changes nothing.
    """
    try:
        said = started(lambda: question(agent), agent.node).result(_ANSWER_S)
    except ClusterStateError as error:
        return _Answer(agent, None, _passing(error))
    except TimeoutError:
        return _Answer(agent, None, f"no answer within {_ANSWER_S:g} s")
    return _Answer(agent, said)


@dataclass(slots=True)
class _Attempt:
    """One proof under way.

    Attributes:
        policies, wanted, gone: what is to be proven, at which endpoints.
        before: a changed policy's UID to the rules it had, by node.
        reached: the first revision of each node's repository at which it was as wanted. Later revisions
            belong to other people's policies, and endpoints need not wait for those.
        rules: node to its rules by UID, as of the last look.
        facts: the pods and Services of the last look.
        compared: how many addresses were found in every ipcache at the last look.
        endpoints: all that the agents had at the last look.
    """

    policies: tuple[PolicyRef, ...]
    wanted: frozenset[str]
    gone: bool
    before: Mapping[str, _Held]
    absent: tuple[PolicyRef, ...] = ()
    reached: dict[str, int] = field(default_factory=dict)
    rules: dict[str, Mapping[str, str]] = field(default_factory=dict)
    facts: Surroundings = field(default_factory=lambda: Surroundings({}, ()))
    compared: int = 0
    endpoints: list[Endpoint] = field(default_factory=list)

    def look(self, kube: Kube, agents: CiliumAgents) -> tuple[list[str], list[EndpointProof]]:
        """What is still missing, one line each, and the proofs of the endpoints that are done."""
        try:
            answers = agents.each(lambda agent: _ask(agents.state, agent))
        except ClusterStateError as error:
            return [f"the cluster cannot be asked ({_passing(error)})"], []
        missing = [str(answer) for answer in answers if answer.said is None]
        proofs: list[EndpointProof] = []
        states = [(answer.node, answer.said) for answer in answers if answer.said is not None]
        self.rules.clear()
        for node, state in states:
            lines, done = self._judge(node, state)
            missing += lines
            proofs += done
        self.endpoints = [endpoint for _, state in states for endpoint in state.endpoints]
        if len(states) == len(answers):
            known = {endpoint.name for endpoint in self.endpoints}
            missing += [f"{name} is no endpoint of any agent" for name in sorted(self.wanted - known)]
        if missing:
            return missing, proofs
        return self._around(kube, agents, [answer.agent for answer in answers]), proofs

    def detail(self) -> tuple[str, ...]:
        """The further facts of a proof, one line each."""
        lines = [f"rules: {policy} is held otherwise than before its change" for policy in self._changed()]
        if self.compared:
            nodes = len(self.rules)
            lines.append(f"ipcache: {self.compared} pod addresses have their identities on {nodes} nodes")
        if self.facts.ports:
            lines.append(f"services: {len(self.facts.ports)} ports lead to their backends on every node")
        return tuple(lines)

    def _changed(self) -> list[PolicyRef]:
        return [policy for policy in self.policies if not self.gone and self.before.get(policy.uid)]

    def _namespaces(self) -> set[str]:
        named = {policy.namespace for policy in (*self.policies, *self.absent)}
        return (named | {name.partition("/")[0] for name in self.wanted if "/" in name}) - {""}

    def _judge(self, node: str, state: AgentState) -> tuple[list[str], list[EndpointProof]]:
        """One agent's part of :meth:`look`: repository and endpoints."""
        revision = state.policies.revision
        self.rules[node] = state.policies.rules
        if wrong := self._unlike(node, state):
            self.reached.pop(node, None)
            return [f"the agent on {node} {line} at revision {revision}" for line in wrong], []
        # An agent that was restarted counts from the start.
        needed = self.reached[node] = min(revision, self.reached.get(node, revision))
        uids = frozenset(policy.uid for policy in self.policies)
        missing: list[str] = []
        proofs: list[EndpointProof] = []
        for endpoint in state.endpoints:
            if endpoint.name not in self.wanted:
                continue
            if endpoint.policy_revision < needed or endpoint.state != "ready":
                missing.append(
                    f"{endpoint.name} on {endpoint.node} is {endpoint.state} at revision "
                    f"{endpoint.policy_revision}, expected ready at {needed}"
                )
            else:
                proofs.append(
                    EndpointProof(
                        endpoint.name, endpoint.node, endpoint.policy_revision, endpoint.policies & uids
                    )
                )
        return missing, proofs

    def _unlike(self, node: str, state: AgentState) -> list[str]:
        """How a repository is other than wanted, one phrase each."""
        held = state.policies.uids
        unwanted = (*self.policies, *self.absent) if self.gone else self.absent
        still = [str(policy) for policy in unwanted if policy.uid in held]
        lines = [f"still holds {', '.join(still)}"] if still else []
        if self.gone:
            return lines
        if absent := [str(policy) for policy in self.policies if policy.uid not in held]:
            lines.append(f"does not hold {', '.join(absent)}")
        for policy in self.policies:
            old = self.before.get(policy.uid, {}).get(node)
            if old is not None and old == state.policies.rules.get(policy.uid):
                lines.append(f"holds {policy} with the rules from before its change")
        return lines

    def _around(self, kube: Kube, agents: CiliumAgents, asked: Sequence[AgentPod]) -> list[str]:
        """What is wrong with identities, and what the datapaths know wrongly of peers and Services."""
        try:
            self.facts = read(kube, self._namespaces())
            wrong = [
                f"the identity of {endpoint.name} on {endpoint.node} {lack}"
                for endpoint in self.endpoints
                if endpoint.name in self.wanted and (lack := self.facts.lacks(endpoint))
            ]
            if wrong:
                return wrong
            peers = [endpoint for endpoint in self.endpoints if self._concerned(endpoint)]
            self.compared = sum(len(peer.ips) for peer in peers)
            found = agents.each(lambda agent: self._wrong(agents, agent, peers), asked)
        except ClusterStateError as error:
            return [f"the cluster cannot be asked ({_passing(error)})"]
        return [line for lines in found for line in lines]

    def _wrong(self, agents: CiliumAgents, agent: AgentPod, peers: Sequence[Endpoint]) -> list[str]:
        """The part of :meth:`_around` that is about one node."""
        ipcache = _ask(agents.ipcache, agent)
        if ipcache.said is None:
            return [str(ipcache)]
        wrong = list(wrong_identities(ipcache.said, peers, agent.node))
        if self.facts.ports:
            frontends = _ask(agents.frontends, agent)
            if frontends.said is None:
                return [*wrong, str(frontends)]
            wrong += wrong_backends(frontends.said, self.facts.ports, agent.node)
        return wrong

    def _concerned(self, endpoint: Endpoint) -> bool:
        facts = self.facts.pods.get(endpoint.name)
        return endpoint.name in self.wanted or (
            facts is not None and facts.settled and endpoint.state == "ready"
        )


def _lines(missing: Sequence[str]) -> str:
    """All of a few lines; of many the first, and how many more there are."""
    shown = "; ".join(missing[:_MOST_LINES])
    return shown if len(missing) <= _MOST_LINES else f"{shown}; and {len(missing) - _MOST_LINES} more"


def _passing(error: ClusterStateError) -> str:
    """The words of an error that may pass, as those of an agent that is being restarted do.

    Raises:
        KubeError: one that no waiting will change, such as 403.
    """
    if isinstance(error, KubeError) and not (error.retryable or error.not_found):
        raise error
    return str(error)
