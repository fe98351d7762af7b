"""Scenario files as tests: collected, named, chosen, skipped with reasons, run on a worker's stages."""

from __future__ import annotations

import contextlib
import shutil

import pytest

from cilium_e2e.plugin import fixtures, lifecycle, reporting, scenarios, selection
from cilium_e2e.session import start

LOADED = (fixtures, lifecycle, reporting, selection, start)
"""Imported here, so that nested runs in this process find them."""

FILE = """\
name: first
tags: [alpha]
---
name: second
tags: [beta]
tier: full
requires: [multi-node]
---
name: third
tags: [beta]
mode: verbatim
---
name: fourth
requires: [encryption-wireguard]
"""
TESTS = """
@pytest.mark.tag("alpha")
def test_quick():
    event("quick")

@pytest.mark.tier("full")
def test_full():
    event("full")
"""


@pytest.fixture
def ran(monkeypatch, no_cluster):
    """Names of the scenarios that were run, and how; nothing of a cluster is there."""
    seen = []

    class FakeStages:
        def __init__(self, cluster, kube, residents, *, image, worker):
            seen.append(f"stages for {worker} with {image}")

        @contextlib.contextmanager
        def on(self, workload, *, isolated):
            yield "isolated" if isolated else "verbatim"

        def close(self):
            seen.append("closed")

    monkeypatch.setattr(scenarios, "Stages", FakeStages)
    monkeypatch.setattr(
        scenarios, "run", lambda scenario, lab, stage: seen.append(f"{scenario.name} {stage}")
    )
    return seen


@pytest.fixture
def folder(nested):
    """A test module and a scenario file in a folder below."""
    nested.tests(TESTS)
    below = nested.pytester.path / "policies"
    below.mkdir()
    (below / "a.scenario.yaml").write_text(FILE)
    return below


def test_without_a_backend_nothing_is_collected_from_them(nested, folder):
    nested.run("--collect-only", "-q", backend="").stdout.no_fnmatch_line("*scenario.yaml*")


def test_each_document_is_a_test_named_by_file_and_name(nested, folder):
    result = nested.run("--collect-only", "-q", "--tier=full")
    result.stdout.fnmatch_lines(
        [f"policies/a.scenario.yaml::{name}" for name in ("first", "second", "fourth", "third")],
        consecutive=False,
    )


def test_they_run_on_the_workers_stages(nested, folder, ran):
    result = nested.run("-rs", "--tier=full", "policies")
    result.assert_outcomes(passed=3, skipped=1)
    result.stdout.fnmatch_lines(["*has no encryption-wireguard"])
    assert ran == [
        "stages for main with python:x",
        "first isolated",
        "second isolated",
        "third verbatim",
        "closed",
    ]


def test_a_failure_is_reported_at_the_files_line(nested, folder, ran, monkeypatch):
    def fail(scenario, lab, stage):
        raise AssertionError(f"{scenario.place}: 3 of 324 cells came out differently")

    monkeypatch.setattr(scenarios, "run", fail)
    result = nested.run("policies", "-k", "first")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*policies/a.scenario.yaml:1: 3 of 324 cells came out differently"])


def test_a_file_that_cannot_be_run_is_one_error_with_its_line(nested, folder):
    (folder / "b.scenario.yaml").write_text("name: b\n\nrest: maybe\n")
    result = nested.run("policies")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["policies/b.scenario.yaml:3: rest: expected one of oracle, none, got 'maybe'"]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["first", "fourth", "test_quick", "third"]),
        (["--tier=full"], ["first", "fourth", "second", "test_full", "test_quick", "third"]),
        (["--tag=alpha"], ["first", "test_quick"]),
        (["--tag=beta", "--tier=full"], ["second", "third"]),
        (["--tag=alpha", "--tag=beta"], ["first", "test_quick", "third"]),
        (["--tag=gamma"], []),
    ],
)
def test_tier_and_tags_choose_among_tests_and_scenarios(nested, folder, words, names):
    result = nested.run("--collect-only", "-q", *words)
    found = [line.rpartition("::")[2] for line in result.outlines if "::" in line and ": " not in line]
    assert sorted(found) == names


def test_listing_says_why_something_would_be_skipped(nested, folder, root):
    result = nested.run("--collect-only", "-q", f"--repository={root}")
    result.stdout.fnmatch_lines(
        ["would be skipped: 1", "*a.scenario.yaml::fourth: topology default*has no encryption-wireguard"]
    )


def test_what_disturbs_others_does_not_run_on_an_existing_cluster_unless_allowed(nested, folder, root, ran):
    words = ("--collect-only", "-q", f"--repository={root}")
    third = "*::third: it disturbs others on an existing cluster; --allow-disruption*"
    nested.run(*words, backend="existing").stdout.fnmatch_lines([third])
    nested.run(*words, "--allow-disruption", backend="existing").stdout.no_fnmatch_line(third)


def order(nested, *words):
    result = nested.run("--collect-only", "-q", "--tier=full", *words)
    return [line for line in result.outlines if "::" in line and ": " not in line]


def test_a_seed_decides_the_order_and_only_that(nested, folder):
    plain, one = order(nested), order(nested, "--seed=1")
    assert one == order(nested, "--seed=1")
    assert sorted(one) == sorted(plain)
    others = [order(nested, f"--seed={seed}") for seed in range(2, 6)]
    assert any(other != one for other in others)
    assert all(found[-1].endswith("::third") for found in [plain, one, *others]), "it runs alone, at the end"


def test_a_tier_that_there_is_none_of_is_an_error(nested, root):
    nested.tests("@pytest.mark.tier('nightly')\ndef test_wrong(): pass")
    result = nested.run("--collect-only", f"--repository={root}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*test_wrong: expected a tier of quick, full, got nightly"])


def test_scenario_files_of_policies_that_the_tree_does_not_apply_are_left_out(nested, root):
    """The command line tool names folders by what their files look like; the tree knows."""
    tree, elsewhere = nested.pytester.path / "tree", nested.pytester.path / "elsewhere"
    for name in ("manifests", "clusters"):
        shutil.copytree(root / name, tree / name)
    elsewhere.mkdir()
    (elsewhere / "b.scenario.yaml").write_text("name: of somebody else\n")
    here = tree / "manifests/policies"
    listing = ("--collect-only", "-q", f"--repository={tree}", f"--own-scenarios={here}")
    result = nested.run(*listing, f"--own-scenarios={elsewhere}", str(here), str(elsewhere))
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["*demo-policy.scenario.yaml::*"])
    assert "of somebody else" not in result.stdout.str()
    result = nested.run(*listing, str(elsewhere))
    assert "of somebody else" in result.stdout.str(), "whoever names a file has it run"


def test_a_tree_that_cannot_be_used_is_told_when_its_scenarios_are_looked_for(nested, text_of):
    (nested.pytester.path / "b.scenario.yaml").write_text("name: x\n")
    elsewhere = nested.pytester.path
    result = nested.run(
        "--collect-only", f"--repository={elsewhere}", f"--own-scenarios={elsewhere}", str(elsewhere)
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "Traceback" not in text_of(result)
