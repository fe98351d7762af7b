"""One batch by a process of its own: the agent's ``once``, as an exec starts it."""

from __future__ import annotations

import pytest

from cilium_e2e.model import OutcomeKind, Protocol
from cilium_e2e.probe import Answer, decode, decode_outcomes, encode_batch, encode_probe


def ask(start, line):
    process = start("once", line, name="here/asker")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    answer = decode(out.decode())
    assert isinstance(answer, Answer)
    return answer


@pytest.mark.parametrize("protocol", [Protocol.TCP, Protocol.HTTP])
def test_it_answers_as_a_batch_does_and_ends(start, loopback, protocol):
    probe = loopback.probe(protocol)
    answer = ask(start, encode_batch(1, [encode_probe(probe, host="127.0.0.1", agent=True)]))
    (outcome,) = decode_outcomes(answer, [probe])
    assert outcome.connected
    assert outcome.answered_by == loopback.name
    assert outcome.kind is loopback.ask(protocol).kind
    assert answer.agent == "here/asker"


def test_a_closed_port_is_an_outcome_and_no_error_of_the_command(start, loopback):
    probe = loopback.probe(Protocol.TCP, port=1)
    answer = ask(start, encode_batch(1, [encode_probe(probe, host="127.0.0.1", agent=True)]))
    assert decode_outcomes(answer, [probe])[0].kind is OutcomeKind.REFUSED


def test_what_is_no_batch_is_told(start):
    answer = ask(start, "nonsense")
    assert answer.error.startswith("malformed batch")
