"""The scheduler alone, with workers that behave as xdist's do, in any order of events, with any crashes."""

from __future__ import annotations

from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.plugin.affinity import AffinityScheduling

ENDED = "ended"


class FakeWorker:
    """As xdist's: messages reach it when it looks; it starts a test when it knows what comes after it."""

    def __init__(self, name: str, home: str) -> None:
        self.name, self.home = name, home
        self.shutting_down = False
        self.inbox: deque = deque()
        self.queue: list = []
        self.at = None
        self.ended = False

    def send_runtest_some(self, indices):
        assert indices
        self.inbox.append(("run", list(indices)))

    def send_steal(self, indices):
        assert indices
        self.inbox.append(("steal", list(indices)))

    def shutdown(self):
        self.inbox.append(("run", [ENDED]))
        self.shutting_down = True

    def can_step(self) -> bool:
        return bool(self.inbox) or self.at == ENDED or (self.at is None and self.queue) or len(self.queue) > 0

    def step(self):
        """Take a message, or run a test; answers what it tells the controller, if anything."""
        if self.inbox:
            what, indices = self.inbox.popleft()
            if what == "run":
                self.queue += indices
                return None
            stolen = indices if set(indices) <= set(self.queue) else []
            self.queue = [test for test in self.queue if test not in stolen]
            return ("unscheduled", stolen)
        if self.at is None:
            self.at = self.queue.pop(0)
            return None
        if self.at == ENDED:
            self.ended = True
            return ("finished", None)
        done, self.at = self.at, self.queue.pop(0)
        return ("ran", done)


class Run:
    """xdist's controller as far as a scheduler knows it."""

    def __init__(self, tests: list[str], homes: list[str], *, restarts: int) -> None:
        self.tests, self.restarts = tests, restarts
        self.ran: list[tuple[str, str]] = []
        self.crashed: list[str] = []
        self.lost: list[str] = []
        self.differing: list[str] = []
        self.active: list[FakeWorker] = []
        self.told: deque = deque()
        self.shutting_down = False
        self.hired = 0
        self.scheduling = AffinityScheduling(
            len(homes),
            home=lambda worker: worker.home,
            topology_of=lambda nodeid: nodeid.rpartition("@")[2],
            lost=self.lost.append,
            differs=lambda worker, how: self.differing.append(f"{worker.name}: {how}"),
        )
        for home in homes:
            self.hire(home)

    def hire(self, home: str) -> FakeWorker:
        worker = FakeWorker(f"gw{self.hired}", home)
        self.hired += 1
        self.active.append(worker)
        self.told.append((worker, "ready", None))
        self.told.append((worker, "collected", list(self.tests)))
        return worker

    def crash(self, worker: FakeWorker) -> None:
        """What it has told is heard, then that it is gone."""
        worker.ended = True
        worker.inbox.clear()
        self.told.append((worker, "crashed", None))

    def hear(self) -> None:
        worker, what, said = self.told.popleft()
        scheduling = self.scheduling
        if what == "ready":
            worker.shutdown() if self.shutting_down else scheduling.add_node(worker)
        elif what == "collected":
            if not self.shutting_down:
                scheduling.add_node_collection(worker, said)
                if scheduling.collection_is_completed:
                    scheduling.schedule()
        elif what == "ran":
            self.ran.append((self.tests[said], worker.home))
            scheduling.mark_test_complete(worker, said)
        elif what == "unscheduled":
            scheduling.remove_pending_tests_from_node(worker, said)
        else:
            self.gone(worker, crashed=what == "crashed")
        if scheduling.tests_finished:
            self.shut_down()

    def gone(self, worker: FakeWorker, *, crashed: bool) -> None:
        if worker in self.scheduling.nodes:
            at = self.scheduling.remove_node(worker)
            assert crashed or at is None
            if at is not None:
                self.crashed.append(at)
        self.active.remove(worker)
        if not crashed:
            return
        self.restarts -= 1
        if self.restarts >= 0:
            self.shutting_down = False
            self.hire(worker.home)
        else:
            self.shut_down()

    def shut_down(self) -> None:
        if not self.shutting_down:
            self.shutting_down = True
            for worker in self.scheduling.nodes:
                worker.shutdown()

    def until_the_end(self, choose) -> None:
        """Let things happen one at a time, in an order that is chosen."""
        for _ in range(100_000):
            if self.shutting_down and not self.active:
                break
            ready = [worker for worker in self.active if not worker.ended and worker.can_step()]
            actors = [*ready, *(["controller"] if self.told else [])]
            assert actors, f"nothing can happen any more: {vars(self)}"
            actor = choose(actors)
            if actor == "controller":
                self.hear()
                continue
            told = actor.step()
            if told is not None:
                self.told.append((actor, *told))
        else:
            pytest.fail("no end")
        self.scheduling.abandon()


def ids(**numbers: int) -> list[str]:
    return [f"t{n}@{topology}" for topology, number in numbers.items() for n in range(number)]


def in_turn():
    """One actor after the other, so that workers get on evenly."""
    turn = iter(range(1_000_000))
    return lambda actors: actors[next(turn) % len(actors)]


@given(
    numbers=st.lists(st.integers(0, 12), min_size=2, max_size=3),
    workers=st.lists(st.integers(0, 3), min_size=3, max_size=3),
    restarts=st.integers(0, 6),
    data=st.data(),
)
@settings(deadline=None, max_examples=150)
def test_each_test_runs_once_on_its_own_cluster_or_is_reported(numbers, workers, restarts, data):
    """In any order of events, with workers that die at any time, and clusters without any."""
    topologies = [f"c{n}" for n in range(len(numbers))]
    tests = ids(**dict(zip(topologies, numbers, strict=True)))
    homes = [home for home, number in zip(topologies, workers, strict=False) for _ in range(number)]
    run = Run(tests, homes or [topologies[0]], restarts=restarts)
    chance = data.draw(st.randoms(use_true_random=False))
    deaths = data.draw(st.integers(0, 4))

    def choose(actors):
        nonlocal deaths
        actor = chance.choice(actors)
        if deaths and actor != "controller" and chance.random() < 0.1:
            deaths -= 1
            run.crash(actor)
            return "controller"
        return actor

    run.until_the_end(choose)
    ran = [test for test, _ in run.ran]
    assert Counter([*ran, *run.crashed, *run.lost]) == Counter(tests)
    assert all(test.endswith(f"@{home}") for test, home in run.ran)
    assert run.differing == []


@given(
    numbers=st.lists(st.integers(0, 30), min_size=2, max_size=4),
    extra=st.lists(st.integers(0, 3), min_size=4, max_size=4),
    data=st.data(),
)
@settings(deadline=None)
def test_without_crashes_nothing_is_reported_but_what_ran(numbers, extra, data):
    topologies = [f"c{n}" for n in range(len(numbers))]
    tests = ids(**dict(zip(topologies, numbers, strict=True)))
    homes = [home for home, more in zip(topologies, extra, strict=False) for _ in range(1 + more)]
    run = Run(tests, homes, restarts=0)
    chance = data.draw(st.randoms(use_true_random=False))
    run.until_the_end(chance.choice)
    assert Counter(test for test, _ in run.ran) == Counter(tests)
    assert (run.crashed, run.lost) == ([], [])


def test_workers_of_a_cluster_take_tests_from_each_other_and_from_no_other_cluster():
    """One worker never gets on with its tests: all but the two it holds are run by its neighbour."""
    run = Run(ids(a=10, b=10), ["a", "b", "a", "b"], restarts=0)
    stuck = run.active[0]
    turns = in_turn()

    def choose(actors):
        others = [actor for actor in actors if actor is not stuck or stuck.inbox]
        return turns(others or actors)

    run.until_the_end(choose)
    by_worker = Counter(home for _, home in run.ran)
    assert by_worker == {"a": 10, "b": 10}
    late = [test for test, home in run.ran if home == "a"][-2:]
    assert sorted(late) == ["t0@a", "t1@a"], "the stuck worker kept what it was at and the next one"


def test_a_cluster_that_is_done_lets_its_workers_go_while_another_is_busy():
    run = Run(ids(a=1, b=9), ["a", "b"], restarts=0)
    mine, other = run.active
    while not mine.ended:
        choices = [mine] if mine.can_step() else []
        actor = "controller" if run.told else choices[0]
        run.hear() if actor == "controller" else [
            run.told.append((mine, *told)) for told in [mine.step()] if told
        ]
    assert run.ran == [("t0@a", "a")]
    assert not other.shutting_down
    run.until_the_end(in_turn())
    assert len(run.ran) == 10


def test_tests_of_a_dead_worker_go_to_the_others_of_its_cluster():
    run = Run(ids(a=8, b=8), ["a", "a", "b"], restarts=9)
    first = run.active[0]
    while first.at is None:
        run.hear() if run.told else first.step()
    run.crash(first)
    run.until_the_end(in_turn())
    assert run.crashed == ["t0@a"]
    assert Counter(test for test, _ in run.ran) == Counter(set(ids(a=8, b=8)) - {"t0@a"})
    assert run.lost == []


def test_a_topology_without_workers_is_reported_at_once_and_in_order():
    run = Run(ids(a=2, gone=3), ["a"], restarts=0)
    run.hear()
    run.hear()
    assert run.lost == ids(gone=3)
    run.until_the_end(in_turn())
    assert [test for test, _ in run.ran] == ids(a=2)


def test_when_no_worker_may_be_replaced_what_is_left_is_reported():
    run = Run(ids(a=5), ["a"], restarts=0)
    worker = run.active[0]
    while worker.at is None:
        run.hear() if run.told else worker.step()
    run.crash(worker)
    run.until_the_end(in_turn())
    assert (run.crashed, run.lost) == (["t0@a"], ["t1@a", "t2@a", "t3@a", "t4@a"])


@pytest.mark.parametrize(
    ("collected", "how"),
    [
        (["t0@a", "new@a"], "lacks 1, such as t1@a; adds 1, such as new@a"),
        (["t1@a", "t0@a"], "the same tests in another order"),
    ],
)
def test_a_worker_that_collects_something_else_gets_no_tests(collected, how):
    run = Run(ids(a=2), ["a", "a"], restarts=0)
    odd = run.active[1]
    run.told = deque((w, what, collected if w is odd and said else said) for w, what, said in run.told)
    run.until_the_end(in_turn())
    assert len(run.differing) == 1
    assert run.differing[0].startswith("gw1: ")
    assert how in run.differing[0]
    assert [test for test, _ in run.ran] == ids(a=2)


def test_a_replacement_that_collects_something_else_leaves_what_is_left_reported():
    run = Run(ids(a=4), ["a"], restarts=1)
    worker = run.active[0]
    while worker.at is None:
        run.hear() if run.told else worker.step()
    run.tests = [*run.tests, "new@a"]
    run.crash(worker)
    run.until_the_end(in_turn())
    assert len(run.differing) == 1
    assert (run.crashed, run.lost, run.ran) == (["t0@a"], ["t1@a", "t2@a", "t3@a"], [])


def test_a_test_that_another_plugin_wants_again_runs_again():
    run = Run(ids(a=6), ["a"], restarts=0)
    worker = run.active[0]
    while not run.ran:
        if run.told:
            run.hear()
        elif (told := worker.step()) is not None:
            run.told.append((worker, *told))
    run.scheduling.mark_test_pending("t0@a")
    run.until_the_end(in_turn())
    assert Counter(test for test, _ in run.ran) == {**dict.fromkeys(ids(a=6), 1), "t0@a": 2}
