"""What the agent refuses in a rule, beyond and apart from the schema, in its own words.

The checks come in the agent's order, because it reports the first fault it meets.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cilium_e2e.model import Direction
from cilium_e2e.policy import fqdn
from cilium_e2e.policy.addresses import AddressError, parse_address, parse_prefix
from cilium_e2e.policy.apirule import ApiRule, Item, plain_selector
from cilium_e2e.policy.entities import ENTITIES
from cilium_e2e.policy.gotext import quote
from cilium_e2e.policy.labels import CIDR_GROUP
from cilium_e2e.policy.objects import CIDRRule
from cilium_e2e.policy.objects_common import LabelSelector
from cilium_e2e.policy.objects_ports import PortRule
from cilium_e2e.policy.options import Options
from cilium_e2e.policy.sanitize_ports import allow_ports_fault, deny_ports_fault, icmp_rule_fault
from cilium_e2e.policy.selectors import Selector

_NODES_FLAG = 'FromNodes/ToNodes rules can only be applied when the "enable-node-selector-labels" flag is set'


def _first(faults: Iterable[str]) -> str:
    return next((fault for fault in faults if fault), "")


def cidr_fault(text: str) -> str:
    """Why an entry of ``fromCIDR`` or ``toCIDR`` is refused; plain addresses are taken, too."""
    if not text:
        return "IP must be specified"
    try:
        parse_prefix(text)
    except AddressError:
        try:
            parse_address(text)
        except AddressError as error:
            return f"unable to parse CIDR: {error}"
    return ""


def cidr_rule_fault(rule: CIDRRule) -> str:
    """Why an entry of ``fromCIDRSet`` or ``toCIDRSet`` is refused."""
    if rule.group_selector is not None:
        fault = plain_selector(rule.group_selector, f"{CIDR_GROUP}.").fault()
        if fault:
            return f"failed to parse cidrGroupSelector {_selector_text(rule.group_selector)}: {fault}"
    chosen = bool(rule.group_ref) + bool(rule.cidr) + (rule.group_selector is not None)
    if chosen != 1:
        count = "more than one of" if chosen else "one of"
        verb = "may not be set" if chosen else "is required"
        return f"{count} cidr, cidrGroupRef, or cidrGroupSelector {verb}"
    if not rule.cidr:
        return ""
    try:
        prefix = parse_prefix(rule.cidr)
    except AddressError as error:
        return f"unable to parse CIDRRule {quote(rule.cidr)}: {error}"
    for text in rule.except_ or ():
        try:
            parse_prefix(text)
        except AddressError as error:
            return str(error)
        # Only the address of the hole must lie inside, so a hole wider than the prefix is taken.
        if parse_address(text.rpartition("/")[0]) not in prefix:
            return f"allow CIDR prefix {rule.cidr} does not contain exclude CIDR prefix {text}"
    return ""


def _selector_text(selector: LabelSelector) -> str:
    """A label selector as the agent prints it."""
    labels = "".join(f"{key}: {value}," for key, value in sorted(selector.match_labels or ()))
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{item.key or ''},Operator:{item.operator or ''},"
        f"Values:[{' '.join(item.values or ())}],}},"
        for item in selector.match_expressions or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{labels}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def _peer_counts(item: Item) -> Sequence[tuple[str, int]]:
    """How many peers of each kind the user wrote; at most one kind may have any."""
    endpoints, cidr, cidr_set = len(item.endpoints or ()), len(item.cidr or ()), len(item.cidr_set or ())
    entities, nodes = len(item.entities or ()), len(item.nodes or ())
    if item.direction is Direction.INGRESS:
        return (
            ("FromEndpoints", endpoints),
            ("FromCIDR", cidr),
            ("FromCIDRSet", cidr_set),
            ("FromEntities", entities),
            ("FromNodes", nodes),
            ("FromGroups", item.groups),
        )
    return (
        ("ToCIDR", cidr),
        ("ToCIDRSet", cidr_set),
        ("ToEndpoints", endpoints),
        ("ToEntities", entities),
        ("ToServices", len(item.services or ())),
        ("ToGroups", item.groups),
        ("ToNodes", nodes),
        ("ToFQDNs", len(item.fqdns or ())),
    )


def _selector_faults(selectors: Iterable[Selector] | None) -> Iterable[str]:
    return (selector.fault() for selector in selectors or ())


def _entity_fault(entity: str) -> str:
    return "" if entity in ENTITIES else f"unsupported entity: {entity}"


def _peers_fault(item: Item, options: Options) -> str:
    used = [name for name, count in _peer_counts(item) if count]
    if len(used) > 1:
        return f"combining {used[0]} and {used[1]} is not supported yet"
    nodes_fault = _NODES_FLAG if item.nodes and not options.node_selector_labels else ""
    fault = (
        _first(_selector_faults(item.all_endpoints))
        or _first(_selector_faults(item.requires))
        or _first(_selector_faults(item.nodes))
        or _first(cidr_fault(text) for text in item.cidr or ())
        or _first(cidr_rule_fault(rule) for rule in item.all_cidr_rules or ())
        or _first(_entity_fault(entity) for entity in item.entities or ())
    )
    return f"{fault}\n{nodes_fault}" if fault and nodes_fault else fault or nodes_fault


def _l7_counts(item: Item) -> dict[str, int] | None:
    """Rules for the proxy by protocol; None where no port has any."""
    rules = [
        rule.rules
        for rule in item.ports or ()
        if isinstance(rule, PortRule) and rule.rules is not None and not rule.rules.empty
    ]
    if not rules:
        return None
    return {
        "DNS": sum(len(rule.dns or ()) for rule in rules),
        "HTTP": sum(len(rule.http or ()) for rule in rules),
        "Kafka": sum(len(rule.kafka or ()) for rule in rules),
    }


def _l7_fault(item: Item, options: Options, *, host: bool) -> str:
    counts = _l7_counts(item)
    if counts is None:
        return ""
    ingress = item.direction is Direction.INGRESS
    if host and ingress:
        return "L7 policy is not supported on host ingress yet"
    if not options.l7_proxy:
        return "L7 policy is not supported since L7 proxy is not enabled"
    if ingress and counts["DNS"]:
        return "L7 protocol DNS is not supported on ingress yet"
    refused = [name for name in ("HTTP", "Kafka") if counts[name]] if host and not ingress else []
    return f"L7 protocol {refused[0]} is not supported on host egress yet" if refused else ""


def _item_fault(item: Item, options: Options, *, host: bool) -> str:
    if fault := _peers_fault(item, options) or _l7_fault(item, options, host=host):
        return fault
    if item.icmps and not options.icmp_rules:
        return 'ICMP rules can only be applied when the "enable-icmp-rules" flag is set'
    if item.icmps and item.ports:
        return "the ICMPs block may only be present without ToPorts. Define a separate rule to use ToPorts"
    ingress = item.direction is Direction.INGRESS
    return (
        _first(
            allow_ports_fault(rule, ingress=ingress) if isinstance(rule, PortRule) else deny_ports_fault(rule)
            for rule in item.ports or ()
        )
        or _first(icmp_rule_fault(rule) for rule in item.icmps or ())
        or _first(
            fqdn.fault(name.match_name or "", name.match_pattern or "", exclusive=True)
            for name in item.fqdns or ()
        )
    )


def rule_fault(rule: ApiRule, options: Options) -> tuple[str, str]:
    """Why the agent refuses a rule, and the field path of the part at fault; both empty where it does not."""
    path = rule.path
    if not (rule.has_ingress or rule.has_egress):
        return "rule must have at least one of Ingress, IngressDeny, Egress, EgressDeny", path
    if rule.endpoint_selector is None and rule.node_selector is None:
        return "rule must have one of EndpointSelector or NodeSelector", path
    if rule.endpoint_selector is not None and rule.node_selector is not None:
        return "rule cannot have both EndpointSelector and NodeSelector", path
    for name, selector in (
        ("endpointSelector", rule.endpoint_selector),
        ("nodeSelector", rule.node_selector),
    ):
        if selector is not None and (fault := selector.fault()):
            return fault, f"{path}.{name}"
    host = rule.node_selector is not None
    for item in rule.items():
        if fault := _item_fault(item, options, host=host):
            return fault, item.path
    return "", ""
