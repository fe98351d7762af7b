"""Flows of all nodes from Hubble relay, over gRPC.

One stream is followed for as long as the source is open; it fills the ledger. It cannot say when it is
complete: relay sorts what the nodes send in a buffer that it empties only when a hundred flows are in it
or nothing has come for a second, so at a few flows a second a flow may stay there for a minute.
:meth:`RelaySource.wait_past` therefore asks for the nodes' histories, which relay answers at once and to
the end, until every node has shown a flow newer than the time in question. A silent node shows nothing,
and even its last flow only after the next one; ``poke`` is there to make it speak.

gRPC is imported when a source is made: runs without a cluster never need it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from cilium_e2e.hubble import flow_pb2, observer_pb2, relay_pb2
from cilium_e2e.hubble.convert import from_flow, lost_flows, node_status, seconds
from cilium_e2e.hubble.ledger import Ledger, Reading
from cilium_e2e.hubble.reports import NodeReport, RelayStatus
from cilium_e2e.model import (
    Clock,
    Flow,
    FlowFilter,
    LostFlows,
    NodeStatus,
    StreamLost,
    SystemClock,
    TimeWindow,
    WaitTimeout,
)

MAX_FLOWS = 50_000
CALL_TIMEOUT_S = 10.0
_SHORTEST_S, _LONGEST_S = 0.05, 0.5
_CATCH_UP_S = 3.0


@dataclass(frozen=True, slots=True)
class Tls:
    """What mutual TLS with relay needs, as PEM.

    Attributes:
        ca: the certificate authority of relay's certificate.
        certificate, key: the client's own; empty where relay asks for none.
        server_name: the name in relay's certificate, whatever address is dialled.
    """

    ca: bytes
    certificate: bytes = b""
    key: bytes = b""
    server_name: str = ""


class RelaySource:
    """A :class:`~cilium_e2e.model.transport.FlowSource` over relay.

    A stream that breaks is opened anew from the last flow heard, and only what the nodes' histories can
    no longer fill is a gap. Windows are compared with the nodes' clocks.

    Args:
        address: ``host:port`` of relay, or what gives it anew for each connection (a forward has another
            port after relay was restarted).
        tls: None for plain text, or what gives it anew for each connection.
        poke: makes the nodes it is given show a flow; called while a wait for them goes on.
        max_flows: how many flows are kept.
        call_timeout_s: how long relay may take to answer a single call, and to open the stream.
        clock: what start, waits and timeouts are counted by.
    """

    def __init__(
        self,
        address: str | Callable[[], str],
        *,
        tls: Tls | Callable[[], Tls | None] | None = None,
        poke: Callable[[Sequence[str]], None] | None = None,
        max_flows: int = MAX_FLOWS,
        call_timeout_s: float = CALL_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        import grpc  # noqa: PLC0415 - see above

        self._grpc: Any = grpc
        self._address = address
        self._tls = tls
        self._poke = poke
        self._call_timeout_s = call_timeout_s
        self._clock = clock or SystemClock()
        self._ledger = Ledger(max_flows=max_flows)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._channel: Any = None
        self._call: Any = None
        self._open = False
        self._failure = ""
        self.reconnects = 0
        """How often the stream had to be opened anew."""

    def start(self) -> None:
        """Open the stream; flows from now on are kept. Returns once relay has answered.

        Raises:
            StreamLost: relay cannot be reached or refuses.
        """
        self._ledger.start_s = self._clock.time()
        self._channel = self._connect()
        self._look_at_nodes(timeout_s=self._call_timeout_s)
        self._thread = threading.Thread(target=self._follow, name="hubble-relay", daemon=True)
        self._thread.start()
        with self._changed:
            if not self._changed.wait_for(lambda: self._open, timeout=self._call_timeout_s):
                failure = self._failure or "no answer"
                raise StreamLost(f"no flow stream from relay within {self._call_timeout_s:.1f} s: {failure}")

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        """See :class:`~cilium_e2e.model.transport.FlowSource`."""
        with self._changed:
            return self._ledger.flows(window, filter)

    def lost(self, window: TimeWindow) -> list[LostFlows]:
        """See :class:`~cilium_e2e.model.transport.FlowSource`."""
        with self._changed:
            return self._ledger.lost(window)

    def nodes(self) -> list[NodeStatus]:
        """See :class:`~cilium_e2e.model.transport.FlowSource`."""
        with self._changed:
            return self._ledger.nodes()

    def unfollowed(self, time_s: float) -> list[str]:
        """See :class:`~cilium_e2e.hubble.reports.Relay`."""
        with self._changed:
            return self._ledger.unfollowed(time_s)

    def wait_past(self, time_s: float, *, timeout_s: float) -> None:
        """Return once no flow older than ``time_s`` can still arrive.

        That is so when relay is connected to every node and every node has shown a newer flow.

        Raises:
            WaitTimeout: not within ``timeout_s``; the message names the nodes, or relay's failure.
        """
        end = self._clock.monotonic() + timeout_s
        pause_s, state = _SHORTEST_S, "nothing was heard from relay"
        while True:
            left_s = end - self._clock.monotonic()
            if left_s <= 0:
                raise WaitTimeout(
                    f"flows up to {time_s:.3f} are not complete after {timeout_s:.1f} s: {state}",
                    hint="A node is late or silent, or relay is not connected to it: see `cilium status`.",
                )
            try:
                # A call that was begun gets a second, or its haste would hide what is really missing.
                state = self._complete(time_s, timeout_s=min(max(left_s, 1.0), self._call_timeout_s))
            except StreamLost as error:
                state = str(error)
            if not state:
                # What histories do not reach back to the stream may still bring. Not for long: where it does
                # not, the window is refused, and asking again costs less than waiting.
                with self._changed:
                    self._changed.wait_for(
                        lambda: not self._ledger.lagging(time_s), timeout=min(_CATCH_UP_S, left_s)
                    )
                return
            with self._changed:  # the stream may bring what is missing before history is looked at again
                self._changed.wait_for(
                    lambda: self._ledger.expected and not self._ledger.behind(time_s),
                    timeout=min(pause_s, left_s),
                )
            pause_s = min(2 * pause_s, _LONGEST_S)

    def _complete(self, time_s: float, *, timeout_s: float) -> str:
        """Catch up with every node; what still keeps flows from being complete, or nothing."""
        reports = self._look_at_nodes(timeout_s=timeout_s)
        if away := [f"{r.name} is {r.state}" for r in reports if r.state != "NODE_CONNECTED"]:
            return f"relay is not connected to every node: {', '.join(away)}"
        if not reports:
            return "relay knows no node"
        with self._changed:
            behind = self._ledger.behind(time_s)
        if not behind:
            return ""
        with self._calls():
            self._read_history(timeout_s=timeout_s)
        with self._changed:
            behind = self._ledger.behind(time_s)
        if behind and self._poke is not None:
            self._poke(behind)
        return f"no newer flow of {', '.join(behind)}" if behind else ""

    def _look_at_nodes(self, *, timeout_s: float) -> list[NodeReport]:
        asked_s = self._clock.time()
        reports = self.node_reports(timeout_s=timeout_s)
        answered_s = self._clock.time()
        with self._changed:
            self._ledger.expected = [report.name for report in reports]
            for report in reports:
                if report.state == "NODE_CONNECTED":
                    times = (asked_s - report.uptime_s, answered_s - report.uptime_s)
                    self._ledger.started(report.name, *times)
        return reports

    def status(self, *, timeout_s: float | None = None) -> RelayStatus:
        """Relay's word on itself.

        Raises:
            StreamLost: no answer.
        """
        answer = self._unary("ServerStatus", timeout_s or self._call_timeout_s)
        return RelayStatus(
            connected=answer.num_connected_nodes.value,
            unavailable=answer.num_unavailable_nodes.value,
            unavailable_nodes=tuple(answer.unavailable_nodes),
            flows_seen=answer.seen_flows,
            flows_kept=answer.num_flows,
            flows_most=answer.max_flows,
            version=answer.version,
        )

    def node_reports(self, *, timeout_s: float | None = None) -> list[NodeReport]:
        """Relay's word on each node it knows.

        Raises:
            StreamLost: no answer.
        """
        return [
            NodeReport(
                name=node.name,
                state=relay_pb2.NodeState.Name(node.state),
                version=node.version,
                uptime_s=node.uptime_ns / 1e9,
                flows_seen=node.seen_flows,
                flows_most=node.max_flows,
            )
            for node in self._unary("GetNodes", timeout_s or self._call_timeout_s).nodes
        ]

    def close(self) -> None:
        """End the stream."""
        self._closed.set()
        with self._changed:
            call, channel = self._call, self._channel
        if call is not None:
            call.cancel()
        if channel is not None:
            channel.close()
        if self._thread is not None:
            self._thread.join(timeout=self._call_timeout_s)

    def __enter__(self) -> Self:
        """Start, for ``with``."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, for ``with``."""
        self.close()

    def _connect(self) -> Any:
        address = self._address if isinstance(self._address, str) else self._address()
        # A proxy of the environment is for the world outside, not for a forward on this machine.
        options: list[tuple[str, Any]] = [("grpc.enable_http_proxy", 0)]
        tls = self._tls() if callable(self._tls) else self._tls
        if tls is None:
            return self._grpc.insecure_channel(address, options=options)
        if tls.server_name:
            options.append(("grpc.ssl_target_name_override", tls.server_name))
        credentials = self._grpc.ssl_channel_credentials(tls.ca, tls.key or None, tls.certificate or None)
        return self._grpc.secure_channel(address, credentials, options=options)

    @contextlib.contextmanager
    def _calls(self) -> Iterator[None]:
        """GRPC's errors as the harness's own."""
        try:
            yield
        except (self._grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            raise StreamLost(f"Hubble relay: {_words(error)}") from None

    def _unary(self, method: str, timeout_s: float) -> Any:
        request = getattr(observer_pb2, f"{method}Request")
        response = getattr(observer_pb2, f"{method}Response")
        with self._calls():
            call = self._channel.unary_unary(
                f"/observer.Observer/{method}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            return call(request(), timeout=timeout_s)

    def _get_flows(self, reading: Reading, *, follow: bool, timeout_s: float | None) -> Any:
        request = observer_pb2.GetFlowsRequest(follow=follow)
        request.since.FromNanoseconds(int(reading.since_s * 1e6) * 1000)
        call = self._channel.unary_stream(
            "/observer.Observer/GetFlows",
            request_serializer=observer_pb2.GetFlowsRequest.SerializeToString,
            response_deserializer=observer_pb2.GetFlowsResponse.FromString,
        )
        return call(request, timeout=timeout_s)

    def _read_history(self, *, timeout_s: float) -> None:
        with self._changed:
            reading = self._ledger.begin(live=False, now_s=self._clock.time())
        for response in self._get_flows(reading, follow=False, timeout_s=timeout_s):
            self._take(response, reading)
        with self._changed:
            self._ledger.end(reading)

    def _take(self, response: Any, reading: Reading) -> None:
        with self._changed:
            match response.WhichOneof("response_types"):
                case "flow":
                    flow, node = response.flow, response.node_name or response.flow.node_name
                    self._ledger.take(node, seconds(flow.time), flow.uuid, reading, _reader(flow, node))
                case "lost_events":
                    self._ledger.take_lost(lost_flows(response), reading)
                case "node_status" if reading.live:
                    self._ledger.status(node_status(response), time_s=seconds(response.time))
            if reading.live:
                self._open = True
                self._changed.notify_all()

    def _follow(self) -> None:
        """Keep a stream open until the source is closed."""
        pause_s = _SHORTEST_S
        while not self._closed.is_set():
            try:
                self._follow_once()
                self._failure = "relay ended the stream"
            except (self._grpc.RpcError, ValueError) as error:
                self._failure = _words(error)
            except Exception as error:  # noqa: BLE001 - told by whoever waits, not by a dying thread
                self._failure = repr(error)
            if self._closed.wait(pause_s):
                return
            pause_s = _SHORTEST_S if self._open else min(2 * pause_s, _LONGEST_S)
            self.reconnects += 1
            try:
                fresh = self._connect()
            except Exception as error:  # noqa: BLE001 - the address may come from anywhere
                self._failure = repr(error)
                continue
            with self._changed:
                old, self._channel, self._open = self._channel, fresh, False
            old.close()
            if self._closed.is_set():
                fresh.close()

    def _follow_once(self) -> None:
        with self._changed:
            reading = self._ledger.begin(live=True, now_s=self._clock.time())
        call = self._get_flows(reading, follow=True, timeout_s=None)
        with self._changed:
            self._call = call
        if self._closed.is_set():
            call.cancel()
        for response in call:
            self._take(response, reading)


def _reader(flow: Any, node: str) -> Callable[[], Flow]:
    """Reads a flow later; until then its few hundred bytes are kept, not the message with its own memory."""
    raw = flow.SerializeToString()
    return lambda: from_flow(flow_pb2.Flow.FromString(raw), node=node)


def _words(error: Exception) -> str:
    code = getattr(error, "code", None)
    if code is None:
        return str(error)
    details = getattr(error, "details", lambda: "")() or ""
    return f"{code().name}: {details}"
