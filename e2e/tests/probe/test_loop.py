"""The agent's scheduler: waits for sockets, deadlines, and fairness between the two."""

from __future__ import annotations

import os
import socket
import time

import pytest

from cilium_e2e.probe.agent.loop import READ, WRITE, Loop, ready, ready_fd


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        a.settimeout(0)
        b.settimeout(0)
        yield a, b


def run(loop, *coroutines):
    for coroutine in coroutines:
        loop.spawn(coroutine)
    loop.run()


def test_it_ends_when_nothing_is_left(loop):
    run(loop)


def test_whoever_waits_goes_on_when_the_socket_is_ready(loop, pair):
    a, b = pair
    seen = []

    async def reader():
        late = await ready(a, time.monotonic() + 10)
        seen.append((late, a.recv(10)))

    async def writer():
        late = await ready(b, write=True)
        seen.append((late, b.send(b"hello")))

    run(loop, reader(), writer())
    assert seen == [(False, 5), (False, b"hello")]


def test_a_deadline_ends_a_wait_and_only_that(loop, pair):
    a, b = pair
    order = []

    async def waits(sock, seconds):
        begun = time.monotonic()
        late = await ready(sock, begun + seconds)
        order.append((seconds, late))
        assert time.monotonic() - begun >= seconds

    run(loop, waits(a, 0.2), waits(b, 0.1))
    assert order == [(0.1, True), (0.2, True)]


def test_the_deadline_of_a_wait_that_is_over_wakes_nobody(loop, pair):
    """Both waits are for the same descriptor, and the first one's deadline passes during the second."""
    a, b = pair
    b.send(b"x")
    late = []

    async def twice():
        late.append(await ready(a, time.monotonic() + 0.05))
        a.recv(1)
        late.append(await ready(a, time.monotonic() + 0.3))

    begun = time.monotonic()
    run(loop, twice())
    assert late == [False, True]
    assert time.monotonic() - begun >= 0.3


def test_a_descriptor_that_is_used_again_is_another_wait(loop):
    """Closing a socket frees its number, which the next socket gets at once."""

    async def one_after_the_other():
        for text in (b"first", b"second"):
            a, b = socket.socketpair()
            with a, b:
                b.send(text)
                assert not await ready(a, time.monotonic() + 10)
                assert a.recv(10) == text

    run(loop, one_after_the_other())


def test_either_of_two_events_ends_a_wait(loop, pair):
    a, _ = pair
    seen = []

    async def both():
        seen.append(await ready_fd(a.fileno(), time.monotonic() + 10, READ | WRITE))

    run(loop, both())
    assert seen == [False]


def test_a_plain_file_is_always_ready(loop, tmp_path):
    (tmp_path / "file").write_text("text")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    seen = []

    async def reads():
        await ready_fd(fd, None, READ)
        seen.append(os.read(fd, 10))

    run(loop, reads())
    os.close(fd)
    assert seen == [b"text"]


def test_what_is_spawned_by_another_runs_too(loop, pair):
    seen = []

    async def child(number):
        seen.append(number)

    async def parent():
        for number in range(40):
            loop.spawn(child(number))

    run(loop, parent())
    assert seen == list(range(40))


def test_answers_are_heard_before_all_have_begun(loop, pair):
    """A probe's time counts from its own start, and is not to count the start of a thousand others."""
    a, b = pair
    b.send(b"x")
    begun = []

    async def asker():
        await ready(a)
        begun.append("answer")

    async def other():
        begun.append("other")

    run(loop, asker(), *(other() for _ in range(200)))
    assert begun.index("answer") < 100


def test_what_goes_wrong_in_one_is_not_swallowed(loop):
    async def breaks():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(loop, breaks())
