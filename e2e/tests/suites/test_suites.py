"""The suites as files: collected without an engine, described, with markers that mean something."""

from __future__ import annotations

import ast
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import cilium_e2e
from cilium_e2e.plugin.requirements import known_names
from cilium_e2e.repository import load
from cilium_e2e.suites.demo import DEMO_POLICY, REQUIREMENT, demo_policy

ROOT = Path(__file__).parents[3]
SUITES = Path(cilium_e2e.__file__).parent / "suites"
FILES = sorted(SUITES.rglob("test_*.py"))


class Collector:
    """Keeps what a nested run collected."""

    items: list[pytest.Item]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


@pytest.fixture(scope="module")
def items(request) -> list[pytest.Item]:
    """Collected as the command line would, in this process."""
    collector = Collector()
    code = pytest.main(
        [
            *("-c", str(SUITES / "pytest.toml"), "--rootdir", str(SUITES)),
            *("-p", "cilium_e2e.plugin", "-p", "no:cacheprovider"),
            *("-p", "no:hypothesispytest", "-p", "no:pytest_cov"),
            # Plain: this process has imported the package, so nothing of it can be rewritten any more.
            *("--assert=plain", "--collect-only", "--backend=auto", "--tier=full", f"--repository={ROOT}"),
            str(SUITES),
        ],
        plugins=[collector],
    )
    assert code == pytest.ExitCode.OK
    return collector.items


def test_every_file_has_tests(items):
    scenarios = set(SUITES.rglob("*.scenario.yaml"))
    assert scenarios
    assert {item.path for item in items} == {*FILES, *scenarios}


def test_every_test_says_what_it_shows(items):
    assert [item.nodeid for item in items if not (item.obj.__doc__ or "").strip()] == []


def test_only_known_markers_are_used(items):
    known = {"requires", "parametrize", "usefixtures", "disruptive", "timeout", "tier", "tag", "flowless"}
    assert {mark.name for item in items for mark in item.iter_markers()} <= known


def test_what_is_required_exists_somewhere(items):
    required = {name for item in items for mark in item.iter_markers("requires") for name in mark.args}
    assert required, "expected at least one test to require something"
    plain = {name for name in required if not name.startswith("policy:")}
    assert [name for name in plain if not any(fnmatchcase(name, known) for known in known_names())] == []


def test_who_uses_the_demo_policy_requires_it(items):
    """Otherwise a tree without it would fail where it should skip."""
    for item in items:
        if "demo" in item.fixturenames:
            assert REQUIREMENT in {name for mark in item.iter_markers("requires") for name in mark.args}, (
                item.nodeid
            )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_suite_sleeps(file):
    """Waiting is for conditions."""
    calls = [node.func for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if ast.unparse(call).rpartition(".")[2] == "sleep"] == []


def test_the_demo_policy_is_the_trees():
    found = demo_policy(load(ROOT))
    assert (found["metadata"]["namespace"], found["metadata"]["name"]) == DEMO_POLICY
