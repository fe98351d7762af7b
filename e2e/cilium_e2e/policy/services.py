"""What ``toServices`` stands for: the pods behind a Service, or its addresses where it selects none."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cilium_e2e.policy.addresses import parse_lenient
from cilium_e2e.policy.apirule import ApiRule, Item, plain_selector
from cilium_e2e.policy.labels import K8S_NAMESPACE_KEY
from cilium_e2e.policy.objects import ServicePeer
from cilium_e2e.policy.objects_common import LabelSelector
from cilium_e2e.policy.selectors import Selector
from cilium_e2e.policy.world import Service


def _selects(peer: ServicePeer, service: Service) -> bool:
    if peer.selector is not None:
        if peer.selector.namespace not in (None, "", service.namespace):
            return False
        # An empty selector is read as none at all, and selects no Service.
        written = peer.selector.selector
        if written is None or written == LabelSelector():
            return False
        # Service labels have no sources, so the keys are compared as written.
        selector = plain_selector(written, "")
        return selector.usable and all(
            requirement.accepts(service.labels.get(requirement.key)) for requirement in selector.requirements
        )
    if peer.service is not None:
        return peer.service.namespace in (None, "", service.namespace) and peer.service.name == service.name
    return False


def _pods_of(service: Service) -> Selector:
    """The pods a Service selects.

    The engine takes the keys as they are, without a source, and so reads ``app.kubernetes.io/name`` as key
    ``kubernetes.io/name`` of source ``app``: a Service selecting by a key with a dot selects no pods here.
    """
    return Selector.of([*service.selector.items(), (K8S_NAMESPACE_KEY, service.namespace)])


def _backend(text: str) -> str:
    network = parse_lenient(text)
    return text if network is None else str(network)


def _resolved(item: Item, services: Iterable[Service]) -> Item:
    endpoints: list[Selector] = []
    cidrs: list[str] = []
    for service in services:
        for peer in item.services or ():
            if not _selects(peer, service):
                continue
            if service.selector:
                endpoints.append(_pods_of(service))
            else:
                cidrs.extend(_backend(text) for text in service.backends)
    return replace(item, generated_endpoints=tuple(endpoints), generated_cidrs=tuple(cidrs))


def with_services(rule: ApiRule, services: Iterable[Service]) -> ApiRule:
    """The rule with its ``toServices`` resolved. Deny rules are left alone, as the agent leaves them."""
    known = tuple(services)
    return replace(
        rule, egress=tuple(_resolved(item, known) if item.services else item for item in rule.egress)
    )
