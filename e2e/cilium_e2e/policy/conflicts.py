"""Rules for the proxy that cannot stand together.

Where two rules give one selector on one port different parsers, or request rules beside server names without
TLS termination, the engine cannot compute the endpoint's policy at all: the agent reports an error and the
endpoint keeps whatever policy it had. No verdict can be computed then, only marked as unverified.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from cilium_e2e.policy.engine import Block, L7Spec
from cilium_e2e.policy.selectors import WILDCARD, Requirement, Selector

_Slot: TypeAlias = tuple[tuple[int | str, int, int], Selector]


def _agreed(one: str, other: str) -> str | None:
    """The parser that two rules agree on; None where they do not."""
    if one == other or not other:
        return one
    if not one or (one == "tls" and other not in ("dns", "crd")):
        return other
    return one if other == "tls" and one not in ("dns", "crd") else None


@dataclass(frozen=True, slots=True)
class _Merged:
    """What the rules so far ask of the proxy for one selector on one port."""

    parser: str
    named: bool
    ruled: bool
    intercepted: bool

    @classmethod
    def of(cls, spec: L7Spec | None) -> _Merged:
        if spec is None:
            return cls(parser="", named=False, ruled=False, intercepted=False)
        ruled = spec.rules is not None and not spec.rules.empty
        return cls(spec.parser, bool(spec.server_names), ruled, spec.intercepted)

    def fault(self, other: _Merged) -> str:
        if _agreed(self.parser, other.parser) is None:
            return f"ask for different parsers ({self.parser}, {other.parser})"
        named, ruled = self.named or other.named, self.ruled or other.ruled
        if named and ruled and not (self.intercepted or other.intercepted):
            return "ask for server names and for request rules without TLS termination"
        return ""

    def joined(self, other: _Merged) -> _Merged:
        return _Merged(
            _agreed(self.parser, other.parser) or "",
            self.named or other.named,
            self.ruled or other.ruled,
            self.intercepted or other.intercepted,
        )


def _slots(block: Block, requirements: tuple[Requirement, ...]) -> Iterator[tuple[_Slot, _Merged]]:
    """Where the engine files an item, and what it asks there."""
    selectors = block.peers(requirements)
    if block.deny or selectors is None:
        return
    if not selectors or WILDCARD in selectors:
        selectors = (WILDCARD,)
    for match in block.ports or ():
        for selector in selectors:
            yield (match.slot, selector), _Merged.of(match.l7)


def parser_conflict(blocks: Iterable[Block], requirements: tuple[Requirement, ...]) -> str:
    """What cannot be merged among the allow items of one subject and direction; empty where all can.

    Args:
        blocks: the items.
        requirements: what all endpoint selectors are narrowed by.
    """
    known: dict[_Slot, tuple[_Merged, Block]] = {}
    for block in blocks:
        for slot, asked in _slots(block, requirements):
            kept, first = known.setdefault(slot, (asked, block))
            if fault := kept.fault(asked):
                return f"{first.ref} and {block.ref} {fault}"
            known[slot] = (kept.joined(asked), first)
    return ""
