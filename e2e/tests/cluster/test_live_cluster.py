"""A live cluster over an API in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

import pytest

from cilium_e2e.cluster import relay_link
from cilium_e2e.cluster.container_exec import Containers
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble.relay import Tls
from cilium_e2e.model import (
    Clock,
    ClusterStateError,
    EngineError,
    FlowFilter,
    FlowsLost,
    HarnessError,
    KubeError,
    LostFlows,
    Object,
    OutcomeKind,
    PolicyRef,
    Probe,
    Protocol,
    Ref,
    Revision,
    ScenarioError,
    StreamLost,
    Target,
    TimeWindow,
)
from cilium_e2e.probe import BATCH_COMMAND, CONTAINER
from support.info import INFO
from support.memory import FakeExec, MemoryTransport, pod
from support.recordings import FOLDER

WINDOW = TimeWindow(10.0, 20.0)


class FakeContainers:
    """The engine's containers: an agent of the container's name answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.failure: HarnessError | None = None
        self.closed = False

    def exec(self, container: str, command: Sequence[str]) -> FakeExec:
        self.asked.append((container, tuple(command)))
        if self.failure is not None:
            raise self.failure
        return agent_of(container.replace("x-world-", "world:"))

    def close(self) -> None:
        self.closed = True


def agent_of(name: str) -> FakeExec:
    """A stream to an agent that answers one probe."""
    hello = {"v": 1, "hello": name, "python": "3.13"}
    outcomes = [{"kind": "connected", "answered_by": "node:n1"}]
    answer = {"v": 1, "id": 1, "agent": name, "outcomes": outcomes}
    return FakeExec(json.dumps(hello), json.dumps(answer))


def answering(api: MemoryTransport, name: str) -> list[tuple[Ref, str, tuple[str, ...]]]:
    """Have pods answer as an agent; what was asked for comes into the list."""
    asked: list[tuple[Ref, str, tuple[str, ...]]] = []

    def start(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        asked.append((ref, container, tuple(command)))
        return agent_of(name)

    api.on_exec = start
    return asked


def ask(cluster: LiveCluster, source: Target) -> str:
    """One probe of a node's agent; answers the source, where the outcome is that node's answer."""
    probe = Probe("p", source, Target.node("n1"), Protocol.TCP, 18080)
    (outcome,) = cluster.prober(source).run([probe])
    assert (outcome.kind, outcome.answered_by) == (OutcomeKind.CONNECTED, "node:n1"), outcome
    return str(cluster.prober(source).source)  # type: ignore[attr-defined]  # the batch client's


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def containers() -> FakeContainers:
    return FakeContainers()


@pytest.fixture
def cluster(api: MemoryTransport, containers: FakeContainers) -> Iterator[LiveCluster]:
    found = LiveCluster(
        INFO,
        api,
        publisher=lambda: Revision("sha256:0", "tag", 1),
        containers=cast("Containers", containers),
        clock=api.clock,
    )
    yield found
    found.close()


def test_an_address(cluster: LiveCluster, api: MemoryTransport) -> None:
    assert cluster.address(Target.parse("node:n1")) == "172.18.0.2"
    with pytest.raises(KubeError, match="Pod ns/ghost"):
        cluster.address(Target.parse("ns/ghost"))


class TestProber:
    def test_one_a_source(self, cluster: LiveCluster) -> None:
        a, b = Target.parse("ns/a"), Target.parse("ns/b")
        assert cluster.prober(a) is cluster.prober(Target.parse("ns/a"))
        assert cluster.prober(a) is not cluster.prober(b)

    @pytest.mark.parametrize("text", ["svc:ns/s", "dns:example.org"])
    def test_what_cannot_ask(self, cluster: LiveCluster, text: str) -> None:
        with pytest.raises(
            ScenarioError, match="expected a pod, a node or an agent outside the cluster"
        ) as error:
            cluster.prober(Target.parse(text))
        assert error.value.place == f"source {text}"

    @pytest.mark.parametrize(
        ("text", "there", "needs"),
        [("node:bare", "n1", "host-agents"), ("world:three", "one, two", "world")],
    )
    def test_where_no_agent_is(
        self, containers: FakeContainers, cluster: LiveCluster, text: str, there: str, needs: str
    ) -> None:
        with pytest.raises(ScenarioError) as caught:
            cluster.prober(Target.parse(text))
        assert str(caught.value) == (
            f"source {text}: no agent is there; such agents are here: {there}. "
            f'A test that needs one is marked requires("{needs}").'
        )

    def test_without_an_engine_nobody_is_outside(self, api: MemoryTransport) -> None:
        found = LiveCluster(replace(INFO, world=()), api, publisher=lambda: Revision("sha256:0", "tag", 1))
        with pytest.raises(ScenarioError, match="such agents are here: none"):
            found.prober(Target.world("one"))
        found.close()

    def test_a_pod_asks_from_its_container(self, cluster: LiveCluster, api: MemoryTransport) -> None:
        asked = answering(api, "ns/a")
        assert ask(cluster, Target.parse("ns/a")) == "ns/a"
        assert asked == [(Ref("v1", "Pod", "a", "ns"), CONTAINER, tuple(BATCH_COMMAND))]

    def test_a_node_asks_from_its_agent_s_pod(self, cluster: LiveCluster, api: MemoryTransport) -> None:
        asked = answering(api, "node:n1")
        assert ask(cluster, Target.node("n1")) == "node:n1"
        assert asked == [(Ref("v1", "Pod", "n1", "ce2e-hosts"), CONTAINER, tuple(BATCH_COMMAND))]

    def test_an_agent_outside_asks_from_its_container(
        self, cluster: LiveCluster, api: MemoryTransport, containers: FakeContainers
    ) -> None:
        assert ask(cluster, Target.world("two")) == "world:two"
        assert containers.asked == [("x-world-two", tuple(BATCH_COMMAND))]
        assert [call for call in api.calls if call[0] == "exec"] == []

    def test_a_lost_container_is_no_denial(self, cluster: LiveCluster, containers: FakeContainers) -> None:
        containers.failure = EngineError("the container engine failed", place="container x-world-one")
        source = Target.world("one")
        probe = Probe("p", source, Target.node("n1"), Protocol.TCP, 18080)
        (outcome,) = cluster.prober(source).run([probe])
        assert outcome.kind is OutcomeKind.INFRA_ERROR
        assert "container x-world-one: the container engine failed" in outcome.detail

    def test_containers_are_given_back(self, cluster: LiveCluster, containers: FakeContainers) -> None:
        cluster.close()
        assert containers.closed

    def test_no_stream_is_opened_before_it_is_needed(
        self, cluster: LiveCluster, api: MemoryTransport
    ) -> None:
        cluster.prober(Target.parse("ns/a"))
        assert api.calls == []


class FakeRelay:
    """The surface of ``RelaySource``, as far as a link uses it; it connects when it is started."""

    made: ClassVar[list[FakeRelay]]
    failure: ClassVar[HarnessError | None]

    def __init__(
        self,
        address: Callable[[], str],
        *,
        tls: Callable[[], Tls | None],
        poke: Callable[[Sequence[str]], None],
        clock: Clock,
    ) -> None:
        self.connect = address
        self.tls = tls
        self.poke = poke
        self.clock = clock
        self.address = ""
        self.waited: list[float] = []
        self.losses: list[LostFlows] = []
        self.closed = False
        type(self).made.append(self)

    def start(self) -> None:
        self.address = self.connect()
        if self.failure is not None:
            raise self.failure

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
    FakeRelay.made, FakeRelay.failure = [], None
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
        host, _, port = relays[0].address.partition(":")
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


def unreachable(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


class TestRelayLink:
    @pytest.fixture
    def relay(self, cluster: LiveCluster, api: MemoryTransport, relays: list[FakeRelay]) -> FakeRelay:
        api.put(relay_pod())
        cluster.relay()
        return relays[0]

    def dialled(self, api: MemoryTransport, address: str) -> list[str]:
        """The pods that a connection to an address leads to."""
        asked: list[str] = []

        def connect(ref: Ref, port: int) -> socket.socket:
            asked.append(ref.name)
            raise KubeError(0, "NoAnswer", "not in this test")

        api.on_connect = connect
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as local:
            assert local.recv(1) == b""
        return asked

    def test_after_a_restart_it_leads_to_the_new_pod(self, api: MemoryTransport, relay: FakeRelay) -> None:
        first = relay.address
        assert self.dialled(api, first) == ["relay-1"]
        api.remove(Ref("v1", "Pod", "relay-1", "cilium"))
        api.put(relay_pod("relay-2"))
        second = relay.connect()
        assert self.dialled(api, second) == ["relay-2"]
        assert first == second or unreachable(first), "the old forward is closed"

    def test_between_two_pods_it_says_that_there_is_none(
        self, api: MemoryTransport, relay: FakeRelay
    ) -> None:
        api.remove(Ref("v1", "Pod", "relay-1", "cilium"))
        with pytest.raises(ClusterStateError, match="expected a running pod with k8s-app=hubble-relay"):
            relay.connect()
        api.put(relay_pod("relay-2"))
        assert self.dialled(api, relay.connect()) == ["relay-2"]

    def test_closing_ends_stream_and_forward(self, cluster: LiveCluster, relay: FakeRelay) -> None:
        address = relay.address
        cluster.close()
        assert relay.closed
        assert unreachable(address)

    def test_a_stream_that_does_not_open_leaves_nothing_behind(
        self, cluster: LiveCluster, api: MemoryTransport, relays: list[FakeRelay]
    ) -> None:
        api.put(relay_pod())
        FakeRelay.failure = StreamLost("no flow stream from relay within 10 s")
        with pytest.raises(StreamLost, match="no flow stream"):
            cluster.relay()
        assert relays[0].closed
        assert unreachable(relays[0].address)
        FakeRelay.failure = None
        cluster.relay()
        assert len(relays) == 2, "the next one tries again"

    def test_silent_nodes_are_made_to_speak_by_an_agent(self, api: MemoryTransport, relay: FakeRelay) -> None:
        agent = pod("cilium-1", "cilium", phase="Running")
        agent["metadata"]["labels"] = {"k8s-app": "cilium"}
        agent["spec"]["nodeName"] = "n1"
        api.put(agent)
        asked: list[tuple[str, str, list[str]]] = []

        def answer(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
            asked.append((ref.name, container, list(command)))
            return FakeExec("node n2 is not reachable", code=1)  # what it finds is of no interest

        api.on_exec = answer
        relay.poke(["n2"])
        assert asked == [("cilium-1", "cilium-agent", ["cilium-health", "status", "--probe"])]

    @pytest.mark.parametrize(
        "error", [KubeError(500, "InternalError", "container not found"), StreamLost("cut off"), None]
    )
    def test_an_agent_that_cannot_be_asked_breaks_no_wait(
        self, api: MemoryTransport, relay: FakeRelay, error: HarnessError | None
    ) -> None:
        """Agents restart; whoever waits for flows says in the end what is missing."""
        if error is not None:
            agent = pod("cilium-1", "cilium", phase="Running")
            agent["metadata"]["labels"] = {"k8s-app": "cilium"}
            agent["spec"]["nodeName"] = "n1"
            api.put(agent)

        def answer(ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
            assert error is not None
            raise error

        api.on_exec = answer
        relay.poke(["n2"])


class TestAgents:
    @pytest.fixture
    def agents(self, api: MemoryTransport) -> None:
        agent = pod("cilium-1", "cilium", phase="Running")
        agent["metadata"]["labels"] = {"k8s-app": "cilium"}
        agent["spec"]["nodeName"] = "n1"
        api.put(agent)
        rules, _, _ = (FOLDER / "cilium-dbg-policy-get.txt").read_text().rpartition("Revision: ")
        endpoints = (FOLDER / "cilium-dbg-endpoint-list-demo-policy.json").read_text()
        addresses = {
            address["ipv4"]: entry["status"]["identity"]["id"]
            for entry in json.loads(endpoints)
            for address in entry["status"]["networking"]["addressing"]
            if "ipv4" in address
        }
        ipcache = json.dumps({f"{ip}/32": [f"identity={number}"] for ip, number in addresses.items()})

        def answer(ref: Ref, container: str, command: Any) -> FakeExec:
            if "endpoint" in command:
                return FakeExec(*endpoints.splitlines())
            if "ipcache" in command:
                return FakeExec(ipcache)
            if "service" in command:
                return FakeExec("[]")
            policies = json.dumps({"policy": rules, "revision": 4})
            return FakeExec(policies, *endpoints.splitlines())

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

    @pytest.mark.usefixtures("agents")
    def test_endpoints_of_a_proof_will_do_where_nothing_was_changed_since(
        self, cluster: LiveCluster, api: MemoryTransport
    ) -> None:
        asked = api.on_exec
        began_s = cluster.clock.monotonic()
        assert cluster.endpoints(since_s=began_s), "before any proof they are asked for"
        cluster.prove([], ["default/demo"])

        def silent(*_: object) -> FakeExec:
            raise AssertionError("an agent was asked")

        api.on_exec = silent
        assert "default/demo" in {endpoint.name for endpoint in cluster.endpoints(since_s=began_s)}
        api.on_exec = asked
        cluster.clock.sleep(1.0)
        before = len(api.calls)
        assert cluster.endpoints(since_s=cluster.clock.monotonic())
        assert len(api.calls) > before, "what was seen before the change says nothing"

    def test_publishing_is_the_publisher_s(self, cluster: LiveCluster) -> None:
        assert cluster.publish().tag == "tag"
        assert cluster.info is INFO
