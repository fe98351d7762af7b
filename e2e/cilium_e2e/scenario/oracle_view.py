"""What the oracle says of a probe on a live cluster: the outcome, and the flows Hubble must show."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cilium_e2e.model import (
    Decision,
    Direction,
    DropReason,
    Expectation,
    InputError,
    PolicyRef,
    Probe,
    Protocol,
    RuleRef,
    Target,
    TargetKind,
)
from cilium_e2e.policy import (
    DNSQuery,
    HTTPRequest,
    Oracle,
    PolicyObject,
    Side,
    World,
    explain,
    request_verdict,
    service_verdicts,
)
from cilium_e2e.probe.places import zone_agents

CLUSTER_DNS = Target.service("kube-system", "kube-dns")
_ECHO_REQUEST = {4: ("ICMP", 8), 6: ("ICMPv6", 128)}
_TIMEOUT, _FORBIDDEN, _REFUSED = "timeout", "403", "REFUSED"
_LOOKS = {"denied": (_TIMEOUT, _FORBIDDEN, _REFUSED), "timeout": (_TIMEOUT,)}
_EXACT = {"http(403)": (_FORBIDDEN,), "dns(REFUSED)": (_REFUSED,)}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A side on which rules let a flow through: the policies, and whether the proxy is asked, too."""

    direction: Direction
    policies: tuple[PolicyRef, ...]
    redirected: bool


@dataclass(frozen=True, slots=True)
class Saying:
    """What the oracle says of one probe.

    Attributes:
        passes: whether the probe gets its answer, as far as policy goes.
        sentence: why, for people.
        looks: what a denial looks like to the probe: ``timeout``, ``403``, ``REFUSED``; empty for none.
        denied_at: the side that denies it.
        reason: Hubble's drop reason; None where the proxy refuses the request, which has none.
        denied_by: the policies whose deny or proxy rules stop it; empty where no rule allows it.
        allowed: the sides on which rules let it through, the source's first.
        unverified: whether a rule asks for authentication, of which the oracle knows nothing.
    """

    passes: bool
    sentence: str
    looks: str = ""
    denied_at: Direction | None = None
    reason: DropReason | None = None
    denied_by: tuple[PolicyRef, ...] = ()
    allowed: tuple[Allowed, ...] = ()
    unverified: bool = False

    @property
    def words(self) -> str:
        """For reports: ``allowed`` or ``denied``, and why."""
        return f"{'allowed' if self.passes else f'denied, seen as {self.looks}'}: {self.sentence}"

    def agrees(self, expected: Expectation) -> bool:
        """Whether an expectation is what policy makes of the probe.

        Every exact outcome that is no denial (``refused``, ``http(404)`` ...) is its peer's, and so needs a
        flow that passes.
        """
        looks = _LOOKS.get(expected.text) or _EXACT.get(expected.text)
        return self.passes if looks is None else not self.passes and self.looks in looks


class OracleView:
    """The oracle, asked about probes.

    Args:
        world: the cluster (:func:`~cilium_e2e.scenario.live_world.live_world`).
        policies: those in force.
        dns: the Service that pods resolve names with.
        oracle: of that world and those policies, where there is one already.
    """

    def __init__(
        self,
        world: World,
        policies: Iterable[PolicyObject] = (),
        *,
        dns: Target = CLUSTER_DNS,
        oracle: Oracle | None = None,
    ) -> None:
        self.oracle = oracle or Oracle(world, policies)
        self._dns = dns

    @classmethod
    def over(cls, oracle: Oracle) -> Self:
        """The view of an oracle that there is already."""
        return cls(oracle.world, oracle=oracle)

    def learns(self, probe: Probe) -> str:
        """The name that a DNS proxy sees the probe resolve, so that ``toFQDNs`` can mean it; else empty."""
        if probe.target.kind is not TargetKind.DNS or probe.request.name:
            return ""
        saying = self._lookup(probe)
        redirected = any(s.redirected and s.direction is Direction.EGRESS for s in saying.allowed)
        return probe.target.name if saying.passes and redirected else ""

    def says(self, probe: Probe) -> Saying:
        """What becomes of a probe.

        Raises:
            InputError: the world does not have its ends, or the answer depends on which backend is chosen.
        """
        if probe.protocol is Protocol.DNS:
            by_name = probe.target.kind is TargetKind.DNS and not probe.request.name
            name = probe.target.name if by_name else probe.request.name
            return self._asked(probe, self._dns if by_name else probe.target, DNSQuery(name))
        if probe.target.kind is TargetKind.DNS:
            lookup = self._lookup(probe)
            if not lookup.passes:
                return lookup
        request = None
        if probe.protocol is Protocol.HTTP:
            request = HTTPRequest(
                method=probe.request.method, path=probe.request.path, headers=probe.request.headers
            )
        return self._asked(probe, probe.target, request)

    def _lookup(self, probe: Probe) -> Saying:
        """The query that a probe of a name makes first."""
        service = self._service_port(self._dns, "UDP", 53)
        return _one(probe, [self._flow(probe, *end, "UDP", DNSQuery(probe.target.name)) for end in service])

    def _asked(self, probe: Probe, target: Target, request: DNSQuery | HTTPRequest | None) -> Saying:
        protocol, port = probe.protocol.transport, probe.port
        if probe.protocol is Protocol.ICMP:
            protocol, port = _ECHO_REQUEST[self._family(target)]
        if target.kind is TargetKind.SERVICE:
            ends = self._service_port(target, protocol, port)
        elif target.kind is TargetKind.DNS:
            ends = [(key, port) for key in self._named(target.name)]
        else:
            ends = [(str(target), port)]
        return _one(probe, [self._flow(probe, key, number, protocol, request) for key, number in ends])

    def _flow(
        self, probe: Probe, target: str, port: int, protocol: str, request: DNSQuery | HTTPRequest | None
    ) -> Saying:
        source = str(probe.source)
        if source == target:
            # A pod that reaches itself, through a Service or not, never meets its own policy.
            return Saying(passes=True, sentence=f"{source} reaches itself")
        said = explain(self.oracle, source, target, protocol, port)
        sentence, verdict = said.sentence, said.verdict
        sides = self.oracle.sides(source, target, protocol, port)
        if not verdict.passes:
            return Saying(
                passes=False,
                sentence=sentence,
                looks=_TIMEOUT,
                denied_at=verdict.denied_at,
                reason=verdict.drop_reason,
                denied_by=_policies(verdict.rules),
                allowed=tuple(_allowed(sides)),
                unverified=verdict.unverified,
            )
        if request is not None:
            answer = request_verdict(self.oracle, source, target, protocol, port, request=request)
            if not answer.passes:
                return Saying(
                    passes=False,
                    sentence=f"{sentence} The proxy at {answer.refused_at} answers {answer.looks}.",
                    looks=answer.looks,
                    denied_at=answer.refused_at,
                    denied_by=_policies(answer.rules),
                    allowed=tuple(_allowed(sides)),
                )
        return Saying(
            passes=True,
            sentence=sentence,
            allowed=tuple(_allowed(sides)),
            unverified=verdict.unverified,
        )

    def _service_port(self, service: Target, protocol: str, port: int) -> list[tuple[str, int]]:
        """The backends of a Service as (participant, port); who asks does not matter to the choice."""
        key = f"{service.namespace}/{service.name}"
        found = service_verdicts(self.oracle, next(iter(self.oracle.participants)), key, protocol, port)
        return [(backend.backend, backend.port) for backend in found]

    def _named(self, name: str) -> list[str]:
        """The peers that a name leads to: as the world says, else as the zone outside does."""
        wanted = name.rstrip(".").lower()
        peers = self.oracle.world.peers
        outside = {str(Target.world(agent)) for agent in zone_agents(name)}
        known = [p.key for p in peers if wanted in (n.lower() for n in p.dns_names)]
        return known or [p.key for p in peers if p.key in outside]

    def _family(self, target: Target) -> int:
        """The IP version a ping of a target uses: the first of its addresses."""
        address = next((p.address for p in self.oracle.world.peers if p.key == str(target)), "")
        return 6 if ":" in address or not (address or self.oracle.options.ipv4) else 4


def _allowed(sides: Iterable[Side]) -> Iterable[Allowed]:
    for side in sides:
        policies = _policies(side.rules)
        if side.decision is Decision.ALLOWED and policies:
            yield Allowed(side.direction, policies, bool(side.redirects))


def _policies(rules: Iterable[RuleRef]) -> tuple[PolicyRef, ...]:
    return tuple(dict.fromkeys(rule.policy for rule in rules))


def _one(probe: Probe, sayings: list[Saying]) -> Saying:
    """What all backends or addresses have in common.

    Raises:
        InputError: there is none, or they differ.
    """
    if not sayings:
        raise InputError(f"the world has nothing behind {probe.target}", place=f"probe {probe.id!r}")
    kinds = {(saying.passes, saying.looks, saying.denied_at) for saying in sayings}
    if len(kinds) > 1:
        texts = "; ".join(saying.words for saying in sayings)
        raise InputError(f"it depends on the backend: {texts}", place=f"probe {probe.id!r}")
    return sayings[0]
