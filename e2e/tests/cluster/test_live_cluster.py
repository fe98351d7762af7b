"""A live cluster over an API in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest

from cilium_e2e.cluster import relay_link
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    ClusterStateError,
    FlowFilter,
    FlowsLost,
    KubeError,
    LostFlows,
    NodeInfo,
    Object,
    PolicyRef,
    Ref,
    Revision,
    ScenarioError,
    StreamLost,
    Target,
    TimeWindow,
)
from support.memory import FakeExec, MemoryTransport, pod
from support.recordings import FOLDER

INFO = ClusterInfo(
    "x",
    Backend.KIND,
    "default",
    (NodeInfo("n1", "worker", ("172.18.0.2", "fc00::2")), NodeInfo("bare", "worker", ())),
    "cilium/cilium",
    "cilium",
)
WINDOW = TimeWindow(10.0, 20.0)


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def cluster(api: MemoryTransport) -> Iterator[LiveCluster]:
    found = LiveCluster(INFO, api, publisher=lambda: Revision("sha256:0", "tag", 1), clock=api.clock)
    yield found
    found.close()


def service(name: str, ip: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"clusterIP": ip},
    }


class TestAddress:
    def test_a_pod(self, cluster: LiveCluster, api: MemoryTransport) -> None:
        api.put(pod("a", "ns", podIP="10.0.0.1"))
        assert cluster.address(Target.parse("ns/a")) == "10.0.0.1"

    def test_a_service(self, cluster: LiveCluster, api: MemoryTransport) -> None:
        api.put(service("s", "10.96.0.1"))
        assert cluster.address(Target.parse("svc:ns/s")) == "10.96.0.1"

    def test_a_node(self, cluster: LiveCluster) -> None:
        assert cluster.address(Target.parse("node:n1")) == "172.18.0.2"

    @pytest.mark.parametrize("text", ["ns/pending", "svc:ns/headless", "node:bare", "node:ghost", "world:w"])
    def test_what_has_none(self, cluster: LiveCluster, api: MemoryTransport, text: str) -> None:
        api.put(pod("pending", "ns", phase="Pending"))
        api.put(service("headless", "None"))
        with pytest.raises(ClusterStateError, match="has no address to dial") as caught:
            cluster.address(Target.parse(text))
        assert caught.value.place == text

    def test_what_does_not_exist(self, cluster: LiveCluster) -> None:
        with pytest.raises(KubeError, match="Pod ns/ghost"):
            cluster.address(Target.parse("ns/ghost"))


class TestProber:
    def test_one_a_source(self, cluster: LiveCluster) -> None:
        a, b = Target.parse("ns/a"), Target.parse("ns/b")
        assert cluster.prober(a) is cluster.prober(Target.parse("ns/a"))
        assert cluster.prober(a) is not cluster.prober(b)

    @pytest.mark.parametrize("text", ["svc:ns/s", "node:n1", "dns:example.org", "world:w"])
    def test_only_pods_can_ask(self, cluster: LiveCluster, text: str) -> None:
        with pytest.raises(ScenarioError, match="expected a pod as source"):
            cluster.prober(Target.parse(text))

    def test_no_stream_is_opened_before_it_is_needed(
        self, cluster: LiveCluster, api: MemoryTransport
    ) -> None:
        cluster.prober(Target.parse("ns/a"))
        assert api.calls == []


class FakeRelay:
    """The surface of ``RelaySource``."""

    made: ClassVar[list[FakeRelay]]

    def __init__(self, address: Callable[[], str], *, poke: Any, clock: Any) -> None:
        self.address = address
        self.poke = poke
        self.started = False
        self.waited: list[float] = []
        self.losses: list[LostFlows] = []
        self.closed = False
        type(self).made.append(self)

    def start(self) -> None:
        self.started = True

    def close(self) -> None:
        self.closed = True

    def wait_past(self, time_s: float, *, timeout_s: float) -> None:
        self.waited.append(time_s)

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[str]:  # noqa: A002 - Hubble's word
        assert self.waited, "asked before everything was there"
        return ["a flow"]

    def lost(self, window: TimeWindow) -> list[LostFlows]:
        return self.losses


@pytest.fixture
def relays(monkeypatch: pytest.MonkeyPatch) -> list[FakeRelay]:
    FakeRelay.made = []
    monkeypatch.setattr(relay_link, "RelaySource", FakeRelay)
    return FakeRelay.made


def relay_pod(name: str = "relay-1", **status: Any) -> Object:
    obj = pod(name, "cilium", **{"phase": "Running", **status})
    obj["metadata"]["labels"] = {"k8s-app": "hubble-relay"}
    return obj


class TestFlows:
    def test_one_stream_for_all(
        self, cluster: LiveCluster, api: MemoryTransport, relays: list[FakeRelay]
    ) -> None:
        api.put(relay_pod("leaving"))
        api._objects["v1", "Pod", "cilium", "leaving"]["metadata"]["deletionTimestamp"] = "now"
        api.put(relay_pod("pending", phase="Pending"))
        api.put(relay_pod("running"))
        assert cluster.flows(WINDOW, FlowFilter()) == ["a flow"]
        assert cluster.flows(WINDOW, FlowFilter()) == ["a flow"]
        assert len(relays) == 1
        assert relays[0].waited == [20.0, 20.0]

        asked: list[tuple[str, int]] = []

        def connect(ref: Ref, port: int) -> socket.socket:
            asked.append((ref.name, port))
            raise KubeError(0, "NoAnswer", "not in this test")

        api.on_connect = connect
        host, _, port = relays[0].address().partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as local:
            assert local.recv(1) == b""
        assert asked == [("running", 4245)]

    def test_no_relay(self, cluster: LiveCluster, relays: list[FakeRelay]) -> None:
        with pytest.raises(ClusterStateError) as caught:
            cluster.flows(WINDOW, FlowFilter())
        assert str(caught.value) == (
            "namespace cilium: expected a running pod with k8s-app=hubble-relay, found none. "
            "Does the release enable hubble.relay?"
        )
        assert relays == []

    def test_lost_flows_are_told_with_numbers(
        self, cluster: LiveCluster, api: MemoryTransport, relays: list[FakeRelay]
    ) -> None:
        api.put(relay_pod())
        cluster.relay()
        relays[0].losses = [
            LostFlows("PERF_EVENT_RING_BUFFER", 7, "n1", 15.0),
            LostFlows("HUBBLE_RING_BUFFER", 1, "n2", 16.0),
        ]
        with pytest.raises(FlowsLost) as caught:
            cluster.flows(WINDOW, FlowFilter())
        assert str(caught.value).startswith(
            "Hubble lost flows inside the window: "
            "7 on n1 (PERF_EVENT_RING_BUFFER); 1 on n2 (HUBBLE_RING_BUFFER)"
        )

    def test_closing_closes_all_of_it(
        self, cluster: LiveCluster, api: MemoryTransport, relays: list[FakeRelay]
    ) -> None:
        api.put(relay_pod())
        cluster.relay()
        cluster.close()
        assert relays[0].closed
        assert api.closed

    def test_what_fails_while_closing_does_not_keep_the_rest_open(
        self, cluster: LiveCluster, api: MemoryTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> None:
            raise StreamLost("gone already")

        monkeypatch.setattr(cluster.prober(Target.parse("ns/a")), "close", fail)
        cluster._open.callback(fail)
        with pytest.raises(StreamLost):
            cluster.close()
        assert api.closed


class TestAgents:
    @pytest.fixture
    def agents(self, api: MemoryTransport) -> None:
        agent = pod("cilium-1", "cilium", phase="Running")
        agent["metadata"]["labels"] = {"k8s-app": "cilium"}
        agent["spec"]["nodeName"] = "n1"
        api.put(agent)
        rules, _, _ = (FOLDER / "cilium-dbg-policy-get.txt").read_text().rpartition("Revision: ")
        endpoints = (FOLDER / "cilium-dbg-endpoint-list-demo-policy.json").read_text()

        def answer(ref: Ref, container: str, command: Any) -> FakeExec:
            if "endpoint" in command:
                return FakeExec(*endpoints.splitlines())
            return FakeExec(json.dumps({"policy": rules, "revision": 4}))

        api.on_exec = answer

    @pytest.mark.usefixtures("agents")
    def test_endpoints(self, cluster: LiveCluster) -> None:
        assert "default/demo" in {endpoint.name for endpoint in cluster.endpoints()}

    @pytest.mark.usefixtures("agents")
    def test_the_recorded_policy_is_proven(self, cluster: LiveCluster) -> None:
        uid = "c81ece38-17b2-462a-ac67-56e4e630203d"
        policy = PolicyRef("CiliumNetworkPolicy", "default", "demo-policy", uid)
        proof = cluster.prove([policy], ["default/demo", "default/frontend"])
        assert {e.endpoint: set(e.listed) for e in proof.endpoints} == {
            "default/demo": {uid},
            "default/frontend": set(),
        }

    def test_publishing_is_the_publisher_s(self, cluster: LiveCluster) -> None:
        assert cluster.publish().tag == "tag"
        assert cluster.info is INFO
