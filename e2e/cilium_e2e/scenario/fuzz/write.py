"""A finding as a scenario file: what is needed to see it again, and what was seen, as comments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from cilium_e2e.model import Capability, Object
from cilium_e2e.scenario.files import SUFFIX
from cilium_e2e.scenario.fuzz.suspects import Suspect

_MOST = 12
_WIDTH = 110
_OUTSIDE = "${world."


def scenario_text(
    name: str,
    policies: Sequence[Object],
    suspects: Sequence[Suspect],
    *,
    remarks: Sequence[str],
) -> str:
    """The file's text.

    Its expectations are what the oracle says of one cell of each sense, so that it fails for as long as the
    cluster does something else; it says nothing about the rest.

    Args:
        name: the scenario's.
        policies: as they are needed.
        suspects: the cells that differ under them; none where the policies are refused.
        remarks: where, when and how it was found, a line each.
    """
    kept = list({suspect.expected: suspect for suspect in reversed(suspects)}.values())[::-1]
    lines = [*remarks]
    for suspect in kept:
        lines += [str(suspect), f"  {suspect.why}"]
    if others := [suspect for suspect in suspects if suspect not in kept]:
        lines.append(f"{len(others)} more cells differ under these policies:")
        lines += [f"  {suspect}" for suspect in others[:_MOST]]
        lines += [f"  ... and {len(others) - _MOST} more"] if len(others) > _MOST else []
    data: dict[str, Any] = {"name": name, "tags": ["fuzz"]}
    if any(one.destination.startswith("world:") for one in kept) or _OUTSIDE in json.dumps(list(policies)):
        data["requires"] = [Capability.WORLD.value]
    data["policies"] = [dict(policy) for policy in policies]
    if kept:
        data["expect"] = [
            {"from": one.source, "to": one.destination, "outcome": one.expected} for one in kept
        ]
    data["rest"] = "none"
    written = yaml.dump(data, Dumper=_Plain, sort_keys=False, width=_WIDTH)
    return f"{comment(lines)}{written}"


def comment(lines: Sequence[str]) -> str:
    """Lines of text as YAML's comments."""
    return "".join(f"# {line}".rstrip() + "\n" for text in lines for line in text.splitlines() or [""])


def write(folder: Path, stem: str, text: str) -> Path:
    """A file of its own in a folder, which is made where it is missing; no other one is written over.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        file = folder / f"{stem}{f'-{number}' if number > 1 else ''}{SUFFIX}"
        try:
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
        except FileExistsError:
            number += 1
        else:
            return file


class _Plain(yaml.SafeDumper):
    """Without anchors: what is there twice is written twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Always."""
        del data
        return True
