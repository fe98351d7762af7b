"""The language of Flux's variable substitution: ``${VAR}`` and what may follow the name.

``${v}``; ``${v:-d}``, ``${v:=d}``, ``${v=d}`` (``d`` where ``v`` is empty or unset); ``${#v}`` (length);
``${v^}``, ``${v^^}``, ``${v,}``, ``${v,,}`` (case); ``${v:from}``, ``${v:from:length}``; ``${v/a/b}``,
``${v//a/b}``, ``${v/#a/b}``, ``${v/%a/b}`` (replace the first, all, a prefix, a suffix);
``${v#p}``, ``${v##p}``, ``${v%p}``, ``${v%%p}`` (trim a pattern). Words may hold further expressions. ``$${``
stands for ``${``, as every ``$$`` stands for ``$``. Only braces count: ``$v`` stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate

_NAME = re.compile(r"[a-zA-Z0-9_]+")
_DEFAULT = re.compile(r":[-=+?]|=")
_CASE = re.compile(r"\^\^?|,,?")
_REPLACE = re.compile(r"//|/#|/%|/")
_TRIM = re.compile(r"##?|%%?")


class BadSubstitution(ValueError):
    """An expression that cannot be read."""


class UnknownVariable(ValueError):
    """A bare variable without a value.

    Attributes:
        name: the variable's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


def expand(text: str, variables: Mapping[str, str]) -> str:
    """The text with every expression replaced.

    Raises:
        UnknownVariable: a bare ``${VAR}`` has no value.
        BadSubstitution: an expression is malformed or not closed.
    """
    return _Reader(text, variables).read_all()


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self.text = text
        self.at = 0
        self.variables = variables

    def read_all(self) -> str:
        done: list[str] = []
        while self.at < len(self.text):
            start = self.text.find("$", self.at)
            if start < 0:
                done.append(self.text[self.at :])
                break
            done.append(self.text[self.at : start])
            self.at = start
            if self.text.startswith("$$", start):
                done.append("$")
                self.at += 2
            elif self.text.startswith("${", start):
                done.append(self._expression())
            else:
                done.append("$")
                self.at += 1
        return "".join(done)

    def _expression(self) -> str:
        """From ``${`` to its closing brace."""
        start = self.at
        self.at += 2
        length = self._take("#")
        name = self._match(_NAME)
        if not name:
            raise self._bad(start, "expected the name of a variable")
        value = self.variables.get(name)
        if length:
            result = str(len((value or "").encode()))
        elif self.text.startswith("}", self.at):
            if value is None:
                raise UnknownVariable(name)
            result = value
        else:
            result = self._function(start, value or "")
        if not self._take("}"):
            raise self._bad(start, "expected a closing brace")
        return result

    def _function(self, start: int, value: str) -> str:
        if self._match(_DEFAULT):
            word = self._word(start, "}")
            return value or word
        case = self._match(_CASE)
        if case:
            return _CASES[case](value)
        replace = self._match(_REPLACE)
        if replace:
            old = self._word(start, "/", escapes=True)
            if not self._take("/"):
                raise self._bad(start, "expected a second slash")
            return _REPLACEMENTS[replace](value, old, self._word(start, "}", escapes=True))
        trim = self._match(_TRIM)
        if trim:
            return _trim(value, trim, self._word(start, "}"))
        if self._take(":"):
            first = self._word(start, ":}")
            second = self._word(start, "}") if self._take(":") else None
            return _slice(value, first, second)
        raise self._bad(start, f"unknown operator {self.text[self.at : self.at + 1]!r}")

    def _word(self, start: int, stops: str, *, escapes: bool = False) -> str:
        """Text up to one of the stops, with expressions inside replaced."""
        done: list[str] = []
        while self.at < len(self.text):
            here = self.text[self.at]
            if self.text.startswith("${", self.at):
                done.append(self._expression())
            elif escapes and here == "\\" and self.text[self.at + 1 : self.at + 2] in {"/", "\\"}:
                done.append(self.text[self.at + 1])
                self.at += 2
            elif here in stops or here == "}":
                return "".join(done)
            else:
                done.append(here)
                self.at += 1
        raise self._bad(start, "expected a closing brace")

    def _take(self, what: str) -> bool:
        if self.text.startswith(what, self.at):
            self.at += len(what)
            return True
        return False

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            return ""
        self.at = found.end()
        return found.group()

    def _bad(self, start: int, why: str) -> BadSubstitution:
        line = self.text[start : start + 40].splitlines()[0]
        return BadSubstitution(f"bad substitution at {line!r}: {why}")


def _slice(value: str, first: str, second: str | None) -> str:
    try:
        start = int(first)
        length = int(second) if second is not None else None
    except ValueError:
        return value
    if start < 0:
        start = max(0, len(value) + start)
    return value[start:] if length is None else value[start : max(start, start + length)]


def _trim(value: str, operator: str, pattern: str) -> str:
    glob = re.compile(translate(pattern.replace("[^", "[!")))
    cuts = range(1, len(value) + 1)
    fits = [
        cut for cut in cuts if glob.match(value[:cut] if operator[0] == "#" else value[len(value) - cut :])
    ]
    if not fits:
        return value
    cut = max(fits) if len(operator) == 2 else min(fits)
    return value[cut:] if operator[0] == "#" else value[: len(value) - cut]


_CASES: Mapping[str, Callable[[str], str]] = {
    "^": lambda value: value[:1].upper() + value[1:],
    "^^": str.upper,
    ",": lambda value: value[:1].lower() + value[1:],
    ",,": str.lower,
}
_REPLACEMENTS: Mapping[str, Callable[[str, str, str], str]] = {
    "/": lambda value, old, new: value.replace(old, new, 1),
    "//": lambda value, old, new: value.replace(old, new),
    "/#": lambda value, old, new: new + value.removeprefix(old) if value.startswith(old) else value,
    "/%": lambda value, old, new: value.removesuffix(old) + new if value.endswith(old) else value,
}
