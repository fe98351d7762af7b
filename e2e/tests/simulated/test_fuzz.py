"""A fault of the data path is found by random policies, from the command line to the file and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium_e2e.plugin import (
    clusters,
    exclusive,
    fixtures,
    fuzz,
    lifecycle,
    reporting,
    requirements,
    scenarios,
)
from cilium_e2e.scenario.files import load_scenarios
from cilium_e2e.scenario.fuzz import generate, speaks_of_outside

LOADED = (clusters, exclusive, fixtures, fuzz, lifecycle, reporting, requirements, scenarios)
"""Imported here: nested runs take back what they import, and a second one must find the same modules."""

ROOT = Path(__file__).parents[3]
SEED = 7
# One policy: the fewer there are, the fewer tries it takes.
INDEX = next(
    index
    for index in range(1, 99)
    if len(generate(SEED, index).policies) == 1 and not speaks_of_outside(SEED, index)
)
GIVEN = ("--backend=simulated", "--inject=policy-not-enforced", f"--repository={ROOT}")


@pytest.fixture
def run(pytester, monkeypatch):
    """Runs pytest in this process, in a folder of its own."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    without = [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "pytest_cov", "xdist")]
    ignored = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
    return lambda *words: pytester.runpytest_inprocess(
        "-p", "cilium_e2e.plugin", *without, *ignored, *GIVEN, *words
    )


def test_a_policy_that_is_not_enforced_is_found_shrunk_and_written_down(run, tmp_path):
    folder = tmp_path / "found"
    name = f"fuzz[{SEED}-{INDEX:04}]"
    result = run(f"--fuzz={INDEX}", f"--seed={SEED}", f"--fuzz-out={folder}", "-k", name)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (file,) = folder.iterdir()
    result.stdout.fnmatch_lines(
        [
            "*of * cells came out differently:",
            "shrunk from 1 policy to 1 in *; nothing more can be left out",
            f"minimal scenario: {file}",
            "the file was run, too, and fails in the same way",
            f"run it: python -m pytest {file} --backend=simulated *--inject=policy-not-enforced",
        ]
    )
    (scenario,) = load_scenarios(file)
    (step,) = scenario.steps
    (policy,) = [policy.object for policy in step.apply]
    assert policy["metadata"]["name"] == "p1"
    assert len(step.expect) == 1

    again = run(str(file))
    again.assert_outcomes(failed=1)
    again.stdout.fnmatch_lines(["*1 of 1 cells came out differently:"])
