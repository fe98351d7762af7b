import ipaddress

import pytest

from cilium_e2e.policy.addresses import (
    AddressError,
    covers,
    label_key_of,
    parse_address,
    parse_label_text,
    parse_lenient,
    parse_prefix,
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1.2.3", 'ParseAddr("1.2.3"): IPv4 address too short'),
        ("1.2.3.4.5", 'ParseAddr("1.2.3.4.5"): IPv4 address too long'),
        ("1.2.3.256", 'ParseAddr("1.2.3.256"): IPv4 field has value >255'),
        ("01.2.3.4", 'ParseAddr("01.2.3.4"): IPv4 field has octet with leading zero'),
        ("1..2.3", 'ParseAddr("1..2.3"): IPv4 field must have at least one digit (at ".2.3")'),
        ("a.b.c.d", 'ParseAddr("a.b.c.d"): unexpected character (at "a.b.c.d")'),
        ("moon", 'ParseAddr("moon"): unable to parse IP'),
        ("1:2", 'ParseAddr("1:2"): address string too short'),
        ("1::2::3", 'ParseAddr("1::2::3"): multiple :: in address (at ":3")'),
        ("::12345", 'ParseAddr("::12345"): each group must have 4 or less digits (at "12345")'),
        ("::1%", 'ParseAddr("::1%"): zone must be a non-empty string'),
    ],
)
def test_a_malformed_address_is_refused_in_the_agents_words(text, reason):
    with pytest.raises(AddressError) as caught:
        parse_address(text)
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1.2.3.4", "no '/'"),
        ("1.2.3.4/33", "prefix length out of range"),
        ("1.2.3.4/08", 'bad bits after slash: "08"'),
        ("1.2.3.4/-1", 'bad bits after slash: "-1"'),
        ("::1%eth0/64", "IPv6 zones cannot be present in a prefix"),
    ],
)
def test_a_malformed_prefix_is_refused_in_the_agents_words(text, reason):
    with pytest.raises(AddressError) as caught:
        parse_prefix(text)
    assert str(caught.value) == f'netip.ParsePrefix("{text}"): {reason}'


def test_host_bits_of_a_prefix_are_cut_off():
    assert str(parse_prefix("203.0.113.77/25")) == "203.0.113.0/25"


@pytest.mark.parametrize("text", ["203.0.113.0/24", "2001:db8::/32", "::/0", "::1/128", "fe80::/10"])
def test_label_keys_name_their_prefix(text):
    assert parse_label_text(label_key_of(text)) == ipaddress.ip_network(text)
    assert not label_key_of(text).startswith("-")


def test_prefixes_of_two_families_never_cover_each_other():
    assert not covers(parse_prefix("0.0.0.0/0"), parse_prefix("::/0"))
    assert covers(parse_prefix("10.0.0.0/8"), parse_prefix("10.1.0.0/16"))
    assert not covers(parse_prefix("10.1.0.0/16"), parse_prefix("10.0.0.0/8"))


def test_lenient_reading_takes_addresses_and_gives_up_quietly():
    assert str(parse_lenient("203.0.113.7")) == "203.0.113.7/32"
    assert parse_lenient("moon") is None
