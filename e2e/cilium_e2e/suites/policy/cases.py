"""The suite's cases as plain data, read from ``cases/*.yaml``: policies, and what they make of traffic.

A file holds ``cases``, and under ``shared`` whatever its anchors need::

    cases:
      - name: ingress is denied where no rule allows it
        tier: full                          # quick where it says nothing
        requires: [multi-node]
        policies: [...]                     # whole objects; namespaces as the stage names them
        expect:
          - {from: x/near, to: "x/server:8080/TCP", outcome: connected}
          - {from: [x/far, y/guest], to: "x/server:8080/TCP", outcome: denied,
             flow: {verdict: DROPPED, reason: POLICY_DENIED, direction: INGRESS}}

Lists in ``from`` and ``to`` are spread: each source with each destination. ``named: false`` stands, with its
reason, where Cilium's Hubble names no policy for what one lets through.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from cilium_e2e.hubble.matching import ACCESS_LOG, DROP, POLICY_VERDICT
from cilium_e2e.model import Expectation, Object, Request, ScenarioError, Tier
from cilium_e2e.repository.yamlfiles import read_mapping

FOLDER = Path(__file__).parent / "cases"
DENIALS = frozenset({"denied", "timeout", "http(403)", "dns(REFUSED)"})
"""Outcomes that are a policy's doing: each needs a positive control and a flow."""

_EVENTS = {"drop": DROP, "verdict": POLICY_VERDICT, "l7": ACCESS_LOG}
_CASE = {"name", "tier", "requires", "policies", "expect"}
_ROW = {"from", "to", "outcome", "flow", "request", "named"}
_FLOW = {"verdict", "reason", "direction", "policy", "event"}
_REQUEST = {"method", "path", "name"}


@dataclass(frozen=True, slots=True)
class FlowWish:
    """The flow Hubble must have for a row; empty fields do not matter.

    Attributes:
        verdict, reason, direction: as Hubble names them.
        policy: the name of a policy of the case that the flow must name.
        event_type: Cilium's monitor type, 0 for any.
    """

    verdict: str = ""
    reason: str = ""
    direction: str = ""
    policy: str = ""
    event_type: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """One expectation: one source, one destination, both as written.

    ``named`` is false where Hubble is known to name no policy though one lets it through.
    """

    source: str
    destination: str
    expected: Expectation
    flow: FlowWish | None = None
    request: Request = field(default_factory=Request)
    named: bool = True

    @property
    def denial(self) -> bool:
        """Whether a policy is expected to stop it."""
        return self.expected.text in DENIALS


@dataclass(frozen=True, slots=True)
class Case:
    """Policies and what they make of traffic; ``requires`` and ``tier`` as tests have them."""

    name: str
    policies: tuple[Object, ...]
    rows: tuple[Row, ...]
    requires: tuple[str, ...] = ()
    file: str = ""
    tier: Tier = Tier.QUICK

    @property
    def id(self) -> str:
        """Its name as part of a test's id."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.name)


def load(folder: Path = FOLDER) -> list[Case]:
    """All cases, by file and place in it.

    Raises:
        ScenarioError: a case cannot be run as written; the message says which part of it.
    """
    cases = [case for file in sorted(folder.glob("*.yaml")) for case in _file(file)]
    names = [case.name for case in cases]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ScenarioError(f"expected names of their own, got twice: {', '.join(twice)}", place=str(folder))
    return cases


def _file(file: Path) -> list[Case]:
    document = read_mapping(file, place=file.name, error=ScenarioError)
    _known(document, {"shared", "cases"}, file.name)
    return [parse(case, file.name) for case in _list(document, "cases", file.name)]


def parse(data: Mapping[str, Any], file: str) -> Case:
    """One case from its decoded form.

    Raises:
        ScenarioError: see :func:`load`.
    """
    place = f"{file}: {data.get('name', 'a case without name')}"
    _known(data, _CASE, place)
    policies = tuple(_list(data, "policies", place))
    rows = tuple(row for entry in _list(data, "expect", place) for row in _rows(entry, place))
    if not any(row.denial for row in rows):
        raise ScenarioError(
            "expected at least one denial, got none: it would pass without its policies", place=place
        )
    names = {policy["metadata"]["name"] for policy in policies}
    for row in rows:
        if row.flow is not None and row.flow.policy and row.flow.policy not in names:
            raise ScenarioError(
                f"expected one of the policies {', '.join(sorted(names))}, got {row.flow.policy!r}",
                place=place,
            )
    tiers = [tier.value for tier in Tier]
    if (tier := data.get("tier", Tier.QUICK.value)) not in tiers:
        raise ScenarioError(f"expected a tier of {', '.join(tiers)}, got {tier!r}", place=place)
    return Case(str(data["name"]), policies, rows, tuple(data.get("requires") or ()), file, Tier(tier))


def _rows(entry: Mapping[str, Any], place: str) -> list[Row]:
    _known(entry, _ROW, place)
    expected = Expectation.parse(str(entry.get("outcome", "")))
    flow = _flow(entry["flow"], place) if "flow" in entry else None
    if expected.text in DENIALS and flow is None:
        raise ScenarioError(
            f"expected the flow of a denial, got none for {entry.get('from')} → {entry.get('to')}",
            place=place,
            hint="Give verdict, reason and direction: a denial without its flow proves little.",
        )
    request = entry.get("request") or {}
    _known(request, _REQUEST, place)
    pairs = product(_spread(entry.get("from")), _spread(entry.get("to")))
    named = bool(entry.get("named", True))
    return [Row(source, target, expected, flow, Request(**request), named) for source, target in pairs]


def _flow(data: Mapping[str, Any], place: str) -> FlowWish:
    _known(data, _FLOW, place)
    event = data.get("event", "")
    if event and event not in _EVENTS:
        raise ScenarioError(f"expected one of the events {', '.join(_EVENTS)}, got {event!r}", place=place)
    texts = {key: str(value) for key, value in data.items() if key != "event"}
    return FlowWish(**texts, event_type=_EVENTS.get(event, 0))


def _spread(value: object) -> Sequence[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def _known(data: Mapping[str, Any], known: set[str], place: str) -> None:
    if unknown := sorted(data.keys() - known):
        raise ScenarioError(
            f"expected only the fields {', '.join(sorted(known))}, got {', '.join(unknown)}", place=place
        )


def _list(data: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = data.get(key)
    if not isinstance(value, list) or not value:
        raise ScenarioError(f"expected a list {key!r} that is not empty", place=place)
    return value
