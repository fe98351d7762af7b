"""Decoded JSON to typed objects and back, driven by the fields of frozen dataclasses.

A field made by :func:`wire` names its JSON field and how its value is read. An absent field and ``null``
read as None; an empty list stays an empty list, because to the agent the two differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

_INT32 = range(-(1 << 31), 1 << 31)


class DecodeError(ValueError):
    """A value has the wrong type.

    Attributes:
        path: the field path, for example ``spec.ingress[0].toPorts``.
    """

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"{path}: {message}" if path else message)
        self.path = path


@dataclass(slots=True)
class Reading:
    """What one decoding run collects.

    Attributes:
        unknown: the paths of fields that no type has.
    """

    unknown: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Codec:
    """How one kind of value is read and written.

    Attributes:
        decode: reads a value at a path.
        encode: writes it.
        null: what ``null`` reads as; None for the same as an absent field.
    """

    decode: Callable[[Any, str, Reading], Any]
    encode: Callable[[Any], Any]
    null: Any = None


def _name(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _expect(kind: type[T], wanted: str, value: Any, path: str) -> T:
    if type(value) is not kind:
        raise DecodeError(path, f"expected {wanted}, got {_name(value)}")
    return value


def _same(value: Any) -> Any:
    return value


def _decode_int(value: Any, path: str, _: Reading) -> int:
    number = _expect(int, "an integer", value, path)
    if number not in _INT32:
        raise DecodeError(path, f"expected a 32-bit integer, got {number}")
    return number


def _decode_int_or_text(value: Any, path: str, reading: Reading) -> int | str:
    if type(value) is str:
        return value
    if type(value) is not int:
        raise DecodeError(path, f"expected an integer or a string, got {_name(value)}")
    return _decode_int(value, path, reading)


def _decode_text_map(value: Any, path: str, _: Reading) -> tuple[tuple[str, str], ...]:
    found = _expect(dict, "an object", value, path)
    return tuple(
        (_expect(str, "string keys", key, path), _expect(str, "a string", text, f"{path}.{key}"))
        for key, text in found.items()
    )


TEXT = Codec(lambda value, path, _: _expect(str, "a string", value, path), _same)
FLAG = Codec(lambda value, path, _: _expect(bool, "true or false", value, path), _same)
INTEGER = Codec(_decode_int, _same)
INT_OR_TEXT = Codec(_decode_int_or_text, _same)
TEXT_MAP = Codec(_decode_text_map, dict)
"""An object of strings, kept as pairs in their order."""
RAW = Codec(lambda value, _path, _reading: value, _same)
"""A value the oracle does not look into."""


def items(codec: Codec) -> Codec:
    """A list."""

    def decode(value: Any, path: str, reading: Reading) -> tuple[Any, ...]:
        found = _expect(list, "a list", value, path)
        return tuple(
            codec.null
            if item is None and codec.null is not None
            else codec.decode(item, f"{path}[{index}]", reading)
            for index, item in enumerate(found)
        )

    return Codec(decode, lambda value: [codec.encode(item) for item in value])


def struct(cls: type[Any], *, null: Any = None) -> Codec:
    """An object of the dataclass ``cls``."""
    return Codec(lambda value, path, reading: decode_struct(cls, value, path, reading), encode_struct, null)


def wire(name: str, codec: Codec) -> Any:
    """A dataclass field read from the JSON field ``name``; None where it is absent."""
    return field(default=None, metadata={"wire": name, "codec": codec})


def _fields(cls: type[Any]) -> Iterable[tuple[str, str, Codec]]:
    for entry in dataclasses.fields(cls):
        if "wire" in entry.metadata:
            yield entry.name, entry.metadata["wire"], entry.metadata["codec"]


def decode_struct(cls: type[T], value: Any, path: str, reading: Reading) -> T:
    """Read an object.

    Raises:
        DecodeError: it is none, or a field has the wrong type.
    """
    found = _expect(dict, "an object", value, path)
    known = {wire_name: (name, codec) for name, wire_name, codec in _fields(cls)}
    prefix = f"{path}." if path else ""
    values = {}
    for key, item in found.items():
        if key not in known:
            reading.unknown.append(f"{prefix}{key}")
        else:
            name, codec = known[key]
            values[name] = codec.null if item is None else codec.decode(item, f"{prefix}{key}", reading)
    return cls(**values)


def encode_struct(value: Any) -> dict[str, Any]:
    """Write an object; fields that are None are left out."""
    return {
        wire_name: codec.encode(item)
        for name, wire_name, codec in _fields(type(value))
        if (item := getattr(value, name)) is not None
    }


def mapping(pairs: Iterable[tuple[str, str]] | None) -> Mapping[str, str]:
    """The pairs of a :data:`TEXT_MAP` field as a mapping."""
    return dict(pairs or ())
