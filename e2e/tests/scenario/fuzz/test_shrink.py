"""Shrinking, with a failure that is known: minimal, bounded, never outside of what is accepted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.scenario.fuzz import generate, shrink
from cilium_e2e.scenario.fuzz.reduce import Removal, removals
from cilium_e2e.scenario.fuzz.shrink import acceptable

PURE = settings(max_examples=60, deadline=None, database=None, derandomize=True)
PLENTY = 10_000
DENY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p2", "namespace": "y"},
    "spec": {
        "endpointSelector": {"matchLabels": {"pod": "a"}},
        "ingress": [{"fromEndpoints": [{}, {"matchLabels": {"pod": "b"}}]}, {"fromEntities": ["all"]}],
        "ingressDeny": [
            {"fromEndpoints": [{"matchLabels": {"pod": "b"}}]},
            {
                "fromEntities": ["world"],
                "toPorts": [{"ports": [{"port": "80", "endPort": 81, "protocol": "TCP"}, {"port": "81"}]}],
            },
        ],
    },
}
OTHER = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "p1", "namespace": "x"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"]},
}


def leaves(node, at=""):
    """Every key, and every value, of a tree; what a failure may need."""
    if isinstance(node, dict):
        return {f"{key}:" for key in node} | {leaf for inner in node.values() for leaf in leaves(inner)}
    if isinstance(node, list):
        return {leaf for inner in node for leaf in leaves(inner)}
    return {str(node)}


def needs(*words):
    return lambda policies: set(words) <= leaves(list(policies))


def is_minimal(policies, fails):
    candidates = [removal.of(policies) for removal in removals(policies)]
    return not any(acceptable(candidate) and fails(candidate) for candidate in candidates)


def test_what_a_failure_does_not_need_is_left_out():
    found = shrink([OTHER, DENY], needs("ingressDeny:", "80"), tries=PLENTY)
    assert found.minimal
    assert list(found.policies) == [
        {
            **{key: DENY[key] for key in ("apiVersion", "kind", "metadata")},
            "spec": {"endpointSelector": {}, "ingressDeny": [{"toPorts": [{"ports": [{"port": "80"}]}]}]},
        }
    ]


def test_a_failure_that_needs_no_policy_has_none_left():
    assert shrink([OTHER, DENY], lambda policies: True, tries=PLENTY).policies == ()


def test_what_is_given_is_not_changed():
    before = json.dumps([OTHER, DENY])
    shrink([OTHER, DENY], needs("80"), tries=PLENTY)
    assert json.dumps([OTHER, DENY]) == before


@PURE
@given(st.integers(0, 999), st.integers(1, 99), st.data())
def test_the_result_is_minimal_and_no_question_is_asked_twice(seed, index, data):
    policies = generate(seed, index).policies
    chosen = data.draw(st.sets(st.sampled_from(sorted(leaves(list(policies)))), min_size=1, max_size=3))
    asked = []

    def fails(candidate):
        assert acceptable(candidate)
        asked.append(json.dumps(candidate, sort_keys=True))
        return needs(*chosen)(candidate)

    found = shrink(policies, fails, tries=PLENTY)
    assert found.minimal
    assert found.tries == len(asked) == len(set(asked))
    assert fails(list(found.policies))
    assert is_minimal(list(found.policies), needs(*chosen))


@pytest.mark.parametrize("tries", [0, 1, 3])
def test_the_tries_are_counted_and_their_end_is_told(tries):
    asked = []

    def fails(candidate):
        asked.append(candidate)
        return needs("80")(candidate)

    found = shrink([OTHER, DENY], fails, tries=tries)
    assert (len(asked), found.tries, found.minimal) == (tries, tries, False)
    assert needs("80")(found.policies)


def test_an_error_comes_through():
    def fails(candidate):
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        shrink([OTHER, DENY], fails, tries=PLENTY)


def test_the_coarsest_comes_first_and_lists_by_halves():
    found = removals([OTHER, DENY])
    assert found[:2] == [Removal((), 0), Removal((), 1)]
    depths = [len(removal.path) for removal in found]
    assert depths == sorted(depths)
    five = [removal for removal in removals([{"spec": {"list": [1, 2, 3, 4, 5]}}]) if len(removal.path) == 3]
    assert [(removal.what, removal.count) for removal in five[:4]] == [(0, 2), (2, 2), (4, 2), (0, 1)]


def test_names_kinds_and_selectors_stay():
    for removal in removals([OTHER, DENY]):
        assert removal.what not in {"kind", "metadata", "apiVersion", "endpointSelector", "podSelector"}
        assert "metadata" not in removal.path
