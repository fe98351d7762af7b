"""Go's ways with text that show in the agent's messages: quoting, and numbers with a base prefix."""

from __future__ import annotations

import re

_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_UNSIGNED = re.compile(
    r"(?P<base>0[xX]|0[bB]|0[oO]|0(?=_?[0-9]))?_?(?P<digits>[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*)"
)
_BASES = {"0x": 16, "0b": 2, "0o": 8, "0": 8, "": 10}


def quote(text: str) -> str:
    """The text as ``%q`` prints it."""
    out = []
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif char.isprintable():
            out.append(char)
        elif ord(char) < 0x80:
            out.append(f"\\x{ord(char):02x}")
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return '"' + "".join(out) + '"'


class NumberError(ValueError):
    """A number that ``strconv`` refuses; the text is its own, ``value`` what it returns besides."""

    def __init__(self, text: str, reason: str, value: int) -> None:
        super().__init__(f"strconv.ParseUint: parsing {quote(text)}: {reason}")
        self.value = value


def parse_uint16(text: str) -> int:
    """A 16-bit unsigned number; ``0x``, ``0b``, ``0o`` and a plain leading ``0`` choose the base.

    Raises:
        NumberError: no number, or too large a one.
    """
    match = _UNSIGNED.fullmatch(text)
    base = match["base"] or "" if match is not None else ""
    # An underscore separates digits, or the base prefix from them.
    if match is None or (text.startswith("_") and not base):
        raise NumberError(text, "invalid syntax", 0)
    try:
        value = int(match["digits"].replace("_", ""), _BASES[base.lower()])
    except ValueError:
        raise NumberError(text, "invalid syntax", 0) from None
    if value > 0xFFFF:
        raise NumberError(text, "value out of range", 0xFFFF)
    return value


def port_number(text: str) -> int:
    """The number an unnamed port stands for, as the engine reads it after validation."""
    try:
        return parse_uint16(text)
    except NumberError as error:
        return error.value
