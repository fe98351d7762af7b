"""Questions to cluster DNS, and the records that must come of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from cilium_e2e.model import Expectation, Outcome, Protocol, Request, Target
from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.reach import CONNECTED, LOOKUP_S, NAMES_KNOWN_S, ask

PORT = 53

Settles = Callable[[Callable[[], list[str]]], None]


def lookup(source: Target, name: str, expected: Expectation = CONNECTED, *, record: str = "A") -> Check:
    """A question to the source's own resolver, for the name exactly as it is written."""
    request = Request(record=record)
    target = Target.dns(name)
    probe = ask(source, target, Protocol.DNS, PORT, request=request, timeout_s=LOOKUP_S, tag=record)
    return Check(probe, expected)


def records(outcome: Outcome) -> frozenset[str]:
    """The addresses or names of a DNS answer."""
    return frozenset(filter(None, outcome.detail.split(", ")))


def resolve(lab: Lab, settles: Settles, wanted: Mapping[Check, Collection[str]]) -> None:
    """Each lookup gets the records that are wanted of it, all and no others, as soon as DNS knows them.

    Raises:
        AssertionError: a lookup fails; one that answers something else for too long fails the test, too.
    """

    def look() -> list[str]:
        judged = lab.judge(list(wanted), hold=0, converge_s=NAMES_KNOWN_S).judged
        return [
            f"{entry}, without just {', '.join(sorted(wanted[entry.check])) or 'nothing'}"
            for entry in judged
            if records(entry.outcome) != set(wanted[entry.check])
        ]

    settles(look)
