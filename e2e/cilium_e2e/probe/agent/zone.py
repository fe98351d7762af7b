"""A small authoritative name server: names that exist only for a test."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping

TTL_S = 1
"""Short, so that nothing between a test and its name remembers for long."""

_TYPES = {4: 1, 16: 28}  # length of an address to record type: A, AAAA
_NXDOMAIN, _REFUSED, _NOTIMP = 3, 5, 4


class Zone:
    """Names and their addresses. It answers for the domains its names lie in and refuses all others."""

    def __init__(self, records: Mapping[str, Iterable[str]]) -> None:
        self.records = {
            name.rstrip(".").lower(): [ipaddress.ip_address(address).packed for address in addresses]
            for name, addresses in records.items()
        }
        self.domains = {name.partition(".")[2] for name in self.records}

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Zone:
        """Read ``NAME=ADDRESS``, several times for several addresses; ``*.DOMAIN`` stands for any name there.

        Raises:
            ValueError: not of that form, or no address.
        """
        records: dict[str, list[str]] = {}
        for text in texts:
            name, equals, address = text.partition("=")
            if not equals:
                raise ValueError(f"expected NAME=ADDRESS, got {text!r}")
            records.setdefault(name, []).append(address)
        return cls(records)

    def answer(self, data: bytes) -> bytes | None:
        """The answer to a query; None for what is none."""
        try:
            flags, questions = struct.unpack_from("!HH", data, 2)
            at, labels = 12, []
            while data[at]:
                if data[at] > 63:
                    return None
                labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1").lower())
                at += 1 + data[at]
            kind, _ = struct.unpack_from("!HH", data, at + 1)
        except (IndexError, struct.error):
            return None
        if flags & 0x8000 or questions != 1:
            return None
        question = data[12 : at + 5]
        code, found = (_NOTIMP, []) if flags & 0x7800 else self.look_up(".".join(labels), kind)
        head = data[:2] + struct.pack("!HHHHH", 0x8400 | (flags & 0x0100) | code, 1, len(found), 0, 0)
        records = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, TTL_S, len(packed)) + packed for packed in found
        )
        return head + question + records

    def look_up(self, name: str, kind: int) -> tuple[int, list[bytes]]:
        """Response code and addresses."""
        domain = name.partition(".")[2]
        addresses = self.records.get(name, self.records.get(f"*.{domain}"))
        if addresses is not None:
            return 0, [packed for packed in addresses if _TYPES[len(packed)] == kind]
        known = any(name == known or name.endswith(f".{known}") for known in self.domains)
        return (_NXDOMAIN if known else _REFUSED), []
