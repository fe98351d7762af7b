"""Evidence as properties and as a failure's lines: bounded, and nothing is left out in silence."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import (
    CheckRecord,
    Destination,
    EndpointProof,
    Evidence,
    Flow,
    FlowPeer,
    FlowVerdict,
    Outcome,
    OutcomeKind,
    PolicyRef,
    Probe,
    Proof,
    Protocol,
    Target,
)
from cilium_e2e.report import failure_lines, properties
from cilium_e2e.report.properties import LONGEST, MOST

A, B = Target.pod("x", "a"), Target.pod("x", "b")


def check(port=80, *, met=False, oracle="", by=(), flaps=0, converged_s=0.5):
    probe = Probe.to(A, Destination(B, port, Protocol.TCP))
    outcome = Outcome(probe.id, OutcomeKind.CONNECTED, answered_by="x/b", elapsed_s=0.01)
    return CheckRecord(probe, "denied", frozenset(by), outcome, met, flaps, converged_s, oracle)


def proof(number=1, *, endpoints=1, gone=False):
    policy = PolicyRef("CiliumNetworkPolicy", "x", f"p{number}", f"uid-{number}")
    shown = tuple(EndpointProof(f"x/e{n}", "n1", 10 + n, frozenset()) for n in range(endpoints))
    return Proof((policy,), gone, shown, 0.25)


def test_what_a_policy_takes_the_place_of_is_told():
    one = dataclasses.replace(proof(1), absent=proof(2).policies)
    told = dict(given_properties(Evidence(proofs=[one])))["proof"]
    assert told.startswith(
        "CiliumNetworkPolicy x/p1 (uid-1): enforced, in place of CiliumNetworkPolicy x/p2 (uid-2),"
    )


def flow(number=1):
    end = FlowPeer(ip=f"10.0.0.{number}", port=80)
    return Flow(1.0, FlowVerdict.FORWARDED, FlowPeer(ip="10.0.0.9"), end, "TCP", node="n1")


def given_properties(evidence, reason=""):
    return properties(evidence, backend="kind", topology="default", reason=reason)


def test_a_test_without_evidence_says_where_it_ran():
    assert given_properties(Evidence()) == [("backend", "kind"), ("topology", "default")]
    assert ("reason", "no such feature") in given_properties(Evidence(), "no such feature")


def test_checks_are_counted_and_only_the_unmet_are_shown():
    evidence = Evidence(
        [check(80, met=True, flaps=1, converged_s=2.0), check(81, by=["x/b", "x/c"], flaps=2)]
    )
    pairs = given_properties(evidence)
    assert ("checks", "2") in pairs
    assert ("unmet", "1") in pairs
    assert ("flaps", "3") in pairs
    assert ("slowest-convergence-s", "2.000") in pairs
    assert [value for name, value in pairs if name == "expected"] == [
        "x/a → x/b:81/TCP: denied by x/b or x/c"
    ]
    assert [value for name, value in pairs if name == "seen"] == [
        "x/a → x/b:81/TCP: connected by x/b after 0.010 s"
    ]


def test_proofs_name_policies_endpoints_and_revisions():
    evidence = Evidence(
        proofs=[
            proof(1, endpoints=14),
            proof(2, gone=True),
            Proof((), gone=False, endpoints=(), realized_s=0.0),
        ]
    )
    first, second, third = (value for name, value in given_properties(evidence) if name == "proof")
    assert first.startswith(
        "CiliumNetworkPolicy x/p1 (uid-1): enforced after 0.250 s; endpoints: x/e0 at revision 10,"
    )
    assert first.endswith("x/e11 at revision 21, and 2 more")
    assert second == "CiliumNetworkPolicy x/p2 (uid-2): gone after 0.250 s; endpoints: x/e0 at revision 10"
    assert third == "no policy: enforced after 0.000 s; endpoints: none"


def test_what_is_left_out_is_counted():
    evidence = Evidence(
        [check(port) for port in range(1, MOST + 4)],
        [proof(number) for number in range(MOST + 2)],
        [flow(number) for number in range(MOST + 1)] * 2,
    )
    pairs = given_properties(evidence)
    assert sum(name == "expected" for name, _ in pairs) == MOST
    assert [value for name, value in pairs if name == "left-out"] == [
        "3 expected and seen",
        "2 proof",
        "1 flow",
    ]


@given(st.dictionaries(st.text(max_size=9), st.text(st.characters(codec=None)), max_size=40), st.text())
def test_values_are_plain_bounded_strings(notes, reason):
    pairs = given_properties(Evidence(notes=notes, reproduce="x" * 3 * LONGEST), reason)
    for _, value in pairs:
        assert type(value) is str
        assert len(value) < LONGEST * 10  # an escape of one character has up to six
        value.encode()
    assert sum(name.startswith("note: ") for name, _ in pairs) <= MOST


def test_a_failure_with_nothing_to_add():
    assert failure_lines(Evidence(), "AssertionError") == []
    assert failure_lines(Evidence([check(met=True, oracle="denied")]), "") == []


def test_nothing_is_said_twice():
    evidence = Evidence([check(oracle="denied: no rule")], [proof()], [flow()])
    said = (
        "E  x/a → x/b:80/TCP: expected denied, seen connected by x/b after 0.010 s\n"
        f"E    {proof()}\nE    flow: {flow()}"
    )
    assert failure_lines(evidence, said) == ["  x/a → x/b:80/TCP: the oracle says denied: no rule"]
    assert failure_lines(evidence, said + "\ndenied: no rule") == []
    assert failure_lines(evidence, "") == [
        "x/a → x/b:80/TCP: expected denied, seen connected by x/b after 0.010 s",
        "  the oracle says denied: no rule",
        f"proof: {proof()}",
        f"flow: {flow()}",
    ]


def test_the_last_flows_and_proofs_are_shown_each_once():
    lines = failure_lines(Evidence(flows=[flow(n) for n in range(9)] + [flow(8)]), "")
    assert lines == [f"flow: {flow(n)}" for n in range(3, 9)]


def test_many_unmet_checks_are_counted():
    lines = failure_lines(Evidence([check(port) for port in range(1, 10)]), "")
    assert len(lines) == 7
    assert lines[-1] == "… and 3 more checks that were not met"


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 3), (12, 12)])
def test_notes_are_a_line_or_a_short_block(count, shown):
    text = "\n".join(f"line {n}" for n in range(count))
    lines = failure_lines(Evidence(notes={"pods": text}, reproduce="do it"), "")
    assert len(lines) == shown + 1
    assert lines[-1] == "just this again: do it"
    assert lines[0] == ("pods: line 0" if count == 1 else "pods:")
    if count == 12:
        assert lines[-2] == "  … and 2 more lines (--evidence FILE has them)"
