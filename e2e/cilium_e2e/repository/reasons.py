"""The comments of a values file, which say why a value is as it is."""

from __future__ import annotations

from collections.abc import Sequence

from cilium_e2e.repository.yamlfiles import line_of


def reason_at(text: str, path: Sequence[str]) -> str:
    """The comment for the value at ``path``, empty where there is none.

    It stands beside the value, above it, above a mapping the value is in, or at the top of the file.
    """
    lines = text.splitlines()
    for depth in range(len(path), 0, -1):
        line = line_of(text, path[:depth])
        if line is None:
            continue
        if depth == len(path):
            beside = _beside(lines[line - 1])
            if beside:
                return beside
        above = _above(lines, line - 1)
        if above:
            return above
    return _block(lines, 0)


def _beside(line: str) -> str:
    before, mark, comment = line.rpartition(" #")
    quoted = before.count('"') % 2 or before.count("'") % 2
    return comment.strip() if mark and not quoted else ""


def _above(lines: Sequence[str], index: int) -> str:
    start = index
    while start > 0 and lines[start - 1].lstrip().startswith("#"):
        start -= 1
    return _block(lines, start) if start < index else ""


def _block(lines: Sequence[str], start: int) -> str:
    words: list[str] = []
    for line in lines[start:]:
        if not line.lstrip().startswith("#"):
            break
        words.append(line.strip().lstrip("#").strip())
    return " ".join(" ".join(words).split())
