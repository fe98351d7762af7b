"""The pytest plugin: inert unless ``--backend`` is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium_e2e.plugin import fuzz_options, options, selection


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options are always there, so that ``--help`` and command lines know them."""
    options.add(parser)
    selection.add(parser)
    fuzz_options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Load the rest only for runs that asked for a cluster."""
    config.addinivalue_line(
        "markers",
        "requires(*names): skip unless there are these features, capabilities, or policy:NAMESPACE/NAME",
    )
    config.addinivalue_line(
        "markers",
        "disruptive: runs alone on its cluster, after all other tests, because it would disturb them",
    )
    config.addinivalue_line(
        "markers",
        "flowless: asks for no flows, so that none are followed while it runs; a failure still has its",
    )
    selection.mark(config)
    if config.getoption("--backend") is None:
        if config.getoption("--evidence") is not None:
            raise pytest.UsageError("--evidence: there is none without --backend")
        if fuzz_options.asked(config):
            raise pytest.UsageError("--fuzz: it needs a cluster, by --backend")
        return
    # They import the whole harness.
    from cilium_e2e.plugin import (  # noqa: PLC0415
        clusters,
        copies,
        exclusive,
        fixtures,
        fleet,
        fuzz,
        lifecycle,
        reporting,
        requirements,
        scenarios,
    )

    config.pluginmanager.register(lifecycle.plugin_for(config), "cilium-e2e-lifecycle")
    several = config.stash[clusters.CLUSTERS].several
    lock = exclusive.Exclusive(_lock_of)
    config.pluginmanager.register(lock, "cilium-e2e-exclusive")
    config.pluginmanager.register(fixtures, "cilium-e2e-fixtures")
    config.pluginmanager.register(requirements, "cilium-e2e-requirements")
    config.pluginmanager.register(scenarios, "cilium-e2e-scenarios")
    if fuzz_options.asked(config):
        config.pluginmanager.register(fuzz.Fuzz(config), "cilium-e2e-fuzz")
    config.pluginmanager.register(selection, "cilium-e2e-selection")
    config.pluginmanager.register(reporting.Reporting(config), "cilium-e2e-reporting")
    if several:
        # After the fixtures, which it replaces some of, and after the lock, which orders the tests.
        config.pluginmanager.register(copies, "cilium-e2e-copies")
    if not hasattr(config, "workerinput"):
        if several:
            fleet.check(config)
            config.pluginmanager.register(fleet.Affinity(config), "cilium-e2e-fleet")
        # After the cluster's own plugin, so that its hooks are around that one's.
        config.pluginmanager.register(reporting.EvidenceFile(config), "cilium-e2e-evidence-file")


def _lock_of(item: pytest.Item) -> Path | None:
    """The file at which those who use a test's cluster meet."""
    from cilium_e2e.plugin.clusters import handle_of  # noqa: PLC0415 - only for runs that asked for a cluster

    handle = handle_of(item)
    return handle.lock if handle is not None else None
