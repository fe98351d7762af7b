"""The plain way to a verdict, as reference: every rule, selector and requirement anew for every flow.

It shares the normal form of rules and the identities with the oracle, but neither index, nor caches, nor
bits: tests hold the two against each other, and the benchmark measures what the difference buys.
"""

from __future__ import annotations

from cilium_e2e.model import Decision, Direction
from cilium_e2e.policy.engine import Block, EngineRule
from cilium_e2e.policy.labels import ANY, FQDN, LabelSet
from cilium_e2e.policy.options import Enforcement
from cilium_e2e.policy.oracle import Oracle, Participant
from cilium_e2e.policy.portnames import PROTOCOLS
from cilium_e2e.policy.selectors import Requirement
from cilium_e2e.policy.subject import applies


def _peer_matches(block: Block, requirements: tuple[Requirement, ...], remote: LabelSet) -> bool:
    selectors = block.peers(requirements)
    if selectors is None:
        return False
    if not selectors:
        return block.ports is not None
    if any(selector.matches(remote) for selector in selectors):
        return True
    return any(
        remote.find(FQDN, name.match_name or name.match_pattern or "") is not None for name in block.fqdns
    )


def _named(oracle: Oracle, subject: Participant, direction: Direction, name: str, protocol: int) -> int:
    pods = [subject] if direction is Direction.INGRESS else oracle.participants.values()
    found = {number for pod in pods for place, number in pod.ports if place == (name, protocol)}
    return found.pop() if len(found) == 1 else 0


def _ports_match(
    oracle: Oracle, block: Block, subject: Participant, direction: Direction, protocol: int, port: int
) -> bool:
    if block.ports is None:
        return True
    for match in block.ports:
        ports = match
        if match.name:
            number = _named(oracle, subject, direction, match.name, match.protocol)
            if not number:
                continue
            ports = match.resolved(number)
        if ports.covers(protocol, port):
            return True
    return False


def _isolates(rule: EngineRule, direction: Direction) -> bool:
    return rule.default_deny_ingress if direction is Direction.INGRESS else rule.default_deny_egress


def naive_side(
    oracle: Oracle, direction: Direction, subject: Participant, remote: Participant, protocol: int, port: int
) -> Decision:
    """One side's decision, as :meth:`Oracle.side` has it."""
    options = oracle.options
    if not subject.enforced:
        return Decision.NONE
    labels = oracle.labels_of(subject.local_identity)
    other = oracle.labels_of(oracle.seen_identity(remote, subject))
    is_host = labels.reserved("host")
    if options.enforcement is Enforcement.NEVER:
        return Decision.ALLOWED
    if labels.find(ANY, "host") is not None and not options.host_firewall:
        return Decision.ALLOWED
    rules = [rule for rule in oracle.rules if applies(rule, labels, is_host=is_host)]
    always = options.enforcement is Enforcement.ALWAYS or labels.find(ANY, "init") is not None
    ingress = direction is Direction.INGRESS
    speaking = [rule for rule in rules if (rule.has_ingress if ingress else rule.has_egress)]
    if not (always or speaking):
        return Decision.ALLOWED
    blocks = [block for rule in rules for block in rule.blocks(direction)]
    matched = {
        block.deny
        for block in blocks
        if _ports_match(oracle, block, subject, direction, protocol, port)
        and _peer_matches(block, tuple(r for b in blocks if b.deny == block.deny for r in b.requires), other)
    }
    if True in matched:
        return Decision.DENIED
    open_by_default = not always and not any(_isolates(rule, direction) for rule in speaking)
    localhost = ingress and options.localhost_allowed and not is_host and other.reserved("host")
    return Decision.ALLOWED if matched or open_by_default or localhost else Decision.DENIED


def naive_verdict(
    oracle: Oracle, source: str, target: str, protocol: str, port: int
) -> tuple[Decision, Decision]:
    """Egress and ingress of one flow."""
    sender, receiver = oracle.participant(source), oracle.participant(target)
    number = PROTOCOLS[protocol.upper()]
    return (
        naive_side(oracle, Direction.EGRESS, sender, receiver, number, port),
        naive_side(oracle, Direction.INGRESS, receiver, sender, number, port),
    )
