"""The suites on several simulated topologies at once, by the command itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOPOLOGIES = ("default", "single-node")


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cilium_e2e.cli", "run", "--backend=simulated", f"--repository={ROOT}"]
    several = [f"--topology={topology}" for topology in TOPOLOGIES]
    return subprocess.run(
        [*command, *several, *words], cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", ["0", "2"])
def test_each_test_runs_on_each_simulated_cluster(tmp_path, workers):
    """A test that needs two nodes is skipped on the one that has one; all others pass on both."""
    chosen = "test_demo_policy or test_pods_reach_each_other_between_nodes or demo-policy.scenario"
    done = run("-n", workers, "-k", chosen, "--evidence=e.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "default: backend: simulated (asked for)" in done.stdout
    assert "single-node: backend: simulated (asked for)" in done.stdout
    records = [json.loads(line) for line in (tmp_path / "e.jsonl").read_text().splitlines()]
    clusters = [record for record in records if record["type"] == "cluster"]
    assert [(one["topology"], len(one["nodes"])) for one in clusters] == [("default", 3), ("single-node", 1)]
    tests = [record for record in records if record["type"] == "test"]
    outcomes = {topology: Counter() for topology in TOPOLOGIES}
    for test in tests:
        assert test["nodeid"].endswith(f"@{test['topology']}")
        outcomes[test["topology"]][test["outcome"]] += 1
    default, single = (outcomes[topology] for topology in TOPOLOGIES)
    assert default.total() == single.total() == len(tests) / 2
    assert set(default) <= {"passed"}
    assert default["passed"] > 4
    assert single == {"passed": default["passed"] - 1, "skipped": 1}
    workers_of = {
        topology: {test.get("worker", "") for test in tests if test["topology"] == topology}
        for topology in TOPOLOGIES
    }
    assert workers_of["default"].isdisjoint(workers_of["single-node"]) is (workers != "0")
