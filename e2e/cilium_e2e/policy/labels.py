"""Identity labels, label keys with their sources, and the agent's default choice of identity labels.

A label has a source (``k8s``, ``reserved``, ``cidr``, ``cidrgroup``, ``fqdn``, ``node``), a key and a value.
Policies write keys as ``source:key``; the engine works with ``source.key`` and reads a key without a source
as source ``any``, which matches every source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from cilium_e2e.policy.addresses import Network, covers, parse_label_text

ANY = "any"
K8S = "k8s"
RESERVED = "reserved"
CIDR = "cidr"
CIDR_GROUP = "cidrgroup"
FQDN = "fqdn"
NODE = "node"

OWNED_PREFIX = "io.cilium.k8s"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = f"{OWNED_PREFIX}.namespace.labels"
POLICY_CLUSTER = f"{OWNED_PREFIX}.policy.cluster"
POLICY_SERVICE_ACCOUNT = f"{OWNED_PREFIX}.policy.serviceaccount"
CIDR_GROUP_NAME = "io.cilium.policy.cidrgroupname"

K8S_NAMESPACE_KEY = f"{K8S}.{POD_NAMESPACE}"
ANY_NAMESPACE_KEY = f"{ANY}.{POD_NAMESPACE}"

WORLD_NAMES = ("world", "world-ipv4", "world-ipv6")


@dataclass(frozen=True, slots=True, order=True)
class Label:
    """One identity label."""

    source: str
    key: str
    value: str = ""

    @property
    def network(self) -> Network | None:
        """The prefix a ``cidr`` label stands for."""
        return parse_label_text(self.key) if self.source == CIDR else None

    @classmethod
    def parse(cls, text: str) -> Label:
        """Read ``source:key=value`` or ``source:key``; without a source it is a ``k8s`` label."""
        source, colon, rest = text.partition(":")
        if not colon:
            source, rest = K8S, text
        key, _, value = rest.partition("=")
        return cls(source, key, value)

    def __str__(self) -> str:
        return f"{self.source}:{self.key}={self.value}" if self.value else f"{self.source}:{self.key}"


def selector_key(text: str) -> str:
    """A key as a policy writes it, in the engine's form: ``k8s:app`` → ``k8s.app``, ``app`` → ``any.app``."""
    if text.startswith("$"):
        source, rest = RESERVED, text[1:]
    elif ":" in text:
        source, _, rest = text.partition(":")
    elif text.startswith(f"{RESERVED}."):
        source, rest = RESERVED, text.removeprefix(f"{RESERVED}.")
    else:
        source, rest = "", text
    return f"{source or ANY}.{rest.partition('=')[0]}"


def split_key(key: str) -> tuple[str, str]:
    """Source and key of the engine's form; a key without a dot has source ``any``."""
    source, dot, rest = key.partition(".")
    if not dot:
        return ANY, key
    return source or ANY, rest


class LabelSet(Mapping[str, Label]):
    """The labels of one identity, by key. Two sources never hold the same key; the later one wins."""

    __slots__ = ("_hash", "_labels", "networks")

    def __init__(self, labels: Iterable[Label]) -> None:
        self._labels = {label.key: label for label in labels}
        self.networks = tuple(
            network for label in self._labels.values() if (network := label.network) is not None
        )
        self._hash = hash(frozenset(self._labels.values()))

    def __getitem__(self, key: str) -> Label:
        return self._labels[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self._labels == other._labels

    def find(self, source: str, key: str) -> str | None:
        """The value under a selector's key; None where no label has it.

        A ``cidr`` key is had by every identity whose own prefix lies inside it.
        """
        label = self._labels.get(key)
        if label is not None and source in (ANY, label.source):
            return label.value
        if source == CIDR and self.networks:
            wanted = parse_label_text(key)
            if wanted is not None and any(covers(wanted, network) for network in self.networks):
                return ""
        return None

    def reserved(self, name: str) -> bool:
        """Whether the reserved label ``name`` is among them."""
        label = self._labels.get(name)
        return label is not None and label.source == RESERVED

    def __str__(self) -> str:
        return ",".join(sorted(str(label) for label in self._labels.values()))


_SELECTED = (
    (RESERVED, ".*"),
    ("", re.escape(POD_NAMESPACE)),
    ("", re.escape(NAMESPACE_LABELS)),
    ("", re.escape("app.kubernetes.io")),
    ("", re.escape(POLICY_CLUSTER)),
    ("", re.escape(POLICY_SERVICE_ACCOUNT)),
)
_IGNORED = (
    r"io\.kubernetes",
    r"kubernetes\.io",
    re.escape("statefulset.kubernetes.io/pod-name"),
    re.escape("apps.kubernetes.io/pod-index"),
    re.escape("batch.kubernetes.io/job-completion-index"),
    re.escape("batch.kubernetes.io/controller-uid"),
    r".*beta\.kubernetes\.io",
    r"k8s\.io",
    "pod-template-generation",
    "pod-template-hash",
    "controller-revision-hash",
    "controller-uid",
    "annotation.*",
    "etcd_node",
)
_SELECTED_PATTERNS = tuple((source, re.compile(pattern)) for source, pattern in _SELECTED)
_IGNORED_PATTERNS = tuple(re.compile(pattern) for pattern in _IGNORED)


def _leading_match(pattern: re.Pattern[str], key: str) -> int:
    """Length of the pattern's first match where that starts the key, else 0."""
    match = pattern.search(key)
    return match.end() if match is not None and match.start() == 0 else 0


def identity_relevant(label: Label) -> bool:
    """Whether the default label filter makes ``label`` part of an identity.

    Among the filter's patterns the longest inclusion must be longer than the shortest exclusion; a label
    that no pattern excludes is included.
    """
    ignored = [length for pattern in _IGNORED_PATTERNS if (length := _leading_match(pattern, label.key))]
    if not ignored:
        return True
    included = max(
        _leading_match(pattern, label.key)
        for source, pattern in _SELECTED_PATTERNS
        if source in ("", label.source)
    )
    return included > min(ignored)


def pod_labels(
    labels: Mapping[str, str],
    *,
    namespace: str,
    namespace_labels: Mapping[str, str],
    service_account: str,
    cluster: str,
) -> LabelSet:
    """The identity labels of a pod: its own, its namespace's, its service account and its cluster."""
    found = {key: value for key, value in labels.items() if not key.startswith(OWNED_PREFIX)}
    found |= {f"{NAMESPACE_LABELS}.{key}": value for key, value in namespace_labels.items()}
    found[POD_NAMESPACE] = namespace
    if service_account:
        found[POLICY_SERVICE_ACCOUNT] = service_account
    found[POLICY_CLUSTER] = cluster
    return LabelSet(
        label for key, value in found.items() if identity_relevant(label := Label(K8S, key, value))
    )
