"""Texts that every format can carry: bounded, and without what UTF-8 or a URL's reader must not see."""

from __future__ import annotations

import re

_USER = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*://)[^/@\s?#]+@")
_QUERY = re.compile(r"(?P<before>[a-zA-Z][a-zA-Z0-9+.-]*://[^\s?#]*)\?[^\s#]*")


def bounded(text: str, limit: int) -> str:
    """The text, or its beginning and end where it is longer than ``limit`` characters."""
    if len(text) <= limit:
        return text
    left_out = f" … {len(text) - limit} characters left out … "
    tail = limit // 3
    return text[: limit - tail] + left_out + text[len(text) - tail :]


def clean(text: str) -> str:
    """The text with what UTF-8 cannot carry (lone surrogates) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def without_secrets(text: str) -> str:
    """The text with the user information and the query of each URL replaced: tokens travel there."""
    return _QUERY.sub(r"\g<before>?REDACTED", _USER.sub(r"\g<scheme>REDACTED@", text))
