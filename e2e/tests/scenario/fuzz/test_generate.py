"""Random cases: the same for the same numbers, accepted by all, judged by the oracle, and mostly mixed."""

from __future__ import annotations

import hashlib
import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.policy import check_schema
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.fuzz import generate, name_of_case, speaks_of_outside
from cilium_e2e.scenario.fuzz.chance import Chance
from cilium_e2e.scenario.fuzz.generate import bench_oracle, on_paper
from cilium_e2e.scenario.fuzz.shrink import acceptable
from cilium_e2e.scenario.fuzz.write import scenario_text
from cilium_e2e.scenario.isolation import isolate
from cilium_e2e.scenario.standard import NAMESPACES

PURE = settings(max_examples=150, deadline=None, database=None, derandomize=True)
NUMBERS = (st.integers(0, 10**6), st.integers(1, 10**5))
SAMPLE = [generate(7, index) for index in range(1, 201)]
CELLS = (("TCP", 80), ("TCP", 81), ("UDP", 80), ("UDP", 81), ("ICMP", 8))


def verdicts(case):
    """Every cell between different pods, and from pods to what is outside."""
    oracle = bench_oracle(case.policies)
    assert oracle.refused == ()
    pods = [pod.key for pod in oracle.world.pods]
    pairs = [(one, other) for one, other in product(pods, pods) if one != other]
    found = [oracle.verdict(*pair, *cell) for pair, cell in product(pairs, CELLS)]
    outside = product(pods, ("world:one", "world:two"), ("TCP", "UDP"))
    return found, [oracle.verdict(pod, name, protocol, 8080) for pod, name, protocol in outside]


@PURE
@given(*NUMBERS)
def test_a_case_is_accepted_isolated_and_judged_in_every_cell(seed, index):
    case = generate(seed, index)
    assert case == generate(seed, index)
    assert 1 <= len(case.policies) <= 4
    for policy in on_paper(case.policies):
        assert check_schema(policy) == ()
        isolate(policy, {name: f"ce2e-gw0-{name}" for name in NAMESPACES})
    assert acceptable(case.policies)
    pods, outside = verdicts(case)
    assert not any(verdict.unverified or verdict.l7 for verdict in (*pods, *outside))


@PURE
@given(*NUMBERS)
def test_whether_it_speaks_of_what_is_outside_is_known_before_it_is_made(seed, index):
    named = "${world." in json.dumps(generate(seed, index).policies)
    assert named is speaks_of_outside(seed, index)


def test_a_case_can_be_written_as_a_scenario_and_is_the_same_then(tmp_path):
    for case in SAMPLE[:60]:
        file = tmp_path / f"{case.index}.scenario.yaml"
        file.write_text(scenario_text("s", case.policies, (), remarks=["a\nb"]))
        (scenario,) = load_scenarios(file)
        assert [policy.object for policy in scenario.steps[0].apply] == list(case.policies)
        assert scenario.requires == (("world",) if speaks_of_outside(7, case.index) else ())


def test_nearly_all_are_mixed_and_some_are_not_for_certain():
    mixed = 0
    for case in SAMPLE:
        passed = [verdict.passes for verdict in verdicts(case)[0]]
        mixed += any(passed) and not all(passed)
    assert mixed >= 0.9 * len(SAMPLE)


@pytest.mark.parametrize(
    "word",
    [
        *('"NetworkPolicy"', '"CiliumNetworkPolicy"', '"spec"', '"specs"', '"policyTypes"'),
        *('"ingress"', '"egress"', '"ingressDeny"', '"egressDeny"', '"enableDefaultDeny"'),
        *('"fromEndpoints"', '"toEndpoints"', '"toEndpoints": []', '"fromEntities"', '"toEntities"'),
        *('"toCIDR"', '"fromCIDR"', '"toCIDRSet"', '"fromCIDRSet"', '"except"', '"ipBlock"'),
        *('"podSelector"', '"namespaceSelector"', '"matchExpressions"', '"NotIn"', '"Exists"'),
        *('"DoesNotExist"', '"io.kubernetes.pod.namespace"', "k8s:io.cilium.k8s.namespace.labels.ns"),
        *('"endPort"', '"serve-80-udp"', '"port": 80', '"port": "80"', '"port": "0"', '"ANY"'),
        *('"icmps"', '"EchoRequest"', "${world.one.cidr}", "${world.two.cidr}", "${pod.x/a.cidr}"),
        *("kubernetes.io/metadata.name", "any:pod", "${node.0.cidr}"),
    ],
)
def test_everything_that_policies_can_say_is_said(word):
    assert any(word in json.dumps(case.policies) for case in SAMPLE)


def test_most_policies_select_something():
    chosen = 0
    for case in SAMPLE:
        oracle = bench_oracle(case.policies)
        chosen += any(
            side.policy.enforced
            for pod in oracle.world.pods
            for side in oracle.sides(pod.key, pod.key, "TCP", 80)
        )
    assert chosen >= 0.9 * len(SAMPLE)


def test_the_cases_of_a_seed_do_not_change_unnoticed():
    """Whoever changes what a seed means changes DISTRIBUTION, too, and then this."""
    text = json.dumps([case.policies for case in SAMPLE], sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "e97d2a1b6efa2beb"


def test_cases_are_named_by_seed_and_index():
    assert name_of_case(7, 1) == "fuzz[7-0001]"
    assert generate(7, 12345).name == "fuzz[7-12345]"


def test_its_scenario_asks_the_matrix_pings_and_what_is_outside():
    (step,) = SAMPLE[0].scenario(outside=["one"]).steps
    assert step.oracle
    assert len(step.asks) == 81 + 9 * 2
    assert ("x/a", "z/c:ICMP") in step.asks
    assert ("y/b", "world:one:8080/UDP") in step.asks


@given(st.integers(), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_what_is_chosen_is_among_the_options(key, weights):
    chance = Chance(key)
    options = list(range(len(weights)))
    assert chance.one(options) in options
    assert chance.weighted(list(zip(weights, options, strict=True))) in options
    some = chance.some(options, 1, 3)
    assert some == sorted(set(some))
    assert 1 <= len(some) <= 3
    assert chance.yes(1.0)
    assert not chance.yes(0.0)


def test_choices_come_in_their_shares():
    chance = Chance("shares")
    drawn = [chance.weighted(((1, "a"), (3, "b"))) for _ in range(4000)]
    assert 800 < drawn.count("a") < 1200
    assert {chance.below(3) for _ in range(100)} == {0, 1, 2}


def test_a_refusal_would_be_seen():
    """The test above can fail: what the agent refuses is not acceptable."""
    (policy, *_) = SAMPLE[0].policies
    wrong = json.loads(json.dumps(policy))
    rule = wrong.get("spec") or wrong["specs"][0]
    rule["ingress"] = [{"fromCIDR": ["10.0.0.0/8"], "fromEntities": ["world"]}]
    assert not acceptable([{**wrong, "kind": "CiliumNetworkPolicy", "apiVersion": "cilium.io/v2"}])
