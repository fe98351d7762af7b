"""Proofs of enforcement against agents whose state the test moves on, on virtual time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster import enforcement as enforcement_module
from cilium_e2e.cluster.agents import AgentPod, AgentPolicies, AgentState
from cilium_e2e.cluster.datapath import Backend, Frontend
from cilium_e2e.cluster.enforcement import Enforcement
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    Endpoint,
    EnforcementNotProven,
    Identity,
    KubeError,
    Object,
    PolicyRef,
    Proof,
    Ref,
    StreamLost,
    WaitTimeout,
)
from support.memory import MemoryTransport, pod

DEMO = PolicyRef("CiliumNetworkPolicy", "default", "demo", uid="u-demo")
OTHER = PolicyRef("CiliumNetworkPolicy", "default", "other", uid="u-other")


def endpoint(name: str, revision: int, *, node: str = "n1", state: str = "ready") -> Endpoint:
    namespace, _, pod = name.partition("/")
    identity = Identity(1000, ())
    return Endpoint(1, namespace, pod, node, (), identity, state=state, policy_revision=revision)


@dataclass
class Agent:
    """One node's agent, as the test sets it."""

    node: str
    revision: int = 3
    uids: set[str] = field(default_factory=set)
    rules: dict[str, str] = field(default_factory=dict)
    ipcache: dict[str, int] = field(default_factory=dict)
    frontends: list[Frontend] = field(default_factory=list)
    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    silent: Exception | None = None

    def holds(self, *names: str) -> None:
        for name in names:
            self.endpoints[name] = endpoint(name, self.revision, node=self.node)

    def change(self, uid: str, *, gone: bool = False) -> None:
        """The repository takes up, or lets go of, a policy."""
        (self.uids.discard if gone else self.uids.add)(uid)
        self.revision += 1

    def realize(self) -> None:
        """All endpoints catch up."""
        for name, known in self.endpoints.items():
            self.endpoints[name] = replace(
                known, policy_revision=self.revision, policies=frozenset(self.uids)
            )


class FakeAgents:
    """The surface of ``CiliumAgents`` that proofs use; ``steps`` run one before each look at policies."""

    def __init__(self, *agents: Agent) -> None:
        self.agents = {agent.node: agent for agent in agents}
        self.steps: list[Callable[[], object]] = []
        self.listing: Exception | None = None
        self._moved = False

    def each(self, ask: Callable[[AgentPod], Any], among: Sequence[AgentPod] = ()) -> list[Any]:
        self._moved = False
        if self.listing:
            self._move()
        if self.listing:
            raise self.listing
        return [ask(AgentPod(Ref("v1", "Pod", node, "cilium"), node)) for node in self.agents]

    def _move(self) -> None:
        if self.steps and not self._moved:
            self.steps.pop(0)()
        self._moved = True

    def state(self, agent: AgentPod) -> AgentState:
        self._move()
        found = self.agents[agent.node]
        if found.silent:
            raise found.silent
        rules = {uid: found.rules.get(uid, f"rules of {uid}") for uid in found.uids}
        policies = AgentPolicies(found.revision, frozenset(found.uids), rules)
        return AgentState(policies, list(found.endpoints.values()))

    def ipcache(self, agent: AgentPod) -> dict[str, int]:
        return dict(self._speaking(agent).ipcache)

    def frontends(self, agent: AgentPod) -> list[Frontend]:
        return list(self._speaking(agent).frontends)

    def _speaking(self, agent: AgentPod) -> Agent:
        found = self.agents[agent.node]
        if found.silent:
            raise found.silent
        return found


@pytest.fixture
def n1() -> Agent:
    agent = Agent("n1")
    agent.holds("default/a", "default/b")
    return agent


@pytest.fixture
def n2() -> Agent:
    agent = Agent("n2", revision=40)
    agent.holds("default/c")
    return agent


def run(agents: FakeAgents, *wanted: str, gone: bool = False, timeout_s: float = 5) -> Proof:
    return enforcement(agents).prove([DEMO], list(wanted), gone=gone, timeout_s=timeout_s)


def enforcement(agents: FakeAgents, *objects: Object) -> Enforcement:
    api = MemoryTransport(*objects)
    return Enforcement(Kube(api, clock=api.clock), agents)  # type: ignore[arg-type]  # the part that is used


def refused(agents: FakeAgents, *wanted: str, gone: bool = False) -> str:
    with pytest.raises(EnforcementNotProven) as caught:
        run(agents, *wanted, gone=gone, timeout_s=1)
    return str(caught.value)


def test_enforced(n1: Agent, n2: Agent) -> None:
    for agent in (n1, n2):
        agent.change("u-demo")
        agent.realize()
    proof = run(FakeAgents(n1, n2), "default/a", "default/c")
    assert [(e.endpoint, e.node, e.revision) for e in proof.endpoints] == [
        ("default/a", "n1", 4),
        ("default/c", "n2", 41),
    ]
    assert all(e.listed == {"u-demo"} for e in proof.endpoints)
    assert (proof.policies, proof.gone, proof.realized_s) == ((DEMO,), False, 0)


def test_the_endpoints_of_its_last_look_are_kept(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    agents = FakeAgents(n1)
    proofs = enforcement(agents)
    assert proofs.seen is None
    agents.steps = [lambda: None, lambda: n1.holds("default/late")]
    proofs.prove([DEMO], ["default/late"], timeout_s=5)
    assert proofs.seen is not None
    looked_s, endpoints = proofs.seen
    assert looked_s > 0
    assert "default/late" in {endpoint.name for endpoint in endpoints}


def test_the_agents_of_a_look_are_listed_once(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    agents = FakeAgents(n1)
    among: list[Sequence[AgentPod]] = []
    each = agents.each
    agents.each = lambda ask, given=(): among.append(given) or each(ask, given)  # type: ignore[method-assign,func-returns-value]
    run(agents, "default/a")
    assert [[agent.node for agent in given] for given in among] == [[], ["n1"]]


def test_it_is_waited_for(n1: Agent) -> None:
    agents = FakeAgents(n1)
    agents.steps = [lambda: None, lambda: n1.change("u-demo"), n1.realize]
    proof = run(agents, "default/a", "default/b")
    assert len(proof.endpoints) == 2
    assert 0 < proof.realized_s < 1


def test_an_endpoint_that_lists_no_rule_of_it_is_proven_by_its_revision(n1: Agent) -> None:
    n1.change("u-demo")
    n1.endpoints["default/a"] = endpoint("default/a", n1.revision)
    proof = run(FakeAgents(n1), "default/a")
    assert proof.endpoints[0].listed == frozenset()


def test_every_node_must_hold_it_even_without_an_endpoint_of_interest(n1: Agent, n2: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    assert "the agent on n2 does not hold" in refused(FakeAgents(n1, n2), "default/a")


def test_not_yet_in_the_repository(n1: Agent) -> None:
    text = refused(FakeAgents(n1), "default/a")
    assert f"{DEMO}: not enforced within 1 s: the agent on n1 does not hold {DEMO} at revision 3" in text
    assert "cilium-dbg policy get" in text


def test_not_yet_realized(n1: Agent) -> None:
    n1.change("u-demo")
    assert "default/a on n1 is ready at revision 3, expected ready at 4" in refused(
        FakeAgents(n1), "default/a"
    )


def test_realized_but_not_ready(n1: Agent) -> None:
    n1.change("u-demo")
    n1.endpoints["default/a"] = endpoint("default/a", 4, state="regenerating")
    assert "is regenerating at revision 4" in refused(FakeAgents(n1), "default/a")


def test_an_endpoint_of_no_agent(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    assert "default/ghost is no endpoint of any agent" in refused(
        FakeAgents(n1), "default/a", "default/ghost"
    )


@pytest.mark.parametrize(
    "error",
    [
        StreamLost("the connection broke"),
        WaitTimeout("no line came within 30 s"),
        ClusterStateError("exit code 1: cannot reach the agent"),
        KubeError(500, "InternalError", "container not found"),
        KubeError(404, "NotFound", "no such pod"),
        KubeError(0, "NoAnswer", "connection refused"),
    ],
)
def test_a_silent_agent_is_no_proof_and_no_end(n1: Agent, n2: Agent, error: Exception) -> None:
    n1.change("u-demo")
    n1.realize()
    n2.silent = error
    text = refused(FakeAgents(n1, n2), "default/a", "default/c")
    assert f"the agent on n2 did not answer ({error})" in text
    assert "no endpoint of any agent" not in text  # it may be the silent one's

    def back() -> None:
        n2.silent = None
        n2.change("u-demo")
        n2.realize()

    agents = FakeAgents(n1, n2)
    agents.steps = [lambda: None, back]
    assert len(run(agents, "default/a", "default/c").endpoints) == 2


def test_an_agent_that_hangs_holds_up_nobody_for_long(
    n1: Agent, n2: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enforcement_module, "_ANSWER_S", 0.1)
    n1.change("u-demo")
    n1.realize()
    let_go = threading.Event()
    agents = FakeAgents(n1, n2)
    state = agents.state
    agents.state = lambda agent: (agent.node == "n2" and let_go.wait(10.0), state(agent))[1]  # type: ignore[method-assign]
    with pytest.raises(
        EnforcementNotProven, match=r"the agent on n2 did not answer \(no answer within 0\.1 s\)"
    ):
        run(agents, "default/a", timeout_s=0.0)
    let_go.set()


def test_agents_that_are_all_being_restarted_are_waited_for(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    agents = FakeAgents(n1)
    agents.listing = ClusterStateError("found none of 1 running", place="namespace cilium")
    assert "the cluster cannot be asked (namespace cilium: found none" in refused(agents, "default/a")
    agents.steps = [lambda: None, lambda: setattr(agents, "listing", None)]
    assert run(agents, "default/a").endpoints


def test_what_no_waiting_will_change_is_raised(n1: Agent) -> None:
    n1.silent = KubeError(403, "Forbidden", "no exec for you")
    with pytest.raises(KubeError, match="no exec for you"):
        run(FakeAgents(n1), "default/a")
    agents = FakeAgents(n1)
    agents.listing = KubeError(403, "Forbidden", "no pods for you")
    with pytest.raises(KubeError, match="no pods for you"):
        run(agents, "default/a")


def test_gone(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    assert f"not gone within 1 s: the agent on n1 still holds {DEMO}" in refused(
        FakeAgents(n1), "default/a", gone=True
    )
    n1.change("u-demo", gone=True)
    assert "expected ready at 5" in refused(FakeAgents(n1), "default/a", gone=True)
    n1.realize()
    proof = run(FakeAgents(n1), "default/a", gone=True)
    assert proof.gone
    assert "no longer enforced" in str(proof)


class TestInPlaceOfAnother:
    """A policy is to be enforced and another no longer, and both are proven by one look."""

    OLD = PolicyRef("CiliumNetworkPolicy", "default", "old", "u-old")

    @pytest.fixture(autouse=True)
    def held(self, n1: Agent) -> None:
        n1.change("u-old")
        n1.realize()

    def prove(self, *agents: Agent) -> Proof:
        return enforcement(FakeAgents(*agents)).prove([DEMO], ["default/a"], absent=[self.OLD], timeout_s=1)

    def test_neither_comes_for_the_other(self, n1: Agent) -> None:
        with pytest.raises(EnforcementNotProven, match=rf"n1 still holds {self.OLD} .*does not hold {DEMO}"):
            self.prove(n1)
        n1.change("u-demo")
        n1.realize()
        with pytest.raises(EnforcementNotProven, match=f"n1 still holds {self.OLD} at revision") as caught:
            self.prove(n1)
        assert caught.value.place == f"{DEMO}, {self.OLD}"
        assert "does not hold" not in str(caught.value)

    def test_an_endpoint_must_have_realized_both(self, n1: Agent) -> None:
        n1.change("u-demo")
        n1.realize()
        n1.change("u-old", gone=True)
        with pytest.raises(EnforcementNotProven, match=r"ready at revision 5, expected ready at 6"):
            self.prove(n1)
        n1.realize()
        proof = self.prove(n1)
        assert (proof.policies, proof.absent, proof.gone) == ((DEMO,), (self.OLD,), False)
        assert str(proof).startswith(f"{DEMO}: enforced, in place of {self.OLD}, at 1 endpoints after ")

    def test_on_every_node(self, n1: Agent, n2: Agent) -> None:
        n2.change("u-old")
        for agent in (n1, n2):
            agent.change("u-demo")
            agent.realize()
        n1.change("u-old", gone=True)
        n1.realize()
        with pytest.raises(EnforcementNotProven, match="n2 still holds"):
            self.prove(n1, n2)


def test_other_people_s_policies_are_not_waited_for(n1: Agent) -> None:
    n1.change("u-demo")
    agents = FakeAgents(n1)

    def others_go_on() -> None:
        n1.endpoints["default/a"] = endpoint("default/a", 4)
        for number in range(10):
            n1.change(f"u-{number}")

    agents.steps = [lambda: None, others_go_on]
    assert run(agents, "default/a").endpoints[0].revision == 4


def test_a_policy_that_comes_and_goes_starts_anew(n1: Agent) -> None:
    n1.change("u-demo")
    agents = FakeAgents(n1)

    def again() -> None:
        n1.change("u-demo")
        n1.endpoints["default/a"] = endpoint("default/a", 5)  # realized the gap, not the return

    agents.steps = [lambda: None, lambda: n1.change("u-demo", gone=True), again]
    assert "revision 5, expected ready at 6" in refused(agents, "default/a")


def test_a_restarted_agent_counts_from_the_start(n2: Agent) -> None:
    n2.change("u-demo")
    agents = FakeAgents(n2)

    def restarted() -> None:
        n2.revision = 2
        n2.realize()

    agents.steps = [lambda: None, restarted]
    assert run(agents, "default/c").endpoints[0].revision == 2


def test_all_policies_of_a_proof(n1: Agent) -> None:
    n1.change("u-demo")
    n1.realize()
    with pytest.raises(EnforcementNotProven) as caught:
        enforcement(FakeAgents(n1)).prove([DEMO, OTHER], ["default/a"], timeout_s=0.1)
    assert f"does not hold {OTHER} at" in str(caught.value)
    assert caught.value.place == f"{DEMO}, {OTHER}"


@given(st.lists(st.sampled_from(["take", "drop", "other", "realize"]), max_size=12))
def test_never_proven_before_the_datapath_has_it(steps: list[str]) -> None:
    agent = Agent("n1")
    agent.holds("default/a")
    agents = FakeAgents(agent)
    actions: dict[str, Callable[[], object]] = {
        "take": lambda: agent.change("u-demo") if "u-demo" not in agent.uids else None,
        "drop": lambda: agent.change("u-demo", gone=True) if "u-demo" in agent.uids else None,
        "other": lambda: agent.change("u-other"),
        "realize": agent.realize,
    }
    agents.steps = [actions[step] for step in steps]
    try:
        run(agents, "default/a")
    except EnforcementNotProven:
        known = agent.endpoints["default/a"]
        assert "u-demo" not in agent.uids or "u-demo" not in known.policies
    else:
        assert "u-demo" in agent.uids
        assert "u-demo" in agent.endpoints["default/a"].policies


class TestChanged:
    """A policy that is changed keeps its UID, and its generation reaches no agent."""

    def refs(self, *generations: int) -> list[PolicyRef]:
        return [replace(DEMO, generation=generation) for generation in generations]

    def test_the_same_rules_are_no_proof_of_a_change(self, n1: Agent) -> None:
        n1.change("u-demo")
        n1.realize()
        proofs = enforcement(FakeAgents(n1))
        first, second = self.refs(1, 2)
        proofs.prove([first], [], timeout_s=1)
        with pytest.raises(EnforcementNotProven) as caught:
            proofs.prove([second], ["default/a"], timeout_s=1)
        assert f"holds {DEMO} with the rules from before its change at revision 4" in str(caught.value)

    def test_other_rules_are_and_only_at_the_revision_they_came_with(self, n1: Agent) -> None:
        n1.change("u-demo")
        n1.realize()
        agents = FakeAgents(n1)
        proofs = enforcement(agents)
        first, second = self.refs(1, 2)
        proofs.prove([first], [], timeout_s=1)

        def taken() -> None:
            n1.rules["u-demo"] = "other rules"
            n1.change("u-demo")

        agents.steps = [lambda: n1.change("u-other"), n1.realize, taken]
        with pytest.raises(EnforcementNotProven, match="revision 5, expected ready at 6"):
            proofs.prove([second], ["default/a"], timeout_s=0.2)
        n1.realize()
        proof = proofs.prove([second], ["default/a"], timeout_s=1)
        assert proof.endpoints[0].revision == 6
        assert f"rules: {DEMO} is held otherwise than before its change" in proof.detail

    def test_every_node_must_have_taken_it(self, n1: Agent, n2: Agent) -> None:
        for agent in (n1, n2):
            agent.change("u-demo")
            agent.realize()
        proofs = enforcement(FakeAgents(n1, n2))
        first, second = self.refs(1, 2)
        proofs.prove([first], [], timeout_s=1)
        n1.rules["u-demo"] = "other rules"
        with pytest.raises(EnforcementNotProven) as caught:
            proofs.prove([second], ["default/a"], timeout_s=1)
        assert "the agent on n2 holds" in str(caught.value)
        assert "the agent on n1" not in str(caught.value)

    def test_the_same_generation_again_needs_no_change(self, n1: Agent) -> None:
        n1.change("u-demo")
        n1.realize()
        proofs = enforcement(FakeAgents(n1))
        (ref,) = self.refs(3)
        for _ in range(2):
            assert proofs.prove([ref], ["default/a"], timeout_s=1).realized_s == 0

    def test_a_refused_change_does_not_pass_for_the_one_after_it(self, n1: Agent) -> None:
        """Generation 2 was refused, so generation 1's rules are held: they must not prove generation 3."""
        n1.change("u-demo")
        n1.realize()
        proofs = enforcement(FakeAgents(n1))
        first, second, third = self.refs(1, 2, 3)
        proofs.prove([first], [], timeout_s=1)
        for ref in (second, third):
            with pytest.raises(EnforcementNotProven, match="from before its change"):
                proofs.prove([ref], ["default/a"], timeout_s=0.2)
        n1.rules["u-demo"] = "rules of generation 3"
        assert proofs.prove([third], ["default/a"], timeout_s=0.2).endpoints

    def test_a_policy_that_was_gone_starts_anew(self, n1: Agent) -> None:
        n1.change("u-demo")
        n1.realize()
        proofs = enforcement(FakeAgents(n1))
        first, second = self.refs(1, 2)
        proofs.prove([first], [], timeout_s=1)
        n1.change("u-demo", gone=True)
        n1.realize()
        proofs.prove([first], ["default/a"], gone=True, timeout_s=1)
        n1.change("u-demo")
        n1.realize()
        assert proofs.prove([second], ["default/a"], timeout_s=1).endpoints


def settled(name: str, **labels: str) -> Object:
    obj = pod(name, phase="Running")
    obj["metadata"]["labels"] = labels
    obj["spec"]["serviceAccountName"] = "default"
    return obj


def labelled(name: str, number: int, *ips: str, **labels: str) -> Endpoint:
    own = [f"k8s:{key}={value}" for key, value in labels.items()]
    own += [
        "k8s:io.kubernetes.pod.namespace=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=default",
        "k8s:io.cilium.k8s.policy.cluster=kind",
    ]
    return replace(endpoint(name, 3), ips=ips, identity=Identity(number, tuple(sorted(own))))


class TestPeers:
    """A policy speaks of identities, packets carry addresses."""

    @pytest.fixture
    def agents(self, n1: Agent, n2: Agent) -> FakeAgents:
        n1.endpoints = {"default/a": labelled("default/a", 1001, "10.0.1.1", app="a")}
        n2.endpoints = {"default/c": replace(labelled("default/c", 1003, "10.0.2.1", app="c"), node="n2")}
        for agent in (n1, n2):
            agent.ipcache = {"10.0.1.1": 1001, "10.0.2.1": 1003}
            agent.change("u-demo")
            agent.realize()
        return FakeAgents(n1, n2)

    @pytest.fixture
    def proofs(self, agents: FakeAgents) -> Enforcement:
        return enforcement(agents, settled("a", app="a"), settled("c", app="c"))

    def missing(self, proofs: Enforcement, *wanted: str) -> str:
        with pytest.raises(EnforcementNotProven) as caught:
            proofs.prove([DEMO], wanted or ["default/a"], timeout_s=0.1)
        return str(caught.value)

    def test_every_node_knows_every_peer(self, proofs: Enforcement) -> None:
        proof = proofs.prove([DEMO], ["default/a"], timeout_s=1)
        assert proof.detail == ("ipcache: 2 pod addresses have their identities on 2 nodes",)

    def test_a_stale_identity_of_a_peer_that_enforces_nothing(self, proofs: Enforcement, n1: Agent) -> None:
        n1.ipcache["10.0.2.1"] = 999
        assert "the ipcache on n1 has identity 999 for 10.0.2.1 of default/c, expected 1003" in self.missing(
            proofs
        )

    def test_a_node_that_knows_no_identity(self, proofs: Enforcement, n2: Agent) -> None:
        n2.ipcache.clear()
        assert "the ipcache on n2 has nothing for 10.0.1.1 of default/a" in self.missing(proofs)

    def test_it_is_waited_for(self, proofs: Enforcement, agents: FakeAgents, n2: Agent) -> None:
        n2.ipcache["10.0.1.1"] = 999
        agents.steps = [lambda: None, lambda: None, lambda: n2.ipcache.update({"10.0.1.1": 1001})]
        assert proofs.prove([DEMO], ["default/a"], timeout_s=1).realized_s == pytest.approx(0.1)

    def test_pods_that_leave_are_not_waited_for(self, agents: FakeAgents, n2: Agent) -> None:
        leaving = settled("c", app="c")
        leaving["metadata"]["deletionTimestamp"] = "now"
        del n2.ipcache["10.0.2.1"]
        proofs = enforcement(agents, settled("a", app="a"), leaving)
        assert proofs.prove([DEMO], ["default/a"], timeout_s=1).realized_s == 0

    def test_a_relabelled_pod_needs_another_identity(self, agents: FakeAgents, n1: Agent) -> None:
        proofs = enforcement(agents, settled("a", app="b"), settled("c", app="c"))
        assert "the identity of default/a on n1 lacks k8s:app=b" in self.missing(proofs)
        n1.endpoints["default/a"] = replace(
            labelled("default/a", 1002, "10.0.1.1", app="b"), policy_revision=n1.revision
        )
        assert "on n2 has identity 1001 for 10.0.1.1 of default/a, expected 1002" in self.missing(proofs)
        for agent in agents.agents.values():
            agent.ipcache["10.0.1.1"] = 1002
        assert proofs.prove([DEMO], ["default/a"], timeout_s=1).endpoints

    def test_a_label_that_is_gone(self, agents: FakeAgents) -> None:
        proofs = enforcement(agents, settled("a"), settled("c", app="c"))
        assert "the identity of default/a on n1 still has k8s:app=a" in self.missing(proofs)

    def test_many_lines_are_counted(self, agents: FakeAgents, n1: Agent) -> None:
        n1.ipcache.clear()
        n1.endpoints["default/a"] = replace(
            n1.endpoints["default/a"], ips=tuple(f"10.0.1.{number}" for number in range(1, 16))
        )
        assert "; and 18 more" in self.missing(
            enforcement(agents, settled("a", app="a"), settled("c", app="c"))
        )


class TestServices:
    @pytest.fixture
    def agents(self, n1: Agent) -> FakeAgents:
        n1.change("u-demo")
        n1.realize()
        return FakeAgents(n1)

    def proofs(self, agents: FakeAgents) -> Enforcement:
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "s", "namespace": "default"},
            "spec": {"clusterIP": "10.96.0.9", "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]},
        }
        entry = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "s-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "s"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{"addresses": ["10.0.1.1"], "conditions": {"ready": True}}],
        }
        return enforcement(agents, service, entry)

    def test_backends_are_waited_for(self, agents: FakeAgents, n1: Agent) -> None:
        proofs = self.proofs(agents)
        with pytest.raises(
            EnforcementNotProven, match=r"n1 does not know Service default/s at 10\.96\.0\.9:80"
        ):
            proofs.prove([DEMO], ["default/a"], timeout_s=0.1)
        backends = frozenset({Backend("10.0.1.1", 8080, "TCP")})
        n1.frontends = [Frontend("ClusterIP", "10.96.0.9", 80, "TCP", frozenset())]
        with pytest.raises(EnforcementNotProven, match=r"to no backend, expected 10\.0\.1\.1:8080/TCP"):
            proofs.prove([DEMO], ["default/a"], timeout_s=0.1)
        n1.frontends = [Frontend("ClusterIP", "10.96.0.9", 80, "TCP", backends)]
        proof = proofs.prove([DEMO], ["default/a"], timeout_s=0.1)
        assert proof.detail == ("services: 1 ports lead to their backends on every node",)
