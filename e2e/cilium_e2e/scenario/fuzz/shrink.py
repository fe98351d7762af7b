"""Delta debugging: leave out what a failure does not need, until it needs everything that is left."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cilium_e2e.model import Object, PolicyError
from cilium_e2e.policy import check_schema, parse_policy, require_agent
from cilium_e2e.scenario.fuzz.generate import on_paper
from cilium_e2e.scenario.fuzz.reduce import removals

Fails = Callable[[Sequence[Object]], bool]


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What is left.

    Attributes:
        policies: they still fail.
        tries: how many sets of policies were tried.
        minimal: whether nothing more can be left out; False where the tries came to their end before that.
    """

    policies: tuple[Object, ...]
    tries: int
    minimal: bool


def shrink(policies: Sequence[Object], fails: Fails, *, tries: int) -> Shrunk:
    """The smallest set of policies that fails, as far as leaving out one thing after the other leads there.

    It is minimal in this sense: leave out any single thing that :func:`~.reduce.removals` names, and it does
    not fail any more, or is no policy that would be accepted.

    Args:
        policies: they fail.
        fails: whether others fail in the same way; asked only of what API server and agent accept.
        tries: how often it may be asked.
    """
    current = list(policies)
    known: set[str] = {_key(current)}
    spent = 0
    changed = True
    while changed:
        changed = False
        place = 0
        # After a success the list is made anew, and goes on where it was: what came before was refused.
        while place < len(found := removals(current)):
            candidate = found[place].of(current)
            place += 1
            if _key(candidate) in known or not acceptable(candidate):
                continue
            if spent == tries:
                return Shrunk(tuple(current), spent, minimal=False)
            known.add(_key(candidate))
            spent += 1
            if fails(candidate):
                current, changed = candidate, True
                place -= 1
    return Shrunk(tuple(current), spent, minimal=True)


def acceptable(policies: Sequence[Object]) -> bool:
    """Whether API server and agent would take all of them."""
    for policy in on_paper(policies):
        if check_schema(policy):
            return False
        try:
            require_agent(parse_policy(policy))
        except PolicyError:
            return False
    return True


def _key(policies: Sequence[Object]) -> str:
    return json.dumps(policies, sort_keys=True)
