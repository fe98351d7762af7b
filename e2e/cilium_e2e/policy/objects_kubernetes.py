"""The Kubernetes NetworkPolicy as a typed value, fields as in ``networking.k8s.io/v1``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cilium_e2e.policy.codec import INT_OR_TEXT, INTEGER, RAW, TEXT, items, struct, wire
from cilium_e2e.policy.objects_common import KubeObject, LabelSelector

_SELECTOR = struct(LabelSelector)


@dataclass(frozen=True, slots=True)
class IPBlock:
    """A prefix with holes."""

    cidr: str | None = wire("cidr", TEXT)
    except_: tuple[str, ...] | None = wire("except", items(TEXT))


@dataclass(frozen=True, slots=True)
class NetworkPolicyPeer:
    """One entry of ``from`` and ``to``."""

    pod_selector: LabelSelector | None = wire("podSelector", _SELECTOR)
    namespace_selector: LabelSelector | None = wire("namespaceSelector", _SELECTOR)
    ip_block: IPBlock | None = wire("ipBlock", struct(IPBlock))


@dataclass(frozen=True, slots=True)
class NetworkPolicyPort:
    """One entry of ``ports``."""

    protocol: str | None = wire("protocol", TEXT)
    port: int | str | None = wire("port", INT_OR_TEXT)
    end_port: int | None = wire("endPort", INTEGER)


@dataclass(frozen=True, slots=True)
class NetworkPolicyIngress:
    """One entry of ``spec.ingress``."""

    from_: tuple[NetworkPolicyPeer, ...] | None = wire("from", items(struct(NetworkPolicyPeer)))
    ports: tuple[NetworkPolicyPort, ...] | None = wire("ports", items(struct(NetworkPolicyPort)))


@dataclass(frozen=True, slots=True)
class NetworkPolicyEgress:
    """One entry of ``spec.egress``."""

    to: tuple[NetworkPolicyPeer, ...] | None = wire("to", items(struct(NetworkPolicyPeer)))
    ports: tuple[NetworkPolicyPort, ...] | None = wire("ports", items(struct(NetworkPolicyPort)))


@dataclass(frozen=True, slots=True)
class NetworkPolicySpec:
    """The ``spec`` of a NetworkPolicy."""

    pod_selector: LabelSelector | None = wire("podSelector", _SELECTOR)
    ingress: tuple[NetworkPolicyIngress, ...] | None = wire("ingress", items(struct(NetworkPolicyIngress)))
    egress: tuple[NetworkPolicyEgress, ...] | None = wire("egress", items(struct(NetworkPolicyEgress)))
    policy_types: tuple[str, ...] | None = wire("policyTypes", items(TEXT))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy(KubeObject):
    """A Kubernetes NetworkPolicy."""

    spec: NetworkPolicySpec | None = wire("spec", struct(NetworkPolicySpec))
    status: Any = wire("status", RAW)
