"""A steady pace: for load at a stated rate, and for questions that are asked again and again."""

from __future__ import annotations

from collections.abc import Iterator

from cilium_e2e.model import Clock


def ticks(clock: Clock, every_s: float) -> Iterator[float]:
    """Seconds since the start, at 0, ``every_s``, twice that ..., for as long as somebody asks.

    Who comes late gets the next tick at once, so that the rate is kept on the whole; only whole ticks that
    were missed for good are not made up for: what was meant to be steady must not become a burst.
    """
    start = clock.monotonic()
    number = 0
    while True:
        now_s = clock.monotonic() - start
        if now_s < number * every_s:
            clock.sleep(number * every_s - now_s)
            now_s = clock.monotonic() - start
        yield now_s
        late = int((clock.monotonic() - start) / every_s)
        number = max(number + 1, late)
