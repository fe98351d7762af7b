"""What the agent adds to a Cilium policy's selectors: the policy's namespace, and nodes for node peers."""

from __future__ import annotations

from dataclasses import replace

from cilium_e2e.policy.apirule import ApiRule, Item
from cilium_e2e.policy.labels import (
    ANY,
    ANY_NAMESPACE_KEY,
    K8S,
    K8S_NAMESPACE_KEY,
    NAMESPACE_LABELS,
    POLICY_CLUSTER,
    RESERVED,
)
from cilium_e2e.policy.selectors import Operator, Requirement, Selector

_ANY_NAMESPACE = Requirement(K8S_NAMESPACE_KEY, Operator.EXISTS)
_REMOTE_NODE = Requirement(f"{RESERVED}.remote-node", Operator.EXISTS)
_CLUSTER_KEY = f"{K8S}.{POLICY_CLUSTER}"


def _peer(selector: Selector, *, namespace: str, cluster: str, peer: bool, init_subject: bool) -> Selector:
    """A peer selector limited to the policy's namespace, unless it speaks of namespaces itself.

    In a cluster-wide policy it is limited to pods of any namespace instead, unless the subject is the init
    identity. Selectors with a reserved label are left alone, except in ``fromRequires`` and ``toRequires``.
    """
    if peer and selector.has_prefix(f"{RESERVED}."):
        return selector
    if not (selector.has_key(K8S_NAMESPACE_KEY) or selector.has_key(ANY_NAMESPACE_KEY)):
        if not namespace:
            selector = selector if init_subject else selector.with_requirements(_ANY_NAMESPACE)
        elif not any(selector.has_prefix(f"{source}.{NAMESPACE_LABELS}.") for source in (K8S, ANY)):
            selector = selector.with_label(K8S_NAMESPACE_KEY, namespace)
    if cluster and not (selector.has_key(_CLUSTER_KEY) or selector.has_key(f"{ANY}.{POLICY_CLUSTER}")):
        selector = selector.with_label(_CLUSTER_KEY, cluster)
    return selector


def _item(item: Item, *, namespace: str, cluster: str, init_subject: bool) -> Item:
    def scoped(selectors: tuple[Selector, ...] | None, *, peer: bool) -> tuple[Selector, ...] | None:
        if selectors is None:
            return None
        return tuple(
            _peer(selector, namespace=namespace, cluster=cluster, peer=peer, init_subject=init_subject)
            for selector in selectors
        )

    return replace(
        item,
        endpoints=scoped(item.endpoints, peer=True),
        generated_endpoints=scoped(item.generated_endpoints, peer=True) or (),
        requires=scoped(item.requires, peer=False),
        nodes=None
        if item.nodes is None
        else tuple(selector.with_requirements(_REMOTE_NODE) for selector in item.nodes),
    )


def scoped_rule(rule: ApiRule, *, namespace: str, cluster: str) -> ApiRule:
    """The rule as the engine gets it.

    Args:
        rule: as the agent validated it.
        namespace: the policy's, empty for cluster-wide policies.
        cluster: the cluster that selectors without one mean, empty for any.
    """
    subject = rule.endpoint_selector
    init_subject = subject is not None and subject.has_key(f"{RESERVED}.init")
    if subject is not None and namespace:
        subject = subject.with_label(K8S_NAMESPACE_KEY, namespace)

    def items(found: tuple[Item, ...]) -> tuple[Item, ...]:
        return tuple(
            _item(item, namespace=namespace, cluster=cluster, init_subject=init_subject) for item in found
        )

    return replace(
        rule,
        endpoint_selector=subject,
        ingress=items(rule.ingress),
        ingress_deny=items(rule.ingress_deny),
        egress=items(rule.egress),
        egress_deny=items(rule.egress_deny),
    )
