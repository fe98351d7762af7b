"""The cells of a matrix: each a probe, with what the scenario and what the oracle say of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from cilium_e2e.model import Destination, Expectation, InputError, Probe, Protocol, TargetKind
from cilium_e2e.policy import HTTPRequest, Oracle, explain, request_verdict
from cilium_e2e.scenario.judgement import Check
from cilium_e2e.scenario.model import Row, Step, is_denial
from cilium_e2e.scenario.oracle_view import OracleView, Saying
from cilium_e2e.scenario.stage import Stage

TIMEOUT_S = 1.0
"""How long silence lasts until it is a denial. Answers inside a cluster take milliseconds, and whatever is
not as expected is asked again."""
SLOW_TIMEOUT_S = 1.5
"""The same for HTTP and DNS, which proxies and resolvers answer."""

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
        saying: what the oracle says of a row in full; None where it was not asked, or cannot tell.
    """

    check: Check
    row: Row | None = None
    oracle: str = ""
    disagrees: bool = False
    saying: Saying | None = None

    @property
    def denied(self) -> bool:
        """Whether it must be denied, which means something only after it has connected without policies."""
        return is_denial(self.check.expected)

    def control(self) -> Check:
        """The same question without policies."""
        return replace(self.check, expected=_CONNECTED)


def row_cells(step: Step, stage: Stage, *, silence_s: float = TIMEOUT_S) -> Iterator[Cell]:
    """A cell for each explicit expectation; ``silence_s`` is how long silence lasts until it is a denial."""
    for row in step.expect:
        source, destination = stage.target(row.source), stage.destination(row.destination)
        who = frozenset(str(stage.pod(name)) for name in row.answered_by) or _answering(destination)
        slow = destination.protocol in {Protocol.HTTP, Protocol.DNS}
        slow = slow or destination.target.kind is TargetKind.DNS
        probe = Probe.to(source, destination, timeout_s=SLOW_TIMEOUT_S if slow else silence_s)
        probe = replace(probe, request=row.request, id=probe.id + _asked(row, destination.protocol))
        yield Cell(Check(probe, row.outcome, who), row)


def matrix_cells(stage: Stage, but: Sequence[Cell] = ()) -> Iterator[Cell]:
    """Every pod to every port of every pod, ``but`` what others ask; expected is, so far, ``connected``.

    Between two pods nothing chooses who answers, and a matrix has hundreds of such cells: a connection at the
    first try after the proof is enough.
    """
    asked_already = {(cell.check.probe.source, cell.check.probe.destination) for cell in but}
    # Each target is named once, and not once a cell: a matrix has as many cells as pods times ports, squared.
    pods = [(stage.pod(pod.key), pod.ports) for pod in stage.workload.pods]
    asked = [
        (Destination(target, port.number, Protocol[port.protocol]), frozenset({str(target)}))
        for target, ports in pods
        for port in ports
    ]
    for source, _ in pods:
        for destination, who in asked:
            if (source, destination) not in asked_already:
                probe = Probe.to(source, destination, timeout_s=TIMEOUT_S)
                yield Cell(Check(probe, _CONNECTED, who, once=True))


def asked_cells(step: Step, stage: Stage) -> Iterator[Cell]:
    """What a step asks the oracle beside the matrix; expected is, so far, ``connected``."""
    for asking, asked in step.asks:
        source, destination = stage.target(asking), stage.destination(asked)
        probe = Probe.to(source, destination, timeout_s=TIMEOUT_S)
        yield Cell(Check(probe, _CONNECTED, _answering(destination)))


def ask_oracle(cell: Cell, oracle: Oracle) -> Cell | None:
    """The cell with the oracle's word; None where it is the oracle's alone, and the oracle has none."""
    if cell.row is not None:
        return _compared(cell, oracle)
    word = _word(cell, oracle)
    if word is None:
        return None
    passes, sentence = word
    return Cell(replace(cell.check, expected=_CONNECTED if passes else _DENIED), None, sentence)


def resolved_names(cells: Iterable[Cell], oracle: Oracle) -> set[str]:
    """The names that a DNS proxy sees the probes of explicit expectations resolve."""
    view = OracleView.over(oracle)
    names = set()
    for cell in cells:
        with suppress(InputError):  # the world has no cluster DNS: then nothing is resolved by it
            names.add(view.learns(cell.check.probe))
    return names - {""}


def _compared(cell: Cell, oracle: Oracle) -> Cell:
    """An explicit expectation beside the oracle's word; as it is where the oracle cannot tell."""
    try:
        saying = OracleView.over(oracle).says(cell.check.probe)
    except InputError:
        return cell  # a participant or Service that the world does not have, or it depends on the backend
    if saying.unverified:
        return cell
    agrees = saying.agrees(cell.check.expected)
    return replace(cell, oracle=saying.words, disagrees=not agrees, saying=saying)


def _word(cell: Cell, oracle: Oracle) -> tuple[bool, str] | None:
    """Whether the oracle lets it pass, and why; None where it cannot tell."""
    probe = cell.check.probe
    if str(probe.source) == str(probe.target):
        return True, "a pod reaches itself without leaving it"
    try:
        return _flow_word(probe, oracle)
    except InputError:
        return None  # a participant that the world does not have


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


def _answering(destination: Destination) -> frozenset[str]:
    """Who must answer: the pod that is asked; an echo reply comes from the kernel, which knows no names."""
    named = destination.target.kind is TargetKind.POD and destination.protocol is not Protocol.ICMP
    return frozenset({str(destination.target)}) if named else frozenset()


def _asked(row: Row, protocol: Protocol) -> str:
    """What tells probes with different requests apart."""
    request = row.request
    if protocol is Protocol.HTTP:
        headers = "".join(f" {name}: {value}" for name, value in request.headers)
        return f" {request.method} {request.path}{headers}"
    if protocol is Protocol.DNS and request.name:
        return f" {request.record} {request.name}"
    return ""
