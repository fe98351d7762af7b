"""The state at a failure, of an API in memory and of recorded objects."""

from __future__ import annotations

import pytest

from cilium_e2e.model import KubeError
from cilium_e2e.report import snapshot
from support.memory import MemoryTransport, pod
from support.recordings import recorded

READY = [{"type": "Ready", "status": "True"}]
INVALID = recorded("cnp-invalid-port")


def node(name, *conditions, **spec):
    status = {"conditions": list(conditions)}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec, "status": status}


def event(name, text, *, namespace="x", kind="Warning", at="2026-01-01T00:00:00Z"):
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "type": kind,
        "reason": "BackOff",
        "message": text,
        "lastTimestamp": at,
        "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "a"},
    }


def look(*objects, namespaces=("x",)):
    return snapshot(MemoryTransport(*objects), namespaces, agents="cilium")


def test_nodes():
    away = {"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting node status."}
    notes = look(node("n1", READY[0]), node("n2", away), node("n3"), node("n4", READY[0], unschedulable=True))
    assert notes["state of nodes"].splitlines() == [
        "n1 ready",
        "n2 not ready: Kubelet stopped posting node status.",
        "n3 not ready: its kubelet says nothing",
        "n4 ready, cordoned",
    ]


def test_pods_of_the_tests_namespaces_only():
    waiting = {"state": {"waiting": {"reason": "ImagePullBackOff"}}, "restartCount": 2}
    going = pod("going", "x", phase="Running", conditions=READY, podIP="10.0.0.7")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    going["spec"]["nodeName"] = "n1"
    notes = look(going, pod("stuck", "x", phase="Pending", containerStatuses=[waiting]), pod("other", "y"))
    assert notes["state of pods"].splitlines() == [
        "x/going Running, ready, on n1, 10.0.0.7, being deleted",
        "x/stuck Pending, not ready, on no node, 2 restarts, ImagePullBackOff",
    ]


def test_agents_are_told_from_other_pods():
    agent = pod("cilium-1", "cilium", phase="Running", conditions=READY)
    agent["metadata"]["labels"] = {"k8s-app": "cilium"}
    notes = look(agent, pod("relay", "cilium", phase="Running"))
    assert notes["state of Cilium agents"] == "cilium/cilium-1 Running, ready, on no node"


def test_policies_with_ciliums_word_on_them():
    """The refused one is a recording."""
    plain = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    wide = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "w"}}
    valid = {"status": {"conditions": [{"type": "Valid", "status": "True"}]}}
    notes = look(
        INVALID,
        {**plain, "metadata": {"name": "k", "namespace": "x"}},
        {**wide, **valid},
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "n", "namespace": "x"},
        },
        namespaces=("x", "default"),
    )
    first, second, third, fourth = notes["state of policies"].splitlines()
    assert first == "CiliumNetworkPolicy x/n: Valid unknown"
    assert second.startswith("CiliumNetworkPolicy default/invalid-port: Valid=False: ")
    assert "value out of range" in second
    assert third == "NetworkPolicy x/k"
    assert fourth == "CiliumClusterwideNetworkPolicy w: Valid=True"


def test_the_newest_warnings_each_once():
    events = [event(f"e{n:02}", f"try {n}", at=f"2026-01-01T00:00:{n:02}Z") for n in range(12)]
    same = event("f", "try 11", at="2026-01-01T00:00:11Z")
    notes = look(*events, same, event("g", "fine", kind="Normal"), event("h", "elsewhere", namespace="y"))
    lines = notes["state of warnings"].splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == [str(n) for n in range(2, 12)]
    assert lines[-1] == "2026-01-01T00:00:11Z BackOff on Pod x/a: try 11"


def test_recorded_events():
    found = recorded("events")["items"]
    name = found[0]["metadata"]["namespace"]
    warnings = [e for e in found if e["type"] == "Warning"]
    transport = MemoryTransport(*({"apiVersion": "v1", "kind": "Event", **e} for e in found))
    text = snapshot(transport, [name], agents=name).get("state of warnings", "")
    assert bool(text) is bool(warnings)
    assert all(line.split()[1] in {e["reason"] for e in warnings} for line in text.splitlines())


def test_it_is_bounded():
    many = [pod(f"p{n:03}", "x", phase="Running") for n in range(100)]
    spaces = [pod("p", f"y{n}", phase="Running") for n in range(20)]
    notes = look(*many, *spaces, event("e", "word " * 1000), namespaces=["x", *(f"y{n}" for n in range(20))])
    lines = notes["state of pods"].splitlines()
    assert len(lines) == 41
    assert lines[-1] == "… and 65 more", "of six namespaces"
    assert all(len(line) <= 500 for text in notes.values() for line in text.splitlines())


def test_an_empty_cluster_has_no_notes():
    assert look() == {}


@pytest.mark.parametrize(("status", "asked"), [(0, 1), (403, 8)])
def test_what_cannot_be_read_is_noted_and_a_silent_api_is_not_asked_again(status, asked):
    transport = MemoryTransport(node("n1", READY[0]))
    transport.fail("list", KubeError(status, "No", "not now"), times=99)
    notes = snapshot(transport, ["x"], agents="cilium")
    assert list(notes) == ["state that could not be read"]
    assert notes["state that could not be read"].splitlines()[0] == "Node in the cluster: not now"
    assert len(transport.calls) == asked


def test_one_kind_that_is_missing_hides_nothing_else():
    transport = MemoryTransport(node("n1", READY[0]))
    transport.missing_kinds.add("CiliumNetworkPolicy")
    notes = snapshot(transport, ["x"], agents="cilium")
    assert notes["state of nodes"] == "n1 ready"
    assert notes["state that could not be read"].startswith("CiliumNetworkPolicy in x: ")
