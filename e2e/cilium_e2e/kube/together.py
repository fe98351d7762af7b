"""Several questions at the same time: one after the other, their waits would add up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_ASKERS = 4


def at_once(ask: Callable[..., T], *given: Iterable[Any]) -> list[T]:
    """What ``map(ask, *given)`` gives, some questions at a time; one alone is asked without a thread.

    Raises:
        Exception: what a question raised, the first in their order.
    """
    questions = list(zip(*given, strict=True))
    if len(questions) < 2:
        return [ask(*question) for question in questions]
    with ThreadPoolExecutor(max_workers=min(_ASKERS, len(questions)), thread_name_prefix="ask") as pool:
        return list(pool.map(lambda question: ask(*question), questions))
