"""What all policy objects share: metadata and label selectors, as written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from cilium_e2e.model import PolicyRef
from cilium_e2e.policy.codec import RAW, TEXT, TEXT_MAP, items, struct, wire

Pairs: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """One entry of ``matchExpressions``."""

    key: str | None = wire("key", TEXT)
    operator: str | None = wire("operator", TEXT)
    values: tuple[str, ...] | None = wire("values", items(TEXT))


@dataclass(frozen=True, slots=True)
class LabelSelector:
    """A label selector as written."""

    match_labels: Pairs | None = wire("matchLabels", TEXT_MAP)
    match_expressions: tuple[Expression, ...] | None = wire("matchExpressions", items(struct(Expression)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Object metadata; what the oracle does not use is kept as it is."""

    name: str | None = wire("name", TEXT)
    namespace: str | None = wire("namespace", TEXT)
    uid: str | None = wire("uid", TEXT)
    labels: Pairs | None = wire("labels", TEXT_MAP)
    annotations: Pairs | None = wire("annotations", TEXT_MAP)
    generate_name: Any = wire("generateName", RAW)
    self_link: Any = wire("selfLink", RAW)
    resource_version: Any = wire("resourceVersion", RAW)
    generation: Any = wire("generation", RAW)
    creation_timestamp: Any = wire("creationTimestamp", RAW)
    deletion_timestamp: Any = wire("deletionTimestamp", RAW)
    deletion_grace_period_s: Any = wire("deletionGracePeriodSeconds", RAW)
    owner_references: Any = wire("ownerReferences", RAW)
    finalizers: Any = wire("finalizers", RAW)
    managed_fields: Any = wire("managedFields", RAW)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeObject:
    """What every object has."""

    api_version: str | None = wire("apiVersion", TEXT)
    kind: str | None = wire("kind", TEXT)
    metadata: Metadata | None = wire("metadata", struct(Metadata))

    @property
    def ref(self) -> PolicyRef:
        """The object by name."""
        meta = self.metadata or Metadata()
        return PolicyRef(self.kind or "", meta.namespace or "", meta.name or "", meta.uid or "")
