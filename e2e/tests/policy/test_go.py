"""Go's ways with text, numbers and expressions."""

import pytest

from cilium_e2e.policy.goregexp import regex_fault
from cilium_e2e.policy.gotext import NumberError, parse_uint16, quote


@pytest.mark.parametrize(
    ("text", "number"),
    [("80", 80), ("010", 8), ("0x50", 80), ("0b11", 3), ("0o17", 15), ("1_000", 1000), ("0", 0)],
)
def test_numbers_choose_their_base(text, number):
    assert parse_uint16(text) == number


@pytest.mark.parametrize(
    ("text", "reason", "value"),
    [
        ("70000", "value out of range", 0xFFFF),
        ("-1", "invalid syntax", 0),
        ("08", "invalid syntax", 0),
        ("_1", "invalid syntax", 0),
        ("", "invalid syntax", 0),
    ],
)
def test_what_is_no_port_number(text, reason, value):
    with pytest.raises(NumberError) as caught:
        parse_uint16(text)
    assert str(caught.value) == f'strconv.ParseUint: parsing "{text}": {reason}'
    assert caught.value.value == value


def test_quoting():
    assert quote('a"b\\\n\x01é') == '"a\\"b\\\\\\n\\x01é"'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a++", "invalid nested repetition operator: `++`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        ("\\", "trailing backslash at end of expression: ``"),
    ],
)
def test_expressions_the_agent_refuses(text, reason):
    assert regex_fault(text) == f"error parsing regexp: {reason}"


@pytest.mark.parametrize("text", ["", "/a.*", "GET|POST", "(?<n>a)", "(?P<n>a)", "[*+]", r"a\++", "a{2,}"])
def test_expressions_the_agent_takes(text):
    assert regex_fault(text) == ""
