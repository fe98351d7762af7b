"""Rules in the engine's normal form: who is subject, which peers, which ports, what then."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from cilium_e2e.model import Direction, PolicyRef, RuleRef
from cilium_e2e.policy.addresses import AddressError, Network, label_key_of, parse_lenient
from cilium_e2e.policy.apirule import ApiRule, Item, plain_selector
from cilium_e2e.policy.entities import entity_selectors
from cilium_e2e.policy.gotext import port_number
from cilium_e2e.policy.labels import CIDR, CIDR_GROUP, CIDR_GROUP_NAME, RESERVED
from cilium_e2e.policy.objects import CIDRRule
from cilium_e2e.policy.objects_ports import FQDN, ICMPField, L7Rules, Port, PortDenyRule, PortRule
from cilium_e2e.policy.options import Options
from cilium_e2e.policy.portnames import ICMP, ICMPV6, PROTOCOLS, SCTP, TCP, UDP, icmp_types, is_service_name
from cilium_e2e.policy.selectors import Operator, Requirement, Selector

MAX_PORT = 0xFFFF


@dataclass(frozen=True, slots=True)
class L7Spec:
    """What an allowing entry asks of the proxy.

    Attributes:
        parser: ``http``, ``kafka``, ``dns``, ``tls``, ``crd`` or a parser's own name.
        rules: the request rules; None where the redirect alone is asked for.
        server_names: SNI values; empty for any.
        intercepted: whether TLS is terminated on the way.
    """

    parser: str
    rules: L7Rules | None = None
    server_names: tuple[str, ...] = ()
    intercepted: bool = False


@dataclass(frozen=True, slots=True)
class PortMatch:
    """Ports of one protocol, both ends included.

    Attributes:
        protocol: the IP protocol's number; 0 for every protocol, ICMP included.
        low, high: the ports, or for ICMP the types.
        name: a port name, to be resolved for each subject; ``low`` and ``high`` then hold only what the
            range's end is, if there is one.
        l7: what the proxy does with it.
        slot: where the engine keeps it; of all matches in one slot the first one's ports hold for all.
    """

    protocol: int = 0
    low: int = 0
    high: int = MAX_PORT
    name: str = ""
    l7: L7Spec | None = None
    slot: tuple[int | str, int, int] = (0, 0, 0)

    def covers(self, protocol: int, port: int) -> bool:
        """Whether a destination port is among them; not for names."""
        return self.protocol in (0, protocol) and self.low <= port <= self.high

    def resolved(self, number: int) -> PortMatch:
        """A named port as the numbers it stands for."""
        return replace(self, low=number, high=max(number, self.high), name="")


@dataclass(frozen=True, slots=True)
class Block:
    """One item of a rule.

    ``endpoints``, ``nodes`` and ``fixed`` (entities and prefixes) are joined with "or"; where one of them
    says that it was written as an empty list, the item selects nobody.

    Attributes:
        ref: where it stands.
        ports: None where only peers are selected.
        authentication: the mode asked for, empty for none.
        void: whether a peer list is present and empty.
    """

    ref: RuleRef
    endpoints: tuple[Selector, ...]
    nodes: tuple[Selector, ...]
    fixed: tuple[Selector, ...]
    fqdns: tuple[FQDN, ...]
    requires: tuple[Requirement, ...]
    ports: tuple[PortMatch, ...] | None
    authentication: str
    void: bool

    @property
    def deny(self) -> bool:
        """Whether it denies."""
        return self.ref.deny

    def peers(self, requirements: tuple[Requirement, ...]) -> tuple[Selector, ...] | None:
        """The peer selectors under the requirements of all rules of the subject; None for nobody."""
        if self.void:
            return None
        if requirements and self.endpoints:
            # Node selectors get lost here, but cannot stand beside endpoint selectors anyway.
            return (
                tuple(selector.with_requirements(*requirements) for selector in self.endpoints) + self.fixed
            )
        return self.endpoints + self.nodes + self.fixed


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRule:
    """One accepted ``spec`` in the engine's repository.

    Attributes:
        policy: the object it comes from.
        subject: who it applies to.
        host: whether it applies to the host instead of endpoints.
        namespace: whose endpoints it may apply to, empty for all.
        ingress, egress: allow items first, then deny items.
        has_ingress, has_egress: whether it speaks of a direction at all.
        default_deny_ingress, default_deny_egress: whether it isolates the subject, if it speaks of it.
        prefixes: every prefix it names, holes included.
    """

    policy: PolicyRef
    subject: Selector
    host: bool
    namespace: str
    ingress: tuple[Block, ...]
    egress: tuple[Block, ...]
    has_ingress: bool
    has_egress: bool
    default_deny_ingress: bool
    default_deny_egress: bool
    prefixes: frozenset[Network]

    def blocks(self, direction: Direction) -> tuple[Block, ...]:
        """The items of one direction."""
        return self.ingress if direction is Direction.INGRESS else self.egress


def _cidr_selectors(cidrs: Iterable[str], options: Options) -> list[Selector]:
    """Selectors of a plain prefix list; the full prefix of a family means the world of that family, too."""
    written = tuple(cidrs)
    found = []
    for text in written:
        try:
            found.append(Selector.of([(f"{CIDR}.{label_key_of(text)}", "")]))
        except AddressError:
            continue
    all4, all6 = "0.0.0.0/0" in written, "::/0" in written
    if options.dual_stack:
        names = [("world", all4 and all6), ("world-ipv4", all4), ("world-ipv6", all6)]
    else:
        names = [("world", (options.ipv4 and all4) or (options.ipv6 and all6))]
    return [*found, *(Selector.reserved(name) for name, meant in names if meant)]


def _world_of(cidr: str, options: Options) -> str:
    return options.world_name(6 if ":" in cidr else 4)


def _cidr_rule_selectors(rule: CIDRRule, options: Options) -> list[Selector]:
    holes = []
    for text in rule.except_ or ():
        try:
            key = label_key_of(text)
        except AddressError:
            key = "."
        holes.append(Requirement(f"{CIDR}.{key}", Operator.DOES_NOT_EXIST))
    if rule.cidr:
        try:
            keys = [f"{CIDR}.{label_key_of(rule.cidr)}"]
        except AddressError:
            return []
        if rule.cidr.endswith("/0"):
            keys.append(f"{RESERVED}.{_world_of(rule.cidr, options)}")
        return [Selector((Requirement(key, Operator.EXISTS), *holes)) for key in keys]
    if rule.group_ref:
        key = f"{CIDR_GROUP}.{CIDR_GROUP_NAME}/{rule.group_ref}"
        return [Selector((Requirement(key, Operator.EXISTS), *holes))]
    if rule.group_selector is not None:
        return [plain_selector(rule.group_selector, f"{CIDR_GROUP}.").with_requirements(*holes)]
    return []


def _prefixes(item: Item) -> set[Network]:
    found = {parse_lenient(text) for text in item.cidr or ()}
    for rule in item.all_cidr_rules or ():
        found.update(
            parse_lenient(text) for text in (rule.cidr, *(rule.except_ or ())) if text and "/" in text
        )
    return {network for network in found if network is not None}


def _l7_spec(rule: PortRule | PortDenyRule, protocol: int) -> L7Spec | None:
    if isinstance(rule, PortDenyRule):
        return None
    rules, names = rule.rules, rule.server_names or ()
    parser = "tls" if rule.terminating_tls or rule.originating_tls or names else ""
    if rules is not None and rules.dns:
        parser = "dns"
    elif rules is not None and protocol == TCP:
        named = (("http", rules.http), ("kafka", rules.kafka), (rules.l7proto or "", rules.l7proto))
        parser = next((name for name, present in named if present), parser)
    if rule.listener is not None:
        parser = "crd"
    return L7Spec(parser, rules, names, rule.terminating_tls is not None) if parser else None


def _port_matches(rule: PortRule | PortDenyRule, port: Port) -> list[PortMatch]:
    protocol = (port.protocol or "ANY").upper()
    protocols = (TCP, UDP, SCTP) if protocol == "ANY" else (PROTOCOLS[protocol],)
    end = (port.end_port or 0) & MAX_PORT
    text = port.port or ""
    if is_service_name(text):
        name = text.lower()
        return [PortMatch(p, 0, end, name, _l7_spec(rule, p), (name, 0, p)) for p in protocols]
    low, high = _range(port_number(text), end)
    return [PortMatch(p, low, high, "", _l7_spec(rule, p), (_slot_number(text), end, p)) for p in protocols]


def _slot_number(text: str) -> int:
    """The number a port is filed under: always read as decimal, unlike the port itself, and 0 if it is none.

    So ``010`` means port 8 but shares the slot of port 10.
    """
    return int(text) if text.isascii() and text.isdigit() and int(text) <= MAX_PORT else 0


def _range(start: int, end: int) -> tuple[int, int]:
    """The ports from ``start`` to ``end``; port 0 alone means every port."""
    if start == 0 and end == 0:
        return 0, MAX_PORT
    return start, max(start, end)


def _icmp_match(field: ICMPField) -> PortMatch:
    """An ICMP type; type 0 alone means every type, as port 0 does."""
    family = field.family or ""
    number = icmp_types(family).get(str(field.type))
    low, high = _range(port_number(str(field.type)) if number is None else number, 0)
    protocol = ICMPV6 if family == "IPv6" else ICMP
    return PortMatch(protocol, low, high, slot=(low if high == low else 0, 0, protocol))


def _ports(item: Item) -> tuple[PortMatch, ...] | None:
    if not item.ports and not item.icmps:
        return None
    found = [
        match for rule in item.ports or () for port in rule.ports or () for match in _port_matches(rule, port)
    ]
    found.extend(_icmp_match(field) for rule in item.icmps or () for field in rule.fields or ())
    return tuple(found)


def _block(item: Item, policy: PolicyRef, options: Options) -> Block:
    fixed = [
        *entity_selectors(item.entities or (), options.cluster_name),
        *_cidr_selectors(item.cidr or (), options),
    ]
    for rule in item.all_cidr_rules or ():
        fixed.extend(_cidr_rule_selectors(rule, options))
    void = () in (item.entities, item.cidr, item.all_cidr_rules)
    if item.fqdns:
        # A rule with names stays alive even where another list is empty; the rest of it is dropped.
        fixed = [*([] if void else fixed), Selector.reserved("none")]
        void = False
    return Block(
        ref=RuleRef(policy, item.direction, item.deny, item.path),
        endpoints=item.all_endpoints or (),
        nodes=item.nodes or (),
        fixed=tuple(fixed),
        fqdns=item.fqdns or (),
        requires=tuple(
            requirement for selector in item.requires or () for requirement in _as_expressions(selector)
        ),
        ports=_ports(item),
        authentication=item.authentication,
        void=void or () in (item.all_endpoints, item.nodes),
    )


def _as_expressions(selector: Selector) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(requirement.key, Operator.IN, requirement.values)
        if requirement.operator == Operator.EQUALS
        else requirement
        for requirement in selector.requirements
    )


def engine_rule(rule: ApiRule, *, policy: PolicyRef, namespace: str, options: Options) -> EngineRule:
    """An accepted rule in normal form."""

    def isolates(*, wish: bool | None, speaks: bool) -> bool:
        if not options.non_default_deny:
            return True
        return speaks if wish is None else wish

    return EngineRule(
        policy=policy,
        subject=rule.node_selector or rule.endpoint_selector or Selector(),
        host=rule.node_selector is not None,
        namespace=namespace,
        ingress=tuple(_block(item, policy, options) for item in (*rule.ingress, *rule.ingress_deny)),
        egress=tuple(_block(item, policy, options) for item in (*rule.egress, *rule.egress_deny)),
        has_ingress=rule.has_ingress,
        has_egress=rule.has_egress,
        default_deny_ingress=isolates(wish=rule.default_deny_ingress, speaks=rule.has_ingress),
        default_deny_egress=isolates(wish=rule.default_deny_egress, speaks=rule.has_egress),
        prefixes=frozenset().union(*(_prefixes(item) for item in rule.items())),
    )
