"""Addresses of probes' targets over an API in memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from cilium_e2e.cluster.addresses import Addresses
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    KubeError,
    Object,
    ObjectList,
    Ref,
    Target,
)
from support.info import INFO
from support.memory import MemoryTransport, pod

A, B, ELSEWHERE = Target.parse("ns/a"), Target.parse("ns/b"), Target.parse("other/c")


class Gated(MemoryTransport):
    """Its first read waits until it is let go."""

    def __init__(self, *objects: Object) -> None:
        super().__init__(*objects)
        self.reading, self.let_go = threading.Event(), threading.Event()

    def list(
        self, ref: Ref, *, label_selector: str = "", limit: int = 0, continue_token: str = ""
    ) -> ObjectList:
        found = super().list(ref, label_selector=label_selector)
        self.reading.set()
        assert self.let_go.wait(5.0)
        return found


def service(name: str, ip: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ns"},
        "spec": {"clusterIP": ip},
    }


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport(
        pod("a", "ns", podIP="10.0.0.1"),
        pod("b", "ns", podIP="10.0.0.2"),
        pod("c", "other", podIP="10.0.0.3"),
        pod("pending", "ns", phase="Pending"),
        service("s", "10.96.0.1"),
        service("headless", "None"),
    )


@pytest.fixture
def addresses(api: MemoryTransport) -> Addresses:
    return of(api)


def of(api: MemoryTransport) -> Addresses:
    return Addresses(Kube(api, clock=api.clock), INFO)


def error(addresses: Addresses, text: str) -> ClusterStateError:
    found = addresses.look_up([Target.parse(text)])[Target.parse(text)]
    assert isinstance(found, ClusterStateError)
    return found


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ns/a", "10.0.0.1"),
        ("svc:ns/s", "10.96.0.1"),
        ("node:n1", "172.18.0.2"),
        ("world:one", "172.18.0.101"),
    ],
)
def test_the_address_to_dial(addresses: Addresses, text: str, address: str) -> None:
    target = Target.parse(text)
    assert addresses.look_up([target]) == {target: address}


@pytest.mark.parametrize("text", ["ns/pending", "svc:ns/headless", "node:bare", "node:ghost", "world:w"])
def test_what_has_none(addresses: Addresses, text: str) -> None:
    found = error(addresses, text)
    assert (found.message, found.place) == ("it has no address to dial", text)


def test_what_does_not_exist(addresses: Addresses, api: MemoryTransport) -> None:
    assert "ns/ghost" in str(error(addresses, "ns/ghost"))
    ghost = Target.parse("ns/ghost")
    both = addresses.look_up([A, ghost])
    assert both[A] == "10.0.0.1"
    missing = both[ghost]
    assert isinstance(missing, KubeError)
    assert (missing.not_found, missing.place) == (True, "ns/ghost")


def test_many_of_a_namespace_are_one_question(addresses: Addresses, api: MemoryTransport) -> None:
    found = addresses.look_up([A, B, ELSEWHERE])
    assert found == {A: "10.0.0.1", B: "10.0.0.2", ELSEWHERE: "10.0.0.3"}
    assert sorted(api.calls) == [("get", "Pod other/c"), ("list", "Pod ns/")]


def test_a_namespace_that_cannot_be_read_costs_its_own_targets_only(
    addresses: Addresses, api: MemoryTransport
) -> None:
    api.fail("list", KubeError(403, "Forbidden", "not yours"))
    found = addresses.look_up([A, B, ELSEWHERE])
    assert [str(found[A]), str(found[B]), found[ELSEWHERE]] == ["not yours", "not yours", "10.0.0.3"]


Found = Mapping[Target, str | ClusterStateError]


@contextmanager
def under_way() -> Iterator[tuple[Gated, Addresses, ThreadPoolExecutor, Future[Found]]]:
    """A first look at both pods, which waits until it is let go; and threads for others who ask."""
    api = Gated(pod("a", "ns", podIP="10.0.0.1"), pod("b", "ns", podIP="10.0.0.2"))
    addresses = of(api)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(addresses.look_up, [A, B])
        assert api.reading.wait(5.0)
        yield api, addresses, pool, first


def test_who_asks_meanwhile_joins_the_next_look_and_not_the_one_under_way() -> None:
    with under_way() as (api, addresses, pool, first):
        # What changes after the first look must be seen by whoever asks after the change.
        api.put(pod("a", "ns", podIP="10.0.0.9"))
        own = [Target.pod("ns", f"of-{number}") for number in range(5)]
        later = [pool.submit(addresses.look_up, [A, one]) for one in own]
        until(lambda: addresses._next is not None and addresses._next.targets >= set(own))
        api.let_go.set()
        assert first.result(5.0)[A] == "10.0.0.1"
        assert {str(one.result(5.0)[A]) for one in later} == {"10.0.0.9"}
    assert len(api.calls) == 2, "one look for the first, and one for all others"


def test_who_asks_a_moment_after_the_first_joins_the_first_look(api: MemoryTransport) -> None:
    addresses = Addresses(Kube(api, clock=api.clock), INFO, gather_s=2.0)
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(addresses.look_up, [A, B]) for _ in range(5)]
        assert {one.result(10.0)[A] for one in asked} == {"10.0.0.1"}
    assert api.calls == [("list", "Pod ns/")]


def test_a_look_that_breaks_is_an_error_for_all_who_waited() -> None:
    with under_way() as (api, addresses, pool, first):
        later = [pool.submit(addresses.look_up, [A, B]) for _ in range(2)]
        until(lambda: addresses._next is not None)
        addresses._kube = None  # type: ignore[assignment]  # any bug
        api.let_go.set()
        assert first.result(5.0)[A] == "10.0.0.1"
        ends = []
        for one in later:
            try:
                ends.append(str(one.result(5.0)[A]))
            except AttributeError:
                ends.append("raised")
    assert "raised" in ends
    assert set(ends) <= {"raised", "looking up addresses was given up"}


def test_who_is_interrupted_while_waiting_for_a_turn_leaves_nobody_waiting(
    addresses: Addresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted:
        def __enter__(self) -> None:
            raise KeyboardInterrupt

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(addresses, "_turn", Interrupted())
    with pytest.raises(KeyboardInterrupt):
        addresses.look_up([A])
    monkeypatch.undo()
    assert addresses.look_up([A]) == {A: "10.0.0.1"}, "a look that nobody makes would be waited for"


def until(true: Callable[[], bool]) -> None:
    """Wait for other threads."""
    for _ in range(500):
        if true():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come to be")
