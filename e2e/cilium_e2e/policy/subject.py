"""The policy of one subject: which rules apply to it, and what they come down to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from cilium_e2e.model import Direction, PolicyRef, RuleRef
from cilium_e2e.policy.conflicts import parser_conflict
from cilium_e2e.policy.engine import Block, EngineRule, PortMatch
from cilium_e2e.policy.index import IdentityIndex
from cilium_e2e.policy.labels import ANY, K8S, POD_NAMESPACE, LabelSet
from cilium_e2e.policy.options import Enforcement, Options
from cilium_e2e.policy.selectors import Requirement

_ALL_PORTS = PortMatch()


@dataclass(frozen=True, slots=True)
class Entry:
    """A peer set and a port range that are allowed or denied.

    Attributes:
        peers: the identities, as bits.
        ports: the ports; names are still unresolved here.
        deny: whether it denies.
        ref: the rule it comes from; None for what the agent adds by itself.
        origin: why the agent added it; empty where a rule did.
        authentication: the mode asked for, empty for none.
    """

    peers: int
    ports: PortMatch
    deny: bool
    ref: RuleRef | None
    origin: str = ""
    authentication: str = ""


@dataclass(frozen=True, slots=True)
class DirectionPolicy:
    """What holds for one direction of one subject.

    Attributes:
        enforced: whether any policy is; without it everything passes.
        default_deny: whether what no entry allows is denied by isolation that a rule asked for.
        entries: in the order of the rules.
        isolating: the policies that isolate the subject; none where the mode or the identity does.
        conflict: why the engine cannot compute this policy; empty where it can.
    """

    enforced: bool
    default_deny: bool
    entries: tuple[Entry, ...]
    isolating: tuple[PolicyRef, ...] = ()
    conflict: str = ""


UNENFORCED = DirectionPolicy(enforced=False, default_deny=False, entries=())


def applies(rule: EngineRule, labels: LabelSet, *, is_host: bool) -> bool:
    """Whether a rule has a subject: its namespace, its kind of subject and its selector must fit."""
    if rule.host != is_host:
        return False
    namespace = labels.find(K8S, POD_NAMESPACE) or ""
    return rule.namespace in ("", namespace) and rule.subject.matches(labels)


def _isolates(rule: EngineRule, direction: Direction) -> bool:
    if direction is Direction.INGRESS:
        return rule.has_ingress and rule.default_deny_ingress
    return rule.has_egress and rule.default_deny_egress


def _always_isolated(labels: LabelSet, options: Options) -> bool:
    """Whether a subject is isolated without any rule: by the mode, or because it is the init identity."""
    return options.enforcement is Enforcement.ALWAYS or labels.find(ANY, "init") is not None


def _entries(block: Block, index: IdentityIndex, requirements: tuple[Requirement, ...]) -> list[Entry]:
    selectors = block.peers(requirements)
    if selectors is None or (block.ports is None and not selectors):
        return []
    # Ports without any peer mean every peer.
    peers = 0 if selectors else index.everyone
    for selector in selectors:
        peers |= index.select(selector)
    for name in block.fqdns:
        peers |= index.named(name)
    ports = (_ALL_PORTS,) if block.ports is None else block.ports
    return [Entry(peers, match, block.deny, block.ref, "", block.authentication) for match in ports]


def _share_slots(entries: Iterable[Entry]) -> list[Entry]:
    """Entries with the ports that hold in their slots.

    The engine files ports by name, or by their number read as decimal, and keeps the first filter it meets
    there; whatever else comes to that slot gets that filter's ports. This shows only with a named port given
    an end in one rule and not in another, and with numbers written with a leading zero.
    """
    first: dict[tuple[int | str, int, int], PortMatch] = {}
    found = []
    for entry in entries:
        ports = entry.ports
        kept = first.setdefault(ports.slot, ports)
        if (kept.low, kept.high) != (ports.low, ports.high):
            entry = replace(entry, ports=replace(ports, low=kept.low, high=kept.high))  # noqa: PLW2901
        found.append(entry)
    return found


def direction_policy(
    rules: Sequence[EngineRule],
    labels: LabelSet,
    *,
    direction: Direction,
    index: IdentityIndex,
    options: Options,
    is_host: bool,
    host_bits: int,
) -> DirectionPolicy:
    """The policy of a subject in one direction.

    Args:
        rules: those that apply to the subject.
        labels: its identity.
        direction: which side.
        index: all identities.
        options: the release's.
        is_host: whether the subject is the host itself.
        host_bits: the identities that are the host, as bits.
    """
    # The engine asks for the key alone, so a pod labelled "host" counts as the host here.
    exempt = labels.find(ANY, "host") is not None and not options.host_firewall
    if options.enforcement is Enforcement.NEVER or exempt:
        return UNENFORCED
    ingress = direction is Direction.INGRESS
    always = _always_isolated(labels, options)
    if not always and not any(rule.has_ingress if ingress else rule.has_egress for rule in rules):
        return UNENFORCED
    isolating = tuple(dict.fromkeys(rule.policy for rule in rules if _isolates(rule, direction)))
    default_deny = always or bool(isolating)
    blocks = [block for rule in rules for block in rule.blocks(direction)]
    narrowing = blocks if options.semantics.requires else []
    allow = tuple(requirement for block in narrowing if not block.deny for requirement in block.requires)
    deny = tuple(requirement for block in narrowing if block.deny for requirement in block.requires)
    entries: list[Entry] = []
    for block in blocks:
        entries.extend(_entries(block, index, deny if block.deny else allow))
    entries = _share_slots(entries)
    if not default_deny:
        entries.append(Entry(index.everyone, _ALL_PORTS, deny=False, ref=None, origin="default-allow"))
    if ingress and options.localhost_allowed and not is_host and host_bits:
        entries.append(Entry(host_bits, _ALL_PORTS, deny=False, ref=None, origin="localhost"))
    return DirectionPolicy(
        enforced=True,
        default_deny=default_deny,
        entries=tuple(entries),
        isolating=isolating,
        conflict=parser_conflict(blocks, allow),
    )


def resolve_names(entries: Iterable[Entry], number_of: Callable[[str, int], int]) -> tuple[Entry, ...]:
    """Entries with port names replaced by numbers; entries whose name stands for none drop out.

    Args:
        entries: those of one direction.
        number_of: name and protocol to the port's number, 0 for none.
    """
    found = []
    for entry in entries:
        name = entry.ports.name
        if not name:
            found.append(entry)
        elif number := number_of(name, entry.ports.protocol):
            found.append(replace(entry, ports=entry.ports.resolved(number)))
    return tuple(found)
