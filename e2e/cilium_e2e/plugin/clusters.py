"""A run's clusters, one a topology: what was asked for, and how to reach each that came up."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from cilium_e2e.model import Backend
from cilium_e2e.repository import Repository, clusters_folder, load, load_topology
from cilium_e2e.session import Handle, Options

_AT = "@"


@dataclass(slots=True)
class Clusters:
    """What a process of the run knows of its clusters.

    Attributes:
        options: topology to what was asked for, in the order given; at least one.
        handles: topology to the running cluster; empty until they are up.
        failed: topology to why it has no cluster, in one line.
    """

    options: dict[str, Options]
    handles: dict[str, Handle] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    _trees: dict[str, Repository] = field(default_factory=dict)

    @property
    def several(self) -> bool:
        """Whether more than one topology was asked for."""
        return len(self.options) > 1

    @property
    def first(self) -> str:
        """The topology of whatever belongs to none: the only one, mostly."""
        return next(iter(self.options))

    def of_id(self, nodeid: str) -> str:
        """The topology that a test's id names; empty where there is one for all."""
        name = nodeid.rpartition(_AT)[2]
        return name if self.several and name in self.options else ""

    def name_of(self, handle: Handle) -> str:
        """The topology that a cluster was asked for as."""
        return next(topology for topology, one in self.handles.items() if one is handle)

    def tree(self, topology: str) -> Repository:
        """The tree under test as a topology has it, loaded once per process.

        Raises:
            InputError: it cannot be used.
        """
        if topology not in self._trees:
            given = self.options[topology]
            shape = load_topology(clusters_folder(given.repository, given.clusters), given.topology)
            if given.backend == Backend.EXISTING.value:  # there nothing but the tree itself is installed
                self._trees[topology] = load(given.repository, given.path, given.release)
            else:
                self._trees[topology] = load(
                    given.repository, given.path, given.release, values=given.values, topology=shape
                )
        return self._trees[topology]


CLUSTERS = pytest.StashKey[Clusters]()
TOPOLOGY = pytest.StashKey[str]()
"""Of an item: the topology it runs on, where there are several."""


def topology_of(item: pytest.Item) -> str:
    """The topology a test runs on."""
    return item.stash.get(TOPOLOGY, item.config.stash[CLUSTERS].first)


def options_of(item: pytest.Item) -> Options:
    """What was asked for, for the cluster a test runs on."""
    return item.config.stash[CLUSTERS].options[topology_of(item)]


def handle_of(item: pytest.Item) -> Handle | None:
    """The cluster a test runs on; None where it did not come up."""
    return item.config.stash[CLUSTERS].handles.get(topology_of(item))


def tree_of(item: pytest.Item) -> Repository:
    """The tree under test as the test's topology has it."""
    return item.config.stash[CLUSTERS].tree(topology_of(item))


def place(item: pytest.Item, topology: str) -> str:
    """Note the topology that a test runs on; answers the test's id there, ``…::test_y[short]@ha``."""
    item.stash[TOPOLOGY] = topology
    return f"{item.nodeid}{_AT}{topology}"


def plain_id(item: pytest.Item) -> str:
    """A test's id as a run with its topology alone has it."""
    topology = item.stash.get(TOPOLOGY, "")
    return item.nodeid.removesuffix(f"{_AT}{topology}") if topology else item.nodeid
