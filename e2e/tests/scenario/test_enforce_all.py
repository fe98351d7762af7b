"""Several policies put into force as one: one proof for all, or the first refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.kube import Kube
from cilium_e2e.model import EnforcementNotProven, KubeError, PolicyError, Ref
from cilium_e2e.scenario import enforce_all
from support.lab import Agents
from support.memory import MemoryTransport


def policy(name, kind="CiliumNetworkPolicy"):
    meta = {"name": name} if "Cluster" in kind else {"name": name, "namespace": "x"}
    version = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return {"apiVersion": version, "kind": kind, "metadata": meta, "spec": {}}


def made(**refused):
    """An API server; it takes 0.1 s a policy, and Cilium judges those of ``refused``."""
    api = MemoryTransport()

    def stored(obj):
        api.clock.now += 0.1
        name = obj["metadata"]["name"]
        if name in refused:
            words = {"type": "Valid", "status": "False", "message": refused[name]}
            api.put({**obj, "status": {"conditions": [words]}})

    api.on_apply = stored
    return api, Kube(api, clock=api.clock)


def test_all_kinds_are_proven_together_in_the_given_order():
    api, kube = made()
    agents = Agents(api, enforced_at=1000.8)
    wanted = [policy("b"), policy("a", "NetworkPolicy"), policy("w", "CiliumClusterwideNetworkPolicy")]
    refs, proof = enforce_all(agents, kube, wanted, ["x/p"])
    assert [str(ref) for ref in refs] == [
        "CiliumNetworkPolicy x/b",
        "NetworkPolicy x/a",
        "CiliumClusterwideNetworkPolicy w",
    ]
    assert [ref.uid for ref in refs] == ["uid-b", "uid-a", "uid-w"]
    assert proof.policies == tuple(refs)
    assert agents.asked == [(refs, ["x/p"], 1.0)], "one proof for all of them"
    assert proof.realized_s == pytest.approx(0.8), "from before the first was stored"


def test_what_they_replace_is_removed_once_they_are_stored_and_proven_absent():
    """As Flux does it: applied first, then pruned; never a moment with neither."""
    api, kube = made()
    agents = Agents(api, enforced_at=1000.8)
    (old,), _ = enforce_all(agents, kube, [policy("old")], ["x/p"])
    there = []
    api.on_apply = lambda obj: there.append(kube.find(Ref.of(policy("old"))) is not None)
    enforce_all(agents, kube, [policy("new"), policy("more")], ["x/p"], replaces=[old])
    assert there == [True, True]
    assert kube.find(Ref.of(policy("old"))) is None
    assert agents.absent == [[], [old]]


def test_what_is_to_be_replaced_stays_where_the_new_one_is_refused():
    api, kube = made()
    (old,), _ = enforce_all(Agents(api, enforced_at=1000.0), kube, [policy("old")], ["x/p"])
    api.fail("apply", KubeError(422, "Invalid", "no"))
    with pytest.raises(PolicyError):
        enforce_all(Agents(api), kube, [policy("new")], ["x/p"], replaces=[old])
    assert kube.find(Ref.of(policy("old"))) is not None


@given(st.floats(0.0, 29.0))
def test_the_time_is_the_whole_one_however_often_it_was_looked(late_s):
    api, kube = made()
    _, proof = enforce_all(Agents(api, enforced_at=1000.0 + late_s), kube, [policy("a")], ["x/p"])
    assert proof.realized_s == pytest.approx(max(0.1, late_s))


def test_looks_are_further_and_further_apart_and_end_in_time():
    api, kube = made()
    agents = Agents(api)
    with pytest.raises(
        EnforcementNotProven,
        match=r"not enforced within 20 s: the agent on n1 does not hold it at revision 3\. Look",
    ):
        enforce_all(agents, kube, [policy("a")], ["x/p"], 20.0)
    waits = [timeout_s for _, _, timeout_s in agents.asked]
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert sum(waits) == pytest.approx(19.9)
    assert api.clock.now == pytest.approx(1020.0)


def test_a_rest_of_time_that_is_none_ends_it():
    """Sums of times are not exact: of 30 s less than a billionth may be left for ever."""
    api, kube = made()
    api.clock.now += 1 / 3
    with pytest.raises(EnforcementNotProven, match="not enforced within 30 s"):
        enforce_all(Agents(api), kube, [policy("a")], ["x/p"])


def test_the_one_that_cilium_refuses_is_named_among_many():
    api, kube = made(c="bad port")
    agents = Agents(api)
    with pytest.raises(PolicyError) as caught:
        enforce_all(agents, kube, [policy("a"), policy("b"), policy("c")], ["x/p"])
    assert caught.value.place == "CiliumNetworkPolicy x/c"
    assert "Cilium refuses the policy: bad port" in str(caught.value)
    assert len(agents.asked) == 1


def test_the_one_that_the_api_server_refuses_ends_it_before_any_proof():
    api, kube = made()
    kept, agents = api.apply, Agents(api, enforced_at=1000.0)

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
