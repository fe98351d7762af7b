"""The cells of a matrix: each a probe, with what the scenario and what the oracle say of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from cilium_e2e.model import Destination, Expectation, InputError, Probe, Protocol, TargetKind
from cilium_e2e.policy import HTTPRequest, Oracle, explain, request_verdict, service_verdicts
from cilium_e2e.scenario.judgement import Check
from cilium_e2e.scenario.model import Row, Step
from cilium_e2e.scenario.stage import Stage

TIMEOUT_S = 1.0
"""How long silence lasts until it is a denial. Answers inside a cluster take milliseconds, and whatever is
not as expected is asked again."""
SLOW_TIMEOUT_S = 1.5
"""The same for HTTP and DNS, which proxies and resolvers answer."""

_DENIALS = re.compile(r"denied|timeout|http\(403\)|dns\(REFUSED\)")
_PASSES = re.compile(r"connected|http\(2\d\d\)|dns\(NOERROR\)")
_CONNECTED, _DENIED = Expectation("connected"), Expectation("denied")
_ECHO_REQUEST = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """One question of a matrix.

    Attributes:
        check: the probe, and what must come of it.
        row: the explicit expectation it stands for; None where only the oracle knows.
        oracle: what the oracle says in a sentence; empty where it says nothing.
        disagrees: whether the oracle and the row expect different things.
    """

    check: Check
    row: Row | None = None
    oracle: str = ""
    disagrees: bool = False

    @property
    def denied(self) -> bool:
        """Whether it must be denied, which means something only after it has connected without policies."""
        return bool(_DENIALS.fullmatch(self.check.expected.text))

    def control(self) -> Check:
        """The same question without policies."""
        return replace(self.check, expected=_CONNECTED)


def row_cells(step: Step, stage: Stage) -> Iterator[Cell]:
    """A cell for each explicit expectation."""
    for row in step.expect:
        source, destination = stage.target(row.source), stage.destination(row.destination)
        who = {str(stage.pod(name)) for name in row.answered_by}
        # An echo reply comes from the kernel, which knows no names.
        if (
            not who
            and destination.target.kind is TargetKind.POD
            and destination.protocol is not Protocol.ICMP
        ):
            who = {str(destination.target)}
        slow = destination.protocol in {Protocol.HTTP, Protocol.DNS}
        probe = Probe.to(source, destination, timeout_s=SLOW_TIMEOUT_S if slow else TIMEOUT_S)
        probe = replace(probe, request=row.request, id=probe.id + _asked(row, destination.protocol))
        yield Cell(Check(probe, row.outcome, frozenset(who)), row)


def matrix_cells(stage: Stage, but: Sequence[Cell] = ()) -> Iterator[Cell]:
    """Every pod to every port of every pod, ``but`` what others ask; expected is, so far, ``connected``."""
    asked_already = {(cell.check.probe.source, cell.check.probe.destination) for cell in but}
    for asking in stage.workload.pods:
        for asked in stage.workload.pods:
            for port in asked.ports:
                source, target = stage.pod(asking.key), stage.pod(asked.key)
                destination = Destination(target, port.number, Protocol[port.protocol])
                if (source, destination) in asked_already:
                    continue
                probe = Probe.to(source, destination, timeout_s=TIMEOUT_S)
                yield Cell(Check(probe, _CONNECTED, frozenset({str(target)})))


def ask_oracle(cell: Cell, oracle: Oracle) -> Cell | None:
    """The cell with the oracle's word; None where it is the oracle's alone, and the oracle has none."""
    word = _word(cell, oracle)
    if word is None:
        return None if cell.row is None else cell
    passes, sentence = word
    if cell.row is None:
        expected = _CONNECTED if passes else _DENIED
        return Cell(replace(cell.check, expected=expected), None, sentence)
    text = cell.check.expected.text
    disagrees = bool(_DENIALS.fullmatch(text)) if passes else bool(_PASSES.fullmatch(text))
    return replace(cell, oracle=sentence, disagrees=disagrees)


def _word(cell: Cell, oracle: Oracle) -> tuple[bool, str] | None:
    """Whether the oracle lets it pass, and why; None where it cannot tell."""
    probe = cell.check.probe
    if str(probe.source) == str(probe.target):
        return True, "a pod reaches itself without leaving it"
    if probe.target.kind is TargetKind.DNS:
        return None
    try:
        if probe.target.kind is TargetKind.SERVICE:
            return _service_word(probe, oracle)
        return _flow_word(probe, oracle)
    except InputError:
        return None  # a participant or Service that the world does not have


def _service_word(probe: Probe, oracle: Oracle) -> tuple[bool, str] | None:
    key = f"{probe.target.namespace}/{probe.target.name}"
    found = service_verdicts(oracle, str(probe.source), key, probe.protocol.transport, probe.port)
    words = {one.verdict.passes for one in found}
    if len(words) != 1 or any(one.verdict.l7 or one.verdict.unverified for one in found):
        return None
    return words.pop(), f"so it is at each of the {len(found)} backends"


def _flow_word(probe: Probe, oracle: Oracle) -> tuple[bool, str] | None:
    source, target, transport = str(probe.source), str(probe.target), probe.protocol.transport
    port = _ECHO_REQUEST if probe.protocol is Protocol.ICMP else probe.port
    said = explain(oracle, source, target, transport, port)
    if said.verdict.unverified:
        return None
    if not said.verdict.l7:
        return said.verdict.passes, said.sentence
    if probe.protocol is not Protocol.HTTP:
        return None  # what a proxy makes of something else than it speaks is not policy
    request = HTTPRequest(method=probe.request.method, path=probe.request.path, headers=probe.request.headers)
    passes = request_verdict(oracle, source, target, transport, probe.port, request=request).passes
    return passes, f"the proxy {'lets' if passes else 'does not let'} this request through"


def _asked(row: Row, protocol: Protocol) -> str:
    """What tells probes with different requests apart."""
    request = row.request
    if protocol is Protocol.HTTP:
        headers = "".join(f" {name}: {value}" for name, value in request.headers)
        return f" {request.method} {request.path}{headers}"
    if protocol is Protocol.DNS and request.name:
        return f" {request.record} {request.name}"
    return ""
