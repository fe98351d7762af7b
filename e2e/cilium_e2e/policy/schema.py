"""A small validator for structural schemas, with the messages of the API server.

It knows what the CRDs use: types, enumerations, patterns, lengths, ranges, the format ``cidr``, required
fields, and "one of" and "at least one of" over required fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cilium_e2e.policy.addresses import parse_lenient
from cilium_e2e.policy.gotext import quote


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a schema refuses.

    Attributes:
        path: the field's path.
        message: the API server's words, path included.
    """

    path: str
    message: str

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string."""

    enum: tuple[str, ...] = ()
    pattern: str = ""
    min_length: int = 0
    max_length: int = 0
    cidr: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An integer."""

    minimum: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeOrText:
    """An integer or a string; strings follow the pattern."""

    pattern: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Items:
    """A list."""

    of: Schema
    min_items: int = 0
    max_items: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """An object.

    Attributes:
        fields: by name.
        required: fields that must be there.
        one_of: exactly one of these must be there.
        any_of: at least one of these must be there.
        others: what all other fields are; None where there are no others.
    """

    fields: Mapping[str, Schema] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    one_of: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    others: Schema | None = None


@dataclass(frozen=True, slots=True)
class Anything:
    """A value that is not looked into."""


Schema: TypeAlias = Text | Whole | Flag | WholeOrText | Items | Fields | Anything

_KINDS: Mapping[type, str] = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer"}
_WANTED: Mapping[type, tuple[type, str]] = {
    Text: (str, "string"),
    Whole: (int, "integer"),
    Flag: (bool, "boolean"),
    Items: (list, "array"),
    Fields: (dict, "object"),
}


def _invalid(path: str, value: object, reason: str) -> Problem:
    shown = quote(value) if isinstance(value, str) else str(value)
    return Problem(path, f"{path}: Invalid value: {shown}: {reason}")


def _missing(path: str) -> Problem:
    return Problem(path, f"{path}: Required value")


def _alternatives(path: str, reason: str) -> Problem:
    return Problem(path, f'<nil>: Invalid value: "": "{path}" {reason}')


def _check_text(schema: Text, value: str, path: str) -> Iterator[Problem]:
    if schema.enum and value not in schema.enum:
        known = ", ".join(quote(item) for item in schema.enum)
        yield Problem(path, f"{path}: Unsupported value: {quote(value)}: supported values: {known}")
    if schema.max_length and len(value) > schema.max_length:
        yield Problem(path, f"{path}: Too long: may not be more than {schema.max_length} bytes")
    if len(value) < schema.min_length:
        reason = f"{path} in body should be at least {schema.min_length} chars long"
        yield _invalid(path, value, reason)
    if schema.pattern and not re.search(schema.pattern, value):
        yield _invalid(path, value, f"{path} in body should match '{schema.pattern}'")
    if schema.cidr and ("/" not in value or parse_lenient(value) is None):
        yield _invalid(path, value, f"{path} in body must be of type cidr: {quote(value)}")


def _check_whole(schema: Whole, value: int, path: str) -> Iterator[Problem]:
    if value < schema.minimum:
        yield _invalid(path, value, f"{path} in body should be greater than or equal to {schema.minimum}")
    if value > schema.maximum:
        yield _invalid(path, value, f"{path} in body should be less than or equal to {schema.maximum}")


def _check_items(schema: Items, value: list[Any], path: str) -> Iterator[Problem]:
    if schema.max_items and len(value) > schema.max_items:
        yield Problem(path, f"{path}: Too many: {len(value)}: must have at most {schema.max_items} items")
    if len(value) < schema.min_items:
        yield _invalid(path, len(value), f"{path} in body should have at least {schema.min_items} items")
    for index, item in enumerate(value):
        yield from check(schema.of, item, f"{path}[{index}]")


def _check_alternatives(schema: Fields, value: dict[str, Any], path: str) -> Iterator[Problem]:
    prefix = f"{path}." if path else ""
    found = sum(name in value for name in schema.one_of)
    if schema.one_of and found != 1:
        count = f"Found {found} valid alternatives" if found else "Found none valid"
        yield _alternatives(path, f"must validate one and only one schema (oneOf). {count}")
        if not found:
            yield _missing(f"{prefix}{schema.one_of[0]}")
    if schema.any_of and not any(name in value for name in schema.any_of):
        yield _alternatives(path, "must validate at least one schema (anyOf)")
        yield _missing(f"{prefix}{schema.any_of[0]}")


def _check_fields(schema: Fields, value: dict[str, Any], path: str) -> Iterator[Problem]:
    prefix = f"{path}." if path else ""
    yield from _check_alternatives(schema, value, path)
    for name in schema.required:
        if value.get(name) is None:
            yield _missing(f"{prefix}{name}")
    for name, item in value.items():
        where = f"{prefix}{name}"
        known = schema.fields.get(name, schema.others)
        if known is None:
            yield Problem(where, f"{where}: unknown field")
        elif item is not None:
            yield from check(known, item, where)


def _check_whole_or_text(schema: WholeOrText, value: object, path: str) -> Iterator[Problem]:
    if type(value) not in (int, str):
        yield _invalid(path, value, f"{path} in body must be of type integer or string")
    elif isinstance(value, str) and not re.search(schema.pattern, value):
        yield _invalid(path, value, f"{path} in body should match '{schema.pattern}'")


def check(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    """What a schema refuses in a decoded value.

    Args:
        schema: what is wanted.
        value: decoded JSON.
        path: where the value stands; empty for the object itself.
    """
    if isinstance(schema, Anything):
        return
    if isinstance(schema, WholeOrText):
        yield from _check_whole_or_text(schema, value, path)
        return
    wanted, name = _WANTED[type(schema)]
    if type(value) is not wanted:
        shown = quote(_KINDS.get(type(value), "null" if value is None else "number"))
        yield Problem(path, f"{path}: Invalid value: {shown}: {path} in body must be of type {name}: {shown}")
        return
    yield from _check_typed(schema, value, path)


def _check_typed(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    """What a schema refuses in a value of the right type."""
    if isinstance(schema, Text):
        yield from _check_text(schema, value, path)
    elif isinstance(schema, Whole):
        yield from _check_whole(schema, value, path)
    elif isinstance(schema, Items):
        yield from _check_items(schema, value, path)
    elif isinstance(schema, Fields):
        yield from _check_fields(schema, value, path)


def aggregate(problems: tuple[Problem, ...]) -> str:
    """All messages as one, as the API server joins them."""
    messages = list(dict.fromkeys(problem.message for problem in problems))
    return messages[0] if len(messages) == 1 else f"[{', '.join(messages)}]" if messages else ""
