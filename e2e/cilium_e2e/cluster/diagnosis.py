"""Why a check may have failed: likely causes outside of the thing under test, looked for and put into words.

Made after a failure, so it is bounded in time and raises nothing: a diagnosis must never hide what it is to
explain. All looks are made at once, each in a thread of its own; what does not answer in time is told, too,
because a node that hangs shows by exactly that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.bounded import at_once
from cilium_e2e.cluster.symptoms import (
    Cause,
    Finding,
    agent_pods,
    agent_views,
    cluster_dns,
    nodes,
    policies,
    relay,
    workload,
)
from cilium_e2e.kube import Kube
from cilium_e2e.model import PolicyRef

BUDGET_S = 5.0
_INNER_S = 0.9
"""How much of the budget a look that asks several agents gives them."""
_MOST_FINDINGS = 8
_BETWEEN = "the network between nodes"


@dataclass(frozen=True, slots=True)
class Suspects:
    """What a failure was about.

    Attributes:
        since_s: epoch seconds; restarts and replacements after this count.
        policies: those believed in force.
        pods: ``namespace/pod`` of those that took part.
        streams: what the probes said that could not be made.
        flows: whether flows could not be had; then relay is the first to be suspected.
        dns: whether names were asked for; then cluster DNS is.
    """

    since_s: float
    policies: tuple[PolicyRef, ...] = ()
    pods: frozenset[str] = frozenset()
    streams: tuple[str, ...] = ()
    flows: bool = False
    dns: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was found, most likely cause first.

    Attributes:
        findings: what is not as it should be.
        looked_at: what was looked at and answered.
        unanswered: what could not be looked at, and why.
    """

    findings: tuple[Finding, ...] = ()
    looked_at: tuple[str, ...] = ()
    unanswered: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """For a message: one line a cause, or what is ruled out where there is none."""
        found = [f"likely cause: {finding}" for finding in self.findings[:_MOST_FINDINGS]]
        if len(self.findings) > _MOST_FINDINGS:
            found.append(f"and {len(self.findings) - _MOST_FINDINGS} findings more")
        if not self.findings and self.looked_at:
            found.append(f"nothing wrong found with {', '.join(self.looked_at)}")
        found += [f"not looked at: {name} ({why})" for name, why in self.unanswered.items()]
        return found


def diagnose(
    kube: Kube, agents: CiliumAgents, suspects: Suspects, *, budget_s: float = BUDGET_S
) -> Diagnosis:
    """Look at everything that is known to make good checks fail.

    Args:
        kube: the cluster's API.
        agents: its agents; relay runs where they do.
        suspects: what the failure was about.
        budget_s: how long all of it may take, in seconds of the machine's own clock.
    """
    api, now_s = kube.transport, kube.clock.time()
    found, unanswered = at_once(
        {
            "policies": lambda: policies(api, suspects.policies),
            "nodes": lambda: nodes(api, now_s),
            "Cilium's agents": lambda: agent_pods(api, agents.namespace, suspects.since_s),
            _BETWEEN: lambda: _between(kube, agents, suspects, budget_s * _INNER_S),
            "the pods that took part": lambda: workload(api, suspects.pods, suspects.since_s),
            "cluster DNS": lambda: cluster_dns(api),
            "relay": lambda: relay(api, agents.namespace),
        },
        budget_s,
    )
    if found.get("policies") and _BETWEEN in found:  # then agents do not hold it, either: no news
        found[_BETWEEN] = [one for one in found[_BETWEEN] if one.cause is not Cause.POLICY]
    findings = [finding for some in found.values() for finding in some]
    findings += [Finding(Cause.STREAM, text) for text in dict.fromkeys(suspects.streams)]
    if not found and unanswered:
        findings.append(Finding(Cause.API, next(iter(unanswered.values()))))
    first = {Cause.RELAY: suspects.flows, Cause.DNS: suspects.dns}
    # A stable sort: a cause that the failure points at, then the more likely ones.
    findings.sort(key=lambda finding: (not first.get(finding.cause, False), finding.cause.rank))
    return Diagnosis(tuple(findings), tuple(found), unanswered)


def _between(kube: Kube, agents: CiliumAgents, suspects: Suspects, budget_s: float) -> list[Finding]:
    """Ask each agent what it holds and whom it reaches; one that says nothing is a finding itself."""
    views = agent_views(kube.transport, agents, suspects.policies)
    answers, silent = at_once(views, budget_s)
    found = [finding for some in answers.values() for finding in some]
    return found + [
        Finding(Cause.AGENT, f"the agent on node {node} does not answer ({why})")
        for node, why in silent.items()
    ]
