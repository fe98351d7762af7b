"""Cilium's policy objects as typed values: the fields of the CRDs ``cilium.io/v2``, absent ones None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from cilium_e2e.policy.codec import FLAG, RAW, TEXT, items, struct, wire
from cilium_e2e.policy.objects_common import KubeObject, LabelSelector
from cilium_e2e.policy.objects_kubernetes import NetworkPolicy
from cilium_e2e.policy.objects_ports import FQDN, ICMPRule, PortDenyRule, PortRule

_SELECTOR = struct(LabelSelector)
# The agent's endpoint selectors read null as an empty selector, which selects everything.
_ENDPOINT_SELECTOR = struct(LabelSelector, null=LabelSelector())
_SELECTORS = items(_ENDPOINT_SELECTOR)


@dataclass(frozen=True, slots=True)
class CIDRRule:
    """One entry of ``fromCIDRSet`` and ``toCIDRSet``."""

    cidr: str | None = wire("cidr", TEXT)
    group_ref: str | None = wire("cidrGroupRef", TEXT)
    group_selector: LabelSelector | None = wire("cidrGroupSelector", _SELECTOR)
    except_: tuple[str, ...] | None = wire("except", items(TEXT))


@dataclass(frozen=True, slots=True)
class ServiceName:
    """A Service by name; without a namespace it means every namespace."""

    name: str | None = wire("serviceName", TEXT)
    namespace: str | None = wire("namespace", TEXT)


@dataclass(frozen=True, slots=True)
class ServiceSelector:
    """Services by label; without a namespace it means every namespace."""

    selector: LabelSelector | None = wire("selector", _SELECTOR)
    namespace: str | None = wire("namespace", TEXT)


@dataclass(frozen=True, slots=True)
class ServicePeer:
    """One entry of ``toServices``."""

    selector: ServiceSelector | None = wire("k8sServiceSelector", struct(ServiceSelector))
    service: ServiceName | None = wire("k8sService", struct(ServiceName))


@dataclass(frozen=True, slots=True)
class Authentication:
    """Whether peers must authenticate each other."""

    mode: str | None = wire("mode", TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressDenyRule:
    """One entry of ``ingressDeny``, and what it has in common with ``ingress``."""

    from_endpoints: tuple[LabelSelector, ...] | None = wire("fromEndpoints", _SELECTORS)
    from_requires: tuple[LabelSelector, ...] | None = wire("fromRequires", _SELECTORS)
    from_cidr: tuple[str, ...] | None = wire("fromCIDR", items(TEXT))
    from_cidr_set: tuple[CIDRRule, ...] | None = wire("fromCIDRSet", items(struct(CIDRRule)))
    from_entities: tuple[str, ...] | None = wire("fromEntities", items(TEXT))
    from_groups: tuple[Any, ...] | None = wire("fromGroups", items(RAW))
    from_nodes: tuple[LabelSelector, ...] | None = wire("fromNodes", _SELECTORS)
    to_ports: tuple[PortDenyRule, ...] | None = wire("toPorts", items(struct(PortDenyRule)))
    icmps: tuple[ICMPRule, ...] | None = wire("icmps", items(struct(ICMPRule)))


@dataclass(frozen=True, slots=True, kw_only=True)
class IngressRule:
    """One entry of ``ingress``."""

    from_endpoints: tuple[LabelSelector, ...] | None = wire("fromEndpoints", _SELECTORS)
    from_requires: tuple[LabelSelector, ...] | None = wire("fromRequires", _SELECTORS)
    from_cidr: tuple[str, ...] | None = wire("fromCIDR", items(TEXT))
    from_cidr_set: tuple[CIDRRule, ...] | None = wire("fromCIDRSet", items(struct(CIDRRule)))
    from_entities: tuple[str, ...] | None = wire("fromEntities", items(TEXT))
    from_groups: tuple[Any, ...] | None = wire("fromGroups", items(RAW))
    from_nodes: tuple[LabelSelector, ...] | None = wire("fromNodes", _SELECTORS)
    to_ports: tuple[PortRule, ...] | None = wire("toPorts", items(struct(PortRule)))
    icmps: tuple[ICMPRule, ...] | None = wire("icmps", items(struct(ICMPRule)))
    authentication: Authentication | None = wire("authentication", struct(Authentication))


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressDenyRule:
    """One entry of ``egressDeny``, and what it has in common with ``egress``."""

    to_endpoints: tuple[LabelSelector, ...] | None = wire("toEndpoints", _SELECTORS)
    to_requires: tuple[LabelSelector, ...] | None = wire("toRequires", _SELECTORS)
    to_cidr: tuple[str, ...] | None = wire("toCIDR", items(TEXT))
    to_cidr_set: tuple[CIDRRule, ...] | None = wire("toCIDRSet", items(struct(CIDRRule)))
    to_entities: tuple[str, ...] | None = wire("toEntities", items(TEXT))
    to_services: tuple[ServicePeer, ...] | None = wire("toServices", items(struct(ServicePeer)))
    to_groups: tuple[Any, ...] | None = wire("toGroups", items(RAW))
    to_nodes: tuple[LabelSelector, ...] | None = wire("toNodes", _SELECTORS)
    to_ports: tuple[PortDenyRule, ...] | None = wire("toPorts", items(struct(PortDenyRule)))
    icmps: tuple[ICMPRule, ...] | None = wire("icmps", items(struct(ICMPRule)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressRule:
    """One entry of ``egress``."""

    to_endpoints: tuple[LabelSelector, ...] | None = wire("toEndpoints", _SELECTORS)
    to_requires: tuple[LabelSelector, ...] | None = wire("toRequires", _SELECTORS)
    to_cidr: tuple[str, ...] | None = wire("toCIDR", items(TEXT))
    to_cidr_set: tuple[CIDRRule, ...] | None = wire("toCIDRSet", items(struct(CIDRRule)))
    to_entities: tuple[str, ...] | None = wire("toEntities", items(TEXT))
    to_services: tuple[ServicePeer, ...] | None = wire("toServices", items(struct(ServicePeer)))
    to_groups: tuple[Any, ...] | None = wire("toGroups", items(RAW))
    to_nodes: tuple[LabelSelector, ...] | None = wire("toNodes", _SELECTORS)
    to_fqdns: tuple[FQDN, ...] | None = wire("toFQDNs", items(struct(FQDN)))
    to_ports: tuple[PortRule, ...] | None = wire("toPorts", items(struct(PortRule)))
    icmps: tuple[ICMPRule, ...] | None = wire("icmps", items(struct(ICMPRule)))
    authentication: Authentication | None = wire("authentication", struct(Authentication))


@dataclass(frozen=True, slots=True)
class DefaultDeny:
    """``enableDefaultDeny``: whether the rule isolates its subjects, per direction."""

    ingress: bool | None = wire("ingress", FLAG)
    egress: bool | None = wire("egress", FLAG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A ``spec`` or one entry of ``specs``."""

    endpoint_selector: LabelSelector | None = wire("endpointSelector", _ENDPOINT_SELECTOR)
    node_selector: LabelSelector | None = wire("nodeSelector", _ENDPOINT_SELECTOR)
    ingress: tuple[IngressRule, ...] | None = wire("ingress", items(struct(IngressRule)))
    ingress_deny: tuple[IngressDenyRule, ...] | None = wire("ingressDeny", items(struct(IngressDenyRule)))
    egress: tuple[EgressRule, ...] | None = wire("egress", items(struct(EgressRule)))
    egress_deny: tuple[EgressDenyRule, ...] | None = wire("egressDeny", items(struct(EgressDenyRule)))
    labels: Any = wire("labels", RAW)
    enable_default_deny: DefaultDeny | None = wire("enableDefaultDeny", struct(DefaultDeny))
    description: str | None = wire("description", TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CiliumPolicy(KubeObject):
    """A CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy."""

    spec: Rule | None = wire("spec", struct(Rule))
    specs: tuple[Rule, ...] | None = wire("specs", items(struct(Rule)))
    status: Any = wire("status", RAW)


@dataclass(frozen=True, slots=True)
class CIDRGroupSpec:
    """What a CiliumCIDRGroup lists."""

    external_cidrs: tuple[str, ...] | None = wire("externalCIDRs", items(TEXT))


@dataclass(frozen=True, slots=True, kw_only=True)
class CIDRGroupObject(KubeObject):
    """A CiliumCIDRGroup."""

    spec: CIDRGroupSpec | None = wire("spec", struct(CIDRGroupSpec))


PolicyObject: TypeAlias = CiliumPolicy | NetworkPolicy
