"""What the proxy says to single requests: HTTP, DNS and TLS server names.

No table of Cilium's engine covers this, so every answer here is unverified. Rules of all entries that let the
flow through add up: a request passes where one of them accepts it, and everything passes where one of them
asks for no rules at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

from cilium_e2e.model import Decision, Direction, InputError, RuleRef, Verdict
from cilium_e2e.policy import fqdn
from cilium_e2e.policy.engine import L7Spec
from cilium_e2e.policy.objects_ports import HeaderMatch, HTTPRule
from cilium_e2e.policy.oracle import Oracle, Side, verdict_of
from cilium_e2e.policy.subject import Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class HTTPRequest:
    """An HTTP request; the path includes the query."""

    method: str = "GET"
    path: str = "/"
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class DNSQuery:
    """A query for a name."""

    name: str


@dataclass(frozen=True, slots=True)
class TLSHello:
    """The start of a TLS connection to a server name."""

    server_name: str


Request: TypeAlias = HTTPRequest | DNSQuery | TLSHello

_REFUSALS = {HTTPRequest: "403", DNSQuery: "REFUSED", TLSHello: "reset"}


@dataclass(frozen=True, slots=True)
class RequestVerdict:
    """What becomes of a request.

    Attributes:
        verdict: of the flow that carries it.
        passes: whether the request gets through flow and proxies.
        refused_at: the side whose proxy refuses it; None where none does.
        looks: what a refusal looks like to the client: ``403``, ``REFUSED``, ``reset``.
        rules: the rules whose requests it is not among, or that accept it.
        unverified: whether a proxy had a say at all.
    """

    verdict: Verdict
    passes: bool
    refused_at: Direction | None = None
    looks: str = ""
    rules: tuple[RuleRef, ...] = field(default=())
    unverified: bool = False


def _full(pattern: str | None, value: str) -> bool:
    try:
        return not pattern or re.fullmatch(pattern, value) is not None
    except (re.error, OverflowError, RecursionError) as error:
        raise InputError(
            f"expected a regular expression, got {pattern!r}: {error}", place="HTTP rule"
        ) from None


def _header(wanted: str, headers: dict[str, str]) -> bool:
    """A header of ``headers``: ``Name`` or ``Name value`` (``Name: value``)."""
    name, _, value = wanted.partition(" ")
    name = name.rstrip(":").lower()
    return name in headers and (not value or headers[name] == value)


def _header_match(wanted: HeaderMatch, headers: dict[str, str]) -> bool:
    if wanted.mismatch:
        # The proxy logs or mends the header instead of refusing the request.
        return True
    name = (wanted.name or "").lower()
    return name in headers and (not wanted.value or headers[name] == wanted.value)


def _http(rule: HTTPRule, request: HTTPRequest) -> bool:
    headers = {name.lower(): value for name, value in request.headers}
    return (
        _full(rule.method, request.method)
        and _full(rule.path, request.path)
        and _full(rule.host, request.host)
        and all(_header(wanted, headers) for wanted in rule.headers or ())
        and all(_header_match(wanted, headers) for wanted in rule.header_matches or ())
    )


def server_name_matches(pattern: str, name: str) -> bool:
    """Whether an SNI value is selected: ``*.`` stands for one label, ``**.`` for one or more."""
    pattern, name = pattern.lower().rstrip("."), name.lower().rstrip(".")
    for prefix, labels in (("**.", r"(?:[^.]+\.)+"), ("*.", r"[^.]+\.")):
        if pattern.startswith(prefix):
            return re.fullmatch(labels + re.escape(pattern.removeprefix(prefix)), name) is not None
    return pattern == name


def _accepts(spec: L7Spec, request: Request) -> bool:
    """Whether the rules of one entry accept a request; a rule set for another protocol does not."""
    rules = spec.rules
    if isinstance(request, TLSHello):
        return not spec.server_names or any(
            server_name_matches(pattern, request.server_name) for pattern in spec.server_names
        )
    if rules is None or rules.empty:
        return True
    if isinstance(request, HTTPRequest):
        return any(_http(rule, request) for rule in rules.http or ())
    return any(
        fqdn.matches(
            name=request.name, match_name=rule.match_name or "", match_pattern=rule.match_pattern or ""
        )
        for rule in rules.dns or ()
    )


def _refused(side: Side, request: Request) -> bool:
    if not side.redirects or not side.policy.default_deny:
        # Without default deny the engine adds a rule for everything to every rule set.
        return False
    return not any(entry.ports.l7 is None or _accepts(entry.ports.l7, request) for entry in side.deciding)


def _refs(entries: Iterable[Entry]) -> tuple[RuleRef, ...]:
    return tuple(dict.fromkeys(entry.ref for entry in entries if entry.ref is not None))


def request_verdict(
    oracle: Oracle, source: str, target: str, protocol: str, port: int, *, request: Request
) -> RequestVerdict:
    """What becomes of a request from one participant to another.

    Args:
        oracle: world and policies.
        source: a pod (``namespace/name``) or peer.
        target: likewise.
        protocol: what carries it: ``TCP`` or ``UDP``.
        port: the destination port.
        request: the request.

    Raises:
        InputError: an unknown name or protocol.
    """
    sides = oracle.sides(source, target, protocol, port)
    verdict = verdict_of(*sides)
    if not verdict.passes:
        return RequestVerdict(verdict, passes=False, rules=verdict.rules, unverified=verdict.unverified)
    asked = [side for side in sides if side.redirects and side.decision is Decision.ALLOWED]
    for side in asked:
        if _refused(side, request):
            return RequestVerdict(
                verdict,
                passes=False,
                refused_at=side.direction,
                looks=_REFUSALS[type(request)],
                rules=_refs(side.redirects),
                unverified=True,
            )
    return RequestVerdict(verdict, passes=True, rules=verdict.rules, unverified=bool(asked))
