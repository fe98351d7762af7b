"""What tests require of their cluster: skipped before any fixture is set up, and listed beforehand.

A test says ``@pytest.mark.requires("hubble-relay", "multi-node", "policy:default/demo-policy")``: features
of the release, capabilities of the topology, policies of the tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from fnmatch import fnmatchcase

import pytest

from cilium_e2e.model import Backend, Capability, HarnessError
from cilium_e2e.plugin.clusters import CLUSTERS, handle_of, options_of, topology_of, tree_of
from cilium_e2e.plugin.exclusive import MARKER
from cilium_e2e.repository import Features, Repository
from cilium_e2e.session.ready import OFFERS

_POLICY = "policy:"
_LISTED = pytest.StashKey[dict[str, list[tuple[str, str]]]]()
"""Topology to its tests' ids, with why each would be skipped; empty where it would run."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the cluster cannot show, and say what is missing."""
    required = _required(item)
    if wrong := _unknown(required):
        pytest.fail(wrong, pytrace=False)
    handle = handle_of(item)
    if handle is None:
        topology = topology_of(item)
        why = item.config.stash[CLUSTERS].failed[topology]
        pytest.fail(no_cluster(topology, why), pytrace=False)
    if disturbs := _disturbs(item):
        pytest.skip(disturbs)
    if not required:
        return
    info = handle.info
    present = info.features | {capability.value for capability in info.capabilities}
    if info.backend is not Backend.SIMULATED:
        present |= {Capability.REAL.value}
    if any(name.startswith(_POLICY) for name in required):
        present |= _policies(tree_of(item))
    if lacking := _lacking(required, present, info.topology):
        pytest.skip(lacking)


def pytest_collection_finish(session: pytest.Session) -> None:
    """With ``--collect-only``, find out what would be skipped.

    Raises:
        pytest.UsageError: the tree or the topology cannot be used.
    """
    config = session.config
    if not config.getoption("collectonly"):
        return
    try:
        present = {topology: _expected(config, topology) for topology in config.stash[CLUSTERS].options}
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    listed: dict[str, list[tuple[str, str]]] = {topology: [] for topology in present}
    for item in session.items:
        topology = topology_of(item)
        required = _required(item)
        why = _unknown(required) or _disturbs(item) or _lacking(required, present[topology], topology)
        listed[topology].append((item.nodeid, why))
    config.stash[_LISTED] = listed


def _expected(config: pytest.Config, topology: str) -> set[str]:
    """What a cluster that is not made yet will have, as far as its topology and the tree tell."""
    clusters = config.stash[CLUSTERS]
    repository = clusters.tree(topology)
    backend = clusters.options[topology].backend
    offers = repository.topology.capabilities if repository.topology else frozenset()
    if backend != Backend.EXISTING.value:  # what that has only it can say
        offers |= OFFERS
    if backend != Backend.SIMULATED.value:
        offers |= {Capability.REAL}
    return {*repository.features.names, *(capability.value for capability in offers), *_policies(repository)}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what would be skipped, and why."""
    listed = config.stash.get(_LISTED, {})
    several = config.stash[CLUSTERS].several
    for topology, tests in listed.items():
        skipped = [f"{nodeid}: {why}" for nodeid, why in tests if why]
        runs = f"topology {topology}: {len(tests) - len(skipped)} would run, " if several else ""
        terminalreporter.line(f"\n{runs}would be skipped: {len(skipped) or 'none'}")
        for line in skipped:
            terminalreporter.line(f"  {line}")


def no_cluster(topology: str, why: str) -> str:
    """What is said of each test of a topology that has no cluster."""
    return f"topology {topology} has no cluster: {why}"


def _required(item: pytest.Item) -> list[str]:
    return list(dict.fromkeys(name for mark in item.iter_markers("requires") for name in mark.args))


def _disturbs(item: pytest.Item) -> str:
    """Why a test that disturbs others is skipped; empty when it is not one, or may run."""
    config = item.config
    if item.get_closest_marker(MARKER) is None or config.getoption("--allow-disruption"):
        return ""
    if options_of(item).backend != Backend.EXISTING.value:
        return ""
    return "it disturbs others on an existing cluster; --allow-disruption runs it all the same"


def _lacking(required: Iterable[str], present: Iterable[str], topology: str) -> str:
    """Why a test is skipped; empty when it is not."""
    have = set(present)
    missing = [name for name in required if name not in have]
    policies = [name.removeprefix(_POLICY) for name in missing if name.startswith(_POLICY)]
    others = [name for name in missing if not name.startswith(_POLICY)]
    reasons = []
    if Capability.REAL.value in others:
        others.remove(Capability.REAL.value)
        reasons.append("simulated: only a real cluster can prove this")
    if others:
        reasons.append(f"topology {topology} with this release has no {', '.join(others)}")
    if policies:
        reasons.append(f"the tree has no policy {', '.join(policies)}")
    return "; ".join(reasons)


def _unknown(required: Iterable[str]) -> str:
    """What is wrong with a marker: a name that nothing ever has would skip its test for good."""
    wrong = [
        name
        for name in required
        if not name.startswith(_POLICY) and not any(fnmatchcase(name, known) for known in known_names())
    ]
    if not wrong:
        return ""
    return f"requires({', '.join(map(repr, wrong))}): expected one of {', '.join(sorted(known_names()))}"


def known_names() -> frozenset[str]:
    """All features and capabilities a test may require; ``*`` stands for a value, as in ``ipam-*``."""
    everything = {"bool": True, "str": "*", "int": 1}
    features = Features(**{field.name: everything[str(field.type)] for field in dataclasses.fields(Features)})  # type: ignore[arg-type]
    return features.names | {capability.value for capability in Capability}


def _policies(repository: Repository) -> set[str]:
    return {
        f"{_POLICY}{policy['metadata'].get('namespace', '')}/{policy['metadata']['name']}"
        for policy in repository.policies
    }
