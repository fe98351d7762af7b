"""Where in a scenario file something stands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cilium_e2e.repository.yamlfiles import Lines
from cilium_e2e.scenario.fields import Path as Steps


@dataclass(frozen=True, slots=True)
class Source:
    """One document of a file.

    Attributes:
        file: the file.
        name: what it is called in messages.
        lines: the lines of its values.
        document: the document's position, from 0.
    """

    file: Path
    name: str
    lines: Lines
    document: int

    def line(self, path: Steps) -> int:
        """The line of the value at a path, or of the nearest value around it."""
        steps = tuple(path)
        while (line := self.lines.of(steps, document=self.document)) is None and steps:
            steps = steps[:-1]
        return line or 1

    def at(self, path: Steps) -> str:
        """``file:line`` of the value at a path."""
        return f"{self.name}:{self.line(path)}"
