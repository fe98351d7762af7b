"""DNS names and patterns of ``toFQDNs`` and DNS rules."""

from __future__ import annotations

import re
from functools import lru_cache

_CHARS = "[-a-zA-Z0-9_]"
_NAME = re.compile(r"[-a-zA-Z0-9_.]+")
_PATTERN = re.compile(r"[-a-zA-Z0-9_.*]+")
_ALL = re.compile(rf"({_CHARS}+[.])+|[.]")


def _rooted(name: str) -> str:
    return name if name.endswith(".") else name + "."


@lru_cache(maxsize=1024)
def _compile(pattern: str) -> re.Pattern[str]:
    text = pattern.strip().lower()
    if text == "*":
        return _ALL
    return re.compile(text.replace(".", "[.]").replace("*", f"{_CHARS}*"))


def matches(*, name: str, match_name: str = "", match_pattern: str = "") -> bool:
    """Whether a DNS name is selected; ``*`` in a pattern stops at dots, except as the whole pattern.

    Names are compared in lower case and with the root dot.
    """
    if match_name:
        pattern = _compile(_rooted(match_name))
    else:
        pattern = _compile(match_pattern if match_pattern == "*" else _rooted(match_pattern))
    return pattern.fullmatch(_rooted(name).lower()) is not None


def fault(match_name: str, match_pattern: str, *, exclusive: bool) -> str:
    """Why the agent refuses a selector; empty where it does not.

    Args:
        match_name: as the policy writes it.
        match_pattern: as the policy writes it.
        exclusive: whether both together are refused (``toFQDNs``), or not (DNS rules).
    """
    if exclusive and match_name and match_pattern:
        return "only one of MatchName or MatchPattern is allowed in an FQDNSelector"
    if match_name and not _NAME.fullmatch(match_name):
        return (
            f'Invalid characters in MatchName: "{match_name}". Only 0-9, a-z, A-Z and . and - characters are '
            "allowed"
        )
    if match_pattern and not _PATTERN.fullmatch(match_pattern):
        return (
            f'Invalid characters in MatchPattern: "{match_pattern}". Only 0-9, a-z, A-Z and ., - and * '
            "characters are allowed"
        )
    return ""
