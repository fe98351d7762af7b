"""Tests share a cluster as readers of a lock; a test that disturbs the others is its only writer.

``@pytest.mark.disruptive`` marks such tests: they restart things, change what is cluster-wide, or break the
network. They run after all others, so that hardly anybody waits for them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from filelock import ReadWriteLock

MARKER = "disruptive"


class Exclusive:
    """Holds the cluster's lock around each test, fixtures included.

    Args:
        file: the lock's file of the cluster that a test runs on, where all its workers meet; None without
            a cluster.
    """

    def __init__(self, file: Callable[[pytest.Item], Path | None]) -> None:
        self._file = file
        self._locks: dict[Path, ReadWriteLock] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put disruptive tests last; the order of the others stays."""
        items.sort(key=lambda item: item.get_closest_marker(MARKER) is not None)

    # Outermost: the time spent waiting for the lock is none of the test's own.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Read or write, until the test's own fixtures are torn down."""
        alone = item.get_closest_marker(MARKER) is not None
        file = self._file(item)
        if file is None:
            return (yield)
        if file not in self._locks:
            self._locks[file] = ReadWriteLock(file)
        lock = self._locks[file]
        with lock.write_lock() if alone else lock.read_lock():
            return (yield)
