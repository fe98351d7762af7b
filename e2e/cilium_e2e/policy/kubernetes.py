"""Kubernetes NetworkPolicies as rules of the engine."""

from __future__ import annotations

from dataclasses import replace

from cilium_e2e.model import Direction
from cilium_e2e.policy.apirule import ApiRule, Item, plain_selector
from cilium_e2e.policy.labels import K8S, NAMESPACE_LABELS, POD_NAMESPACE, POLICY_CLUSTER
from cilium_e2e.policy.objects import CIDRRule
from cilium_e2e.policy.objects_common import Expression, LabelSelector
from cilium_e2e.policy.objects_kubernetes import (
    NetworkPolicy,
    NetworkPolicyPeer,
    NetworkPolicyPort,
    NetworkPolicySpec,
)
from cilium_e2e.policy.objects_ports import Port, PortRule
from cilium_e2e.policy.selectors import WILDCARD, Operator, Selector

_PREFIX = f"{K8S}."


def _in_namespace(selector: LabelSelector, namespace: str) -> Selector:
    """A pod selector limited to a namespace."""
    return plain_selector(selector, _PREFIX).with_label(f"{_PREFIX}{POD_NAMESPACE}", namespace)


def _names_cluster(selector: LabelSelector | None) -> bool:
    if selector is None:
        return False
    return any(key == POLICY_CLUSTER and value for key, value in selector.match_labels or ()) or any(
        item.key == POLICY_CLUSTER for item in selector.match_expressions or ()
    )


def _namespaces(selector: LabelSelector) -> LabelSelector:
    """A namespace selector as a selector of pods by their namespace's labels; an empty one means any."""
    labels = tuple((f"{NAMESPACE_LABELS}.{key}", value) for key, value in selector.match_labels or ())
    expressions = tuple(
        replace(item, key=f"{NAMESPACE_LABELS}.{item.key or ''}") for item in selector.match_expressions or ()
    )
    if not (labels or expressions):
        expressions = (Expression(POD_NAMESPACE, Operator.EXISTS),)
    return LabelSelector(labels, expressions)


def _peer_selector(peer: NetworkPolicyPeer, *, namespace: str, cluster: str) -> Selector | None:
    pods = peer.pod_selector
    if cluster and not _names_cluster(pods):
        # Even a peer without pod selector gets one this way, and an ipBlock with it becomes invalid.
        pods = pods or LabelSelector()
        labels = dict(pods.match_labels or ())
        labels[POLICY_CLUSTER] = cluster
        pods = replace(pods, match_labels=tuple(labels.items()))
    if peer.namespace_selector is not None:
        spaces = _namespaces(peer.namespace_selector)
        merged = LabelSelector(
            (*(spaces.match_labels or ()), *((pods.match_labels or ()) if pods is not None else ())),
            (
                *(spaces.match_expressions or ()),
                *((pods.match_expressions or ()) if pods is not None else ()),
            ),
        )
        return plain_selector(merged, _PREFIX)
    return None if pods is None else _in_namespace(pods, namespace)


def _ports(ports: tuple[NetworkPolicyPort, ...] | None) -> tuple[PortRule, ...] | None:
    """The ports, each a rule of its own; None where none are listed."""
    if not ports:
        return None
    return tuple(
        PortRule(
            ports=(
                Port(
                    port="0" if port.port is None else str(port.port),
                    end_port=port.end_port,
                    protocol="TCP" if port.protocol is None else port.protocol.upper(),
                ),
            )
        )
        for port in ports
    )


def _item(
    peer: NetworkPolicyPeer | None,
    ports: tuple[PortRule, ...] | None,
    *,
    direction: Direction,
    path: str,
    namespace: str,
    cluster: str,
) -> Item:
    """The rule for one peer, or for everything where the policy lists no peers."""
    if peer is None:
        return Item(direction=direction, deny=False, path=path, endpoints=(WILDCARD,), ports=ports)
    selector = None
    if direction is Direction.INGRESS or peer.namespace_selector is not None or peer.pod_selector is not None:
        selector = _peer_selector(peer, namespace=namespace, cluster=cluster)
    block = peer.ip_block
    return Item(
        direction=direction,
        deny=False,
        path=path,
        endpoints=None if selector is None else (selector,),
        cidr_set=None if block is None else (CIDRRule(cidr=block.cidr, except_=block.except_),),
        ports=ports,
    )


def _items(
    rules: list[tuple[tuple[NetworkPolicyPeer, ...] | None, tuple[NetworkPolicyPort, ...] | None]],
    *,
    direction: Direction,
    namespace: str,
    cluster: str,
) -> tuple[Item, ...]:
    return tuple(
        _item(
            peer,
            _ports(ports),
            direction=direction,
            path=f"spec.{direction.value.lower()}[{index}]",
            namespace=namespace,
            cluster=cluster,
        )
        for index, (peers, ports) in enumerate(rules)
        for peer in (peers or (None,))
    )


def from_kubernetes(policy: NetworkPolicy, *, cluster: str) -> ApiRule:
    """A NetworkPolicy as one rule.

    ``policyTypes`` only adds isolation: rules of a direction apply whether it is listed or not.

    Args:
        policy: the object.
        cluster: the cluster that selectors without one mean, empty for any.
    """
    spec = policy.spec or NetworkPolicySpec()
    namespace = policy.ref.namespace or "default"
    ingress = _items(
        [(rule.from_, rule.ports) for rule in spec.ingress or ()],
        direction=Direction.INGRESS,
        namespace=namespace,
        cluster=cluster,
    )
    egress = _items(
        [(rule.to, rule.ports) for rule in spec.egress or ()],
        direction=Direction.EGRESS,
        namespace=namespace,
        cluster=cluster,
    )
    types = spec.policy_types or ()
    if not ingress and ("Ingress" in types or "Egress" not in types):
        ingress = (Item(direction=Direction.INGRESS, deny=False, path="spec.podSelector"),)
    if not egress and "Egress" in types:
        egress = (Item(direction=Direction.EGRESS, deny=False, path="spec.podSelector"),)
    return ApiRule(
        path="spec",
        endpoint_selector=_in_namespace(spec.pod_selector or LabelSelector(), namespace),
        ingress=ingress,
        egress=egress,
    )
