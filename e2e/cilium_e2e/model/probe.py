"""A probe, its outcome, and what an expectation says of the two."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Self

from cilium_e2e.model.errors import InputError
from cilium_e2e.model.target import Destination, Protocol, Target

HTTP_FORBIDDEN = 403
DNS_REFUSED = "REFUSED"
UNANSWERED = "unanswered"


class OutcomeKind(enum.Enum):
    """What a probe came to, in the prober's own words.

    ``INFRA_ERROR`` means that the probe could not be made or its answer was lost. It is an error of
    the run, never a denial. There is no DROPPED here: only a flow can say that.
    """

    CONNECTED = "connected"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    HTTP = "http"
    DNS = "dns"
    INFRA_ERROR = "infra_error"


_NOBODY = {OutcomeKind.TIMEOUT, OutcomeKind.REFUSED, OutcomeKind.UNREACHABLE}


@dataclass(frozen=True, slots=True)
class Request:
    """What an L7 probe asks for; plain TCP, UDP and ICMP probes have the default.

    ``name`` and ``record`` are for DNS; ``method``, ``path`` and ``headers`` for HTTP; ``payload_bytes``
    for TCP, UDP and ICMP: so many bytes must come back as they were sent. ``search`` has a ``dns:`` target
    looked up below the source's search domains first, as the C library does with a name of fewer dots than
    ``ndots``; without it only names without dots are.
    """

    method: str = "GET"
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()
    name: str = ""
    record: str = "A"
    payload_bytes: int = 0
    search: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """One question to the network.

    Attributes:
        id: unique within its batch; the outcome repeats it.
        source: the pod, node or world agent that asks.
        target: whom it asks.
        protocol: what it speaks.
        port: destination port, 0 for ICMP.
        request: what an HTTP or DNS probe asks for.
        timeout_s: how long silence lasts before it counts as ``TIMEOUT``, in seconds.
        source_port: local port to bind (TCP, UDP), 0 for any; two probes may share a five-tuple with it.
    """

    id: str
    source: Target
    target: Target
    protocol: Protocol
    port: int
    request: Request = field(default_factory=Request)
    timeout_s: float = 1.0
    source_port: int = 0

    @classmethod
    def to(cls, source: Target, destination: Destination, *, timeout_s: float = 1.0, id: str = "") -> Self:  # noqa: A002 - the field's name
        """A probe of a destination; the id defaults to ``source → destination``."""
        return cls(
            id=id or f"{source} → {destination}",
            source=source,
            target=destination.target,
            protocol=destination.protocol,
            port=destination.port,
            timeout_s=timeout_s,
        )

    @property
    def destination(self) -> Destination:
        """Target, port and protocol as one."""
        return Destination(self.target, self.port, self.protocol)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one probe.

    Attributes:
        probe_id: the :attr:`Probe.id` it answers.
        kind: what happened.
        answered_by: the name the answering agent gave (``namespace/pod``), empty if none answered
            or the peer is no agent.
        source_ip, source_port: the local address the probe left from, before any translation; the
            port is 0 where the protocol has none or no socket was bound.
        destination_ip: the address that was dialled, after name resolution.
        seen_from: the address the answering agent saw the probe come from, after any translation; empty
            for ICMP and where the peer is no agent.
        elapsed_s: from the first packet to the outcome, in seconds.
        status: the HTTP status when ``kind`` is HTTP, else 0.
        rcode: the DNS response code (``NOERROR``, ``REFUSED`` ...) when ``kind`` is DNS, else empty.
        detail: the operating system's or protocol's own words, for people; of a DNS answer the records,
            joined by ", ".
    """

    probe_id: str
    kind: OutcomeKind
    answered_by: str = ""
    source_ip: str = ""
    source_port: int = 0
    destination_ip: str = ""
    seen_from: str = ""
    elapsed_s: float = 0.0
    status: int = 0
    rcode: str = ""
    detail: str = ""

    @property
    def connected(self) -> bool:
        """Whether the question reached its target and the answer came back."""
        return (
            self.kind is OutcomeKind.CONNECTED
            or (self.kind is OutcomeKind.HTTP and 200 <= self.status < 300)
            or (self.kind is OutcomeKind.DNS and self.rcode == "NOERROR")
        )

    def __str__(self) -> str:
        if self.kind is OutcomeKind.HTTP:
            text = f"http({self.status})"
        elif self.kind is OutcomeKind.DNS:
            text = f"dns({self.rcode})"
        else:
            text = self.kind.value
        by = f" by {self.answered_by}" if self.answered_by else ""
        by += f" seen from {self.seen_from}" if self.seen_from else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{text}{by} after {self.elapsed_s:.3f} s{detail}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an outcome is expected to be: ``connected``, ``denied``, ``unanswered``, or one exact outcome.

    ``denied`` is what a policy denial looks like to the probe at hand: a timeout for L3/L4, 403 for
    HTTP, REFUSED for DNS. An HTTP or DNS probe may also be denied at L3/L4, and then times out.
    ``unanswered`` is for addresses where nobody is: silence, or the network's own word for it. It is no
    denial: which of the two it is, is the choice of routers and not of policy.
    Exact outcomes are written as :class:`OutcomeKind` values, ``http(404)`` or ``dns(NXDOMAIN)``.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an expectation.

        Raises:
            InputError: not one of the forms above, or ``infra_error``, which nobody may expect.
        """
        word = text.strip()
        plain = {k.value for k in OutcomeKind} - {"infra_error", "http", "dns"} | {"denied", UNANSWERED}
        if word in plain or _argument(word, "dns") or _argument(word, "http").isdigit():
            return cls(word)
        raise InputError(
            f"expected one of {', '.join(sorted(plain))}, http(STATUS) or dns(RCODE), got {text!r}",
            place="outcome",
        )

    def met_by(self, protocol: Protocol, outcome: Outcome) -> bool:
        """Whether ``outcome``, of a probe that spoke ``protocol``, is what was expected."""
        if outcome.kind is OutcomeKind.INFRA_ERROR:
            return False
        if self.text == "connected":
            return outcome.connected
        if self.text in {"denied", UNANSWERED}:
            return outcome.kind in _NOBODY if self.text == UNANSWERED else looks_denied(protocol, outcome)
        if status := _argument(self.text, "http"):
            return outcome.kind is OutcomeKind.HTTP and outcome.status == int(status)
        if rcode := _argument(self.text, "dns"):
            return outcome.kind is OutcomeKind.DNS and outcome.rcode == rcode
        return outcome.kind is OutcomeKind(self.text)

    def __str__(self) -> str:
        return self.text


def looks_denied(protocol: Protocol, outcome: Outcome) -> bool:
    """Whether ``outcome`` is what a policy denial looks like to a probe that spoke ``protocol``."""
    if outcome.kind is OutcomeKind.TIMEOUT:
        return True
    if protocol is Protocol.HTTP:
        return outcome.kind is OutcomeKind.HTTP and outcome.status == HTTP_FORBIDDEN
    if protocol is Protocol.DNS:
        return outcome.kind is OutcomeKind.DNS and outcome.rcode == DNS_REFUSED
    return False


def _argument(text: str, function: str) -> str:
    """The ``x`` of ``function(x)``, or an empty string."""
    prefix = f"{function}("
    return text[len(prefix) : -1] if text.startswith(prefix) and text.endswith(")") else ""
