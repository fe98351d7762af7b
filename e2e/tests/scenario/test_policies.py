"""A policy put into force, or refused by the API server or by Cilium: never waited for in vain."""

from __future__ import annotations

import copy

import pytest

from cilium_e2e.cluster.enforcement import Enforcement
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    EXIT_USAGE,
    EnforcementNotProven,
    KubeError,
    PolicyError,
    PolicyRef,
    Ref,
)
from cilium_e2e.scenario import enforce
from support.lab import Agents
from support.memory import MemoryTransport
from support.recordings import FOLDER, recorded

INVALID = recorded("cnp-invalid-port")
WORDS = 'unable to parse port: strconv.ParseUint: parsing "99999": value out of range'
PODS = ["default/demo", "default/frontend"]
REF = Ref("cilium.io/v2", "CiliumNetworkPolicy", "invalid-port", "default")


def policy():
    """The recorded policy as its author wrote it."""
    meta = {key: INVALID["metadata"][key] for key in ("name", "namespace")}
    return {**{key: INVALID[key] for key in ("apiVersion", "kind", "spec")}, "metadata": meta}


@pytest.fixture
def api():
    return MemoryTransport()


@pytest.fixture
def kube(api):
    return Kube(api, clock=api.clock)


@pytest.fixture
def agents(api):
    return Agents(api)


def judged(api, status, message=""):
    """Cilium's judgement, as a change of the stored object."""

    def put():
        found = api.stored(REF)
        found["status"] = copy.deepcopy(INVALID["status"])
        found["status"]["conditions"][0].update(status=status, message=message or WORDS)
        api.put(found)

    return put


def test_stored_and_enforced(api, kube, agents):
    agents.enforced_at = 1000.25
    ref, proof = enforce(agents, kube, policy(), PODS)
    assert ref == PolicyRef("CiliumNetworkPolicy", "default", "invalid-port", "uid-invalid-port")
    assert [endpoint.endpoint for endpoint in proof.endpoints] == PODS
    assert proof.realized_s == 0.25
    assert [obj["spec"] for obj in api.applied] == [INVALID["spec"]]
    assert agents.asked[0][:2] == ([ref], PODS)
    assert [method for method, _ in api.calls] == ["get", "apply"], "its status is of no interest"


def test_a_policy_that_exists_is_proven_as_it_is_before_it_is_changed(api, kube, agents):
    """Only so can the agents be seen to take the change: its UID stays."""
    agents.enforced_at = 1000.0
    enforce(agents, kube, policy(), PODS)
    changed = policy()
    changed["spec"] = {**changed["spec"], "endpointSelector": {"matchLabels": {"app": "changed"}}}
    enforce(agents, kube, changed, PODS)
    asked = [(policies[0].generation, endpoints) for policies, endpoints, _ in agents.asked]
    assert asked == [(1, PODS), (1, []), (2, PODS)]


def test_a_refused_policy_can_be_corrected(api, kube, agents):
    """What was refused is held by nobody, and nobody waits for it longer than it takes to see that."""
    agents.enforced_at = 1001.5
    api.put({**policy(), "metadata": {**policy()["metadata"], "uid": "uid-1", "generation": 1}})
    judged(api, "False")()
    corrected = policy()
    corrected["spec"] = {**corrected["spec"], "endpointSelector": {"matchLabels": {"app": "changed"}}}
    enforce(agents, kube, corrected, PODS)
    asked = [(policies[0].generation, endpoints) for policies, endpoints, _ in agents.asked]
    assert asked == [(1, []), (2, PODS)]


@pytest.mark.parametrize("after_s", [0.9, 5.0, 29.5])
def test_late_is_not_refused(api, kube, agents, after_s):
    agents.enforced_at = 1000 + after_s
    api.later(0.1, judged(api, "True"))
    _, proof = enforce(agents, kube, policy(), PODS)
    assert proof.realized_s == pytest.approx(after_s)


def test_what_only_cilium_refuses_is_told_at_once_in_its_words(api, kube, agents):
    """The recorded one: stored by the API server, and yet in force nowhere."""
    api.later(0.1, judged(api, "False"))
    with pytest.raises(PolicyError) as caught:
        enforce(agents, kube, policy(), PODS)
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value) == (
        f"CiliumNetworkPolicy default/invalid-port: Cilium refuses the policy: {WORDS}. "
        "The API server has stored it, but no agent enforces it."
    )
    assert api.clock.now - 1000 <= 1.0, "not after the whole timeout"
    assert api.stored(REF) is not None, "removing it is the caller's"


def test_a_refusal_that_comes_late(api, kube, agents):
    api.later(4.0, judged(api, "False"))
    with pytest.raises(PolicyError, match="value out of range"):
        enforce(agents, kube, policy(), PODS)
    assert api.clock.now - 1000 <= 8.0


def test_a_refusal_without_words(api, kube, agents):
    api.later(0.1, judged(api, "False", message=" "))
    with pytest.raises(PolicyError, match="it does not say why"):
        enforce(agents, kube, policy(), PODS)


@pytest.mark.parametrize("status", [400, 422])
def test_what_the_api_server_refuses(api, kube, agents, status):
    words = (FOLDER / "admission-rejected.txt").read_text().strip()
    api.fail("apply", KubeError(status, "Invalid", words, place="CiliumNetworkPolicy default/x"))
    with pytest.raises(PolicyError) as caught:
        enforce(agents, kube, policy(), PODS)
    assert caught.value.exit_code == EXIT_USAGE
    text = str(caught.value)
    assert text.startswith("CiliumNetworkPolicy default/invalid-port: the API server refuses the policy: ")
    assert 'Unsupported value: "TPC"' in text
    assert agents.asked == []


def test_no_right_to_store_it_is_no_fault_of_the_policy(api, kube, agents):
    api.fail("apply", KubeError(403, "Forbidden", "you may not"))
    with pytest.raises(KubeError, match="you may not"):
        enforce(agents, kube, policy(), PODS)


@pytest.mark.parametrize("judgement", [None, "True", "Unknown"])
def test_neither_refused_nor_enforced(api, kube, agents, judgement):
    if judgement is not None:
        api.later(0.1, judged(api, judgement))
    with pytest.raises(EnforcementNotProven) as caught:
        enforce(agents, kube, policy(), PODS, timeout_s=12.0)
    assert str(caught.value) == (
        "CiliumNetworkPolicy default/invalid-port: not enforced within 12 s: "
        "the agent on n1 does not hold it at revision 3. Look at the agent's log."
    )
    assert api.clock.now == pytest.approx(1012.0)


def test_one_that_somebody_deletes_meanwhile(api, kube, agents):
    api.later(0.1, lambda: api.remove(REF))
    with pytest.raises(EnforcementNotProven):
        enforce(agents, kube, policy(), PODS, timeout_s=3.0)


def test_one_of_the_whole_cluster(api, kube, agents):
    agents.enforced_at = 1000.0
    wide = {**policy(), "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "wide"}}
    ref, _ = enforce(agents, kube, wide, PODS)
    assert (ref.kind, ref.namespace, ref.name) == ("CiliumClusterwideNetworkPolicy", "", "wide")


def test_with_the_real_proof_a_refused_policy_is_held_by_no_agent(api, kube):
    """The agents go on at their revision; only the policy's status says why nothing happens."""

    class Held:
        """Agents that hold nothing of ours."""

        def each(self, ask):
            raise KubeError(503, "Unavailable", "an agent is being restarted")

    class Cluster:
        clock = api.clock

        def prove(self, policies, endpoints, *, gone=False, absent=(), timeout_s=30.0):
            return Enforcement(kube, Held()).prove(policies, endpoints, gone=gone, timeout_s=timeout_s)

    api.later(0.1, judged(api, "False"))
    with pytest.raises(PolicyError, match="value out of range"):
        enforce(Cluster(), kube, policy(), PODS)
