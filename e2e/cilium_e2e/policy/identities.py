"""Which identity everything in a world has.

Pods take theirs from their labels. An address outside the cluster takes it from the longest prefix around
it that any accepted policy or CIDR group names, together with the labels of all groups around it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cilium_e2e.policy import fqdn
from cilium_e2e.policy.addresses import Network, covers, label_key, parse_lenient
from cilium_e2e.policy.labels import (
    CIDR,
    CIDR_GROUP,
    CIDR_GROUP_NAME,
    K8S,
    NODE,
    OWNED_PREFIX,
    RESERVED,
    Label,
    LabelSet,
    identity_relevant,
    pod_labels,
)
from cilium_e2e.policy.labels import (
    FQDN as FQDN_SOURCE,
)
from cilium_e2e.policy.objects_ports import FQDN
from cilium_e2e.policy.world import CIDRGroup, Peer, Pod, World

_NODES = ("host", "remote-node")
_IN_CLUSTER = (*_NODES, "health", "ingress")


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """What policies and groups say about addresses.

    Attributes:
        prefixes: every prefix an accepted policy names.
        groups: every prefix of a CIDR group, with the labels it brings.
        names: every DNS name and pattern of an accepted policy.
    """

    prefixes: frozenset[Network]
    groups: tuple[tuple[Network, tuple[Label, ...]], ...]
    names: tuple[FQDN, ...]

    @classmethod
    def of(
        cls, prefixes: Iterable[Network], groups: Iterable[CIDRGroup], names: Iterable[FQDN]
    ) -> AddressFacts:
        """Gather the facts; a group's malformed prefixes are skipped, as the agent skips them."""
        found = []
        for group in groups:
            labels = [
                Label(CIDR_GROUP, key, value)
                for key, value in group.labels.items()
                if not key.startswith(OWNED_PREFIX)
            ]
            labels.append(Label(CIDR_GROUP, f"{CIDR_GROUP_NAME}/{group.name}"))
            for text in group.cidrs:
                network = parse_lenient(text) if "/" in text else None
                if network is not None:
                    found.append((network, tuple(labels)))
        # Longer prefixes first: where two groups give a key different values, theirs win.
        found.sort(key=lambda entry: -entry[0].prefixlen)
        return cls(frozenset(prefixes), tuple(found), tuple(dict.fromkeys(names)))

    def labels_of(self, network: Network, dns_names: Iterable[str]) -> list[Label]:
        """The labels an address gets from everything around it, except ``world``."""
        around = [prefix for prefix in self.prefixes if covers(prefix, network) and prefix.prefixlen]
        found: dict[str, Label] = {}
        if around:
            longest = max(around, key=lambda prefix: prefix.prefixlen)
            found[label_key(longest)] = Label(CIDR, label_key(longest))
        for prefix, labels in self.groups:
            if covers(prefix, network):
                for label in labels:
                    found.setdefault(label.key, label)
        for name in self.names:
            match_name, match_pattern = name.match_name or "", name.match_pattern or ""
            if any(
                fqdn.matches(name=known, match_name=match_name, match_pattern=match_pattern)
                for known in dns_names
            ):
                key = match_name or match_pattern
                found.setdefault(key, Label(FQDN_SOURCE, key))
        return list(found.values())


def pod_identity(pod: Pod, world: World) -> LabelSet:
    """A pod's identity labels."""
    if pod.identity:
        return LabelSet(Label.parse(text) for text in pod.identity)
    return pod_labels(
        pod.labels,
        namespace=pod.namespace,
        namespace_labels=world.namespaces.get(pod.namespace, {}),
        service_account=pod.service_account,
        cluster=pod.cluster or world.options.cluster_name,
    )


def _reserved_names(peer: Peer) -> list[str]:
    return [label.key for text in peer.labels if (label := Label.parse(text)).source == RESERVED]


def peer_identity(peer: Peer, world: World, facts: AddressFacts, *, local: bool | None = None) -> LabelSet:
    """A peer's identity labels.

    Args:
        peer: the peer.
        world: where it is.
        facts: what policies say about addresses.
        local: for a peer that stands for a node: whether it is seen from that node itself. None takes its
            labels as they are.
    """
    options = world.options
    labels = [Label.parse(text) for text in peer.labels]
    if local is not None:
        labels = [label for label in labels if label.key not in _NODES]
        labels.append(Label(RESERVED, "host" if local else "remote-node"))
    names = {label.key for label in labels if label.source == RESERVED}
    is_node = not names.isdisjoint(_NODES)
    network = parse_lenient(peer.address) if peer.address else None
    in_cluster = not names.isdisjoint(_IN_CLUSTER)
    found: list[Label] = []
    if network is not None and (not in_cluster or (is_node and options.cidr_matches_nodes)):
        full = "host" in names or (is_node and options.remote_nodes_know_own_prefix)
        found.extend(_address_labels(network, peer, facts, full=full))
    if network is not None and not in_cluster:
        found.append(Label(RESERVED, options.world_name(network.version)))
    # Where keys meet, a node's own labels win over those of the prefixes around it.
    if "host" in names:
        found.extend(
            label
            for key, value in peer.node_labels.items()
            if identity_relevant(label := Label(K8S, key, value))
        )
    elif is_node and options.node_selector_labels:
        found.extend(Label(NODE, key, value) for key, value in peer.node_labels.items())
    return LabelSet([*found, *labels])


def _address_labels(network: Network, peer: Peer, facts: AddressFacts, *, full: bool) -> list[Label]:
    """The labels of an address; ``full`` where its prefix label is the address itself."""
    found = facts.labels_of(network, peer.dns_names)
    if not full:
        return found
    address = ipaddress.ip_network((network.network_address, network.max_prefixlen))
    return [*(label for label in found if label.source != CIDR), Label(CIDR, label_key(address))]
