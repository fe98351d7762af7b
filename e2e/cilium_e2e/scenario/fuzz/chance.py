"""Choices that a key decides: the same for the same key, on every machine and version of Python."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Chance:
    """Choices, one after the other.

    Only ``random()`` is asked, of which alone Python promises the same numbers in every version.

    Args:
        key: what decides them all.
    """

    def __init__(self, *key: int | str) -> None:
        self._random = random.Random("/".join(map(str, key)))  # noqa: S311 - cases to try, no secret

    def yes(self, share: float) -> bool:
        """Whether something that happens in this share of all cases happens."""
        return self._random.random() < share

    def below(self, limit: int) -> int:
        """A number from 0 to below a limit."""
        return int(self._random.random() * limit)

    def one(self, options: Sequence[T]) -> T:
        """One of several, all as likely."""
        return options[self.below(len(options))]

    def weighted(self, options: Sequence[tuple[int, T]]) -> T:
        """One of several, each as likely as its weight has it."""
        left = self.below(sum(weight for weight, _ in options))
        for weight, option in options:
            left -= weight
            if left < 0:
                return option
        raise AssertionError("expected weights from 1")  # pragma: no cover - below() is below their sum

    def some(self, options: Sequence[T], least: int, most: int) -> list[T]:
        """Several different ones, in their own order."""
        count = least + self.below(most - least + 1)
        left = list(range(len(options)))
        chosen = [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]
        return [options[place] for place in sorted(chosen)]
