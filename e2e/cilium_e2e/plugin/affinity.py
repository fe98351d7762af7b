"""Which xdist worker runs which test, where each worker belongs to one of several clusters.

A cluster's tests are dealt evenly to its workers; one that runs out takes tests from the cluster's busiest. A
worker starts a test only when it knows the next one or that there is none, so it is never left with fewer
than two before the end. Workers are told and asked by messages; their answers come as calls of the methods
here, in which xdist's controller keeps them in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

_KEPT = 2
"""The test a worker is at, and the next one."""


class Worker(Protocol):
    """A worker as xdist's controller has it."""

    @property
    def shutting_down(self) -> bool:
        """Whether it ends after what it has."""
        ...

    def send_runtest_some(self, indices: Sequence[int]) -> None:
        """Give it tests, by their places in the collection."""
        ...

    def send_steal(self, indices: Sequence[int]) -> None:
        """Ask for tests back; it gives all of them or none, and says which."""
        ...

    def shutdown(self) -> None:
        """Have it end after what it has."""
        ...


class Share:
    """The tests and the workers of one cluster."""

    def __init__(self) -> None:
        self.waiting: list[int] = []
        self.given: dict[Worker, list[int]] = {}
        self.asked: Worker | None = None

    @property
    def done(self) -> bool:
        """Whether nothing is left to be dealt: each worker is at its last test, or has none."""
        dealt = all(len(tests) < _KEPT for tests in self.given.values())
        return not self.waiting and self.asked is None and dealt

    @property
    def staffed(self) -> bool:
        """Whether a worker can take tests."""
        return any(not worker.shutting_down for worker in self.given)

    def add(self, tests: Iterable[int]) -> None:
        """Have tests run; those that come back are due before later ones."""
        self.waiting = sorted([*self.waiting, *tests])

    def taken_back(self, worker: Worker, tests: Sequence[int]) -> None:
        """A worker's answer to having been asked."""
        self.asked = None
        self.given[worker] = [test for test in self.given[worker] if test not in set(tests)]
        self.add(tests)

    def remove(self, worker: Worker) -> int | None:
        """A worker is gone; answers the test that it was at, if any. The others are due again."""
        tests = self.given.pop(worker)
        if self.asked is worker:
            self.asked = None
        if not tests:
            return None
        self.add(tests[1:])
        return tests[0]

    def balance(self) -> None:
        """Deal what is due, move tests to who has none, and let those go for whom there are none."""
        self._deal()
        idle = self._idle()
        if not idle or self.asked is not None:
            return
        busiest = max(self._up(), key=lambda worker: len(self.given[worker]))
        tests = self.given[busiest]
        spare = min(len(tests) // 2, len(tests) - _KEPT)
        if spare > 0:
            self.asked = busiest
            busiest.send_steal(tests[-spare:])
            return
        for worker in idle:
            worker.shutdown()  # it is at its last test, and waits to hear that there is no next one

    def _deal(self) -> None:
        idle = self._idle()
        for place, worker in enumerate(idle):
            number = len(self.waiting) // (len(idle) - place)
            tests, self.waiting = self.waiting[:number], self.waiting[number:]
            if tests:
                self.given[worker] += tests
                worker.send_runtest_some(tests)

    def _up(self) -> list[Worker]:
        return [worker for worker in self.given if not worker.shutting_down]

    def _idle(self) -> list[Worker]:
        return [worker for worker in self._up() if len(self.given[worker]) < _KEPT]


class AffinityScheduling:
    """A scheduler of xdist's; each test runs once, on a worker of its own cluster.

    What cannot run is told and never lost: the tests of a topology that no worker belongs to, at once; what
    is still open at the end of the run, by :meth:`abandon`.

    Args:
        workers: how many there are at first.
        home: a worker's topology.
        topology_of: a test's, by its id.
        lost: told each test that cannot run, by its id.
        differs: told of a worker that has collected other tests, and how they differ.
    """

    def __init__(
        self,
        workers: int,
        *,
        home: Callable[[Worker], str],
        topology_of: Callable[[str], str],
        lost: Callable[[str], None],
        differs: Callable[[Worker, str], None],
    ) -> None:
        self._workers = workers
        self._home = home
        self._topology_of = topology_of
        self._lost = lost
        self._differs = differs
        self._shares: dict[str, Share] = {}
        self._collected: dict[Worker, list[str]] = {}
        self._tests: list[str] = []
        self._open: set[int] = set()
        self._scheduled = False

    @property
    def nodes(self) -> list[Worker]:
        """All workers."""
        return [worker for share in self._shares.values() for worker in share.given]

    @property
    def collection_is_completed(self) -> bool:
        """Whether all workers of the beginning have collected."""
        return self._scheduled or len(self._collected) >= self._workers

    @property
    def tests_finished(self) -> bool:
        """Whether nothing is left to be dealt on any cluster."""
        return self.collection_is_completed and all(share.done for share in self._shares.values())

    @property
    def has_pending(self) -> bool:
        """Whether tests are due or under way."""
        return any(share.waiting or any(share.given.values()) for share in self._shares.values())

    def add_node(self, node: Worker) -> None:
        """A worker has started."""
        self._shares.setdefault(self._home(node), Share()).given[node] = []

    def add_node_collection(self, node: Worker, collection: Sequence[str]) -> None:
        """A worker has collected; one that collected other tests than the first gets none."""
        if not self._tests:
            self._tests = list(collection)
            self._open = set(range(len(self._tests)))
        self._collected[node] = list(collection)
        if self._tests != self._collected[node]:
            self._differs(node, _difference(self._tests, self._collected[node]))
            node.shutdown()
            if self._scheduled:
                self._give_up(self._shares[self._home(node)])

    def schedule(self) -> None:
        """All have collected, or one that came later has: deal."""
        if not self._scheduled:
            self._scheduled = True
            by_topology: dict[str, list[int]] = {}
            for index, nodeid in enumerate(self._tests):
                by_topology.setdefault(self._topology_of(nodeid), []).append(index)
            for topology, tests in by_topology.items():
                share = self._shares.setdefault(topology, Share())
                share.add(tests)
                self._give_up(share)
        for share in self._shares.values():
            share.balance()

    def mark_test_complete(self, node: Worker, item_index: int, duration: float | None = None) -> None:
        """A worker has run a test."""
        del duration
        share = self._shares[self._home(node)]
        share.given[node].remove(item_index)
        self._open.discard(item_index)
        share.balance()

    def mark_test_pending(self, item: str) -> None:
        """A test is to run once more, as another plugin wants it."""
        index = self._tests.index(item)
        share = self._shares[self._topology_of(item)]
        self._open.add(index)
        share.add([index])
        share.balance()

    def remove_pending_tests_from_node(self, node: Worker, indices: Sequence[int]) -> None:
        """A worker has given tests back, or none."""
        share = self._shares[self._home(node)]
        share.taken_back(node, indices)
        share.balance()

    def remove_node(self, node: Worker) -> str | None:
        """A worker is gone; answers the id of the test that it was at, if any.

        The caller reports that one, and replaces the worker by one of the same cluster.

        Raises:
            KeyError: it never started.
        """
        share = self._shares[self._home(node)]
        at = share.remove(node)
        self._collected.pop(node, None)
        share.balance()
        if at is None:
            return None
        self._open.discard(at)
        return self._tests[at]

    def abandon(self) -> None:
        """The run is over: tell what has not run."""
        for share in self._shares.values():
            share.waiting = []
        for index in sorted(self._open):
            self._lost(self._tests[index])
        self._open.clear()

    def _give_up(self, share: Share) -> None:
        """Tell tests for which there is nobody."""
        if share.staffed:
            return
        tests, share.waiting = share.waiting, []
        for index in tests:
            self._open.discard(index)
            self._lost(self._tests[index])


def _difference(expected: Sequence[str], seen: Sequence[str]) -> str:
    """How two collections differ, in a line or two."""
    missing, more = set(expected) - set(seen), set(seen) - set(expected)
    if not missing and not more:
        return "it collected the same tests in another order"
    lines = [
        f"{what} {len(ids)}, such as {min(ids)}" for what, ids in (("lacks", missing), ("adds", more)) if ids
    ]
    return f"it collected other tests than the first worker: {'; '.join(lines)}"
