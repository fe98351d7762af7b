"""Port names, protocols and ICMP types, as the engine reads them."""

from __future__ import annotations

import re
from typing import Final

ANY: Final = 0
ICMP: Final = 1
TCP: Final = 6
UDP: Final = 17
ICMPV6: Final = 58
SCTP: Final = 132

PROTOCOLS: Final = {"TCP": TCP, "UDP": UDP, "SCTP": SCTP, "ICMP": ICMP, "ICMPV6": ICMPV6}
"""Protocol names in upper case to IP protocol numbers."""

NAMES: Final = {TCP: "TCP", UDP: "UDP", SCTP: "SCTP", ICMP: "ICMP", ICMPV6: "ICMPv6", ANY: "ANY"}

_SERVICE_NAME = re.compile(r"(?=.{1,15}$)(?=.*[a-zA-Z])[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*")

_ICMP4_TYPES: Final = {
    "EchoReply": 0,
    "DestinationUnreachable": 3,
    "Redirect": 5,
    "Echo": 8,
    "EchoRequest": 8,
    "RouterAdvertisement": 9,
    "RouterSelection": 10,
    "TimeExceeded": 11,
    "ParameterProblem": 12,
    "Timestamp": 13,
    "TimestampReply": 14,
    "Photuris": 40,
    "ExtendedEchoRequest": 42,
    "ExtendedEchoReply": 43,
}
_ICMP6_TYPES: Final = {
    "DestinationUnreachable": 1,
    "PacketTooBig": 2,
    "TimeExceeded": 3,
    "ParameterProblem": 4,
    "EchoRequest": 128,
    "EchoReply": 129,
    "MulticastListenerQuery": 130,
    "MulticastListenerReport": 131,
    "MulticastListenerDone": 132,
    "RouterSolicitation": 133,
    "RouterAdvertisement": 134,
    "NeighborSolicitation": 135,
    "NeighborAdvertisement": 136,
    "RedirectMessage": 137,
    "RouterRenumbering": 138,
    "ICMPNodeInformationQuery": 139,
    "ICMPNodeInformationResponse": 140,
    "InverseNeighborDiscoverySolicitation": 141,
    "InverseNeighborDiscoveryAdvertisement": 142,
    "HomeAgentAddressDiscoveryRequest": 144,
    "HomeAgentAddressDiscoveryReply": 145,
    "MobilePrefixSolicitation": 146,
    "MobilePrefixAdvertisement": 147,
    "DuplicateAddressRequestCodeSuffix": 157,
    "DuplicateAddressConfirmationCodeSuffix": 158,
    "ExtendedEchoRequest": 160,
    "ExtendedEchoReply": 161,
}


def is_service_name(text: str) -> bool:
    """Whether a port is a name (an IANA service name) rather than a number."""
    return _SERVICE_NAME.fullmatch(text) is not None


def icmp_types(family: str) -> dict[str, int]:
    """ICMP type names to numbers, for ``IPv6`` or for any other family."""
    return _ICMP6_TYPES if family == "IPv6" else _ICMP4_TYPES


def _atoi(text: str) -> int:
    try:
        return int(text) if re.fullmatch(r"[+-]?[0-9]+", text) else 0
    except ValueError:
        return 0


def icmp_fault(kind: int | str | None, family: str) -> str:
    """Why an ICMP type cannot be read; empty where it can."""
    if kind is None:
        return "ICMP type is missing"
    text = str(kind)
    if text != "0" and _atoi(text) == 0 and text not in icmp_types(family):
        return f"ICMP type {text} not found in {family}"
    return ""


def protocol_fault(text: str) -> str:
    """Why a protocol of ``toPorts`` is refused; empty where it is not."""
    upper = text.upper()
    if upper in ("", "ANY", "TCP", "UDP", "SCTP"):
        return ""
    from_text = upper
    return f'invalid protocol "{from_text}", must be {{ tcp | udp | sctp | any }}'
