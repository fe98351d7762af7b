"""Kubernetes' rules for label names and values, with the messages of its validation library."""

from __future__ import annotations

import re
from functools import lru_cache

_NAME_FORMAT = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_NAME = re.compile(_NAME_FORMAT)
_CHARSET = (
    "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character"
)
_NAME_MESSAGE = (
    f"must {_CHARSET} (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    f"'{_NAME_FORMAT}')"
)
_VALUE_MESSAGE = (
    f"a valid label must be an empty string or {_CHARSET} (e.g. 'MyValue',  or 'my_value',  or '12345', "
    f"regex used for validation is '({_NAME_FORMAT})?')"
)
_SUBDOMAIN_FORMAT = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN = re.compile(_SUBDOMAIN_FORMAT)
_SUBDOMAIN_MESSAGE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must "
    f"start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    f"'{_SUBDOMAIN_FORMAT}')"
)
_MAX_NAME = 63
_MAX_SUBDOMAIN = 253


def _length(text: str) -> int:
    """The length in bytes; text from JSON may hold lone surrogates."""
    return len(text.encode(errors="surrogatepass"))


def _subdomain_faults(text: str) -> list[str]:
    faults = []
    if _length(text) > _MAX_SUBDOMAIN:
        faults.append(f"must be no more than {_MAX_SUBDOMAIN} characters")
    if not _SUBDOMAIN.fullmatch(text):
        faults.append(_SUBDOMAIN_MESSAGE)
    return faults


@lru_cache(maxsize=8192)
def name_faults(text: str) -> tuple[str, ...]:
    """What is wrong with a label name (``prefix/name`` or ``name``); empty where nothing is."""
    prefix, slash, name = text.partition("/")
    if "/" in name:
        shape = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        return (f"a qualified name {_NAME_MESSAGE} {shape}",)
    faults: list[str] = []
    if not slash:
        name = prefix
    elif not prefix:
        faults.append("prefix part must be non-empty")
    else:
        faults.extend(f"prefix part {fault}" for fault in _subdomain_faults(prefix))
    if not name:
        faults.append("name part must be non-empty")
    elif _length(name) > _MAX_NAME:
        faults.append(f"name part must be no more than {_MAX_NAME} characters")
    if not _NAME.fullmatch(name):
        faults.append(f"name part {_NAME_MESSAGE}")
    return tuple(faults)


@lru_cache(maxsize=8192)
def value_faults(text: str) -> tuple[str, ...]:
    """What is wrong with a label value; empty where nothing is."""
    faults: list[str] = []
    if _length(text) > _MAX_NAME:
        faults.append(f"must be no more than {_MAX_NAME} characters")
    if text and not _NAME.fullmatch(text):
        faults.append(_VALUE_MESSAGE)
    return tuple(faults)
