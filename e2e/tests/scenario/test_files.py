"""Scenario files read, and refused with the line that is wrong."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.model import EXIT_USAGE, InputError, PolicyError, ScenarioError, Tier
from cilium_e2e.probe import Port
from cilium_e2e.scenario import schema
from cilium_e2e.scenario.fields import Either, Flag, ListOf, MapOf, Record, Shape, Text, Whole, WrongShape
from cilium_e2e.scenario.files import load_scenarios

ROOT = Path(__file__).parents[3]
DENY = (
    "{kind: NetworkPolicy, metadata: {name: deny, namespace: x}, "
    "spec: {podSelector: {}, policyTypes: [Ingress]}}"
)
OTHER = DENY.replace("name: deny", "name: other")


@pytest.fixture
def load(tmp_path):
    """Loads a text as a file that is called ``a.scenario.yaml`` in messages."""

    def call(text: str):
        file = tmp_path / "a.scenario.yaml"
        file.write_text(textwrap.dedent(text))
        return load_scenarios(file, place="a.scenario.yaml")

    return call


def questions(step):
    return {(row.source, row.destination): row.outcome.text for row in step.expect}


def test_the_demo_policys_scenario_is_read():
    (demo,) = load_scenarios(ROOT / "manifests/policies/demo-policy.scenario.yaml")
    (step,) = demo.steps
    assert demo.isolated
    assert [pod.key for pod in demo.workload.pods] == ["default/demo", "default/frontend", "default/other"]
    assert demo.workload.pods[0].ports == (Port(8080, "TCP"), Port(8081, "TCP"))
    assert [policy.object["metadata"]["name"] for policy in step.apply] == ["demo-policy"]
    assert len(step.expect) == 3
    assert step.oracle
    assert demo.requires == ("hubble-relay",), "it asks for a flow"


def test_the_least_scenario(load):
    (found,) = load("name: nothing")
    assert (found.tier, found.tags, found.isolated, found.line) == (Tier.QUICK, (), True, 1)
    assert len(found.workload.pods) == 9
    assert found.workload.namespaces == {name: {"ns": name} for name in "xyz"}
    assert {(port.number, port.protocol) for port in found.workload.pods[0].ports} == {
        (80, "TCP"),
        (81, "TCP"),
        (80, "UDP"),
        (81, "UDP"),
    }
    (step,) = found.steps
    assert (step.apply, step.expect, step.oracle) == ((), (), True)


def test_each_document_is_a_scenario_with_its_line(load):
    first, second = load("""\
        # about both
        name: one
        ---
        name: two
        rest: none
        """)
    assert (first.place, second.place) == ("a.scenario.yaml:2", "a.scenario.yaml:4")
    assert not second.steps[0].oracle


def test_steps_hold_what_changes(load):
    (found,) = load(f"""\
        name: steps
        tier: full
        tags: [update]
        requires: [multi-node]
        policies: [{DENY}]
        steps:
          - name: relabelled
            replace: [{DENY}]
            apply: [{OTHER}]
            relabel: [{{pod: x/a, labels: {{pod: b}}}}]
            relabel_namespace: [{{namespace: y, labels: {{}}}}]
            restart: [z/c]
            rest: none
          - delete: [x/deny, other]
        """)
    first, second, third = found.steps
    assert (found.tier, found.tags, found.requires) == (Tier.FULL, ("update",), ("multi-node",))
    assert (first.name, second.name, third.name) == ("as applied", "relabelled", "step 2")
    assert [policy.object["metadata"]["name"] for policy in second.apply] == ["other", "deny"]
    assert second.relabel == {"x/a": {"pod": "b"}}
    assert second.relabel_namespace == {"y": {}}
    assert second.restart == ("z/c",)
    assert third.delete == ("x/deny", "other")
    assert second.place == "a.scenario.yaml:7"


def test_lists_and_stars_are_spread_and_later_rows_win(load):
    (found,) = load("""\
        name: spread
        expect:
          - {from: "*/*", to: "x/*:80/TCP", outcome: connected}
          - {from: [y/a, y/b], to: ["x/a:80/TCP", "x/a:81/TCP"], outcome: denied}
        """)
    asked = questions(found.steps[0])
    assert len(asked) == 9 * 3 - 3 + 2, "each pod, but none itself; two ports more"
    assert asked["y/a", "x/a:80/TCP"] == "denied"
    assert asked["y/c", "x/a:80/TCP"] == "connected"
    assert ("x/a", "x/a:80/TCP") not in asked
    assert found.steps[0].expect[-1].place == "a.scenario.yaml:4"


def test_a_pod_may_be_asked_to_reach_itself(load):
    (found,) = load("name: self\nexpect: [{from: x/a, to: 'x/a:80/TCP', outcome: connected}]")
    assert list(questions(found.steps[0])) == [("x/a", "x/a:80/TCP")]


def test_a_workload_of_its_own(load):
    (found,) = load("""\
        name: own
        namespaces: {shop: {team: red}, empty: {}}
        workload:
          - {name: web, namespace: shop, labels: {app: web}, ports: [http=80/HTTP, 53/DNS], node: other}
          - {name: db, namespace: shop, service_account: db, node: 1}
        services:
          - {name: web, namespace: shop, selector: {app: web}, ports: ["8080:80/HTTP", "53/DNS"]}
        expect:
          - {from: shop/db, to: "svc:shop/web:8080/HTTP", outcome: http(200), answered_by: shop/web,
             request: {method: POST, path: /x, headers: {B: b, A: a}}}
        """)
    web, db = found.workload.pods
    assert web.ports == (Port(80, "HTTP", "http"), Port(53, "DNS"))
    assert (web.node, db.node, db.service_account) == ("other", "1", "db")
    assert found.workload.namespaces == {"shop": {"team": "red"}, "empty": {}}
    (service,) = found.workload.services
    assert (service.targets, service.ports) == ({8080: 80}, (Port(8080, "HTTP"), Port(53, "DNS")))
    (row,) = found.steps[0].expect
    assert row.answered_by == ("shop/web",)
    assert row.request.headers == (("A", "a"), ("B", "b"))


def test_policies_come_from_files_with_the_line_they_stand_in(load, tmp_path):
    (tmp_path / "p.yaml").write_text(f"---\n{DENY}\n---\n\n{OTHER}\n")
    (found,) = load("name: files\npolicies: [p.yaml]")
    assert [policy.place for policy in found.steps[0].apply] == ["p.yaml:2", "p.yaml:5"]
    assert found.steps[0].apply[0].object["apiVersion"] == "networking.k8s.io/v1"


def test_what_a_refused_step_applies_is_not_in_force_afterwards(load):
    (found,) = load(f"name: refused\npolicies: [{DENY}]\nrefused: no way\nsteps: [{{apply: [{DENY}]}}]")
    assert found.steps[0].refused == "no way"
    assert not found.steps[0].oracle


WRONG = [
    ("", "a.scenario.yaml", "the file is empty"),
    ("name: a\n---\n", "a.scenario.yaml:3", "the document is empty"),
    ("- a", "a.scenario.yaml:1", "expected a mapping, got list"),
    ("name: a\nnaem: b", "a.scenario.yaml:2", "naem: expected one of name, description"),
    ("rest: none", "a.scenario.yaml:1", "expected 'name', which is missing"),
    ("name: a\n\nrest: maybe", "a.scenario.yaml:3", "expected one of oracle, none, got 'maybe'"),
    ("name: a\nname: b", "a.scenario.yaml:2", "not valid YAML"),
    ("name: a\n---\nname: b\n---\nname: a", "a.scenario.yaml:5", "got 'a' 2 times"),
    ("name: a\nexpect:\n- {from: x/a, to: 'x/b:80/TCP', outcome: dropped}", "a.scenario.yaml:3", "dropped"),
    ("name: a\nexpect:\n- {from: x/a, to: 'x/d:80/TCP', outcome: denied}", "a.scenario.yaml:3", "got x/d"),
    ("name: a\nexpect:\n- {from: x/q, to: 'x/a:80/TCP', outcome: denied}", "a.scenario.yaml:3", "got x/q"),
    ("name: a\nexpect:\n- {from: q/*, to: 'x/a:80/TCP', outcome: denied}", "a.scenario.yaml:3", "fits q/*"),
    ("name: a\nexpect:\n- {from: x/a, to: 'x/b', outcome: denied}", "a.scenario.yaml:3", "TARGET:PORT"),
    (
        "name: a\nexpect:\n- {from: 'svc:x/a', to: 'x/b:80/TCP', outcome: denied}",
        "a.scenario.yaml:3",
        "in from",
    ),
    (
        "name: a\nexpect:\n- {from: x/a, to: 'svc:x/b:80/TCP', outcome: denied}",
        "a.scenario.yaml:3",
        "expected a Service of the scenario (none)",
    ),
    (
        "name: a\nexpect:\n- from: x/a\n  to: 'node:${node.first}:80/TCP'\n  outcome: denied",
        "a.scenario.yaml:3",
        "got 'node.first'",
    ),
    ("name: a\nworkload:\n- {name: p, namespace: n, ports: [0/TCP]}", "a.scenario.yaml:3", "got 0"),
    ("name: a\nworkload:\n- {name: p, namespace: n, ports: [8080]}", "a.scenario.yaml:3", "got int"),
    (
        "name: a\nworkload:\n- {name: p, namespace: n}\n- {name: p, namespace: n}",
        "a.scenario.yaml:2",
        "got n/p 2 times",
    ),
    ("name: a\npolicies:\n- no.yaml", "a.scenario.yaml:3: no.yaml", "no such file"),
    ("name: a\npolicies:\n- {kind: Pod, metadata: {name: p}}", "a.scenario.yaml:3", "got 'Pod'"),
    (f"name: a\npolicies:\n- {DENY}\n- {DENY}", "a.scenario.yaml:1", "x/deny is in force already"),
    (f"name: a\npolicies:\n- {DENY.replace('x}', 'q}')}", "a.scenario.yaml:3", "got q"),
    (f"name: a\npolicies: [{DENY}]\nsteps:\n- delete: [allow]", "a.scenario.yaml:4", "got 'allow'"),
    (f"name: a\nsteps:\n- replace: [{DENY}]", "a.scenario.yaml:3", "to replace, got x/deny"),
    ("name: a\nsteps:\n- rest: none\n- relabel: [{pod: x/q, labels: {}}]", "a.scenario.yaml:4", "got x/q"),
    ("name: a\nrefused: so", "a.scenario.yaml:2", "expected policies and no expectations"),
    ("name: a\ntags: [1]", "a.scenario.yaml:2", "tags.0: expected a name"),
]


@pytest.mark.parametrize(("text", "place", "words"), WRONG, ids=[f"{n}" for n in range(len(WRONG))])
def test_errors_point_at_the_line(load, text, place, words):
    with pytest.raises(ScenarioError) as caught:
        load(text)
    assert caught.value.place == place
    assert words in str(caught.value)
    assert caught.value.exit_code == EXIT_USAGE


def test_a_field_that_no_policy_has_is_told_with_the_line(load):
    text = DENY.replace("policyTypes", "policyType")
    with pytest.raises(PolicyError, match=r"a.scenario.yaml:3: NetworkPolicy x/deny: unknown field"):
        load(f"name: a\npolicies:\n- {text}")


def test_a_cluster_wide_policy_must_stay_inside_unless_verbatim(load):
    wide = (
        "{kind: CiliumClusterwideNetworkPolicy, metadata: {name: w}, "
        "spec: {endpointSelector: {}, ingress: [{}]}}"
    )
    with pytest.raises(ScenarioError, match=r"a.scenario.yaml:2: .*endpointSelector names namespaces"):
        load(f"name: a\npolicies: [{wide}]")
    (found,) = load(f"name: a\nmode: verbatim\npolicies: [{wide}]")
    assert not found.isolated


def test_the_schema_file_is_the_parsers():
    assert schema.FILE.read_text("utf-8") == schema.text(), "run python -m cilium_e2e.scenario.schema"
    assert json.loads(schema.text())["required"] == ["name"]


def values(shape: Shape):  # noqa: PLR0911 - one way out for each kind of shape
    """Values that a shape allows, as a strategy."""
    match shape:
        case Text(choices=choices) if choices:
            return st.sampled_from(choices)
        case Text(pattern=pattern) if pattern:
            return st.from_regex(pattern.replace("$", r"\Z"), fullmatch=True)
        case Text():
            return st.text(min_size=1, max_size=5)
        case Whole(minimum=least, maximum=most):
            return st.integers(least, most)
        case Flag():
            return st.booleans()
        case ListOf(item=item, least=least):
            return st.lists(values(item), min_size=least, max_size=least + 1)
        case MapOf(item=item):
            return st.dictionaries(st.text(min_size=1, max_size=3), values(item), max_size=2)
        case Record(fields=fields, required=required):
            needed = {key: values(fields[key]) for key in required}
            rest = {key: values(item) for key, item in fields.items() if key not in required}
            return st.fixed_dictionaries(needed, optional=rest)
        case Either(shapes=shapes):
            return st.one_of([values(one) for one in shapes])
    raise AssertionError(shape)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=30)
@given(values(schema._STEP))
def test_the_check_takes_what_the_schema_describes(step):
    schema._STEP.check(step, ())


@given(anything)
def test_anything_else_is_one_error(value):
    try:
        schema.SCENARIO.check(value, ())
    except WrongShape as wrong:
        assert wrong.message.startswith("expected")


@given(st.dictionaries(st.sampled_from(["name", "expect", "policies", "steps", "workload"]), anything))
def test_whatever_stands_in_a_file_is_a_scenario_or_one_error_of_input(tmp_path_factory, data):
    file = tmp_path_factory.getbasetemp() / "any.scenario.yaml"
    file.write_text(json.dumps(data))
    try:
        assert load_scenarios(file)
    except InputError as error:
        assert error.place.startswith(str(file))


def test_the_clusters_own_services_may_be_asked_unless_the_scenario_has_their_namespace(load):
    row = "{from: x/a, to: 'svc:default/kubernetes:443/TCP', outcome: denied}"
    (found,) = load(f"name: a\nexpect: [{row}]")
    assert found.steps[0].expect[0].destination == "svc:default/kubernetes:443/TCP"
    with pytest.raises(ScenarioError, match=r"expected a Service of the scenario \(none\), got svc:default"):
        load(
            "name: a\nworkload: [{name: a, namespace: x}, {name: b, namespace: default}]\n"
            f"expect: [{row}]"
        )


def test_who_asks_is_in_the_workload_even_from_a_namespace_of_the_cluster(load):
    with pytest.raises(ScenarioError, match="got kube-system/dns"):
        load("name: a\nexpect: [{from: kube-system/dns, to: 'x/a:80/TCP', outcome: denied}]")
