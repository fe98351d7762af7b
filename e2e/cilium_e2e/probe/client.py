"""The batch client: probes in, outcomes out, over one long-lived exec stream to an agent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from cilium_e2e.model import (
    Clock,
    ClusterStateError,
    ExecStream,
    InputError,
    Outcome,
    OutcomeKind,
    Probe,
    StreamLost,
    SystemClock,
    Target,
    TargetKind,
    WaitTimeout,
)
from cilium_e2e.probe.agent import CONCURRENT
from cilium_e2e.probe.places import HOST_PORTS
from cilium_e2e.probe.protocol import Hello, decode, decode_outcomes, encode_batch, encode_probe

HELLO_TIMEOUT_S = 20.0
MARGIN_S = 10.0
Resolve = Callable[[Collection[Target]], Mapping[Target, str | ClusterStateError]]
"""Targets to their addresses, or to why they have none."""
_HOST_PORTS = {(port.number, port.transport) for port in HOST_PORTS}


def known_agent(probe: Probe) -> bool:
    """The default of ``speaks``: pods and world agents do, and nodes on the ports of their own agents.

    On any other port of a node something else listens, and a Service or a name may lead anywhere.
    """
    if probe.target.kind is TargetKind.NODE:
        return (probe.port, probe.protocol.transport) in _HOST_PORTS
    return probe.target.kind in {TargetKind.POD, TargetKind.WORLD}


class BatchClient:
    """A :class:`~cilium_e2e.model.cluster.Prober` over an agent.

    The stream is opened with the first batch and kept. If it is lost, says nothing for longer than the
    batch can take, or says something else than the protocol, it is opened anew and the batch is sent
    once more; if that fails too, every outcome of the batch is ``INFRA_ERROR`` with both causes.

    Calls from several threads take turns.

    Args:
        open_stream: starts ``agent batch`` at the source (:data:`~cilium_e2e.probe.workload.BATCH_COMMAND`).
        source: where the agent runs; probes of another source are refused.
        resolve: the addresses of pod, service, node and world targets, asked anew for every batch; for one
            that has none, why. DNS targets never come here: the agent resolves them where it is. Nor do
            addresses.
        speaks: whether a probe's peer is known to be an agent. Of such a peer only its name is an answer
            and a handshake without a name is none; of any other the handshake is enough.
        clock: what the time limits are counted by.
        hello_timeout_s: how long the agent may take to start.
        margin_s: how much longer than its probes a batch may take.
    """

    def __init__(
        self,
        open_stream: Callable[[], ExecStream],
        source: Target,
        resolve: Resolve,
        *,
        speaks: Callable[[Probe], bool] = known_agent,
        clock: Clock | None = None,
        hello_timeout_s: float = HELLO_TIMEOUT_S,
        margin_s: float = MARGIN_S,
    ) -> None:
        self.source = source
        self.reopened = 0
        """How often a lost stream was opened anew; a run that reports it hides no flaw."""
        self._open_stream = open_stream
        self._resolve = resolve
        self._speaks = speaks
        self._clock = clock or SystemClock()
        self._hello_timeout_s = hello_timeout_s
        self._margin_s = margin_s
        self._stream: ExecStream | None = None
        self._number = 0
        self._lock = threading.Lock()

    def run(self, batch: Sequence[Probe]) -> list[Outcome]:
        """All outcomes, in the batch's order; an empty batch opens the stream, and tells of no failure.

        A target that cannot be resolved, because the cluster has no such thing now, gives an
        ``INFRA_ERROR`` for its probes alone.

        Raises:
            InputError: two probes share an id, a probe has another source, or lacks what it needs.
        """
        self._check(batch)
        outcomes: dict[str, Outcome] = {}
        ready: list[Probe] = []
        specs: list[dict[str, Any]] = []
        with self._lock:
            if not batch:
                self._open()
                return []
            hosts = self._hosts({probe.target for probe in batch})
            for probe in batch:
                host = hosts[probe.target]
                if isinstance(host, ClusterStateError):
                    outcomes[probe.id] = _infra(probe, f"no address for {probe.target}: {host}")
                    continue
                ready.append(probe)
                specs.append(encode_probe(probe, host=host, agent=self._speaks(probe)))
            if ready:
                outcomes |= {o.probe_id: o for o in self._ask_twice(ready, specs)}
        return [outcomes[probe.id] for probe in batch]

    def close(self) -> None:
        """End the agent's process; the next batch starts it again."""
        with self._lock:
            self._drop()

    def _hosts(self, targets: Collection[Target]) -> Mapping[Target, str | ClusterStateError]:
        own = {target for target in targets if target.kind in {TargetKind.DNS, TargetKind.ADDRESS}}
        asked = set(targets) - own
        return {target: target.name for target in own} | dict(self._resolve(asked) if asked else {})

    def _check(self, batch: Sequence[Probe]) -> None:
        seen: set[str] = set()
        for probe in batch:
            place = f"probe {probe.id!r}"
            if probe.id in seen:
                raise InputError(
                    "expected ids that are unique within a batch, got this one twice", place=place
                )
            if probe.source != self.source:
                raise InputError(f"expected the source {self.source}, got {probe.source}", place=place)
            seen.add(probe.id)

    def _ask_twice(self, probes: list[Probe], specs: list[dict[str, Any]]) -> list[Outcome]:
        causes: list[str] = []
        for _ in range(2):
            try:
                return self._ask(probes, specs)
            except ClusterStateError as error:
                causes.append(str(error))
                self._drop()
                self.reopened += 1
        first, second = causes
        cause = first if first == second else f"{first}; again: {second}"
        return [_infra(probe, f"no answer of the agent at {self.source}: {cause}") for probe in probes]

    def _ask(self, probes: list[Probe], specs: list[dict[str, Any]]) -> list[Outcome]:
        stream = self._stream or self._start()
        self._number += 1
        rounds = -(-len(probes) // CONCURRENT)
        limit_s = rounds * max(probe.timeout_s for probe in probes) + self._margin_s
        stream.send_line(encode_batch(self._number, specs))
        end = self._clock.monotonic() + limit_s
        while True:
            left_s = end - self._clock.monotonic()
            if left_s <= 0:
                raise WaitTimeout(f"no answer to a batch of {len(probes)} probes within {limit_s:.1f} s")
            message = decode(self._line(stream, left_s))
            if isinstance(message, Hello) or (message.id is not None and message.id > self._number):
                raise StreamLost(f"expected the answer to batch {self._number}, got {message}")
            if message.id is not None and message.id < self._number:
                continue  # an older batch that nobody waits for any more
            if message.error:
                raise StreamLost(f"the agent refused the batch: {message.error}")
            return decode_outcomes(message, probes)

    def _open(self) -> None:
        """Start the agent's process, if it does not run; where that fails, the next batch tells why."""
        if self._stream is None:
            try:
                self._start()
            except ClusterStateError:
                self._drop()
                self.reopened += 1

    def _start(self) -> ExecStream:
        self._stream = stream = self._open_stream()
        hello = decode(self._line(stream, self._hello_timeout_s))
        if not isinstance(hello, Hello):
            raise StreamLost(f"expected the agent's hello, got {hello}")
        return stream

    def _line(self, stream: ExecStream, timeout_s: float) -> str:
        line = stream.read_line(timeout_s=timeout_s)
        if line is None:
            words = stream.stderr().strip().splitlines()
            said = f": {words[-1]}" if words else ""
            raise StreamLost(f"the agent's process ended with code {stream.returncode}{said}")
        return line

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            try:
                stream.close()
            except ClusterStateError:
                return  # it is lost already


def _infra(probe: Probe, detail: str) -> Outcome:
    return Outcome(probe.id, OutcomeKind.INFRA_ERROR, detail=detail)
