"""One rule in the shape the agent validates: label selectors with engine keys, everything else as written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cilium_e2e.model import Direction
from cilium_e2e.policy.labels import selector_key
from cilium_e2e.policy.objects import (
    CIDRRule,
    EgressDenyRule,
    EgressRule,
    IngressDenyRule,
    IngressRule,
    Rule,
    ServicePeer,
)
from cilium_e2e.policy.objects_common import LabelSelector
from cilium_e2e.policy.objects_ports import FQDN, ICMPRule, PortDenyRule, PortRule
from cilium_e2e.policy.selectors import Requirement, Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One entry of ``ingress``, ``ingressDeny``, ``egress`` or ``egressDeny``.

    Peer lists are None where the field is absent. ``generated_*`` are what ``toServices`` stands for.

    Attributes:
        path: where it stands in the object, for example ``spec.ingress[0]``.
    """

    direction: Direction
    deny: bool
    path: str
    endpoints: tuple[Selector, ...] | None = None
    requires: tuple[Selector, ...] | None = None
    cidr: tuple[str, ...] | None = None
    cidr_set: tuple[CIDRRule, ...] | None = None
    entities: tuple[str, ...] | None = None
    groups: int = 0
    nodes: tuple[Selector, ...] | None = None
    services: tuple[ServicePeer, ...] | None = None
    fqdns: tuple[FQDN, ...] | None = None
    ports: tuple[PortRule | PortDenyRule, ...] | None = None
    icmps: tuple[ICMPRule, ...] | None = None
    authentication: str = ""
    generated_endpoints: tuple[Selector, ...] = ()
    generated_cidrs: tuple[str, ...] = ()

    @property
    def all_endpoints(self) -> tuple[Selector, ...] | None:
        """Endpoint selectors, those of services included."""
        return (
            (self.endpoints or ()) + self.generated_endpoints if self.generated_endpoints else self.endpoints
        )

    @property
    def all_cidr_rules(self) -> tuple[CIDRRule, ...] | None:
        """CIDR rules, those of services included."""
        generated = tuple(CIDRRule(cidr=cidr) for cidr in self.generated_cidrs)
        return (self.cidr_set or ()) + generated if generated else self.cidr_set


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRule:
    """A whole rule: subject, items and default-deny wishes."""

    path: str
    endpoint_selector: Selector | None = None
    node_selector: Selector | None = None
    ingress: tuple[Item, ...] = ()
    ingress_deny: tuple[Item, ...] = ()
    egress: tuple[Item, ...] = ()
    egress_deny: tuple[Item, ...] = ()
    default_deny_ingress: bool | None = None
    default_deny_egress: bool | None = None

    def items(self) -> Iterator[Item]:
        """All items, in the order the agent looks at them."""
        yield from self.ingress
        yield from self.ingress_deny
        yield from self.egress
        yield from self.egress_deny

    @property
    def has_ingress(self) -> bool:
        """Whether it says anything about ingress."""
        return bool(self.ingress or self.ingress_deny)

    @property
    def has_egress(self) -> bool:
        """Whether it says anything about egress."""
        return bool(self.egress or self.egress_deny)


def plain_selector(selector: LabelSelector, prefix: str) -> Selector:
    """A selector whose keys get ``prefix`` in front, as they are."""
    return Selector.of(
        ((prefix + key, value) for key, value in selector.match_labels or ()),
        (
            Requirement(prefix + (item.key or ""), item.operator or "", item.values or ())
            for item in selector.match_expressions or ()
        ),
    )


def cilium_selector(selector: LabelSelector) -> Selector:
    """A selector of a Cilium policy, whose keys name their source or mean any."""
    return Selector.of(
        ((selector_key(key), value) for key, value in selector.match_labels or ()),
        (
            Requirement(selector_key(item.key or ""), item.operator or "", item.values or ())
            for item in selector.match_expressions or ()
        ),
    )


def _selectors(written: tuple[LabelSelector, ...] | None) -> tuple[Selector, ...] | None:
    return None if written is None else tuple(cilium_selector(selector) for selector in written)


def _ingress_item(rule: IngressRule | IngressDenyRule, path: str) -> Item:
    authentication = rule.authentication if isinstance(rule, IngressRule) else None
    return Item(
        direction=Direction.INGRESS,
        deny=isinstance(rule, IngressDenyRule),
        path=path,
        endpoints=_selectors(rule.from_endpoints),
        requires=_selectors(rule.from_requires),
        cidr=rule.from_cidr,
        cidr_set=rule.from_cidr_set,
        entities=rule.from_entities,
        groups=len(rule.from_groups or ()),
        nodes=_selectors(rule.from_nodes),
        ports=rule.to_ports,
        icmps=rule.icmps,
        authentication=(authentication.mode or "") if authentication is not None else "",
    )


def _egress_item(rule: EgressRule | EgressDenyRule, path: str) -> Item:
    authentication = rule.authentication if isinstance(rule, EgressRule) else None
    return Item(
        direction=Direction.EGRESS,
        deny=isinstance(rule, EgressDenyRule),
        path=path,
        endpoints=_selectors(rule.to_endpoints),
        requires=_selectors(rule.to_requires),
        cidr=rule.to_cidr,
        cidr_set=rule.to_cidr_set,
        entities=rule.to_entities,
        groups=len(rule.to_groups or ()),
        nodes=_selectors(rule.to_nodes),
        services=rule.to_services,
        fqdns=rule.to_fqdns if isinstance(rule, EgressRule) else None,
        ports=rule.to_ports,
        icmps=rule.icmps,
        authentication=(authentication.mode or "") if authentication is not None else "",
    )


def from_cilium(rule: Rule, path: str) -> ApiRule:
    """A ``spec`` or an entry of ``specs``; ``path`` says which."""
    wishes = rule.enable_default_deny
    return ApiRule(
        path=path,
        endpoint_selector=cilium_selector(rule.endpoint_selector)
        if rule.endpoint_selector is not None
        else None,
        node_selector=cilium_selector(rule.node_selector) if rule.node_selector is not None else None,
        ingress=tuple(_ingress_item(r, f"{path}.ingress[{i}]") for i, r in enumerate(rule.ingress or ())),
        ingress_deny=tuple(
            _ingress_item(r, f"{path}.ingressDeny[{i}]") for i, r in enumerate(rule.ingress_deny or ())
        ),
        egress=tuple(_egress_item(r, f"{path}.egress[{i}]") for i, r in enumerate(rule.egress or ())),
        egress_deny=tuple(
            _egress_item(r, f"{path}.egressDeny[{i}]") for i, r in enumerate(rule.egress_deny or ())
        ),
        default_deny_ingress=wishes.ingress if wishes is not None else None,
        default_deny_egress=wishes.egress if wishes is not None else None,
    )
