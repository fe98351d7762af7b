"""Real objects and outputs of one live cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "recordings"


def recorded(name: str) -> Any:
    """A recorded JSON document."""
    return json.loads((FOLDER / f"{name}.json").read_text())


def items(name: str) -> list[dict[str, Any]]:
    """The items of a recorded list."""
    found: list[dict[str, Any]] = recorded(name)["items"]
    return found
