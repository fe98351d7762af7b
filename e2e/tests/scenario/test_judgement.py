"""Outcomes judged: converge, then hold; flaps told; an infra error is never a denial."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import (
    Destination,
    Expectation,
    Outcome,
    OutcomeKind,
    Probe,
    Protocol,
    ScenarioError,
    Target,
)
from cilium_e2e.scenario import Check, Judged, Judgement, judge, require

DEMO = Target.pod("default", "demo")
FRONTEND = Target.pod("default", "frontend")
OTHER = Target.pod("default", "other")
CONNECTED, DENIED = Expectation("connected"), Expectation("denied")


def check(expected=CONNECTED, *, source=FRONTEND, port=8080, by=(), protocol=Protocol.TCP):
    return Check(Probe.to(source, Destination(DEMO, port, protocol)), expected, frozenset(by))


def outcome(probe, kind, **more):
    return Outcome(probe.id, kind, **more)


def script(kinds):
    """Answers of the first rounds; the last one goes on for ever."""
    kinds = list(kinds)
    return lambda number, probe: outcome(probe, kinds[min(number, len(kinds) - 1)])


UP, DOWN, BROKEN = OutcomeKind.CONNECTED, OutcomeKind.TIMEOUT, OutcomeKind.INFRA_ERROR


def test_what_is_met_at_once_is_held_for_two_more_rounds(scripted):
    cluster = scripted(script([UP]))
    started = cluster.clock.time()
    judgement = judge(cluster, [check()])
    assert cluster.rounds[FRONTEND] == 3
    assert judgement.failures == []
    assert judgement.started_s == started
    assert judgement.converged_s == pytest.approx(1.0)


def test_all_agents_run_before_one_is_asked(scripted):
    cluster = scripted(None)
    asked = []

    def answer(number, probe):
        asked.append(set(cluster.awake))
        return outcome(probe, UP)

    cluster.answer = answer
    judge(cluster, [check(), check(source=OTHER)])
    assert asked[0] == asked[-1] == {FRONTEND, OTHER}


def test_it_converges_and_says_when(scripted):
    cluster = scripted(script([DOWN, DOWN, UP]))
    judgement = judge(cluster, [check()])
    assert judgement.failures == []
    assert judgement.judged[0].flaps == 0
    assert judgement.converged_s == pytest.approx(3.2), "three rounds of a second, two pauses between them"
    assert cluster.rounds[FRONTEND] == 5


def test_a_flap_is_counted_and_holding_starts_anew(scripted):
    cluster = scripted(script([UP, DOWN, UP, UP, DOWN, UP]))
    judgement = judge(cluster, [check()])
    entry = judgement.judged[0]
    assert (entry.met, entry.flaps) == (True, 2)
    assert cluster.rounds[FRONTEND] == 8
    assert str(entry).endswith("; flapped 2 times (rounds 2, 5)")
    assert (entry.lost_in, judgement.rounds) == ((2, 5), 8)
    assert entry.converged_s == judgement.converged_s
    assert judgement.converged_s == pytest.approx(6.2), "the time of the last convergence"


def test_each_check_says_when_it_was_met_for_good(scripted):
    slow, quick = check(port=8081), check()

    def answer(number, probe):
        return outcome(probe, UP if probe.port == 8080 or number >= 2 else DOWN)

    judgement = judge(scripted(answer), [slow, quick])
    assert [entry.converged_s for entry in judgement.judged] == [pytest.approx(3.2), pytest.approx(1.0)]
    never = judge(scripted(script([DOWN])), [slow], converge_s=1.0)
    assert never.judged[0].converged_s is None


def test_what_never_converges_ends_when_time_is_up(scripted):
    cluster = scripted(script([DOWN]))
    judgement = judge(cluster, [check()], converge_s=5.0)
    assert [entry.met for entry in judgement.judged] == [False]
    assert cluster.clock.now == pytest.approx(1000.0 + 5 * 1.0 + 4 * 0.1)


def once(port, expected=CONNECTED):
    return replace(check(expected, port=port), once=True)


def test_what_connected_at_the_first_try_may_be_enough_but_silence_never_is(scripted):
    kinds = {1: UP, 2: DOWN, 3: UP}
    cluster = scripted(lambda number, probe: outcome(probe, kinds[probe.port]))
    judgement = judge(cluster, [once(1), once(2, DENIED), check(port=3)], hold=1)
    assert [(entry.met, entry.asked) for entry in judgement.judged] == [(True, 1), (True, 2), (True, 2)]
    assert judgement.rounds == 2
    assert len(cluster.batches[1][1]) == 2


def test_where_all_connected_at_once_nothing_is_left_to_hold(scripted):
    cluster = scripted(script([UP]))
    judgement = judge(cluster, [once(1), once(2)])
    assert (judgement.failures, judgement.rounds, judgement.converged_s) == ([], 1, pytest.approx(1.0))


def test_after_a_first_try_that_failed_all_must_hold(scripted):
    cluster = scripted(lambda number, probe: outcome(probe, UP if probe.port == 1 or number else DOWN))
    judgement = judge(cluster, [once(1), once(2)], hold=1)
    assert [(entry.met, entry.asked) for entry in judgement.judged] == [(True, 3), (True, 3)]


def test_what_does_not_hold_has_all_asked_again(scripted):
    leaks = {1: [UP] * 9, 2: [DOWN, UP, DOWN, DOWN, DOWN]}
    cluster = scripted(lambda number, probe: outcome(probe, leaks[probe.port][number]))
    judgement = judge(cluster, [once(1), once(2, DENIED)], hold=1)
    connected, denied = judgement.judged
    assert (denied.met, denied.lost_in, denied.asked) == (True, (2,), 4)
    assert (connected.met, connected.asked) == (True, 3)


def test_a_late_convergence_must_hold_too(scripted):
    late = scripted(script([DOWN, DOWN, UP, UP, UP]))
    assert judge(late, [check()], converge_s=2.5).failures == []
    assert late.rounds[FRONTEND] == 5
    lucky = scripted(script([DOWN, DOWN, UP, DOWN]))
    judgement = judge(lucky, [check()], converge_s=2.5)
    assert [entry.met for entry in judgement.judged] == [False]
    assert judgement.judged[0].flaps == 1


def test_endless_flapping_comes_to_an_end_and_is_no_success(scripted):
    cluster = scripted(lambda number, probe: outcome(probe, UP if number % 2 else DOWN))
    judgement = judge(cluster, [check()], converge_s=10.0)
    assert [entry.met for entry in judgement.judged] == [False]
    assert judgement.judged[0].flaps >= 3


def test_only_what_was_not_met_is_a_failure(scripted):
    """One check that is never met must not drag the others with it."""
    bad, good = check(DENIED, port=8081), check()
    judgement = judge(scripted(script([UP])), [good, bad], converge_s=2.0)
    assert [entry.check for entry in judgement.failures] == [bad]


@pytest.mark.parametrize("expected", [CONNECTED, DENIED, Expectation("timeout")])
def test_an_infra_error_is_no_outcome_and_ends_it_in_the_third_round(scripted, expected):
    cluster = scripted(script([BROKEN, BROKEN, BROKEN, UP]))
    judgement = judge(cluster, [check(expected)])
    assert cluster.rounds[FRONTEND] == 3
    assert [entry.met for entry in judgement.judged] == [False]
    assert "seen infra_error" in str(judgement.judged[0])


def test_an_infra_error_that_passes_is_asked_over(scripted):
    cluster = scripted(script([BROKEN, BROKEN, UP]))
    judgement = judge(cluster, [check()], hold=1)
    assert cluster.rounds[FRONTEND] == 4
    assert judgement.failures == []


def test_infra_errors_that_come_and_go_end_with_the_time(scripted):
    cluster = scripted(lambda number, probe: outcome(probe, (BROKEN, DOWN)[number % 2]))
    judgement = judge(cluster, [check()], converge_s=5.0)
    assert [entry.met for entry in judgement.judged] == [False]


def test_an_infra_error_while_holding_begins_the_hold_anew_and_is_told(scripted):
    cluster = scripted(script([DOWN, BROKEN, DOWN]))
    judgement = judge(cluster, [check(DENIED)], hold=1)
    assert cluster.rounds[FRONTEND] == 4
    assert (judgement.judged[0].met, judgement.judged[0].flaps) == (True, 1)


@pytest.mark.parametrize(
    ("by", "answered", "met"),
    [
        ((), "", True),
        ((), "default/other", True),
        (("default/demo",), "default/demo", True),
        (("default/demo",), "default/other", False),
        (("default/demo",), "", False),
        (("default/a", "default/b"), "default/b", True),
    ],
)
def test_the_right_one_must_answer(by, answered, met):
    wanted = check(by=by)
    assert wanted.met_by(outcome(wanted.probe, UP, answered_by=answered)) is met


@pytest.mark.parametrize(
    ("by", "answered", "seen_from", "met"),
    [
        ((), "x/a", "10.0.0.1", True),
        ((), "x/a", "10.0.0.3", False),
        ((), "", "", False),
        (("x/a",), "x/a", "10.0.0.2", True),
        (("x/a",), "x/b", "10.0.0.2", False),
    ],
)
def test_the_source_must_be_seen_under_the_right_address(by, answered, seen_from, met):
    wanted = replace(check(by=by), seen_from=frozenset({"10.0.0.1", "10.0.0.2"}))
    assert wanted.met_by(outcome(wanted.probe, UP, answered_by=answered, seen_from=seen_from)) is met
    assert replace(wanted, expected=DENIED).met_by(outcome(wanted.probe, DOWN))
    text = str(Judged(wanted, outcome(wanted.probe, UP, seen_from="10.0.0.3"), met=False, flaps=0))
    assert "seen from 10.0.0.1 or 10.0.0.2, seen connected seen from 10.0.0.3" in text


def test_nobody_has_to_answer_a_denied_probe():
    wanted = check(DENIED, by=("default/demo",))
    assert wanted.met_by(outcome(wanted.probe, DOWN))
    assert not wanted.met_by(outcome(wanted.probe, UP, answered_by="default/demo"))


def test_sources_ask_in_one_batch_each(scripted):
    cluster = scripted(script([UP]))
    checks = [check(source=source, port=port) for source in (FRONTEND, OTHER) for port in (8080, 8081)]
    judgement = judge(cluster, checks, hold=0)
    assert sorted(cluster.batches, key=str) == sorted(
        [
            (FRONTEND, [checks[0].probe.id, checks[1].probe.id]),
            (OTHER, [checks[2].probe.id, checks[3].probe.id]),
        ],
        key=str,
    )
    assert [entry.check for entry in judgement.judged] == checks
    assert judgement.outcome(checks[2].probe.id).probe_id == checks[2].probe.id


def test_nothing_to_judge_is_an_error_and_no_success(scripted):
    with pytest.raises(ScenarioError, match="at least one probe"):
        judge(scripted(script([UP])), [])


def test_two_checks_cannot_share_an_outcome(scripted):
    with pytest.raises(ScenarioError, match=r"several of default/frontend → default/demo:8080/TCP\. Give"):
        judge(scripted(script([UP])), [check(), check(DENIED)])


@given(rounds=st.lists(st.sampled_from([UP, DOWN]), min_size=1, max_size=12), hold=st.integers(0, 3))
def test_met_means_that_the_last_rounds_all_were(rounds, hold):
    """Whatever the network does: success needs ``hold + 1`` good rounds in a row at the end."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    seen = []

    def run(batch):
        if not batch:
            return []
        sleep(1.0)
        seen.append(rounds[min(len(seen), len(rounds) - 1)])
        return [outcome(batch[0], seen[-1])]

    clock = SimpleNamespace(time=lambda: now[0], monotonic=lambda: now[0], sleep=sleep)
    cluster = SimpleNamespace(clock=clock, prober=lambda _: SimpleNamespace(run=run))
    entry = judge(cluster, [check()], converge_s=30.0, hold=hold).judged[0]
    assert entry.met == (seen[-hold - 1 :] == [UP] * (hold + 1))
    assert entry.flaps == len(entry.lost_in)
    assert (entry.converged_s is not None) == entry.met
    assert entry.flaps == sum(a is UP and b is DOWN for a, b in itertools.pairwise(seen))


def judged(expected, seen, *, met, flaps=0, by=()):
    return Judged(check(expected, by=by), seen, met, flaps)


def test_a_failure_says_expected_and_seen_and_why():
    good = judged(CONNECTED, Outcome("a", UP), met=True)
    bad = judged(
        CONNECTED, Outcome("b", DOWN, elapsed_s=1.0, detail="no answer"), met=False, by=("b/x", "a/x")
    )
    with pytest.raises(AssertionError) as caught:
        require(Judgement((good, bad), 0.0, 0.0), explain=lambda entry: f"rule 1\nof {entry.check.expected}")
    assert str(caught.value).splitlines() == [
        "1 of 2 probes came out differently:",
        f"  {bad.check.probe.id}: expected connected by a/x or b/x, seen timeout after 1.000 s (no answer)",
        "    rule 1",
        "    of connected",
    ]


def test_nothing_is_explained_when_all_is_met():
    def explain(entry):
        raise AssertionError(entry)

    require(Judgement((judged(CONNECTED, Outcome("a", UP), met=True),), 0.0, 0.0), explain=explain)
