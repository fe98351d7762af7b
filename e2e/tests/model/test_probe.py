import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import (
    Destination,
    Expectation,
    InputError,
    Outcome,
    OutcomeKind,
    Probe,
    Protocol,
    Target,
)


def outcome(kind, **more):
    return Outcome("p", OutcomeKind(kind), **more)


DENIALS = [
    (Protocol.TCP, outcome("timeout")),
    (Protocol.UDP, outcome("timeout")),
    (Protocol.ICMP, outcome("timeout")),
    (Protocol.HTTP, outcome("timeout")),
    (Protocol.HTTP, outcome("http", status=403)),
    (Protocol.DNS, outcome("dns", rcode="REFUSED")),
    (Protocol.DNS, outcome("timeout")),
]
NO_DENIALS = [
    (Protocol.TCP, outcome("refused")),
    (Protocol.TCP, outcome("reset")),
    (Protocol.TCP, outcome("unreachable")),
    (Protocol.TCP, outcome("connected")),
    (Protocol.TCP, outcome("infra_error")),
    (Protocol.HTTP, outcome("http", status=503)),
    (Protocol.DNS, outcome("dns", rcode="SERVFAIL")),
]


@pytest.mark.parametrize(("protocol", "seen"), DENIALS)
def test_what_a_denial_looks_like(protocol, seen):
    assert Expectation.parse("denied").met_by(protocol, seen)


@pytest.mark.parametrize(("protocol", "seen"), NO_DENIALS)
def test_what_is_no_denial(protocol, seen):
    assert not Expectation.parse("denied").met_by(protocol, seen)


@given(
    st.sampled_from(["connected", "denied", "unanswered", "timeout", "refused", "http(200)", "dns(NOERROR)"]),
    st.sampled_from(list(Protocol)),
)
def test_an_infra_error_meets_no_expectation(text, protocol):
    assert not Expectation.parse(text).met_by(protocol, outcome("infra_error"))


@pytest.mark.parametrize(
    ("text", "protocol", "seen"),
    [
        ("connected", Protocol.TCP, outcome("connected")),
        ("connected", Protocol.HTTP, outcome("http", status=204)),
        ("connected", Protocol.DNS, outcome("dns", rcode="NOERROR")),
        ("refused", Protocol.TCP, outcome("refused")),
        ("unanswered", Protocol.TCP, outcome("timeout")),
        ("unanswered", Protocol.UDP, outcome("refused")),
        ("unanswered", Protocol.HTTP, outcome("unreachable")),
        ("http(404)", Protocol.HTTP, outcome("http", status=404)),
        ("dns(NXDOMAIN)", Protocol.DNS, outcome("dns", rcode="NXDOMAIN")),
    ],
)
def test_exact_expectations(text, protocol, seen):
    assert Expectation.parse(text).met_by(protocol, seen)
    assert not Expectation.parse(text).met_by(protocol, outcome("reset"))


@pytest.mark.parametrize(
    ("protocol", "seen"),
    [
        (Protocol.TCP, outcome("connected")),
        (Protocol.HTTP, outcome("http", status=403)),
        (Protocol.HTTP, outcome("http", status=503)),
        (Protocol.DNS, outcome("dns", rcode="REFUSED")),
        (Protocol.TCP, outcome("reset")),
    ],
)
def test_what_somebody_answered(protocol, seen):
    assert not Expectation.parse("unanswered").met_by(protocol, seen)


@pytest.mark.parametrize("text", ["", "infra_error", "http", "http(x)", "dns()", "dropped", "Connected"])
def test_what_nobody_can_expect(text):
    with pytest.raises(InputError, match="expected one of"):
        Expectation.parse(text)


def test_a_probe_of_a_destination():
    probe = Probe.to(Target.pod("default", "a"), Destination.parse("default/demo:8080/TCP"))
    assert probe.id == "default/a → default/demo:8080/TCP"
    assert str(probe.destination) == "default/demo:8080/TCP"


def test_an_outcome_in_words():
    text = str(outcome("http", status=403, answered_by="x/a", elapsed_s=0.25, detail="Forbidden"))
    assert text == "http(403) by x/a after 0.250 s (Forbidden)"
    text = str(outcome("connected", answered_by="x/a", seen_from="10.0.0.1", elapsed_s=0.25))
    assert text == "connected by x/a seen from 10.0.0.1 after 0.250 s"
