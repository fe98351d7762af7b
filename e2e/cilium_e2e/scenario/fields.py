"""The shape of decoded YAML, said once: it checks a value, and it is the JSON Schema for editors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from cilium_e2e.repository.yamlfiles import type_name

Path: TypeAlias = tuple[str | int, ...]
"""Keys and positions from the top of a document down to a value."""


class WrongShape(Exception):
    """A value is not what stands there in the format.

    Attributes:
        path: where.
        message: what was expected and seen.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


class Shape(Protocol):
    """What a value must look like."""

    def check(self, value: object, path: Path) -> None:
        """Refuse another value.

        Raises:
            WrongShape: it is another one.
        """
        ...

    def json_schema(self) -> dict[str, Any]:
        """The same in JSON Schema's words (draft 2020-12)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A string that is not empty; one of ``choices``, or of a ``pattern`` (explained by ``what``)."""

    about: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    what: str = "a string"

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, str):
            raise WrongShape(path, f"expected {self.what}, got {type_name(value)}")
        if self.choices and value not in self.choices:
            raise WrongShape(path, f"expected one of {', '.join(self.choices)}, got {value!r}")
        if not value or (self.pattern and not re.search(self.pattern, value)):
            raise WrongShape(path, f"expected {self.what}, got {value!r}")

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        schema: dict[str, Any] = {"type": "string", "minLength": 1}
        if self.choices:
            schema = {"enum": list(self.choices)}
        elif self.pattern:
            schema["pattern"] = self.pattern
        return _about(schema, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """An integer in a range, both ends included."""

    minimum: int
    maximum: int
    about: str = ""

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        wanted = f"expected a whole number from {self.minimum} to {self.maximum}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise WrongShape(path, f"{wanted}, got {type_name(value)}")
        if not self.minimum <= value <= self.maximum:
            raise WrongShape(path, f"{wanted}, got {value}")

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _about({"type": "integer", "minimum": self.minimum, "maximum": self.maximum}, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """True or false."""

    about: str = ""

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, bool):
            raise WrongShape(path, f"expected true or false, got {type_name(value)}")

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _about({"type": "boolean"}, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOf:
    """A list of equal shape; ``least`` entries at least."""

    item: Shape
    about: str = ""
    least: int = 0

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, list):
            raise WrongShape(path, f"expected a list, got {type_name(value)}")
        if len(value) < self.least:
            raise WrongShape(path, f"expected at least {self.least} entries, got {len(value)}")
        for place, entry in enumerate(value):
            self.item.check(entry, (*path, place))

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        schema: dict[str, Any] = {"type": "array", "items": self.item.json_schema()}
        if self.least:
            schema["minItems"] = self.least
        return _about(schema, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class MapOf:
    """A mapping from any string to values of one shape."""

    item: Shape
    about: str = ""

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            raise WrongShape(path, f"expected a mapping, got {type_name(value)}")
        for key, entry in value.items():
            if not isinstance(key, str):
                raise WrongShape(path, f"expected strings as keys, got {key!r}")
            self.item.check(entry, (*path, key))

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _about({"type": "object", "additionalProperties": self.item.json_schema()}, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A mapping with known keys; with ``open``, any others may stand beside them."""

    fields: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    about: str = ""
    open: bool = False

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        if not isinstance(value, dict):
            raise WrongShape(path, f"expected a mapping, got {type_name(value)}")
        for key in value:
            if key not in self.fields and not self.open:
                raise WrongShape((*path, key), f"expected one of {', '.join(self.fields)}, got {key!r}")
        for key in self.required:
            if key not in value:
                raise WrongShape(path, f"expected {key!r}, which is missing")
        for key, entry in value.items():
            if key in self.fields:
                self.fields[key].check(entry, (*path, key))

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {key: shape.json_schema() for key, shape in self.fields.items()},
        }
        if self.required:
            schema["required"] = list(self.required)
        if not self.open:
            schema["additionalProperties"] = False
        return _about(schema, self.about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Either:
    """A value of one of several types: string, whole number, list or mapping; each type stands once."""

    shapes: tuple[Shape, ...] = field()
    about: str = ""

    def check(self, value: object, path: Path) -> None:
        """See :class:`Shape`."""
        kinds: Mapping[type, type] = {Text: str, Whole: int, ListOf: list, MapOf: dict, Record: dict}
        for shape in self.shapes:
            if type(value) is kinds[type(shape)]:
                shape.check(value, path)
                return
        names = {str: "a string", int: "a whole number", list: "a list", dict: "a mapping"}
        wanted = " or ".join(names[kinds[type(shape)]] for shape in self.shapes)
        raise WrongShape(path, f"expected {wanted}, got {type_name(value)}")

    def json_schema(self) -> dict[str, Any]:
        """See :class:`Shape`."""
        return _about({"anyOf": [shape.json_schema() for shape in self.shapes]}, self.about)


def _about(schema: dict[str, Any], about: str) -> dict[str, Any]:
    return {"description": about, **schema} if about else schema
