"""Without --backend the plugin offers options and does nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

import cilium_e2e

INERT = """
import sys

HEAVY = {"kubernetes", "docker", "grpc", "pytest_kind.cluster", "cilium_e2e.session", "cilium_e2e.cluster"}

def test_nothing_is_loaded():
    assert not HEAVY & sys.modules.keys()

@pytest.mark.requires("hubble-relay")
def test_the_marker_is_known_and_harmless():
    pass

def test_there_are_no_fixtures(handle):
    pass
"""


def test_without_a_backend_nothing_is_loaded_or_made(pytester, monkeypatch):
    """In a process of its own, because this one has imported everything."""
    monkeypatch.setenv("PYTHONPATH", str(Path(cilium_e2e.__file__).parents[1]))
    pytester.makepyfile(f"import pytest\n{INERT}")
    # pytest-kind itself imports its cluster, and that the HTTP client of docker.
    result = pytester.runpytest_subprocess(
        "-p", "cilium_e2e.plugin", "-p", "no:pytest-kind", "--strict-markers"
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*fixture 'handle' not found*"])
    result.stdout.no_fnmatch_line("backend*")


def test_options_stand_in_the_help(nested):
    result = nested.run("--help", backend="")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(
        ["end-to-end tests for Cilium on GitOps clusters:", "*--backend={auto,kind,existing,simulated}*"]
    )
    for option in (
        "--topology",
        "--clusters",
        "--repository",
        "--path",
        "--release",
        "--values",
        "--chart",
        "--chart-repository",
        "--chart-version",
        "--flux-manifest",
        "--external",
        "--agent-image",
        "--step-timeout",
    ):
        result.stdout.fnmatch_lines([f"  {option}=*"])
    assert nested.events == []


def test_an_unknown_backend_is_refused(nested):
    result = nested.run(backend="minikube")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--backend: invalid choice: 'minikube'*"])
