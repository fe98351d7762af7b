"""Several policies put into force as one: one proof for all, or the first refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.kube import Kube
from cilium_e2e.model import EndpointProof, EnforcementNotProven, KubeError, PolicyError, Proof, Ref
from cilium_e2e.scenario import enforce_all
from support.memory import MemoryTransport


def policy(name, kind="CiliumNetworkPolicy"):
    meta = {"name": name} if "Cluster" in kind else {"name": name, "namespace": "x"}
    version = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": {}}


class Agents:
    """Agents that enforce everything at a moment of virtual time; never before it."""

    def __init__(self, api, at_s=1000.0):
        self.clock, self.at_s, self.asked = api.clock, at_s, []

    def prove(self, policies, endpoints, *, gone=False, timeout_s=30.0):
        self.asked.append(([p.name for p in policies], timeout_s))
        start = self.clock.now
        if self.at_s > start + timeout_s:
            self.clock.now += timeout_s
            raise EnforcementNotProven("not enforced: n1 is behind", place=str(policies[0]), hint="Look.")
        self.clock.now = max(start, self.at_s)
        shown = tuple(EndpointProof(name, "n1", 4, frozenset()) for name in endpoints)
        return Proof(tuple(policies), gone, shown, self.clock.now - start)


def made(**refused):
    """An API server; it takes 0.1 s a policy, and Cilium judges those of ``refused``."""
    api = MemoryTransport()

    def stored(obj):
        api.clock.now += 0.1
        name = obj["metadata"]["name"]
        obj["metadata"]["uid"] = f"uid-{name}"
        if name in refused:
            words = {"type": "Valid", "status": "False", "message": refused[name]}
            obj["status"] = {"conditions": [words]}
        api.put(obj)

    api.on_apply = stored
    return api, Kube(api, clock=api.clock)


def test_all_kinds_are_proven_together_in_the_given_order():
    api, kube = made()
    agents = Agents(api, at_s=1000.8)
    wanted = [policy("b"), policy("a", "NetworkPolicy"), policy("w", "CiliumClusterwideNetworkPolicy")]
    refs, proof = enforce_all(agents, kube, wanted, ["x/p"])
    assert [str(ref) for ref in refs] == [
        "CiliumNetworkPolicy x/b",
        "NetworkPolicy x/a",
        "CiliumClusterwideNetworkPolicy w",
    ]
    assert [ref.uid for ref in refs] == ["uid-b", "uid-a", "uid-w"]
    assert proof.policies == tuple(refs)
    assert agents.asked == [(["b", "a", "w"], 1.0)], "one proof for all of them"
    assert proof.realized_s == pytest.approx(0.8), "from before the first was stored"


@given(st.floats(0.0, 29.0))
def test_the_time_is_the_whole_one_however_often_it_was_looked(late_s):
    api, kube = made()
    _, proof = enforce_all(Agents(api, at_s=1000.0 + late_s), kube, [policy("a")], ["x/p"])
    assert proof.realized_s == pytest.approx(max(0.1, late_s))


def test_looks_are_further_and_further_apart_and_end_in_time():
    api, kube = made()
    agents = Agents(api, at_s=9999.0)
    with pytest.raises(EnforcementNotProven, match=r"not enforced within 20 s: n1 is behind\. Look\."):
        enforce_all(agents, kube, [policy("a")], ["x/p"], 20.0)
    waits = [timeout_s for _, timeout_s in agents.asked]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert sum(waits) == pytest.approx(19.9)
    assert api.clock.now == pytest.approx(1020.0)


def test_the_one_that_cilium_refuses_is_named_among_many():
    api, kube = made(c="bad port")
    agents = Agents(api, at_s=9999.0)
    with pytest.raises(PolicyError) as caught:
        enforce_all(agents, kube, [policy("a"), policy("b"), policy("c")], ["x/p"])
    assert caught.value.place == "CiliumNetworkPolicy x/c"
    assert "Cilium refuses the policy: bad port" in str(caught.value)
    assert len(agents.asked) == 1


def test_the_one_that_the_api_server_refuses_ends_it_before_any_proof():
    api, kube = made()
    kept, agents = api.apply, Agents(api)

    def apply(obj, **given):
        if obj["metadata"]["name"] == "b":
            raise KubeError(400, "BadRequest", "unknown field", place="b")
        return kept(obj, **given)

    api.apply = apply
    with pytest.raises(PolicyError) as caught:
        enforce_all(agents, kube, [policy("a"), policy("b"), policy("c")], ["x/p"])
    assert caught.value.place == "CiliumNetworkPolicy x/b"
    assert agents.asked == []
    stored = [name for name in "abc" if api.stored(Ref("cilium.io/v2", "CiliumNetworkPolicy", name, "x"))]
    assert stored == ["a"], "removing it is the caller's"
