"""Read YAML as Kubernetes tools do, and find the line a value stands in."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cilium_e2e.model import InputError, ManifestError

# libyaml is ten times as fast, and files of CRDs have tens of thousands of lines.
if TYPE_CHECKING or not yaml.__with_libyaml__:  # noqa: SIM108 - mypy takes no expression for a base class
    _Base = yaml.SafeLoader
else:
    _Base = yaml.CSafeLoader

Steps = Sequence[str | int]

_TAG = "tag:yaml.org,2002:"
_NOT_IN_JSON = {f"{_TAG}timestamp", f"{_TAG}value"}
_NUMBERS = {
    f"{_TAG}int": re.compile(r"[-+]?(0b[01_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)$"),
    f"{_TAG}float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*([eE][-+]?[0-9]+)?|\.[0-9]+([eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
        r"|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
    ),
}


class _Loader(_Base):
    """YAML as Go's parsers read it: no dates, no numbers of base 60, and no key that stands twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, _NUMBERS.get(tag, pattern)) for tag, pattern in pairs if tag not in _NOT_IN_JSON]
        for first, pairs in _Base.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        """See :class:`yaml.SafeLoader`; refuses a key that stands twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key != "<<" and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice in one mapping", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def parse(
    text: str, *, place: str, error: type[InputError] = ManifestError, keep_empty: bool = False
) -> list[Any]:
    """All documents of a YAML text, empty ones left out.

    Args:
        text: the YAML.
        place: the file, for errors.
        error: the class of error to raise.
        keep_empty: whether empty ones are there as None, so that a document's position is its number.

    Raises:
        InputError: of the class ``error``, with ``file:line``, where the text is no YAML.
    """
    try:
        documents = yaml.load_all(text, Loader=_Loader)
        return [document for document in documents if keep_empty or document is not None]
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"{place}:{mark.line + 1}" if mark else place
        what = " ".join(part for part in (exc.context, exc.problem) if part)
        raise error(f"not valid YAML: {what}", place=where) from None
    except yaml.YAMLError as exc:
        raise error(f"not valid YAML: {' '.join(str(exc).split())}", place=place) from None


def read_text(file: Path, *, place: str, error: type[InputError] = ManifestError) -> str:
    """A file's text.

    Raises:
        InputError: of the class ``error``: missing, unreadable, or not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise error("no such file", place=place) from None
    except UnicodeDecodeError as exc:
        raise error(f"expected UTF-8 text: {exc.reason} at byte {exc.start}", place=place) from None
    except OSError as exc:
        raise error(f"cannot be read: {exc.strerror}", place=place) from None


def read_mapping(file: Path, *, place: str, error: type[InputError] = ManifestError) -> dict[str, Any]:
    """The one mapping a file holds; an empty file is an empty mapping.

    Raises:
        InputError: of the class ``error``, where it is anything else.
    """
    documents = parse(read_text(file, place=place, error=error), place=place, error=error)
    if not documents:
        return {}
    if len(documents) > 1 or not isinstance(documents[0], dict):
        seen = f"{len(documents)} documents" if len(documents) > 1 else type_name(documents[0])
        raise error(f"expected one mapping, got {seen}", place=place)
    return documents[0]


class Lines:
    """The lines that values stand in, for many questions about one text."""

    def __init__(self, text: str) -> None:
        try:
            self._documents: list[yaml.Node | None] = list(yaml.compose_all(text, Loader=_Base))
        except yaml.YAMLError:
            self._documents = []

    def of(self, path: Steps, *, document: int = 0) -> int | None:
        """The 1-based line on which the value at ``path`` begins; None where the path is not in the text."""
        node = self._documents[document] if document < len(self._documents) else None
        if node is None:
            return None
        line = node.start_mark.line + 1
        for step in path:
            if isinstance(node, yaml.MappingNode):
                for key, value in node.value:
                    if key.value == step:
                        node, line = value, key.start_mark.line + 1
                        break
                else:
                    return None
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
            else:
                return None
        return int(line)


def line_of(text: str, path: Steps, *, document: int = 0) -> int | None:
    """The 1-based line on which the value at ``path`` begins; None where the path is not in the text."""
    return Lines(text).of(path, document=document)


def type_name(value: object) -> str:
    """A value's type in the words of YAML's users."""
    names: dict[type, str] = {
        bool: "bool",
        int: "int",
        float: "float",
        str: "str",
        list: "list",
        dict: "mapping",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)
