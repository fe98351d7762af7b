"""With several topologies each test becomes one a topology: copies of items, and fixtures that know which.

Everything else asks for the fixture ``handle``, directly or not. Each copy brings its topology as that
fixture's parameter, so that pytest itself sets up what depends on a cluster anew when the next test is
another cluster's.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, cast

import pytest
from _pytest.python import CallSpec2
from _pytest.scope import Scope

from cilium_e2e.plugin.clusters import CLUSTERS, place
from cilium_e2e.repository import Repository
from cilium_e2e.session import Handle, Options

_PARAMETRISED = "handle"


# Last of all: after the order and the choice of tests, which are the same on each topology.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """All tests on the first topology, then all on the next: in one process each cluster is set up once."""
    topologies = list(config.stash[CLUSTERS].options)
    items[:] = [_on(item, topology, number) for number, topology in enumerate(topologies) for item in items]


@pytest.fixture(scope="session")
def handle(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Handle:
    """The running cluster of the test's topology, as plain data."""
    return pytestconfig.stash[CLUSTERS].handles[request.param]


@pytest.fixture(scope="session")
def run_options(handle: Handle, pytestconfig: pytest.Config) -> Options:
    """What the run was asked for, on the test's topology."""
    clusters = pytestconfig.stash[CLUSTERS]
    return clusters.options[clusters.name_of(handle)]


@pytest.fixture(scope="session")
def repository(handle: Handle, pytestconfig: pytest.Config) -> Repository:
    """The tree under test, as the test's topology has it."""
    clusters = pytestconfig.stash[CLUSTERS]
    return clusters.tree(clusters.name_of(handle))


def _on(item: pytest.Item, topology: str, number: int) -> pytest.Item:
    """A test's copy for a topology.

    pytest has no public way to copy an item. What must not be shared is made anew: the stash, markers,
    sections of reports, the test class's instance, and what fixtures are requested by.
    """
    twin: Any = copy.copy(item)  # Any: most of what follows is pytest's own
    twin.stash = pytest.Stash()
    twin.own_markers = list(item.own_markers)
    twin.keywords = copy.copy(item.keywords)
    twin.keywords.node = twin
    twin.keywords._markers = dict(twin.keywords._markers)  # noqa: SLF001 - see above
    twin._report_sections = []  # noqa: SLF001
    twin._nodeid = place(twin, topology)  # noqa: SLF001 - as xdist puts its groups into ids
    path, line, name = item.location
    twin.location = (path, line, f"{name}@{topology}")
    if isinstance(item.parent, pytest.Class):
        for name in ("_instance", "_obj"):
            vars(twin).pop(name, None)
    if hasattr(twin, "_initrequest"):
        given = getattr(item, "callspec", None) or CallSpec2()
        twin.callspec = dataclasses.replace(
            given,
            params={**given.params, _PARAMETRISED: topology},
            indices={**given.indices, _PARAMETRISED: number},
            _arg2scope={**given._arg2scope, _PARAMETRISED: Scope.Session},  # noqa: SLF001
        )
        twin._initrequest()  # noqa: SLF001
    return cast("pytest.Item", twin)
