"""Addresses and prefixes as Cilium's policies name them, with the agent's reasons for refusing one.

The agent parses with Go's ``net/netip``, which is stricter than Python's ``ipaddress`` in some places
(no netmasks, no zones in prefixes) and laxer in none, so the refusals are worded here.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TypeAlias

from cilium_e2e.policy.gotext import quote

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV4_FIELDS = 4
_IPV6_FIELDS = 8
_HEX_DIGITS = re.compile("[0-9a-fA-F]+")
_MAX_GROUP_DIGITS = 4
_MAX_LENGTH_DIGITS = 3


class AddressError(ValueError):
    """An address or prefix that netip refuses; the text is the agent's."""


def _address_error(text: str, reason: str, at: str = "") -> AddressError:
    where = f" (at {quote(at)})" if at else ""
    return AddressError(f"ParseAddr({quote(text)}): {reason}{where}")


def _check_ipv4(text: str) -> None:
    """Refuse what is no dotted quad, with the reason netip gives."""
    fields = 0
    value = 0
    digits = 0
    for position, char in enumerate(text):
        if "0" <= char <= "9":
            if digits == 1 and value == 0:
                raise _address_error(text, "IPv4 field has octet with leading zero")
            value = value * 10 + int(char)
            digits += 1
            if value > 255:
                raise _address_error(text, "IPv4 field has value >255")
        elif char == ".":
            if position in (0, len(text) - 1) or text[position - 1] == ".":
                raise _address_error(text, "IPv4 field must have at least one digit", text[position:])
            if fields == _IPV4_FIELDS - 1:
                raise _address_error(text, "IPv4 address too long")
            fields, value, digits = fields + 1, 0, 0
        else:
            raise _address_error(text, "unexpected character", text[position:])
    if fields < _IPV4_FIELDS - 1:
        raise _address_error(text, "IPv4 address too short")


def _group(text: str, rest: str) -> str:
    """The hexadecimal digits that ``rest`` starts with."""
    digits = _HEX_DIGITS.match(rest)
    if digits is None:
        raise _address_error(text, "each colon-separated field must have at least one digit", rest)
    if len(digits.group()) > _MAX_GROUP_DIGITS:
        raise _address_error(text, "each group must have 4 or less digits", rest)
    return digits.group()


def _after_group(text: str, rest: str, *, ellipsis: bool) -> tuple[str, bool]:
    """What follows a group and its colon, and whether ``::`` was met by then."""
    if not rest:
        return rest, ellipsis
    if rest[0] != ":":
        raise _address_error(text, "unexpected character, want colon", rest)
    if len(rest) == 1:
        raise _address_error(text, "colon must be followed by more characters", rest)
    if rest[1] != ":":
        return rest[1:], ellipsis
    if ellipsis:
        raise _address_error(text, "multiple :: in address", rest[1:])
    return rest[2:], True


def _check_ipv6(text: str, body: str) -> None:
    """Refuse what is no IPv6 address, with the reason netip gives.

    Args:
        text: the whole text, for the message.
        body: the text without its zone.
    """
    rest, fields = body.removeprefix("::"), 0
    ellipsis = rest != body
    while rest and fields < _IPV6_FIELDS:
        word = _group(text, rest)
        if rest[len(word) : len(word) + 1] == ".":
            _check_embedded(text, rest, fields=fields, ellipsis=ellipsis)
            rest, fields = "", fields + 2
        else:
            rest, ellipsis = _after_group(text, rest[len(word) :], ellipsis=ellipsis)
            fields += 1
    if rest:
        raise _address_error(text, "trailing garbage after address", rest)
    if fields < _IPV6_FIELDS and not ellipsis:
        raise _address_error(text, "address string too short")
    if fields == _IPV6_FIELDS and ellipsis:
        raise _address_error(text, "the :: must expand to at least one field of zeros")


def _check_embedded(text: str, rest: str, *, fields: int, ellipsis: bool) -> None:
    """Refuse an IPv4 ending that does not fit, or is none."""
    if not ellipsis and fields != _IPV6_FIELDS - 2:
        raise _address_error(
            text, "embedded IPv4 address must replace the final 2 fields of the address", rest
        )
    if fields > _IPV6_FIELDS - 2:
        raise _address_error(
            text, "too many hex fields to fit an embedded IPv4 at the end of the address", rest
        )
    try:
        _check_ipv4(rest)
    except AddressError as error:
        reason = str(error).partition("): ")[2]
        raise AddressError(f"ParseAddr({quote(text)}): {reason}") from None


def parse_address(text: str) -> Address:
    """An address without prefix length; an IPv6 zone is read and dropped.

    Raises:
        AddressError: netip would refuse it.
    """
    kind = next((char for char in text if char in ".:%"), "")
    if kind == "%":
        raise _address_error(text, "missing IPv6 address")
    if not kind:
        raise _address_error(text, "unable to parse IP")
    if kind == ".":
        _check_ipv4(text)
        return ipaddress.IPv4Address(text)
    body, percent, zone = text.partition("%")
    if percent and not zone:
        raise _address_error(text, "zone must be a non-empty string")
    _check_ipv6(text, body)
    try:
        return ipaddress.IPv6Address(body)
    except ValueError:
        raise _address_error(text, "unable to parse IP") from None


@lru_cache(maxsize=4096)
def parse_prefix(text: str) -> Network:
    """A prefix ``address/length``; host bits are cut off.

    Raises:
        AddressError: netip would refuse it.
    """

    def refuse(reason: str) -> AddressError:
        return AddressError(f"netip.ParsePrefix({quote(text)}): {reason}")

    head, slash, tail = text.rpartition("/")
    if not slash:
        raise refuse("no '/'")
    try:
        address = parse_address(head)
    except AddressError as error:
        raise refuse(str(error)) from None
    if "%" in head:
        raise refuse("IPv6 zones cannot be present in a prefix")
    if not (tail.isascii() and tail.isdigit()) or (len(tail) > 1 and tail[0] == "0"):
        raise refuse(f"bad bits after slash: {quote(tail)}")
    if len(tail) > _MAX_LENGTH_DIGITS or int(tail) > address.max_prefixlen:
        raise refuse("prefix length out of range")
    return ipaddress.ip_network((address, int(tail)), strict=False)


def parse_lenient(text: str) -> Network | None:
    """A prefix, or an address as its full-length prefix; None for anything else."""
    try:
        if "/" in text:
            return parse_prefix(text)
        return ipaddress.ip_network(parse_address(text))
    except ValueError:
        return None


def covers(wide: Network, narrow: Network) -> bool:
    """Whether ``narrow`` lies inside ``wide``; never across address families."""
    if wide.version != narrow.version or wide.prefixlen > narrow.prefixlen:
        return False
    shift = wide.max_prefixlen - wide.prefixlen
    return int(wide.network_address) >> shift == int(narrow.network_address) >> shift


def _label_key(address: str, length: int) -> str:
    if ":" in address:
        address = ("0" if address.startswith(":") else "") + address + ("0" if address.endswith(":") else "")
        address = address.replace(":", "-")
    return f"{address}/{length}"


def label_key(network: Network) -> str:
    """The prefix as the key of a ``cidr`` label: colons become dashes, and no dash stands at an end."""
    return _label_key(str(network.network_address), network.prefixlen)


def label_key_of(text: str) -> str:
    """The ``cidr`` label key of a prefix or address as written; a plain address keeps its spelling.

    Raises:
        AddressError: it is neither.
    """
    if "/" in text:
        return label_key(parse_prefix(text))
    return _label_key(text, parse_address(text).max_prefixlen)


def parse_label_text(text: str) -> Network | None:
    """The prefix behind the key of a ``cidr`` label; None where the key is none."""
    return parse_lenient(text.replace("-", ":")) if "/" in text else None
