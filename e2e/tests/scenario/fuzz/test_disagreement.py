"""Random cases on a cluster in memory that enforces policies, and on ones that do it wrong."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from cilium_e2e.model import (
    EnforcementNotProven,
    Evidence,
    KubeError,
    OutcomeKind,
    PolicyError,
    Ref,
    StreamLost,
)
from cilium_e2e.scenario import Lab
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.fuzz import Case, Telling, examine, generate
from cilium_e2e.scenario.residents import Residents
from cilium_e2e.scenario.runner import CellsDiffer, run
from cilium_e2e.scenario.stage import Stages
from cilium_e2e.scenario.standard import standard_workload
from support.enforcing import EnforcingCluster, broken

DENY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p1", "namespace": "x"},
    "spec": {
        "endpointSelector": {"matchLabels": {"pod": "a"}},
        "ingress": [{"fromEntities": ["all"]}],
        "ingressDeny": [
            {"fromEndpoints": [{"matchLabels": {"pod": "b"}}], "toPorts": [{"ports": [{"port": "80"}]}]}
        ],
    },
}
ALLOW = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "p2", "namespace": "y"},
    "spec": {"podSelector": {"matchLabels": {"pod": "c"}}, "ingress": [{"from": [{"podSelector": {}}]}]},
}
CASE = Case(7, 3, (DENY, ALLOW))


class Bench:
    """A worker: one cluster, its stages, a fresh lab for each case."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = EnforcingCluster(strict=True)
        api = self.cluster.api
        residents = Residents(self.cluster, api, image="python:x", worker="gw0", keep=False)
        self.stages = Stages(self.cluster, api, residents, image="python:x", worker="gw0")
        self.telling = Telling(folder, "make it again", lambda file: f"run {file.name}", "0.1")
        self.lab = self.new_lab()

    def new_lab(self) -> Lab:
        return Lab(self.cluster, self.cluster.api, image="python:x", evidence=Evidence())

    def examine(self, case=CASE, **options):
        self.lab = self.new_lab()
        with self.stages.on(standard_workload(), isolated=True) as stage:
            return examine(case, self.lab, stage, self.telling, ask=self.cluster.oracle, **options)

    def fault(self, holds):
        """Let everything pass where a condition on the policies in force holds."""

        def pass_all(probe, outcome):
            if outcome.connected or not holds(self.cluster.policies):
                return outcome
            who = "" if probe.port == 0 else str(probe.target)
            return dataclasses.replace(outcome, kind=OutcomeKind.CONNECTED, answered_by=who)

        self.cluster.faults.append(pass_all)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path / "found")


def has(word):
    return lambda policies: any(word in json.dumps(policy) for policy in policies)


@pytest.mark.parametrize("index", [1, 4, 9])
def test_where_all_is_as_the_oracle_says_nothing_is_found(bench, index):
    assert bench.examine(generate(7, index)) is None
    assert bench.cluster.policies == []
    assert not bench.folder.exists()
    (note,) = [
        text for name, text in bench.lab.evidence.notes.items() if name.endswith("could tell, and cannot")
    ]
    assert note == "0"
    assert "kind: " in bench.lab.evidence.notes["policies"]
    asked = {str(check.probe.destination) for check in bench.lab.evidence.checks}
    assert {"world:one:8080/TCP", "world:two:8080/UDP"} <= asked
    assert any(name.endswith(":ICMP") for name in asked)


def test_a_disagreement_is_shrunk_to_a_file_that_fails_too(bench):
    bench.fault(has("ingressDeny"))
    finding = bench.examine()
    assert finding is not None
    assert finding.broken is None
    assert "cells came out differently:" in finding.text
    assert "denies it" in finding.text, "the deciding rule"
    assert "shrunk from 2 policies to 1 in " in finding.text
    assert "tries; nothing more can be left out" in finding.text
    assert "the file was run, too, and fails in the same way" in finding.text
    assert f"minimal scenario: {bench.folder / 'fuzz-7-0003.scenario.yaml'}" in finding.text
    assert finding.text.endswith("run it: run fuzz-7-0003.scenario.yaml")
    assert bench.lab.evidence.notes["minimal scenario"] == finding.file.read_text()
    assert bench.cluster.policies == [], "undone all the same"

    (scenario,) = load_scenarios(finding.file)
    (policy,) = [policy.object for policy in scenario.steps[0].apply]
    assert policy["metadata"] == DENY["metadata"]
    # Without a rule that allows, the deny rule's own isolation is what the fault breaks.
    assert policy["spec"] == {"endpointSelector": {}, "ingressDeny": [{}]}
    (row,) = scenario.steps[0].expect
    assert (row.source, row.destination, str(row.outcome)) == ("x/b", "x/a:80/TCP", "denied")
    text = finding.file.read_text()
    for words in ("# Found by: make it again", "seed 7, index 3", "harness", "seen connected", "oracle says"):
        assert words.lower() in text.lower()


def test_the_file_passes_where_the_cluster_does_it_right(bench):
    bench.fault(has("ingressDeny"))
    (scenario,) = load_scenarios(bench.examine().file)
    with bench.stages.on(scenario.workload, isolated=True) as stage:
        with pytest.raises(CellsDiffer):
            run(scenario, bench.new_lab(), stage, ask=bench.cluster.oracle)
        bench.cluster.faults.clear()
        run(scenario, bench.new_lab(), stage, ask=bench.cluster.oracle)


def test_only_cells_that_differed_and_in_the_same_sense_keep_a_policy(bench):
    bench.fault(lambda policies: has("ingressDeny")(policies) and has('"pod": "b"')(policies))
    (scenario,) = load_scenarios(bench.examine().file)
    (policy,) = [policy.object for policy in scenario.steps[0].apply]
    assert policy["spec"]["ingressDeny"] == [{"fromEndpoints": [{"matchLabels": {"pod": "b"}}]}]


def test_a_second_file_of_a_case_does_not_replace_the_first(bench):
    bench.fault(has("ingressDeny"))
    first, second = bench.examine().file, bench.examine().file
    assert (first.name, second.name) == ("fuzz-7-0003.scenario.yaml", "fuzz-7-0003-2.scenario.yaml")


def test_the_tries_are_bounded_and_that_is_told(bench):
    bench.fault(has("ingressDeny"))
    finding = bench.examine(tries=1)
    assert "in 1 try; more might be left out, but that is the most that is tried" in finding.text
    assert "fails in the same way" in finding.text


def test_the_time_is_bounded_too(bench, monkeypatch):
    monkeypatch.setattr("cilium_e2e.scenario.fuzz.disagreement.SHRINK_S", 0.0)
    bench.fault(has("ingressDeny"))
    finding = bench.examine()
    assert "in 1 try; more might be left out, but 0 s are up" in finding.text


def test_a_cluster_that_breaks_while_shrinking_ends_it_with_what_is_known(bench):
    bench.fault(has("ingressDeny"))
    bench.cluster.faults.append(
        lambda probe, outcome: (
            broken(probe, outcome)
            if bench.cluster.policies and not has("p2")(bench.cluster.policies)
            else outcome
        )
    )
    finding = bench.examine()
    assert isinstance(finding.broken, StreamLost)
    assert "ended early, because the cluster broke" in finding.text
    assert "no socket" in finding.text
    (scenario,) = load_scenarios(finding.file)
    assert len(scenario.steps[0].apply) == 2
    assert "fails in the same way" not in finding.text


def test_what_breaks_before_anything_is_found_is_an_error_of_the_run(bench):
    bench.cluster.faults.append(broken)
    with pytest.raises(StreamLost):
        bench.examine()
    bench.cluster.faults.clear()
    bench.cluster.unproven.add("p2")
    with pytest.raises(EnforcementNotProven):
        bench.examine()


def test_what_fails_without_any_policy_is_no_finding_about_policies(bench):
    def fault(probe, outcome):
        bad = gone and str(probe.source).endswith("/b") and probe.port == 80
        return dataclasses.replace(outcome, kind=OutcomeKind.TIMEOUT, answered_by="") if bad else outcome

    gone: list[bool] = []
    before = bench.cluster.prove

    def prove(policies, endpoints, **options):
        gone.append(True)  # from the first policy on, for good
        return before(policies, endpoints, **options)

    bench.examine(Case(7, 1, (ALLOW,)))
    bench.cluster.prove = prove
    bench.cluster.faults.append(fault)
    finding = bench.examine(Case(7, 2, (ALLOW,)))
    assert finding.file is None
    assert "It fails without any policy" in finding.text
    assert bench.lab.evidence.notes["minimal scenario"] == "none"


def test_a_refusal_is_shrunk_too(bench, monkeypatch):
    before = bench.cluster.kube.apply

    def apply(obj, **options):
        if "ingressDeny" in json.dumps(obj):
            raise KubeError(422, "Invalid", "no ingressDeny here", place=str(Ref.of(obj)))
        return before(obj, **options)

    monkeypatch.setattr(bench.cluster.kube, "apply", apply)
    finding = bench.examine()
    assert "refused that the oracle takes" in finding.text
    assert "no ingressDeny here" in finding.text
    (scenario,) = load_scenarios(finding.file)
    (policy,) = [policy.object for policy in scenario.steps[0].apply]
    assert policy["spec"] == {"endpointSelector": {}, "ingressDeny": []} or policy["spec"] == {
        "endpointSelector": {},
        "ingressDeny": [{}],
    }
    with (
        bench.stages.on(scenario.workload, isolated=True) as stage,
        pytest.raises(PolicyError, match="no ingressDeny here"),
    ):
        run(scenario, bench.new_lab(), stage)


def test_what_does_not_happen_again_is_told_in_text_and_file(bench):
    """The file's own run applies one policy only; a fault that needs to be seen often is not seen then."""
    lasts = []

    def fails(policies):
        lasts.append(1)
        return has("ingressDeny")(policies) and not bench.folder.exists()

    bench.fault(fails)
    finding = bench.examine()
    assert "BUT: It passed when it was run once more" in finding.text
    assert finding.file.read_text().startswith("# It passed when it was run once more")
    load_scenarios(finding.file)


def test_a_folder_that_cannot_be_written_to_costs_the_file_only(bench):
    bench.folder.parent.mkdir(exist_ok=True)
    bench.folder.write_text("a file")
    bench.fault(has("ingressDeny"))
    finding = bench.examine()
    assert finding.file is None
    assert "it could not be written to" in finding.text
    assert "ingressDeny" in finding.text.split("could not be written", 1)[1], "the scenario itself"


def test_a_cell_the_oracle_has_no_word_on_is_the_generators_fault(bench, monkeypatch):
    monkeypatch.setattr("cilium_e2e.scenario.cells._flow_word", lambda probe, oracle: None)
    with pytest.raises(AssertionError, match=r"fuzz\[7-0003\]: the oracle has no word on \d+ cells"):
        bench.examine()
