"""``--fuzz N``: what is collected, under which names, from which seed; what is refused; what is told."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from cilium_e2e.model import Backend, ClusterInfo, StreamLost
from cilium_e2e.plugin import fixtures, fuzz, fuzz_options, lifecycle, reporting, scenarios, selection
from cilium_e2e.scenario.fuzz import TRIES, Finding, generate, speaks_of_outside
from cilium_e2e.session import start

LOADED = (fixtures, fuzz_options, lifecycle, reporting, selection, start)
"""Imported here, so that nested runs in this process find them."""

INSIDE = [index for index in range(1, 40) if not speaks_of_outside(7, index)]


@pytest.fixture
def ran(monkeypatch, no_cluster):
    """Cases that were run; nothing of a cluster is there."""
    seen = []

    class FakeStages:
        def __init__(self, cluster, kube, residents, *, image, worker):
            pass

        @contextlib.contextmanager
        def on(self, workload, *, isolated):
            seen.append("isolated" if isolated else "verbatim")
            try:
                yield "stage"
            except StreamLost:
                seen.append("spoilt")
                raise

        def close(self):
            seen.append("closed")

    def examined(case, lab, stage, telling, *, tries):
        seen.append((case, telling))

    monkeypatch.setattr(scenarios, "Stages", FakeStages)
    monkeypatch.setattr(fuzz, "examine", examined)
    return seen


@pytest.fixture(autouse=True)
def others(nested, monkeypatch, tmp_path):
    """Other tests, which must not run."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    nested.tests("def test_other(): event('other')")
    (nested.pytester.path / "a.scenario.yaml").write_text("name: first\n")


def named(result):
    return re.findall(r"random\.fuzz::(fuzz\[\d+-\d+\])$", result.stdout.str(), re.MULTILINE)


def test_cases_are_collected_and_nothing_else(nested, root):
    result = nested.run("--collect-only", "-q", "--fuzz=9", "--seed=7", f"--repository={root}", ".")
    assert named(result) == [f"fuzz[7-000{number}]" for number in range(1, 10)], "in this order"
    result.stdout.no_fnmatch_line("*test_other*")
    result.stdout.no_fnmatch_line("*scenario.yaml*")
    result.stdout.fnmatch_lines(["fuzz: 9 cases of seed 7; minimal scenarios go to */state/cilium-e2e/fuzz"])


def test_without_it_none_is_collected(nested):
    result = nested.run("--collect-only", "-q", "--seed=7", str(fuzz.PLACE.parent))
    assert named(result) == []


def test_each_runs_on_the_standard_stage(nested, ran):
    nested.run("--fuzz=4", "--seed=7").assert_outcomes(passed=4 - skipped(4), skipped=skipped(4))
    cases = [entry[0] for entry in ran if isinstance(entry, tuple)]
    assert cases == [generate(7, index) for index in INSIDE if index <= 4]
    assert ran[0] == "isolated"
    assert ran[-1] == "closed"
    assert nested.events == ["start", "deleting", "deleted"]


def skipped(count):
    return sum(speaks_of_outside(7, index) for index in range(1, count + 1))


def test_what_speaks_of_agents_outside_is_skipped_where_there_are_none(nested, ran):
    index = next(index for index in range(1, 99) if speaks_of_outside(7, index))
    result = nested.run(f"--fuzz={index}", "--seed=7", "-rs", "-k", f"fuzz[7-{index:04}]")
    result.assert_outcomes(skipped=1, deselected=index - 1)
    result.stdout.fnmatch_lines(["*has no world"])


def test_a_seed_is_drawn_told_and_part_of_the_command_that_runs_a_case_again(nested, ran, monkeypatch):
    def fail(case, lab, stage, telling, *, tries):
        return Finding(f"it differs; again: {telling.again}; run: {telling.rerun(Path('f.scenario.yaml'))}")

    monkeypatch.setattr(fuzz, "examine", fail)
    monkeypatch.setattr(fuzz.secrets, "randbelow", lambda limit: 7)
    index = INSIDE[0]
    result = nested.run(f"--fuzz={index}", "--fuzz-out=out")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    out = nested.pytester.path / "out"
    result.stdout.fnmatch_lines([f"fuzz: {index} cases of seed 7; minimal scenarios go to {out}"])
    again = f"random.fuzz::fuzz[[]7-{index:04}[]]' --backend=kind --fuzz={index} --seed=7 --fuzz-out=out"
    result.stdout.fnmatch_lines(
        [f"it differs; again: *{again}; run: python -m pytest f.scenario.yaml --backend=kind"]
    )
    result.stdout.fnmatch_lines([f"just this again: *{again}"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_case_is_run_again_by_its_name_alone(nested, ran):
    index = INSIDE[1]
    name = f"{fuzz.NODE}::fuzz[7-{index:04}]"
    nested.run(name, f"--fuzz={index}", "--seed=7").assert_outcomes(passed=1)
    assert [entry[0].index for entry in ran if isinstance(entry, tuple)] == [index]


def test_a_stage_on_which_something_broke_is_not_used_again(nested, ran, monkeypatch):
    error = StreamLost("gone", place="pod")
    monkeypatch.setattr(fuzz, "examine", lambda *_, **options: Finding("it differs", None, error))
    index = INSIDE[0]
    result = nested.run(f"--fuzz={index}", "--seed=7", "-k", f"fuzz[7-{index:04}]")
    result.assert_outcomes(failed=1, deselected=index - 1)
    result.stdout.fnmatch_lines(["it differs"])
    assert "spoilt" in ran


def test_a_worker_shrinks_the_first_findings_only(nested, ran, monkeypatch):
    given = []

    def differ(case, lab, stage, telling, *, tries):
        given.append(tries)
        return Finding("it differs")

    monkeypatch.setattr(fuzz, "examine", differ)
    monkeypatch.setattr(fuzz, "MOST_SHRUNK", 2)
    nested.run("--fuzz=9", "--seed=7")
    assert len(given) > 3
    assert given == [TRIES, TRIES, *[0] * (len(given) - 2)]


def test_what_breaks_before_a_finding_is_no_finding(nested, ran, monkeypatch):
    def lost(case, lab, stage, telling, *, tries):
        raise StreamLost("gone", place="pod")

    monkeypatch.setattr(fuzz, "examine", lost)
    index = INSIDE[0]
    result = nested.run(f"--fuzz={index}", "--seed=7", "-k", f"fuzz[7-{index:04}]")
    result.stdout.fnmatch_lines(["*StreamLost: pod: gone*"])


def test_workers_of_xdist_share_the_drawn_seed(nested):
    process = nested.popen("--fuzz=40", "-n2", "-v", "--fuzz-out=out", "-m", "requires")
    output = process.communicate(timeout=90)[0]
    seed = int(re.search(r"fuzz: 40 cases of seed (\d+);", output)[1])
    count = sum(speaks_of_outside(seed, index) for index in range(1, 41))
    assert "Different tests were collected" not in output
    assert f"{count} skipped" in output, output
    assert f"fuzz[{seed}-00" in output


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", "100001", ""])
def test_a_number_that_is_none_is_an_input_error(nested, number):
    result = nested.run(f"--fuzz={number}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--fuzz: expected a number of cases from 1 to 100000, got '{number}'"])
    assert nested.events == []


@pytest.mark.parametrize(
    ("seed", "words"), [("-3", "expected 0 or more, got -3"), ("x", "invalid int value")]
)
def test_a_seed_that_is_none_is_an_input_error(nested, seed, words):
    result = nested.run("--fuzz=1", f"--seed={seed}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--seed*{words}*"])
    assert nested.events == []


def test_a_file_is_no_folder_for_files(nested):
    result = nested.run("--fuzz=1", "--fuzz-out=a.scenario.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--fuzz-out *a.scenario.yaml: expected a folder, there is a file"])


def test_without_a_cluster_there_is_nothing_to_compare_with(nested):
    result = nested.run("--fuzz=1", backend="")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--fuzz: it needs a cluster, by --backend"])


def test_the_oracle_does_not_judge_itself(nested):
    result = nested.run("--fuzz=1", backend="simulated")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the backend is simulated. Give --backend kind or existing; or --inject*"])
    assert nested.events == []


def test_nor_where_auto_has_come_to_it(nested, monkeypatch):
    real = ClusterInfo.__init__

    monkeypatch.setattr(
        ClusterInfo,
        "__init__",
        lambda self, **options: real(self, **{**options, "backend": Backend.SIMULATED}),
    )
    result = nested.run("--fuzz=1", backend="auto")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*the backend is simulated*"])
    assert nested.events == ["start", "deleting", "deleted"]


def test_with_a_fault_it_may_be_simulated(nested, root):
    words = ("--collect-only", "-q", "--fuzz=1", "--seed=7", f"--repository={root}", "--inject=cidr-as-any")
    assert named(nested.run(*words, backend="simulated")) == ["fuzz[7-0001]"]
