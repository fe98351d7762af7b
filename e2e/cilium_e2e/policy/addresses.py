"""Addresses and prefixes as Cilium's policies name them, with the agent's reasons for refusing one.

The agent parses with Go's ``net/netip``, which is stricter than Python's ``ipaddress`` in some places
(no netmasks, no zones in prefixes) and laxer in none, so the refusals are worded here.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TypeAlias

from cilium_e2e.policy.gotext import quote

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV4_FIELDS = 4
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


def parse_address(text: str) -> Address:
    """An address without prefix length.

    Raises:
        AddressError: netip would refuse it.
    """
    kind = next((char for char in text if char in ".:%"), "")
    if kind == "%":
        raise _address_error(text, "missing IPv6 address")
    if kind == ".":
        _check_ipv4(text)
    if not kind:
        raise _address_error(text, "unable to parse IP")
    try:
        return ipaddress.ip_address(text)
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
