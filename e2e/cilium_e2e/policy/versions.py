"""What differs between Cilium versions, in one place.

Only 1.18 is computed. Where 1.20 differs, its line belongs here and the engine asks this module instead of
assuming: ``fromRequires`` and ``toRequires`` are gone there, and rules have tiers and priorities, with a Pass
verdict, that come before "deny wins".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class SemanticsVersion(enum.StrEnum):
    """The Cilium minor version whose semantics are computed."""

    V1_18 = "1.18"


@dataclass(frozen=True, slots=True, kw_only=True)
class Semantics:
    """The switches a version sets.

    Attributes:
        requires: whether ``fromRequires`` and ``toRequires`` narrow the endpoint selectors of all rules.
        ordered: whether rules have priorities that come before "deny wins"; not computed yet.
    """

    requires: bool
    ordered: bool


SEMANTICS: Mapping[SemanticsVersion, Semantics] = MappingProxyType(
    {SemanticsVersion.V1_18: Semantics(requires=True, ordered=False)}
)
