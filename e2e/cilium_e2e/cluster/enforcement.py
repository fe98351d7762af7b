"""Proof that a policy is enforced where it must be, before any packet is judged by it.

An agent's policy repository has a revision. Once it holds a policy at revision N, every endpoint whose
datapath has realized N or later enforces it, also endpoints that only lose traffic by it (default deny)
and so list no rule of it. Deletion is proven the same way, by the policy's absence.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from cilium_e2e.cluster.agents import AgentPod, AgentPolicies, CiliumAgents
from cilium_e2e.model import (
    Clock,
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


def prove(
    agents: CiliumAgents,
    clock: Clock,
    policies: Sequence[PolicyRef],
    endpoints: Collection[str],
    *,
    gone: bool,
    timeout_s: float,
) -> Proof:
    """See :meth:`cilium_e2e.model.Cluster.prove`."""
    attempt = _Attempt(tuple(policies), frozenset(endpoints), gone)
    start = clock.monotonic()
    while True:
        missing, proofs = attempt.look(agents)
        took_s = clock.monotonic() - start
        if not missing:
            return Proof(attempt.policies, gone, tuple(proofs), took_s)
        if took_s > timeout_s:
            raise EnforcementNotProven(
                f"not {'gone' if gone else 'enforced'} within {timeout_s:g} s: {'; '.join(missing)}",
                place=", ".join(map(str, policies)),
                hint="Look at the agent's log and at `cilium-dbg policy get` on that node.",
            )
        clock.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What one agent said; ``failure`` is set, and the rest empty, where it said nothing."""

    node: str
    policies: AgentPolicies | None
    endpoints: list[Endpoint]
    failure: str = ""


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One proof under way.

    ``reached`` remembers the first revision of each node's repository at which it was as wanted. Later
    revisions belong to other people's policies, and endpoints need not wait for those.
    """

    policies: tuple[PolicyRef, ...]
    wanted: frozenset[str]
    gone: bool
    reached: dict[str, int] = field(default_factory=dict)

    def look(self, agents: CiliumAgents) -> tuple[list[str], list[EndpointProof]]:
        """What is still missing, one line each, and the proofs of the endpoints that are done."""

        def ask(agent: AgentPod) -> _Answer:
            try:
                # The repository first: endpoints read after it may be newer than it, never older.
                return _Answer(agent.node, agents.policies(agent), agents.endpoints(agent))
            except ClusterStateError as error:
                return _Answer(agent.node, None, [], _passing(error))

        try:
            answers = agents.each(ask)
        except ClusterStateError as error:
            return [f"the agents cannot be listed ({_passing(error)})"], []
        missing: list[str] = []
        proofs: list[EndpointProof] = []
        for answer in answers:
            lines, done = self._judge(answer)
            missing += lines
            proofs += done
        if all(answer.policies is not None for answer in answers):
            known = {endpoint.name for answer in answers for endpoint in answer.endpoints}
            missing += [f"{name} is no endpoint of any agent" for name in sorted(self.wanted - known)]
        return missing, proofs

    def _judge(self, answer: _Answer) -> tuple[list[str], list[EndpointProof]]:
        """One agent's part of :meth:`look`."""
        if answer.policies is None:
            return [f"the agent on {answer.node} did not answer ({answer.failure})"], []
        revision = answer.policies.revision
        uids = frozenset(policy.uid for policy in self.policies)
        wrong = uids & answer.policies.uids if self.gone else uids - answer.policies.uids
        if wrong:
            self.reached.pop(answer.node, None)
            verb = "still holds" if self.gone else "does not hold"
            names = ", ".join(str(policy) for policy in self.policies if policy.uid in wrong)
            return [f"the agent on {answer.node} {verb} {names} at revision {revision}"], []
        # An agent that was restarted counts from the start.
        needed = self.reached[answer.node] = min(revision, self.reached.get(answer.node, revision))
        missing: list[str] = []
        proofs: list[EndpointProof] = []
        for endpoint in answer.endpoints:
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


def _passing(error: ClusterStateError) -> str:
    """The words of an error that may pass, as those of an agent that is being restarted do.

    Raises:
        KubeError: one that no waiting will change, such as 403.
    """
    if isinstance(error, KubeError) and not (error.retryable or error.not_found):
        raise error
    return str(error)
