"""The order of tests: decided by the seed, the same on every machine, for tests and scenarios alike."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise

import pytest

from cilium_e2e.plugin import copies, fixtures, fleet, lifecycle, reporting, scenarios, selection
from cilium_e2e.session import start

LOADED = (copies, fixtures, fleet, lifecycle, reporting, scenarios, selection, start)
"""Imported here, so that nested runs in this process find them."""

SCENARIO = "name: {0}1\n---\nname: {0}2\ntier: full\n---\nname: {0}3\nmode: verbatim\n"
MODULE = """
import pytest

@pytest.mark.parametrize("word", ["x", "y", "z"])
def test_{0}(word): pass

@pytest.mark.disruptive
def test_{0}_alone(): pass
"""
FILES = {
    "b/test_b.py": MODULE.format("b"),
    "b/b.scenario.yaml": SCENARIO.format("b"),
    "a/test_a.py": MODULE.format("a"),
    "a/a.scenario.yaml": SCENARIO.format("a"),
}
PLAIN = [
    *("a1", "a2", "test_a[x]", "test_a[y]", "test_a[z]"),
    *("b1", "b2", "test_b[x]", "test_b[y]", "test_b[z]"),
    *("a3", "test_a_alone", "b3", "test_b_alone"),
]
SEVEN = [
    *("test_b[y]", "test_b[z]", "test_b[x]", "test_a[y]", "test_a[x]", "test_a[z]"),
    *("a2", "a1", "b2", "b1"),
    *("test_b_alone", "test_a_alone", "a3", "b3"),
]


def names(output: str) -> list[str]:
    return [line.rpartition("::")[2] for line in output.splitlines() if "::" in line and ": " not in line]


@pytest.fixture
def listed(nested, root):
    """What a listing says of the files, in its order."""
    for name, text in FILES.items():
        file = nested.pytester.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def run(*words: str) -> list[str]:
        result = nested.run("--collect-only", "-q", "--tier=full", f"--repository={root}", *words)
        return names(result.stdout.str())

    return run


def test_without_a_seed_it_is_the_files_own_and_what_disturbs_others_is_last(listed):
    assert listed() == PLAIN


def test_a_seed_means_the_same_order_with_every_python(listed):
    """Written down here, so that a change of Python's or ours is seen."""
    found = listed("--seed=7")
    assert found == SEVEN
    assert sorted(found) == sorted(PLAIN)


def test_a_file_stays_together_and_what_disturbs_others_last(listed):
    for seed in range(5):
        found = listed(f"--seed={seed}")
        alone = [name for name in found if name.endswith(("3", "alone"))]
        assert found[-4:] == alone
        files = [(name.startswith("test_"), "a" in name.removeprefix("test_")) for name in found[:-4]]
        changes = sum(one != other for one, other in pairwise(files))
        assert changes == len(set(files)) - 1


def test_each_topology_has_the_order_of_a_run_of_its_own(listed):
    topologies = ("ha", "single-node")
    assert listed("--seed=7", *(f"--topology={topology}" for topology in topologies)) == [
        f"{name}@{topology}" for topology in topologies for name in SEVEN
    ]


def test_every_worker_has_the_same_order(listed, nested, root):
    """xdist refuses to run where they differ; each has a hash seed of its own."""
    result = nested.run(
        *("-n", "2", "--seed=7", "--tier=full", "-k", "test_", f"--repository={root}"),
        *("--topology=ha", "--topology=single-node"),
    )
    result.assert_outcomes(passed=16)


@pytest.mark.parametrize("hashes", ["1", "2"])
def test_the_machine_does_not_matter(nested, tmp_path, root, hashes):
    """Another folder, files made in another order, another hash seed, another place to call it from."""
    place = tmp_path / f"machine {hashes}"
    for name in sorted(FILES, reverse=hashes == "2"):
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FILES[name])
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                *nested.words("--collect-only", "-q", "--tier=full", "--seed=7"),
            ),
            *(f"--rootdir={place}", f"--repository={root}", str(place)),
        ],
        cwd=place if hashes == "1" else tmp_path,
        env={**os.environ, "PYTHONHASHSEED": hashes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert names(done.stdout) == SEVEN, done.stdout + done.stderr
