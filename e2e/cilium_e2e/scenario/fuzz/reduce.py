"""What can be left out of policies: every way to make a set of them a little smaller."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import Object
from cilium_e2e.scenario.fields import Path

# Without them it is no such object; a selector is made wider by what is inside of it, down to ``{}``.
_KEPT = {"apiVersion", "kind", "metadata", "podSelector", "endpointSelector", "key", "operator", "cidr"}


@dataclass(frozen=True, slots=True)
class Removal:
    """One thing to leave out.

    Attributes:
        path: the list or mapping it is in, from the list of policies down.
        what: the key, or the first position.
        count: how many entries of a list, from that position on.
    """

    path: Path
    what: str | int
    count: int = 1

    def of(self, policies: Sequence[Object]) -> list[Object]:
        """A copy of the policies without it."""
        changed: Any = copy.deepcopy(list(policies))
        place = changed
        for step in self.path:
            place = place[step]
        if isinstance(self.what, int):
            del place[self.what : self.what + self.count]
        else:
            del place[self.what]
        found: list[Object] = changed
        return found


def removals(policies: Sequence[Object]) -> list[Removal]:
    """Everything that can be left out, the coarsest first.

    Whole policies come before their rules, rules before peers and ports, those before labels and values; of
    each list first a half, then a quarter ..., then each single entry.
    """
    found: list[Removal] = []
    level: list[tuple[Path, Any]] = [((), list(policies))]
    while level:
        below: list[tuple[Path, Any]] = []
        for path, node in level:
            found += _of_node(path, node)
            below += [((*path, step), inner) for step, inner in _inside(path, node)]
        level = below
    return found


def _of_node(path: Path, node: Any) -> Iterator[Removal]:
    if isinstance(node, dict):
        yield from (Removal(path, key) for key in node if key not in _KEPT)
    elif isinstance(node, list):
        size = len(node) // 2
        while size > 1:
            yield from (Removal(path, start, size) for start in range(0, len(node), size))
            size //= 2
        yield from (Removal(path, start) for start in range(len(node)))


def _inside(path: Path, node: Any) -> Iterator[tuple[str | int, Any]]:
    steps: Iterator[tuple[str | int, Any]]
    if isinstance(node, dict):
        named = (
            len(path) == 1
        )  # a policy: its name and namespace say where it is, and nothing of what it does
        steps = ((key, inner) for key, inner in node.items() if not (named and key == "metadata"))
    elif isinstance(node, list):
        steps = iter(enumerate(node))
    else:
        return
    yield from steps
