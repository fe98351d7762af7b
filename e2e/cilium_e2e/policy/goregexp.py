"""Regular expressions as Go reads them, as far as the agent refuses some.

Go's syntax (RE2) and Python's agree on most of what policies hold. Where Go refuses an expression, its reason
is given in its words, as far as it is known.
"""

from __future__ import annotations

import re
import warnings

_LOOKAROUND = re.compile(r"\(\?(?:[=!]|<[=!])")
_BACKREFERENCE = re.compile(r"(?:[^\\]|^)(?:\\\\)*(?P<escape>\\[1-9])")
_REPEAT = re.compile(r"\{(?P<low>[0-9]+)(?:,(?P<high>[0-9]*))?\}")
_POSSESSIVE = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\+")
# Escapes and character classes, in which operators are plain characters.
_LITERALS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_MAX_REPEAT = 1000


def _repeat_fault(text: str) -> str:
    if (possessive := _POSSESSIVE.search(text)) is not None:
        return f"invalid nested repetition operator: `{possessive.group()}`"
    for match in _REPEAT.finditer(text):
        low, high = match["low"], match["high"] or match["low"]
        # Longer numbers are too large in any case, and slow to convert.
        if max(len(low), len(high)) > 4 or int(high) > _MAX_REPEAT or int(low) > int(high):
            return f"invalid repeat count: `{match.group()}`"
    return ""


def _python_fault(text: str) -> str:
    """Why Python cannot compile an expression, in Go's words where those are known."""
    try:
        with warnings.catch_warnings():
            # What Python may read differently one day is none of the agent's business.
            warnings.simplefilter("ignore")
            re.compile(text.replace("(?<", "(?P<"))
    except (OverflowError, RecursionError):
        return f"expression nests too deeply: `{text}`"
    except re.error as error:
        rest = text[error.pos or 0 :]
        operators = text[max(0, (error.pos or 1) - 1) :][:2]
        known = {
            "missing )": f"missing closing ): `{text}`",
            "unbalanced parenthesis": f"unexpected ): `{text}`",
            "unterminated character set": f"missing closing ]: `{rest}`",
            "nothing to repeat": f"missing argument to repetition operator: `{rest[:1]}`",
            "bad escape (end of pattern)": "trailing backslash at end of expression: ``",
            "bad character range": f"invalid character class range: `{error.msg.rpartition(' ')[2]}`",
            "multiple repeat": f"invalid nested repetition operator: `{operators}`",
        }
        found = (reason for message, reason in known.items() if error.msg.startswith(message))
        return next(found, f"{error.msg}: `{text}`")
    return ""


def regex_fault(text: str) -> str:
    """Why Go cannot compile an expression; empty where it can."""
    if not text:
        return ""
    if (match := _LOOKAROUND.search(text)) is not None:
        reason = f"invalid or unsupported Perl syntax: `{match.group()}`"
    elif (match := _BACKREFERENCE.search(text)) is not None:
        reason = f"invalid escape sequence: `{match['escape']}`"
    else:
        reason = _repeat_fault(_LITERALS.sub("x", text)) or _python_fault(text)
    return f"error parsing regexp: {reason}" if reason else ""
