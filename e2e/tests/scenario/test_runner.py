"""Scenarios run on a cluster that enforces policies, and on ones that do it wrong."""

from __future__ import annotations

import dataclasses
from collections import Counter
from types import SimpleNamespace

import pytest

from cilium_e2e.model import (
    Backend,
    ClusterStateError,
    Destination,
    Direction,
    EnforcementNotProven,
    Evidence,
    Expectation,
    FlowVerdict,
    KubeError,
    OutcomeKind,
    PolicyError,
    Probe,
    Ref,
    ScenarioError,
    StreamLost,
    Target,
)
from cilium_e2e.scenario import Check, Lab, Residents
from cilium_e2e.scenario.cells import Cell
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.runner import _hasty, run
from cilium_e2e.scenario.stage import Stages
from support.enforcing import EnforcingCluster, broken

DENY = (
    "{kind: NetworkPolicy, metadata: {name: deny, namespace: x}, "
    "spec: {podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}}"
)
ONLY_B = (
    "{kind: CiliumNetworkPolicy, metadata: {name: only-b, namespace: x}, "
    "spec: {endpointSelector: {matchLabels: {pod: a}}, "
    "ingress: [{fromEndpoints: [{matchLabels: {pod: b}}]}]}}"
)
CELLS = 9 * 9 * 4


def residents_on(cluster):
    return Residents(cluster, cluster.api, image="python:x", worker="gw0", keep=False)


class Bench:
    """A worker: one cluster, its stages, a fresh lab for each scenario."""

    def __init__(self, folder):
        self.folder = folder
        self.cluster = EnforcingCluster()
        self.stages = Stages(
            self.cluster, self.cluster.api, residents_on(self.cluster), image="python:x", worker="gw0"
        )
        self.lab = self.new_lab()

    def new_lab(self):
        return Lab(self.cluster, self.cluster.api, image="python:x", evidence=Evidence())

    def run(self, text):
        file = self.folder / "s.scenario.yaml"
        file.write_text(text)
        for scenario in load_scenarios(file, place="s.scenario.yaml"):
            self.lab = self.new_lab()
            with self.stages.on(scenario.workload, isolated=scenario.isolated) as stage:
                run(scenario, self.lab, stage, ask=self.cluster.oracle)

    @property
    def policies(self):
        return self.cluster.kube.all("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")

    def pods(self):
        return [f"{p['metadata']['namespace']}/{p['metadata']['name']}" for p in self.cluster.kube.all("Pod")]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_the_whole_matrix_is_probed_judged_by_the_oracle_and_held(bench):
    bench.run(f"name: deny\npolicies: [{DENY}]")
    control, matrix = bench.lab.evidence.checks[:CELLS], bench.lab.evidence.checks[CELLS:]
    assert [check.outcome.kind for check in control] == [OutcomeKind.CONNECTED] * CELLS
    denied = [check for check in matrix if check.expected == "denied"]
    assert len(matrix) == CELLS
    assert len(denied) == 8 * 4, "all but the pod itself"
    assert all(check.met for check in matrix)
    assert "NetworkPolicy" in denied[0].oracle
    asked = len(bench.cluster.probed)
    assert asked == 2 * CELLS + len(denied), "the control, one round, and one more in which silence holds"
    assert {check.probe.target.namespace[:9] for check in denied} == {"ce2e-gw0-"}


@pytest.mark.parametrize(
    ("took_s", "destination", "timeout_s", "silence_s"),
    [
        (0.01, "x/a:80/TCP", 1.0, 0.5),
        (0.01, "x/a:ICMP", 1.0, 0.5),
        (0.01, "x/a:80/TCP", 0.3, 0.3),
        (0.06, "x/a:80/TCP", 1.0, 0.6),
        (0.06, "x/a:80/TCP", 0.3, 0.3),
        (0.2, "x/a:80/TCP", 1.0, 1.0),
        (None, "x/a:80/TCP", 1.0, 1.0),
        (0.01, "x/a:80/HTTP", 1.5, 1.5),
        (0.01, "dns:one.e2e.test:80/TCP", 1.5, 1.5),
    ],
)
def test_a_denial_is_awaited_by_how_fast_the_control_was_answered(took_s, destination, timeout_s, silence_s):
    probe = Probe.to(Target.parse("x/b"), Destination.parse(destination), timeout_s=timeout_s)
    stage = SimpleNamespace(reached={} if took_s is None else {probe.id: took_s})
    denied = Cell(Check(probe, Expectation("denied")))
    assert _hasty(denied, stage).check.probe.timeout_s == silence_s
    allowed = Cell(denied.control())
    assert _hasty(allowed, stage) is allowed, "an answer is awaited as long as ever"


def test_the_control_s_times_are_kept(bench):
    bench.cluster.faults.append(lambda probe, outcome: dataclasses.replace(outcome, elapsed_s=0.02))
    bench.run(f"name: deny\npolicies: [{DENY}]")
    matrix = bench.lab.evidence.checks[CELLS:]
    assert {check.probe.timeout_s for check in matrix if check.expected == "denied"} == {0.5}
    assert {check.probe.timeout_s for check in matrix if check.expected == "connected"} == {1.0}


def test_a_slow_control_is_asked_once_more(bench):
    """Agents that were just started are slow; no later denial is to be awaited by that."""
    asked = Counter()

    def first_slow(probe, outcome):
        asked[probe.id] += 1
        return dataclasses.replace(outcome, elapsed_s=0.2 if asked[probe.id] == 1 else 0.002)

    bench.cluster.faults.append(first_slow)
    bench.run(f"name: one\npolicies: [{DENY}]")
    denied = [check for check in bench.lab.evidence.checks[CELLS:] if check.expected == "denied"]
    assert {check.probe.timeout_s for check in denied} == {0.5}


def test_policies_are_proven_enforced_and_proven_gone(bench):
    bench.run(f"name: deny\npolicies: [{DENY}]")
    assert bench.policies == []
    proofs = [proof for proof in bench.lab.evidence.proofs if proof.policies]
    assert [(proof.policies[0].name, proof.gone) for proof in proofs] == [("deny", False), ("deny", True)]
    assert len(proofs[0].endpoints) == 9


def test_the_stage_and_its_control_are_shared(bench):
    bench.run(f"name: one\npolicies: [{DENY}]\n---\nname: two\npolicies: [{ONLY_B}]")
    assert len(bench.pods()) == 9
    assert len(bench.lab.evidence.checks) == CELLS, "the second one needs no control"


def test_explicit_expectations_come_first_and_are_compared_with_the_oracle(bench):
    bench.run(f"""
name: rows
policies: [{ONLY_B}]
expect:
  - {{from: x/b, to: "x/a:80/TCP", outcome: connected}}
  - {{from: y/b, to: "x/a:80/TCP", outcome: denied}}
  - {{from: "y/*", to: "x/a:ICMP", outcome: denied}}
  - {{from: y/c, to: "svc:x/web:8080/TCP", outcome: denied}}
services: [{{name: web, namespace: x, selector: {{pod: a}}, ports: ["8080:80/TCP"]}}]
""")
    matrix = bench.lab.evidence.checks[-CELLS - 4 :]
    assert [check.expected for check in matrix[:6]] == ["connected", *["denied"] * 5]
    assert all(check.oracle for check in matrix)


def test_a_policy_that_does_nothing_is_told_cell_by_cell(bench):
    bench.cluster.ignores_policies = True
    with pytest.raises(AssertionError) as caught:
        bench.run(f"name: deny\n\npolicies: [{DENY}]")
    text = str(caught.value)
    assert text.startswith("s.scenario.yaml:1: as applied\nnothing wrong found with policies, nodes")
    assert "\n32 of 324 cells came out differently:" in text
    assert "/a:80/TCP: expected denied" in text
    assert "isolates it and no rule allows this" in text
    assert "enforced at 9 endpoints" in text
    assert "... and 20 more" in text
    assert bench.policies == [], "undone all the same"


def test_a_wrong_expectation_disagrees_with_the_oracle_too(bench):
    with pytest.raises(AssertionError) as caught:
        bench.run(f"""
name: wrong
policies: [{DENY}]
expect:
  - {{from: y/a, to: "x/a:80/TCP", outcome: connected}}
""")
    text = str(caught.value)
    assert "1 of 324 cells came out differently" in text
    assert "(s.scenario.yaml:5)" in text
    assert "the oracle disagrees with 1 expectations of the scenario" in text


def test_a_denial_without_a_positive_control_is_no_proof(bench):
    bench.run("name: nothing\nrest: none")
    bench.cluster.deaf = {name for name in bench.pods() if name.endswith("/a") and "-x-" in name}
    with pytest.raises(AssertionError) as caught:
        bench.run(f"name: deny\npolicies: [{DENY}]")
    text = str(caught.value)
    assert "32 denials prove nothing: without the policies there was no answer either" in text
    assert "then timeout" in text


def test_a_wrong_pod_that_answers_is_no_connection(bench):
    bench.cluster.faults.append(
        lambda probe, outcome: (
            dataclasses.replace(outcome, answered_by="x/other")
            if bench.policies and outcome.connected
            else outcome
        )
    )
    with pytest.raises(AssertionError, match="connected by x/other"):
        bench.run(f"name: deny\npolicies: [{DENY}]")


def test_infra_errors_are_errors_and_the_stage_is_not_used_again(bench):
    bench.run("name: nothing\nrest: none")
    before = bench.pods()
    bench.cluster.faults.append(lambda probe, outcome: broken(probe, outcome) if bench.policies else outcome)
    with pytest.raises(StreamLost, match=r"324 of 324 probes could not be made.*no socket"):
        bench.run(f"name: deny\npolicies: [{DENY}]")
    assert bench.policies == []
    bench.cluster.faults.clear()
    bench.run(f"name: deny\npolicies: [{DENY}]")
    assert set(before).isdisjoint(check.probe.source.namespace for check in bench.lab.evidence.checks)


def test_flaps_are_counted_and_told_in_the_evidence(bench):
    answers = []

    def flap(probe, outcome):
        if not bench.policies:
            return outcome
        answers.append(probe.id)
        lost = len(answers) == 2  # right at first, then not, then right again
        return dataclasses.replace(outcome, kind=OutcomeKind.TIMEOUT) if lost else outcome

    bench.cluster.faults.append(flap)
    row = "{from: x/a, to: 'x/b:80/TCP', outcome: connected}"
    bench.run(f"name: flap\npolicies: [{DENY}]\nrest: none\nexpect: [{row}]")
    (check,) = bench.lab.evidence.checks
    assert (check.flaps, check.met, len(answers)) == (1, True, 4)


def test_steps_change_labels_and_pods_and_everything_is_put_back(bench):
    bench.run(f"""
name: steps
policies: [{ONLY_B}]
expect: [{{from: x/c, to: "x/a:80/TCP", outcome: denied}}]
rest: none
steps:
  - name: c becomes b
    relabel: [{{pod: x/c, labels: {{pod: b}}}}]
    expect: [{{from: x/c, to: "x/a:80/TCP", outcome: connected}}]
  - name: restarted as b
    restart: [x/c]
    expect: [{{from: x/c, to: "x/a:80/TCP", outcome: connected}}]
  - name: by namespace
    replace:
      - kind: CiliumNetworkPolicy
        metadata: {{name: only-b, namespace: x}}
        spec:
          endpointSelector: {{matchLabels: {{pod: a}}}}
          ingress:
            - fromEndpoints: [{{matchLabels: {{"k8s:io.cilium.k8s.namespace.labels.team": red}}}}]
    relabel_namespace: [{{namespace: z, labels: {{ns: z, team: red}}}}]
    expect:
      - {{from: z/a, to: "x/a:80/TCP", outcome: connected}}
      - {{from: y/a, to: "x/a:80/TCP", outcome: denied}}
  - delete: [only-b]
    expect: [{{from: y/a, to: "x/a:80/TCP", outcome: connected}}]
""")
    labels = {
        (pod["metadata"]["namespace"][9:10], pod["metadata"]["name"]): pod["metadata"]["labels"]
        for pod in bench.cluster.kube.all("Pod")
    }
    assert labels["x", "c"] == {"pod": "c"}
    spaces = [space["metadata"]["labels"] for space in bench.cluster.kube.all("Namespace")]
    assert [labels["ns"] for labels in spaces] == ["x", "y", "z"]
    assert all("team" not in labels for labels in spaces)
    assert bench.policies == []
    gone = [policies[0].name for policies, gone in bench.cluster.proven if gone]
    assert gone == ["only-b"]


def in_place(*, name="only-b", beside=""):
    return f"""
name: one in place of another
policies: [{DENY}]
expect: [{{from: x/b, to: "x/a:80/TCP", outcome: denied}}]
rest: none
steps:
  - name: b may
    delete: [deny]
    apply: [{ONLY_B.replace("only-b", name)}]
    {beside}
    rest: none
    expect:
      - {{from: x/b, to: "x/a:80/TCP", outcome: connected}}
      - {{from: x/c, to: "x/a:80/TCP", outcome: denied}}
"""


def test_a_policy_in_place_of_another_is_proven_once(bench):
    bench.run(in_place())
    assert [(proof.policies[0].name, proof.gone, proof.absent) for proof in proofs(bench)] == [
        ("deny", False, ()),
        ("only-b", False, proofs(bench)[0].policies),
        ("only-b", True, ()),
    ]
    assert bench.policies == []


@pytest.mark.parametrize(
    "beside", ["relabel: [{pod: y/c, labels: {pod: c}}]", "restart: [y/c]", "delete: [deny, some-cidrs]"]
)
def test_where_a_step_does_more_the_former_policy_goes_first(bench, beside):
    text = in_place(beside=beside)
    if "some-cidrs" in beside:  # what is deleted is no policy alone
        group = (
            "{apiVersion: cilium.io/v2alpha1, kind: CiliumCIDRGroup, "
            "metadata: {name: some-cidrs}, spec: {externalCIDRs: []}}"
        )
        text = text.replace(f"[{DENY}]", f"[{DENY}, {group}]").replace("    delete: [deny]\n", "")
    bench.run(text)
    assert [(proof.policies[0].name, proof.gone, proof.absent) for proof in proofs(bench)][:3] == [
        ("deny", False, ()),
        ("deny", True, ()),
        ("only-b", False, ()),
    ]


def test_a_policy_that_comes_back_under_its_name_goes_first(bench):
    bench.run(in_place(name="deny"))
    assert [(proof.policies[0].kind, proof.gone, proof.absent) for proof in proofs(bench)][:3] == [
        ("NetworkPolicy", False, ()),
        ("NetworkPolicy", True, ()),
        ("CiliumNetworkPolicy", False, ()),
    ]


def test_a_policy_in_place_of_another_that_is_not_proven_leaves_neither(bench):
    """The former one is deleted by then; the stage is not used again."""
    bench.cluster.unproven.add("only-b")
    with pytest.raises(EnforcementNotProven):
        bench.run(in_place())
    assert bench.policies == []
    assert bench.pods() == []


def test_a_policy_in_place_of_another_that_is_refused_leaves_neither(bench):
    bench.cluster.kube.fail("apply", KubeError(422, "Invalid", "no"), kind="CiliumNetworkPolicy")
    with pytest.raises(PolicyError):
        bench.run(in_place())
    assert bench.policies == []


def proofs(bench):
    return [proof for proof in bench.lab.evidence.proofs if proof.policies]


def test_labels_that_no_agent_learns_of_are_told(bench, monkeypatch):
    before = EnforcingCluster.endpoints
    bench.run("name: nothing\nrest: none")
    known = before(bench.cluster)
    monkeypatch.setattr(EnforcingCluster, "endpoints", lambda _: known)
    with pytest.raises(ClusterStateError, match=r"/c lacks k8s:pod=b; .*/c still has k8s:pod=c"):
        bench.run("name: stale\nrest: none\nsteps: [{relabel: [{pod: x/c, labels: {pod: b}}], rest: none}]")


def test_a_refusal_is_what_is_expected_or_not(bench):
    text = f"name: refused\npolicies: [{DENY}]\nrefused: no such port"
    with pytest.raises(
        AssertionError, match=r"s.scenario.yaml:1: as applied: expected a refusal.*got no refusal"
    ):
        bench.run(text)
    assert bench.policies == []

    def refuse(obj):
        if obj["kind"] == "NetworkPolicy":
            raise PolicyError("the API server refuses the policy: no such port 99999", place="deny")

    bench.cluster.kube.on_apply = refuse
    bench.run(text)
    with pytest.raises(AssertionError, match="got the words"):
        bench.run(text.replace("no such port", "another reason"))
    with pytest.raises(PolicyError, match="no such port"):
        bench.run(f"name: not\npolicies: [{DENY}]")
    assert bench.policies == []


def test_what_cannot_be_removed_is_an_error_and_the_stage_is_dropped(bench):
    bench.cluster.unproven.add("deny")
    with pytest.raises(ClusterStateError, match="not enforced"):
        bench.run(f"name: deny\npolicies: [{DENY}]")
    assert bench.stages._open == {}


def test_on_the_simulated_cluster_the_oracle_does_not_grade_itself(bench):
    bench.cluster.backend = Backend.SIMULATED
    bench.run(f"name: deny\npolicies: [{DENY}]\nexpect: [{{from: y/a, to: 'x/a:80/TCP', outcome: denied}}]")
    assert [(check.expected, check.oracle) for check in bench.lab.evidence.checks] == [
        ("connected", ""),
        ("denied", ""),
    ]


def flows(bench, **changes):
    """What Hubble would show, but for some changes."""
    return lambda: [dataclasses.replace(flow, **changes) for flow in bench.cluster.dropped]


WISH = f"""
name: flow
policies: [{DENY}]
rest: none
expect:
  - from: y/a
    to: x/a:80/TCP
    outcome: denied
    flow: {{verdict: DROPPED, reason: POLICY_DENIED, direction: INGRESS}}
"""


def test_the_flow_that_a_row_asks_for_is_found_and_kept(bench):
    bench.run(WISH)
    assert [found.drop_reason for found in bench.lab.evidence.flows] == ["POLICY_DENIED"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"drop_reason": "POLICY_DENY"}, "reason POLICY_DENY instead of POLICY_DENIED"),
        ({"direction": Direction.EGRESS}, "direction EGRESS instead of INGRESS"),
        ({"verdict": FlowVerdict.FORWARDED}, "verdict FORWARDED instead of DROPPED"),
    ],
)
def test_another_flow_is_not_it(bench, changes, words):
    bench.cluster.found_flows = flows(bench, **changes)
    with pytest.raises(AssertionError, match=f"s.scenario.yaml:6: .*(?s:.*){words}"):
        bench.run(WISH)


def test_a_flow_of_a_policy_that_is_not_in_force_cannot_be_asked_for(bench):
    with pytest.raises(ScenarioError, match="expected one policy in force called x/other"):
        bench.run(WISH.replace("direction: INGRESS", "policy: x/other"))


def test_verbatim_keeps_names_and_namespaces_that_were_there(bench):
    bench.cluster.kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default", "labels": {}}},
        field_manager="somebody",
    )
    text = """
name: verbatim
mode: verbatim
workload:
  - {name: a, namespace: default, labels: {app: a}, ports: [80/TCP]}
  - {name: b, namespace: other, labels: {app: b}, service_account: b}
services: [{name: web, namespace: default, selector: {app: a}, ports: [80/TCP]}]
policies:
  - kind: CiliumClusterwideNetworkPolicy
    metadata: {name: wide}
    spec: {endpointSelector: {matchLabels: {app: a}}, ingress: [{fromEndpoints: [{matchLabels: {app: a}}]}]}
expect: [{from: other/b, to: "default/a:80/TCP", outcome: denied}]
"""
    bench.run(text)
    refs = {policies[0].name for policies, _ in bench.cluster.proven if policies}
    assert refs == {"wide"}
    assert bench.pods() == []
    assert [space["metadata"]["name"] for space in bench.cluster.kube.all("Namespace")] == ["default"]
    assert bench.cluster.kube.all("Service") == []


def test_templates_are_filled_with_what_the_cluster_has(bench):
    file = bench.folder / "t.scenario.yaml"
    file.write_text("name: t")
    (scenario,) = load_scenarios(file)
    with bench.stages.on(scenario.workload, isolated=True) as stage:
        pod = bench.cluster.kube.stored(Ref("v1", "Pod", "a", stage.namespaces["y"]))
        assert (
            stage.policy(
                {"kind": "NetworkPolicy", "metadata": {"name": "${pod.y/a.cidr}", "namespace": "x"}}
            )["metadata"]["name"]
            == f"{pod['status']['podIP']}/32"
        )
        assert stage.resolve("node", "1", "cidr") == "10.9.0.2/32"
        assert stage.resolve("node", "x/a", "name") == "n1"
        assert stage.resolve("world", "one", "ip") == "192.0.2.7"
        assert stage.resolve("namespace", "x", "").startswith("ce2e-gw0-x-")
        assert str(stage.target("node:${node.0.name}")) == "node:n1"
        with pytest.raises(ScenarioError, match="expected one of the 2 nodes, got 2"):
            stage.resolve("node", "2", "ip")
        with pytest.raises(ClusterStateError, match="world:three: it has no address"):
            stage.resolve("world", "three", "ip")


def test_few_stages_are_up_at_the_same_time(bench):
    bench.stages = Stages(
        bench.cluster, bench.cluster.api, residents_on(bench.cluster), image="python:x", worker="gw0", keep=2
    )
    for name in "abcb":
        bench.run(f"name: s\nrest: none\nworkload: [{{name: p, namespace: n{name}}}]")
    spaces = [space["metadata"]["name"][9:11] for space in bench.cluster.kube.all("Namespace")]
    assert spaces == ["nb", "nc"]
    bench.stages.close()
    assert bench.cluster.kube.all("Namespace") == []


def test_pods_are_placed_as_the_workload_says(bench):
    bench.run("""
name: places
rest: none
workload:
  - {name: first, namespace: n}
  - {name: near, namespace: n, node: same}
  - {name: far, namespace: n, node: other}
  - {name: by-number, namespace: n, node: 0}
  - {name: beyond, namespace: n, node: 7}
""")
    nodes = {}
    for pod in bench.cluster.kube.all("Pod"):
        affinity = pod["spec"].get("affinity")
        text = str(affinity)
        nodes[pod["metadata"]["name"]] = next((n for n in ("n1", "n2") if n in text), "")
    assert nodes == {"first": "n2", "near": "n2", "far": "n1", "by-number": "n1", "beyond": ""}


BY_NAME = """
name: names
rest: none
policies:
  - kind: CiliumNetworkPolicy
    metadata: {name: p, namespace: x}
    spec:
      endpointSelector: {matchLabels: {pod: a}}
      egress:
        - toEndpoints: [{matchLabels: {"k8s:io.kubernetes.pod.namespace": kube-system, k8s-app: kube-dns}}]
          toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]
        - toFQDNs: [{matchName: one.e2e.test}]
expect:
  - {from: x/a, to: "dns:one.e2e.test:8080/TCP", outcome: %s}
  - {from: x/a, to: "dns:two.e2e.test:8080/TCP", outcome: denied}
"""


def test_the_oracle_knows_the_names_that_the_rows_resolve(bench):
    bench.run(BY_NAME % "connected")
    judged = [check for check in bench.lab.evidence.checks if check.oracle]
    assert [check.oracle.partition(":")[0] for check in judged] == ["allowed", "denied, seen as timeout"]
    with pytest.raises(AssertionError, match="the oracle disagrees with 1 expectations"):
        bench.run(BY_NAME % "denied")


def test_a_refusal_by_a_proxy_is_told_from_silence(bench):
    """The scenario expects silence where the oracle says REFUSED; the cluster may do what it likes."""
    bench.cluster.faults.append(
        lambda probe, outcome: (
            dataclasses.replace(outcome, kind=OutcomeKind.TIMEOUT, rcode="")
            if outcome.rcode == "REFUSED"
            else outcome
        )
    )
    text = (BY_NAME % "connected").replace('matchPattern: "*"', "matchName: one.e2e.test")
    with pytest.raises(AssertionError, match="the oracle disagrees with 1 expectations") as caught:
        bench.run(text.replace("outcome: denied", "outcome: timeout"))
    assert "answers REFUSED" in str(caught.value)
    assert "came out differently" not in str(caught.value)


def test_a_ping_needs_an_echo_and_nobodys_name(bench):
    bench.run(
        f"name: ping\nrest: none\npolicies: [{ONLY_B}]\n"
        "expect: [{from: x/b, to: 'x/a:ICMP', outcome: connected}]"
    )
    (check,) = bench.lab.evidence.checks
    assert (check.met, check.outcome.answered_by) == (True, "")
