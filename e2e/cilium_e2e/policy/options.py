"""The release's options that change policy semantics, and the version whose semantics are meant."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from cilium_e2e.model import InputError
from cilium_e2e.policy.versions import SEMANTICS, Semantics, SemanticsVersion


class Enforcement(enum.StrEnum):
    """The agent's ``policy-enforcement-mode``."""

    DEFAULT = "default"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Agent options, named after the agent's flags; the defaults are the agent's in Kubernetes.

    Attributes:
        version: whose semantics.
        enforcement: ``policy-enforcement-mode``.
        host_firewall: ``enable-host-firewall``: whether host policies are enforced.
        node_selector_labels: ``enable-node-selector-labels``: whether remote nodes carry their Kubernetes
            labels, for ``fromNodes`` and ``toNodes``.
        localhost_allowed: ``allow-localhost`` other than ``policy``: whether the local host always reaches
            its pods.
        cidr_matches_nodes: ``policy-cidr-match-mode=nodes``: whether nodes can be selected by prefix.
        remote_nodes_know_own_prefix: whether a remote node that can be selected by prefix carries its full
            address, as the local host does and as agents see to for all nodes; otherwise it carries the
            longest prefix that policies name, as in verdict tables made without a node manager. Only
            ``0.0.0.0/0`` and ``::/0`` tell the two apart.
        ipv4, ipv6: address families; with both, ``world`` is told apart by family.
        cluster_name: the local cluster's name.
        default_local_cluster: ``policy-default-local-cluster``: whether selectors without a cluster mean
            the local one.
        l7_proxy: ``enable-l7-proxy``.
        icmp_rules: ``enable-icmp-rules``.
        non_default_deny: ``enable-non-default-deny-policies``.
        kube_proxy_replacement: whether Service addresses are translated by Cilium in the pod's socket; policy
            always sees the backend, so this changes no verdict, only what a flow shows.
    """

    version: SemanticsVersion = SemanticsVersion.V1_18
    enforcement: Enforcement = Enforcement.DEFAULT
    host_firewall: bool = False
    node_selector_labels: bool = False
    localhost_allowed: bool = True
    cidr_matches_nodes: bool = False
    remote_nodes_know_own_prefix: bool = True
    ipv4: bool = True
    ipv6: bool = False
    cluster_name: str = "default"
    default_local_cluster: bool = False
    l7_proxy: bool = True
    icmp_rules: bool = True
    non_default_deny: bool = True
    kube_proxy_replacement: bool = True

    def __post_init__(self) -> None:
        if not (self.ipv4 or self.ipv6):
            raise InputError("expected at least one address family", place="options")

    @property
    def semantics(self) -> Semantics:
        """What the version says."""
        return SEMANTICS[self.version]

    @property
    def dual_stack(self) -> bool:
        """Whether both address families are on."""
        return self.ipv4 and self.ipv6

    def world_name(self, ip_version: int) -> str:
        """The reserved label of an address outside the cluster, by IP version (4 or 6)."""
        return f"world-ipv{ip_version}" if self.dual_stack else "world"
