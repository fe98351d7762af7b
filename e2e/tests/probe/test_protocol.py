"""What is sent is what was meant, and what comes back is read exactly."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilium_e2e.model import Outcome, OutcomeKind, Probe, Protocol, Request, StreamLost, Target
from cilium_e2e.probe import Answer, decode, decode_outcomes, encode_batch, encode_probe

SOURCE, TARGET = Target.pod("ns", "a"), Target.pod("ns", "b")
TEXT = st.text(max_size=30)
# A busy machine is no reason to fail.
patient = settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)


@st.composite
def outcomes(draw):
    kind = draw(st.sampled_from(OutcomeKind))
    return Outcome(
        probe_id="p",
        kind=kind,
        answered_by=draw(TEXT),
        source_ip=draw(TEXT),
        source_port=draw(st.integers(0, 65535)),
        destination_ip=draw(TEXT),
        seen_from=draw(TEXT),
        elapsed_s=draw(st.floats(0, 100)),
        status=draw(st.integers(100, 599)) if kind is OutcomeKind.HTTP else 0,
        rcode=draw(st.sampled_from(["NOERROR", "REFUSED"])) if kind is OutcomeKind.DNS else "",
        detail=draw(TEXT),
    )


def as_sent(outcome):
    names = [name for name in Outcome.__slots__ if name not in {"probe_id", "kind"}]
    raw = {name: value for name in names if (value := getattr(outcome, name))}
    return {"kind": outcome.kind.value, **raw}


@patient
@given(st.lists(outcomes(), max_size=5), st.integers(0, 10**9))
def test_outcomes_survive_the_way_back(sent, number):
    line = json.dumps({"v": 1, "id": number, "agent": "ns/a", "outcomes": [as_sent(o) for o in sent]})
    answer = decode(line)
    assert isinstance(answer, Answer)
    assert answer.id == number
    probes = [Probe("p", SOURCE, TARGET, Protocol.TCP, 1) for _ in sent]
    assert decode_outcomes(answer, probes) == sent


@patient
@given(
    TEXT | st.recursive(st.none() | st.integers() | TEXT, lambda x: st.dictionaries(TEXT, x)).map(json.dumps)
)
def test_no_other_line_is_mistaken_for_a_message(line):
    with pytest.raises(StreamLost, match="agent"):
        decode(line)


def test_a_batch_is_one_line_of_what_is_not_default():
    request = Request(method="PUT", path="/a\nb", headers=(("x", "y"),))
    http = Probe("h", SOURCE, TARGET, Protocol.HTTP, 80, request, 0.5)
    tcp = Probe("t", SOURCE, TARGET, Protocol.TCP, 81, Request(payload_bytes=9), source_port=4000)
    specs = [encode_probe(p, host="10.0.0.2", agent=p is tcp) for p in (http, tcp)]
    line = encode_batch(7, specs)
    assert "\n" not in line
    assert json.loads(line) == {
        "v": 1,
        "id": 7,
        "probes": [
            {
                "protocol": "http",
                "host": "10.0.0.2",
                "port": 80,
                "timeout": 0.5,
                "method": "PUT",
                "path": "/a\nb",
                "headers": [["x", "y"]],
            },
            {
                "protocol": "tcp",
                "host": "10.0.0.2",
                "port": 81,
                "timeout": 1.0,
                "source_port": 4000,
                "agent": True,
                "payload": 9,
            },
        ],
    }


def test_dns_probes_ask_a_server_or_the_own_resolver():
    server = Probe("s", SOURCE, TARGET, Protocol.DNS, 53, Request(name="one.example", record="AAAA"))
    spec = encode_probe(server, host="10.96.0.10", agent=True)
    assert (spec["host"], spec["name"], spec["record"]) == ("10.96.0.10", "one.example", "AAAA")
    own = Probe("o", SOURCE, Target.dns("two.example"), Protocol.DNS, 53)
    spec = encode_probe(own, host="two.example", agent=False)
    assert (spec["host"], spec["name"]) == ("", "two.example")


def test_names_are_searched_for_only_where_asked():
    probe = Probe("s", SOURCE, Target.dns("demo.ns"), Protocol.TCP, 80, Request(search=True))
    assert encode_probe(probe, host="demo.ns", agent=False)["search"] is True
    assert "search" not in encode_probe(replace(probe, request=Request()), host="demo.ns", agent=False)
