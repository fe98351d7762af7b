"""The Hubble suite's tests of flows, run on paper: they pass as all should be, and notice each fault."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from cilium_e2e.hubble import DROP, POLICY_VERDICT
from cilium_e2e.model import Direction, Flow, FlowVerdict
from cilium_e2e.suites.hubble import test_counters as counters
from cilium_e2e.suites.hubble import test_flow_kinds as kinds
from cilium_e2e.suites.hubble import test_policy_flows as policies
from cilium_e2e.suites.hubble import test_service_map as maps
from cilium_e2e.suites.hubble.scene import WORKLOAD, deployment
from support.paper import NAMESPACE, SCENE, PaperLab

Test = Callable[..., None]


def run(test: Test, change: Callable[[Flow], Flow | None] = lambda flow: flow, **parameters: Any) -> PaperLab:
    """Run a suite's test function with the fixtures of paper."""
    lab = PaperLab(change)
    fixtures = {"lab": lab, "cluster": lab.cluster, "scene": SCENE, **parameters}
    test(**{name: fixtures[name] for name in inspect.signature(test).parameters})
    return lab


ALLOWING = policies.test_a_verdict_names_the_policy_that_allowed_it
DENYING = policies.test_a_verdict_names_the_policy_that_denied_it
BOTH_WAYS = kinds.test_tcp_udp_and_icmp_are_forwarded_both_ways
OWNED = kinds.test_a_deployments_pod_is_seen_with_its_workload
MAP = maps.test_the_service_map_is_what_was_probed
COUNTED = counters.test_drops_are_counted
INGRESS = {"kind": "NetworkPolicy", "direction": Direction.INGRESS}
RULE = {"side": "ingressDeny", "reason": "POLICY_DENY", "word": counters.DENIED_BY_RULE}
DEFAULT = {"side": "ingress", "reason": "POLICY_DENIED", "word": counters.DENIED_BY_DEFAULT}


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("kind", ["CiliumNetworkPolicy", "NetworkPolicy"])
def test_policies_that_allow(kind, direction):
    run(ALLOWING, kind=kind, direction=direction)


@pytest.mark.parametrize("direction", list(Direction))
def test_policies_that_deny(direction):
    run(DENYING, direction=direction)


@pytest.mark.parametrize("parameters", [RULE, DEFAULT], ids=["rule", "default"])
def test_counters(parameters):
    notes = run(COUNTED, **parameters).evidence.notes
    assert notes["drops"] == "20 probes, 20 drop flows, counter +20"


def test_kinds_and_map():
    run(BOTH_WAYS)
    run(OWNED)
    notes = run(MAP).evidence.notes
    assert f"{NAMESPACE}/web → {NAMESPACE}/near:8080/TCP denied (1)" in notes["service map"].splitlines()


def without(**wrong: Any) -> Callable[[Flow], Flow | None]:
    """Hubble leaves out the flows with these fields."""
    return lambda flow: None if all(getattr(flow, name) == value for name, value in wrong.items()) else flow


def changed(**fields: Any) -> Callable[[Flow], Flow]:
    """Hubble says something else in every flow that has said something."""
    return lambda flow: dataclasses.replace(
        flow, **{name: value for name, value in fields.items() if getattr(flow, name)}
    )


def stranger(flow: Flow) -> Flow:
    """Another policy is named."""
    named = tuple(dataclasses.replace(policy, name="another", uid="") for policy in flow.policies)
    return dataclasses.replace(flow, policies=named)


def anonymous(flow: Flow) -> Flow:
    """An identity that the agents do not know."""
    return dataclasses.replace(flow, source=dataclasses.replace(flow.source, identity=7))


def unowned(flow: Flow) -> Flow:
    """No workloads."""
    ends = (dataclasses.replace(peer, workload="") for peer in (flow.source, flow.destination))
    return dataclasses.replace(flow, **dict(zip(("source", "destination"), ends, strict=True)))


def one_port_off(flow: Flow) -> Flow:
    """A destination port that nobody asked for."""
    far = dataclasses.replace(flow.destination, port=9)
    return flow if flow.is_reply else dataclasses.replace(flow, destination=far)


@pytest.mark.parametrize(
    ("test", "parameters", "fault", "words"),
    [
        (ALLOWING, INGRESS, stranger, "named NetworkPolicy ce2e-paper/another instead of"),
        (ALLOWING, INGRESS, changed(drop_reason=""), "reason none instead of POLICY_DENIED"),
        (ALLOWING, INGRESS, changed(direction=Direction.EGRESS), "direction EGRESS instead of INGRESS"),
        (ALLOWING, INGRESS, without(event_type=DROP), "event type 5 instead of 1"),
        (ALLOWING, INGRESS, without(event_type=POLICY_VERDICT), "event type 4 instead of 5"),
        (ALLOWING, INGRESS, changed(node="default/n3"), "n3"),
        (ALLOWING, INGRESS, anonymous, "7"),
        (DENYING, {"direction": Direction.EGRESS}, stranger, "another instead of"),
        (DENYING, {"direction": Direction.EGRESS}, changed(drop_reason="POLICY_DENIED"), "POLICY_DENIED"),
        (BOTH_WAYS, {}, without(is_reply=True), "no reply instead|no reply|FORWARDED"),
        (BOTH_WAYS, {}, without(node="default/n2"), "n2"),
        (BOTH_WAYS, {}, anonymous, "7"),
        (OWNED, {}, unowned, "web"),
        (MAP, {}, unowned, "web-6d4b"),
        (MAP, {}, one_port_off, ":9/TCP"),
        (MAP, {}, without(verdict=FlowVerdict.DROPPED), "denied"),
        (MAP, {}, without(protocol="UDP"), "UDP"),
        (COUNTED, DEFAULT, without(event_type=DROP), "no drop flow of"),
        (COUNTED, RULE, changed(drop_reason="POLICY_DENIED"), "POLICY_DENIED"),
    ],
)
def test_every_fault_is_noticed(test, parameters, fault, words):
    with pytest.raises(AssertionError, match=words):
        run(test, fault, **parameters)


def test_the_deployments_pods_are_its_own():
    made = deployment("ns", WORKLOAD, "n1", image="python:x")
    template = made["spec"]["template"]
    assert made["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"] == {"app": "web"}
    assert template["spec"]["containers"][0]["image"] == "python:x"
    assert template["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "n1"}
