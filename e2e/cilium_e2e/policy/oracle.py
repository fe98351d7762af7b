"""The oracle: a world and its policies, asked flow by flow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from cilium_e2e.model import Decision, Direction, DropReason, InputError, RuleRef, Verdict
from cilium_e2e.policy.acceptance import Refusal, accept
from cilium_e2e.policy.engine import EngineRule
from cilium_e2e.policy.identities import AddressFacts, peer_identity, pod_identity
from cilium_e2e.policy.index import IdentityIndex, numbers
from cilium_e2e.policy.labels import K8S_NAMESPACE_KEY, LabelSet
from cilium_e2e.policy.objects import PolicyObject
from cilium_e2e.policy.portnames import PROTOCOLS
from cilium_e2e.policy.subject import UNENFORCED, DirectionPolicy, Entry, direction_policy, resolve_names
from cilium_e2e.policy.world import Peer, Pod, World


@dataclass(frozen=True, slots=True)
class Participant:
    """A pod or peer with what policy knows of it.

    Attributes:
        key: by which it is asked about.
        identity: the identity seen from elsewhere.
        local_identity: the identity seen from its own node; the same for all but nodes.
        node: the node it is or runs on, empty where that does not matter.
        enforced: whether policy is enforced at it.
        ports: its named ports: (name, protocol number) to number.
    """

    key: str
    identity: int
    local_identity: int
    node: str
    enforced: bool
    ports: tuple[tuple[tuple[str, int], int], ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One side's decision on a flow.

    Attributes:
        direction: which side.
        decision: what it says.
        deciding: the entries that decide; none where nothing matches or nothing is enforced.
        policy: what holds for the subject there.
    """

    direction: Direction
    decision: Decision
    deciding: tuple[Entry, ...]
    policy: DirectionPolicy

    @property
    def drop_reason(self) -> DropReason | None:
        """What Hubble shows for the drop; None where it does not drop."""
        if self.decision is not Decision.DENIED:
            return None
        return DropReason.POLICY_DENY if self.deciding else DropReason.POLICY_DENIED

    @property
    def rules(self) -> tuple[RuleRef, ...]:
        """The rules that decide, each once."""
        return tuple(dict.fromkeys(entry.ref for entry in self.deciding if entry.ref is not None))

    @property
    def redirects(self) -> tuple[Entry, ...]:
        """The deciding entries that hand the flow to the proxy."""
        return tuple(
            entry
            for entry in self.deciding
            if entry.ports.l7 is not None and self.decision is Decision.ALLOWED
        )


def _named_ports(pod: Pod) -> tuple[tuple[tuple[str, int], int], ...]:
    return tuple(
        ((name.lower(), PROTOCOLS.get(protocol.upper(), 0)), number)
        for name, (number, protocol) in sorted(pod.named_ports.items())
    )


class Oracle:
    """Answers who may talk to whom in one world under one set of policies.

    Policies the agent refuses have no effect; they stand in :attr:`refused`.
    """

    def __init__(self, world: World, policies: Iterable[PolicyObject] = ()) -> None:
        self.world = world
        self.options = world.options
        rules: list[EngineRule] = []
        refused: list[Refusal] = []
        for policy in policies:
            answer = accept(policy, world.options, world.services)
            if isinstance(answer, Refusal):
                refused.append(answer)
            else:
                rules.extend(answer)
        self.rules: tuple[EngineRule, ...] = tuple(rules)
        self.refused: tuple[Refusal, ...] = tuple(refused)
        self._label_sets: list[LabelSet] = []
        self._numbers: dict[LabelSet, int] = {}
        self.participants: Mapping[str, Participant] = self._participants()
        self.index = IdentityIndex(self._label_sets)
        self._policies: dict[tuple[int, Direction], DirectionPolicy] = {}
        self._resolved: dict[tuple[int, Direction, object], DirectionPolicy] = {}

    def _number(self, labels: LabelSet) -> int:
        number = self._numbers.get(labels)
        if number is None:
            number = self._numbers[labels] = len(self._label_sets)
            self._label_sets.append(labels)
        return number

    def _participants(self) -> dict[str, Participant]:
        prefixes = frozenset(prefix for rule in self.rules for prefix in rule.prefixes)
        names = [name for rule in self.rules for block in rule.egress for name in block.fqdns]
        facts = AddressFacts.of(prefixes, self.world.cidr_groups, names)
        found: dict[str, Participant] = {}
        for pod in self.world.pods:
            number = self._number(pod_identity(pod, self.world))
            found[pod.key] = Participant(
                pod.key, number, number, pod.node, not pod.cluster, _named_ports(pod)
            )
        for peer in self.world.peers:
            found[peer.key] = self._peer(peer, facts)
        if len(found) != len(self.world.pods) + len(self.world.peers):
            raise InputError("expected every pod and peer to have a name of its own", place="world")
        return found

    def _peer(self, peer: Peer, facts: AddressFacts) -> Participant:
        far = self._number(peer_identity(peer, self.world, facts, local=False if peer.node else None))
        near = self._number(peer_identity(peer, self.world, facts, local=True)) if peer.node else far
        return Participant(peer.key, far, near, peer.node, peer.enforced, ())

    @cached_property
    def host_bits(self) -> int:
        """The identities that are the local host, as bits."""
        return sum(1 << number for number, labels in enumerate(self._label_sets) if labels.reserved("host"))

    @cached_property
    def _rules_by_identity(self) -> tuple[tuple[EngineRule, ...], ...]:
        """The rules that apply to each identity; :func:`~cilium_e2e.policy.subject.applies` in bulk."""
        found: list[list[EngineRule]] = [[] for _ in self._label_sets]
        for rule in self.rules:
            kind = self.host_bits if rule.host else ~self.host_bits
            subject = (
                rule.subject.with_label(K8S_NAMESPACE_KEY, rule.namespace) if rule.namespace else rule.subject
            )
            for number in numbers(self.index.select(subject) & kind):
                found[number].append(rule)
        return tuple(tuple(rules) for rules in found)

    @cached_property
    def _cluster_ports(self) -> dict[tuple[str, int], int]:
        """Named ports over all pods; a name that stands for several numbers of a protocol is left out."""
        found: dict[tuple[str, int], set[int]] = {}
        for participant in self.participants.values():
            for place, number in participant.ports:
                found.setdefault(place, set()).add(number)
        return {place: numbers.pop() for place, numbers in found.items() if len(numbers) == 1}

    def participant(self, key: str) -> Participant:
        """A pod (``namespace/name``) or peer.

        Raises:
            InputError: the world has none of that name.
        """
        try:
            return self.participants[key]
        except KeyError:
            raise InputError(
                f"expected a pod (namespace/name) or peer of the world, got {key!r}", place="flow"
            ) from None

    def labels_of(self, number: int) -> LabelSet:
        """The labels of an identity."""
        return self._label_sets[number]

    def identity_policy(self, number: int, direction: Direction) -> DirectionPolicy:
        """The policy of an identity in one direction, port names unresolved."""
        place = (number, direction)
        found = self._policies.get(place)
        if found is None:
            found = direction_policy(
                self._rules_by_identity[number],
                self._label_sets[number],
                direction=direction,
                index=self.index,
                options=self.options,
                is_host=bool(self.host_bits >> number & 1),
                host_bits=self.host_bits,
            )
            self._policies[place] = found
        return found

    def policy(self, subject: Participant, direction: Direction) -> DirectionPolicy:
        """The policy of one participant in one direction, with port names resolved.

        At ingress a name means the subject's own port, at egress the one port all pods with that name
        agree on.
        """
        if not subject.enforced:
            return UNENFORCED
        number = subject.local_identity
        ports = subject.ports if direction is Direction.INGRESS else None
        place = (number, direction, ports)
        found = self._resolved.get(place)
        if found is None:
            known = dict(subject.ports) if direction is Direction.INGRESS else self._cluster_ports
            policy = self.identity_policy(number, direction)
            entries = resolve_names(policy.entries, lambda name, protocol: known.get((name, protocol), 0))
            found = replace(policy, entries=entries)
            self._resolved[place] = found
        return found

    def seen_identity(self, remote: Participant, subject: Participant) -> int:
        """The identity a remote has for a subject: nodes are the host to their own pods."""
        local = remote.node and remote.node == subject.node
        return remote.local_identity if local else remote.identity

    def side(
        self, direction: Direction, subject: Participant, remote: Participant, protocol: int, port: int
    ) -> Side:
        """One side's decision.

        Args:
            direction: which side; the subject is the source at egress, the destination at ingress.
            subject: where policy is enforced.
            remote: the other end.
            protocol: the IP protocol's number.
            port: the destination port, for ICMP the message type.
        """
        policy = self.policy(subject, direction)
        if not subject.enforced:
            return Side(direction, Decision.NONE, (), policy)
        if not policy.enforced:
            return Side(direction, Decision.ALLOWED, (), policy)
        bit = self.seen_identity(remote, subject)
        matching = [e for e in policy.entries if e.peers >> bit & 1 and e.ports.covers(protocol, port)]
        denying = tuple(entry for entry in matching if entry.deny)
        if denying:
            return Side(direction, Decision.DENIED, denying, policy)
        return Side(direction, Decision.ALLOWED if matching else Decision.DENIED, tuple(matching), policy)

    def sides(self, source: str, target: str, protocol: str, port: int) -> tuple[Side, Side]:
        """Egress at the source and ingress at the target.

        Args:
            source: a pod (``namespace/name``) or peer.
            target: likewise.
            protocol: ``TCP``, ``UDP``, ``SCTP``, ``ICMP`` or ``ICMPv6``.
            port: the destination port after service translation, for ICMP the message type.

        Raises:
            InputError: an unknown name or protocol.
        """
        number = PROTOCOLS.get(protocol.upper())
        if number is None:
            raise InputError(f"expected one of {', '.join(PROTOCOLS)}, got {protocol!r}", place="flow")
        sender, receiver = self.participant(source), self.participant(target)
        return (
            self.side(Direction.EGRESS, sender, receiver, number, port),
            self.side(Direction.INGRESS, receiver, sender, number, port),
        )

    def verdict(self, source: str, target: str, protocol: str, port: int) -> Verdict:
        """Both sides' decision on one flow; see :meth:`sides` for arguments and errors."""
        return verdict_of(*self.sides(source, target, protocol, port))


def verdict_of(egress: Side, ingress: Side) -> Verdict:
    """What becomes of a flow, by what both sides decide."""
    denying = next((side for side in (egress, ingress) if side.decision is Decision.DENIED), None)
    decided = (egress, ingress) if denying is None else (denying,)
    deciding = [entry for side in decided for entry in side.deciding]
    return Verdict(
        egress=egress.decision,
        ingress=ingress.decision,
        rules=tuple(dict.fromkeys(rule for side in decided for rule in side.rules)),
        l7=denying is None and any(side.redirects for side in decided),
        drop_reason=None if denying is None else denying.drop_reason,
        unverified=any(entry.authentication not in ("", "disabled") for entry in deciding)
        or any(side.policy.conflict for side in (egress, ingress)),
    )
