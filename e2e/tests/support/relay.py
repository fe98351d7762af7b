"""A relay in this process, with the nodes' rings behind it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc

from cilium_e2e.hubble import observer_pb2, relay_pb2
from cilium_e2e.hubble.convert import seconds


class FakeRelay:
    """Serves the part of Hubble's API the harness uses; like the real one, keeps back the newest event."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.credentials = credentials
        self.rings: dict[str, list[Any]] = {"node-1": [], "node-2": []}
        self.states: dict[str, str] = {}
        self.started = dict.fromkeys(self.rings, time.time() - 1000)
        self.extra: list[Any] = []
        self.queries: list[Any] = []
        self.refuse = ""
        self.cut = 0
        self.changed = threading.Condition()
        self.port = 0
        self.server: grpc.Server | None = None
        self.serial = 0

    def up(self, *, wait_s: float = 5.0) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        handlers = {
            "GetFlows": grpc.unary_stream_rpc_method_handler(
                self.get_flows,
                observer_pb2.GetFlowsRequest.FromString,
                observer_pb2.GetFlowsResponse.SerializeToString,
            ),
            "GetNodes": grpc.unary_unary_rpc_method_handler(
                self.get_nodes,
                observer_pb2.GetNodesRequest.FromString,
                observer_pb2.GetNodesResponse.SerializeToString,
            ),
            "ServerStatus": grpc.unary_unary_rpc_method_handler(
                self.server_status,
                observer_pb2.ServerStatusRequest.FromString,
                observer_pb2.ServerStatusResponse.SerializeToString,
            ),
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("observer.Observer", handlers),)
        )
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self.credentials)
        server.start()
        self.server = server
        return self.address()

    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def down(self) -> None:
        with self.changed:
            self.cut += 1
            self.changed.notify_all()
        if self.server is not None:
            self.server.stop(grace=None).wait()
            self.server = None

    def cut_streams(self) -> None:
        """Ends every flow stream with an error, as a restart of relay does."""
        with self.changed:
            self.cut += 1
            self.changed.notify_all()

    def flow(self, node: str = "node-1", time_s: float | None = None, **fields: Any) -> Any:
        response = observer_pb2.GetFlowsResponse(node_name=node)
        at = time.time() if time_s is None else time_s
        self.serial += 1
        flow = response.flow
        flow.uuid, flow.node_name = f"{node}-{self.serial}", node
        flow.time.FromNanoseconds(int(at * 1e9))
        response.time.CopyFrom(flow.time)
        flow.IP.source, flow.IP.destination = "10.0.0.1", "10.0.0.2"
        flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 4000, 8080
        flow.verdict = 1
        for name, value in fields.items():
            setattr(flow, name, value)
        self.add(node, response)
        return response

    def lose(self, node: str, source: int, time_s: float | None = None) -> None:
        response = observer_pb2.GetFlowsResponse(node_name=node)
        response.time.FromNanoseconds(int((time.time() if time_s is None else time_s) * 1e9))
        response.lost_events.source, response.lost_events.num_events_lost = source, 7
        self.add(node, response)

    def say(self, state: str, *nodes: str, message: str = "", time_s: float | None = None) -> None:
        """A node status on every stream."""
        response = observer_pb2.GetFlowsResponse(node_name="relay")
        response.time.FromNanoseconds(int((time.time() if time_s is None else time_s) * 1e9))
        response.node_status.state_change = relay_pb2.NodeState.Value(state)
        response.node_status.node_names.extend(nodes)
        response.node_status.message = message
        with self.changed:
            self.extra.append(response)
            self.changed.notify_all()

    def add(self, node: str, response: Any) -> None:
        with self.changed:
            self.rings[node].append(response)
            self.changed.notify_all()

    def get_flows(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with self.changed:
            self.queries.append(request)
            cut, extras = self.cut, len(self.extra)
        if self.refuse:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.refuse)
        status = observer_pb2.GetFlowsResponse(node_name="relay")
        status.node_status.state_change = relay_pb2.NODE_CONNECTED
        status.node_status.node_names.extend(n for n in self.rings if n not in self.states)
        yield status
        since = seconds(request.since) if request.HasField("since") else 0.0
        sent: set[int] = set()
        while context.is_active():
            with self.changed:
                new = [r for ring in self.rings.values() for r in ring[:-1] if id(r) not in sent]
                statuses = self.extra[extras:]
                extras = len(self.extra)
                if request.follow and not new and not statuses and cut == self.cut:
                    self.changed.wait(0.2)
                    continue
            if request.follow and cut != self.cut:
                context.abort(grpc.StatusCode.UNAVAILABLE, "relay is going away")
            yield from statuses
            new.sort(key=lambda r: seconds(r.time))
            for response in new:
                sent.add(id(response))
                if not response.HasField("flow") or seconds(response.time) >= since:
                    yield response
            if not request.follow:
                return

    def get_nodes(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.refuse:
            context.abort(grpc.StatusCode.UNAVAILABLE, self.refuse)
        answer = observer_pb2.GetNodesResponse()
        for name, ring in self.rings.items():
            state = relay_pb2.NodeState.Value(self.states.get(name, "NODE_CONNECTED"))
            up_ns = int((time.time() - self.started[name]) * 1e9)
            answer.nodes.add(name=name, state=state, uptime_ns=up_ns, seen_flows=len(ring), max_flows=4095)
        return answer

    def server_status(self, request: Any, context: grpc.ServicerContext) -> Any:
        answer = observer_pb2.ServerStatusResponse(num_flows=3, max_flows=8190, seen_flows=9, version="1.18")
        answer.num_connected_nodes.value = len(self.rings) - len(self.states)
        answer.num_unavailable_nodes.value = len(self.states)
        answer.unavailable_nodes.extend(self.states)
        return answer
