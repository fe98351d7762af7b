"""The batch client over streams that break."""

from __future__ import annotations

import json

import pytest

from cilium_e2e.model import (
    InputError,
    KubeError,
    OutcomeKind,
    Probe,
    Protocol,
    StreamLost,
    Target,
    WaitTimeout,
)
from cilium_e2e.probe import BatchClient, known_agent

HELLO = '{"v":1,"hello":"ns/a","python":"3.13.1"}'
SOURCE, TARGET = Target.pod("ns", "a"), Target.pod("ns", "b")


def probe(name="p", *, source=SOURCE, target=TARGET):
    return Probe(name, source, target, Protocol.TCP, 8080)


def good(line):
    message = json.loads(line)
    outcomes = [{"kind": "connected", "answered_by": "ns/b"} for _ in message["probes"]]
    yield json.dumps({"v": 1, "id": message["id"], "agent": "ns/a", "outcomes": outcomes})


def client_of(*streams, **options):
    waiting = list(streams)

    def open_stream():
        stream = waiting.pop(0)
        if isinstance(stream, Exception):
            raise stream
        return stream

    return BatchClient(open_stream, SOURCE, lambda targets: dict.fromkeys(targets, "10.0.0.2"), **options)


def test_one_stream_serves_many_batches(script):
    stream = script(good, HELLO)
    client = client_of(stream)
    assert client.run([]) == []
    for _ in range(3):
        assert [o.kind for o in client.run([probe("x"), probe("y")])] == [OutcomeKind.CONNECTED] * 2
    assert [json.loads(line)["id"] for line in stream.sent] == [1, 2, 3]
    assert client.reopened == 0
    client.close()
    client.close()
    assert stream.closed


def test_an_empty_batch_starts_the_agent(script):
    opened = []
    stream = script(good, HELLO)

    def open_stream():
        opened.append(stream)
        return stream

    client = BatchClient(open_stream, SOURCE, lambda targets: dict.fromkeys(targets, "10.0.0.2"))
    assert client.run([]) == []
    assert (len(opened), stream.sent) == (1, [])
    client.run([probe()])
    client.run([])
    assert len(opened) == 1


def test_an_agent_that_did_not_start_is_started_by_the_next_batch_and_that_is_counted(script):
    client = client_of(StreamLost("no route"), script(good, HELLO))
    assert client.run([]) == []
    assert client.reopened == 1
    assert [o.kind for o in client.run([probe()])] == [OutcomeKind.CONNECTED]
    assert client.reopened == 1


BROKEN = {
    "the stream is lost": lambda line: iter([StreamLost("connection reset")]),
    "the agent dies": lambda line: iter([None]),
    "garbage": lambda line: iter(["Traceback (most recent call last):"]),
    "another kind of line": lambda line: iter(['{"v":1,"what":1}']),
    "no object": lambda line: iter(["[1]"]),
    "a hello again": lambda line: iter([HELLO]),
    "an answer from the future": lambda line: iter(['{"v":1,"id":99,"agent":"ns/a","outcomes":[]}']),
    "too few outcomes": lambda line: iter(['{"v":1,"id":1,"agent":"ns/a","outcomes":[]}']),
    "an unknown kind": lambda line: iter(['{"v":1,"id":1,"agent":"ns/a","outcomes":[{"kind":"dropped"}]}']),
    "a wrong type": lambda line: iter(
        ['{"v":1,"id":1,"agent":"ns/a","outcomes":[{"kind":"timeout","source_port":"x"}]}']
    ),
    "a status that is no status": lambda line: iter(
        ['{"v":1,"id":1,"agent":"ns/a","outcomes":[{"kind":"timeout","status":403}]}']
    ),
    "a code that is no code": lambda line: iter(
        ['{"v":1,"id":1,"agent":"ns/a","outcomes":[{"kind":"dns"}]}']
    ),
    "a refused batch": lambda line: iter(['{"v":1,"id":null,"agent":"ns/a","error":"malformed batch"}']),
    "silence": lambda line: iter([]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_stream_is_reopened_and_the_batch_sent_once_more(script, broken):
    first, second = script(broken, HELLO), script(good, HELLO)
    client = client_of(first, second)
    assert client.run([probe()])[0].kind is OutcomeKind.CONNECTED
    assert first.closed
    assert client.reopened == 1
    assert client.run([probe()])[0].kind is OutcomeKind.CONNECTED


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_broken_twice_is_an_error_of_the_run_with_its_cause(script, broken):
    client = client_of(script(broken, HELLO), script(broken, HELLO), script(good, HELLO))
    outcomes = client.run([probe("x"), probe("y")])
    assert [o.kind for o in outcomes] == [OutcomeKind.INFRA_ERROR] * 2
    assert [o.probe_id for o in outcomes] == ["x", "y"]
    assert "ns/a" in outcomes[0].detail
    assert client.run([probe()])[0].kind is OutcomeKind.CONNECTED


def test_both_causes_are_told(script):
    client = client_of(
        script(BROKEN["the agent dies"], HELLO), KubeError(404, "NotFound", "no such pod", place="Pod ns/a")
    )
    detail = client.run([probe()])[0].detail
    assert "ended with code 137: Killed" in detail
    assert "again: Pod ns/a: no such pod" in detail


@pytest.mark.parametrize(
    ("hello", "cause"),
    [
        ('{"v":2,"hello":"ns/a"}', "speaks version 2"),
        ('{"v":1,"id":1,"agent":"ns/a","outcomes":[]}', "expected the agent's hello"),
        ("sh: python3: not found", "no JSON"),
    ],
)
def test_an_agent_that_does_not_introduce_itself(script, hello, cause):
    client = client_of(script(good, hello), script(good, hello))
    outcome = client.run([probe()])[0]
    assert outcome.kind is OutcomeKind.INFRA_ERROR
    assert cause in outcome.detail


def test_answers_of_older_batches_are_skipped(script):
    def late(line):
        number = json.loads(line)["id"]
        if number == 1:
            yield WaitTimeout("slow")
        else:
            yield '{"v":1,"id":1,"agent":"ns/a","outcomes":[{"kind":"timeout"}]}'
            yield from good(line)

    client = client_of(script(late, HELLO), script(late, HELLO))
    assert client.run([probe()])[0].kind is OutcomeKind.CONNECTED


def test_a_target_without_an_address_fails_alone(script):
    def resolve(targets):
        gone = KubeError(404, "NotFound", "no such pod")
        return {target: gone if target.name == "gone" else "10.0.0.2" for target in targets}

    client = BatchClient(lambda: script(good, HELLO), SOURCE, resolve)
    gone, found = client.run([probe("x", target=Target.pod("ns", "gone")), probe("y")])
    assert (gone.kind, found.kind) == (OutcomeKind.INFRA_ERROR, OutcomeKind.CONNECTED)
    assert "no address for ns/gone" in gone.detail


def test_what_is_wrong_with_a_batch_is_said_before_anything_is_sent(script):
    stream = script(good, HELLO)
    client = client_of(stream)
    for batch in (
        [probe("x"), probe("x")],
        [probe(source=Target.pod("ns", "else"))],
        [Probe("d", SOURCE, TARGET, Protocol.DNS, 53)],
    ):
        with pytest.raises(InputError):
            client.run(batch)
    assert stream.sent == []


def test_the_limit_grows_with_the_probes(script):
    limits = []

    class Timed(script):
        def read_line(self, *, timeout_s):
            limits.append(timeout_s)
            return super().read_line(timeout_s=timeout_s)

    client = client_of(Timed(good, HELLO), margin_s=3.0, hello_timeout_s=7.0)
    client.run([probe(str(n)) for n in range(1025)])
    assert limits == [7.0, pytest.approx(6.0, abs=0.5)]


def test_a_real_agent_that_is_killed_is_started_again(loopback):
    tcp = loopback.probe(Protocol.TCP)
    assert loopback.client.run([tcp])[0].kind is OutcomeKind.CONNECTED
    loopback.streams[0].process.kill()
    assert loopback.client.run([tcp])[0].kind is OutcomeKind.CONNECTED
    assert loopback.client.reopened == 1
    assert len(loopback.streams) == 2


@pytest.mark.parametrize(
    ("target", "protocol", "port", "agent"),
    [
        ("ns/b", Protocol.TCP, 1, True),
        ("world:one", Protocol.HTTP, 8081, True),
        ("node:n1", Protocol.TCP, 18080, True),
        ("node:n1", Protocol.UDP, 18080, True),
        ("node:n1", Protocol.HTTP, 18081, True),
        ("node:n1", Protocol.TCP, 30080, False),
        ("node:n1", Protocol.UDP, 18081, False),
        ("node:n1", Protocol.TCP, 10250, False),
        ("svc:ns/s", Protocol.TCP, 18080, False),
        ("dns:one.e2e.test", Protocol.TCP, 8080, False),
    ],
)
def test_who_is_known_to_be_an_agent(target, protocol, port, agent):
    """On other ports of a node something else answers, and a handshake with it is an answer."""
    assert known_agent(Probe("p", SOURCE, Target.parse(target), protocol, port)) is agent
