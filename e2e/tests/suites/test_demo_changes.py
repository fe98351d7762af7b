"""The tests of the demo policy's changes, run on a cluster in memory, and on ones that do not follow."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from cilium_e2e.model import EnforcementNotProven, Target
from cilium_e2e.probe import Port
from cilium_e2e.repository import load
from cilium_e2e.scenario import Lab, PodSpec, Saying, isolate
from cilium_e2e.suites.demo import ALLOWED_PORT, DEMO_POLICY, OTHER_PORT, demo_policy
from cilium_e2e.suites.policy import test_demo_changes as changes
from support.stage import lab

NAME = "ce2e-w0-demo"
PORTS = (Port(ALLOWED_PORT), Port(OTHER_PORT))
SPECS = {NAME: [PodSpec(app, {"app": app}, PORTS, "w1") for app in ("demo", "frontend", "other")]}
WORKLOAD = tuple(Target.pod(NAME, spec.name) for spec in SPECS[NAME])
TESTS = (
    changes.test_a_pod_gains_and_loses_access_with_its_label,
    changes.test_the_protected_pod_follows_its_label,
    changes.test_without_the_policy_there_is_access_again,
)


@pytest.fixture(scope="module")
def policy():
    return isolate(demo_policy(load(Path(__file__).parents[3])), {DEMO_POLICY[0]: NAME})


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_it_passes_where_the_cluster_follows(test, policy):
    place = lab(SPECS)
    test(place, WORKLOAD, policy)
    assert place.evidence.flows
    assert not place.evidence.checks[0].oracle, "the positive control comes first"


@pytest.mark.parametrize("test", TESTS, ids=lambda test: test.__name__)
def test_it_fails_where_the_policy_does_nothing(test, policy):
    place = lab(SPECS, bend=lambda probe, saying: Saying(passes=True, sentence=""))
    with pytest.raises(AssertionError, match="expected denied, seen connected"):
        test(place, WORKLOAD, policy)


@pytest.mark.parametrize("test", TESTS[:2], ids=lambda test: test.__name__)
def test_an_identity_that_stays_is_told(test, policy):
    place = lab(SPECS)
    stale = place.cluster.endpoints()
    place.cluster.endpoints = lambda *, since_s=None: stale
    with pytest.raises(EnforcementNotProven, match="expected an identity with app="):
        test(place, WORKLOAD, policy)


def test_flows_with_the_former_identity_are_told(policy):
    place = lab(SPECS)
    former = {endpoint.ips[0]: endpoint.identity.number for endpoint in place.cluster.endpoints()}

    def stale(flow):
        source = dataclasses.replace(flow.source, identity=former[flow.source.ip])
        return dataclasses.replace(flow, source=source)

    place.cluster.spoil = stale
    with pytest.raises(AssertionError, match="identity"):
        TESTS[0](place, WORKLOAD, policy)


def test_a_policy_that_stays_in_force_is_told(policy):
    """Its removal is judged without patience: the proof said that it was gone."""
    place = lab(SPECS)
    last: list[Saying] = []

    def sticky(probe, saying):
        if not saying.passes:
            last.append(saying)
        return last[0] if last and probe.source == WORKLOAD[2] else saying

    place.cluster.bend = sticky
    with pytest.raises(AssertionError, match=r"expected connected by .*, seen timeout"):
        TESTS[2](place, WORKLOAD, policy)


def test_the_labels_come_back(policy):
    """The fixture restores what a test changed, whether it passed or not."""
    place: Lab = lab(SPECS)
    changes.relabel(place.cluster, place.kube, WORKLOAD[1], {"app": "somebody"})
    life = changes.workload.__wrapped__(place.cluster, place.kube, WORKLOAD)
    next(life)
    with pytest.raises(StopIteration):
        next(life)
    labels = {e.pod: e.identity.labels for e in place.cluster.endpoints()}
    assert all(f"k8s:app={pod.name}" in labels[pod.name] for pod in WORKLOAD)
