"""What a test requires and the cluster lacks: skipped with the reason, before anything is set up."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from cilium_e2e.model import Capability
from cilium_e2e.plugin.requirements import known_names
from cilium_e2e.repository import Features, load

TESTS = """
@pytest.fixture(scope="session")
def costly():
    event("costly")

@pytest.mark.requires("hubble-relay", "multi-node")
def test_has_all(handle):
    event("ran")

@pytest.mark.requires("hubble-relay", "encryption-wireguard")
@pytest.mark.requires("ha")
def test_lacks_two(costly):
    event("ran")

@pytest.mark.requires("policy:default/demo-policy")
def test_has_the_policy():
    event("ran")

@pytest.mark.requires("policy:default/other", "cgroup-v1")
def test_lacks_a_policy(costly):
    event("ran")

@pytest.mark.requires("huble-relay")
def test_misspelt(costly):
    event("ran")
"""
LACKS_TWO = "topology default with this release has no {}"
LACKS_POLICY = "topology default with this release has no cgroup-v1; the tree has no policy default/other"


def test_skips_say_what_is_missing_and_set_nothing_up(nested, root):
    nested.tests(TESTS)
    result = nested.run("-rs", f"--repository={root}")
    result.assert_outcomes(passed=2, skipped=2, errors=1)
    # Markers nearest to the function come first.
    result.stdout.fnmatch_lines_random(
        [
            f"*{LACKS_TWO.format('ha, encryption-wireguard')}",
            f"*{LACKS_POLICY}",
            "*requires('huble-relay'): expected one of *hubble-relay*",
        ]
    )
    assert nested.events == ["start", "ran", "ran", "deleting", "deleted"]


def test_collecting_only_makes_no_cluster_and_lists_the_skips(nested, root):
    nested.tests(TESTS)
    result = nested.run("--collect-only", "-q", "-n", "2", f"--repository={root}")
    assert result.ret == pytest.ExitCode.OK
    assert nested.events == []
    result.stdout.fnmatch_lines(
        [
            "test_nested.py::test_has_all",
            "would be skipped: 3",
            f"  test_nested.py::test_lacks_two: {LACKS_TWO.format('ha, encryption-wireguard')}",
            f"  test_nested.py::test_lacks_a_policy: {LACKS_POLICY}",
            "  test_nested.py::test_misspelt: requires('huble-relay'): expected one of *",
        ]
    )


AGENTS_ELSEWHERE = """
@pytest.mark.requires("world", "host-agents", "outside-zone")
def test_needs_agents_elsewhere():
    event("ran")
"""


@pytest.mark.parametrize(
    ("backend", "lacks"),
    [("auto", ""), ("kind", ""), ("existing", "world, host-agents, outside-zone")],
)
def test_a_listing_knows_what_a_cluster_made_here_has(nested, root, backend, lacks):
    """Of an existing one only a look at it can tell."""
    nested.tests(AGENTS_ELSEWHERE)
    result = nested.run("--collect-only", "-q", f"--repository={root}", backend=backend)
    assert result.ret == pytest.ExitCode.OK
    what = f"1*test_needs_agents_elsewhere: {LACKS_TWO.format(lacks)}" if lacks else "none"
    assert f"would be skipped: {what.partition('*')[0]}" in result.stdout.str()
    assert what.rpartition("*")[2] in result.stdout.str()


def test_a_listing_says_what_would_run_where_and_why_not(nested, root):
    text = "@pytest.mark.requires('multi-node')\ndef test_two(): pass\ndef test_one(): pass\n"
    (nested.pytester.path / "a.scenario.yaml").write_text("name: ours\nrequires: [ha]\n")
    nested.tests(text)
    topologies = ("--topology=ha", "--topology=single-node")
    result = nested.run("--collect-only", "-q", f"--repository={root}", *topologies)
    assert result.ret == pytest.ExitCode.OK
    assert nested.events == []
    lines = [line for line in result.outlines if "@" in line or line.startswith("topology")]
    assert lines == [
        *("a.scenario.yaml::ours@ha", "test_nested.py::test_two@ha", "test_nested.py::test_one@ha"),
        *("a.scenario.yaml::ours@single-node", "test_nested.py::test_two@single-node"),
        "test_nested.py::test_one@single-node",
        "topology ha: 3 would run, would be skipped: none",
        "topology single-node: 1 would run, would be skipped: 2",
        "  a.scenario.yaml::ours@single-node: topology single-node with this release has no ha",
        "  test_nested.py::test_two@single-node: topology single-node with this release has no multi-node",
    ]


def test_collecting_from_a_tree_that_cannot_be_used(nested, text_of):
    nested.tests(TESTS)
    result = nested.run("--collect-only", f"--clusters={nested.pytester.path}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text_of(result).count("unknown topology 'default'") == 1
    assert "Traceback" not in text_of(result)


def test_every_feature_and_capability_may_be_required(root):
    present = load(root).features.names | {capability.value for capability in Capability}
    assert [name for name in present if not any(fnmatchcase(name, known) for known in known_names())] == []


def test_the_names_cover_what_is_off_here():
    off = Features.of({"hubble": {"enabled": False}, "encryption": {"enabled": True, "type": "wireguard"}})
    assert "encryption-wireguard" in off.names
    assert {"hubble", "hubble-ui", "encryption-*", "node-encryption"} <= known_names()
