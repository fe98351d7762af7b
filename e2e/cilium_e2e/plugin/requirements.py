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
from cilium_e2e.plugin.exclusive import MARKER
from cilium_e2e.plugin.lifecycle import HANDLE, OPTIONS, tree
from cilium_e2e.repository import Features, Repository
from cilium_e2e.session.ready import OFFERS

_POLICY = "policy:"
_SKIPPED = pytest.StashKey[list[str]]()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what the cluster cannot show, and say what is missing."""
    required = _required(item)
    if wrong := _unknown(required):
        pytest.fail(wrong, pytrace=False)
    if disturbs := _disturbs(item):
        pytest.skip(disturbs)
    if not required:
        return
    info = item.config.stash[HANDLE].info
    present = info.features | {capability.value for capability in info.capabilities}
    if info.backend is not Backend.SIMULATED:
        present |= {Capability.REAL.value}
    if any(name.startswith(_POLICY) for name in required):
        present |= _policies(tree(item.config))
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
        repository = tree(config)
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    topology = repository.topology
    offers = topology.capabilities if topology else frozenset()
    if config.stash[OPTIONS].backend != Backend.EXISTING.value:  # what that has only it can say
        offers |= OFFERS
    if config.stash[OPTIONS].backend != Backend.SIMULATED.value:
        offers |= {Capability.REAL}
    capabilities = {capability.value for capability in offers}
    present = repository.features.names | capabilities | _policies(repository)
    lines = []
    for item in session.items:
        required = _required(item)
        lacking = _lacking(required, present, config.stash[OPTIONS].topology)
        why = _unknown(required) or _disturbs(item) or lacking
        if why:
            lines.append(f"{item.nodeid}: {why}")
    config.stash[_SKIPPED] = lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what would be skipped, and why."""
    lines = config.stash.get(_SKIPPED, None)
    if lines is None:
        return
    terminalreporter.line(f"\nwould be skipped: {len(lines) or 'none'}")
    for line in lines:
        terminalreporter.line(f"  {line}")


def _required(item: pytest.Item) -> list[str]:
    return list(dict.fromkeys(name for mark in item.iter_markers("requires") for name in mark.args))


def _disturbs(item: pytest.Item) -> str:
    """Why a test that disturbs others is skipped; empty when it is not one, or may run."""
    config = item.config
    if item.get_closest_marker(MARKER) is None or config.getoption("--allow-disruption"):
        return ""
    if config.stash[OPTIONS].backend != Backend.EXISTING.value:
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
