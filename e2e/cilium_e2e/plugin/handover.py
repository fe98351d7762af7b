"""How the controller's clusters reach xdist's workers, which are started while the clusters are being made.

A worker imports the harness and collects tests meanwhile, and looks for the clusters before its first test.
They come by a file of the run's own: a worker can be told something on its start only.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cilium_e2e.session import Handle

_POLL_S = 0.02


class Handover:
    """The controller's side.

    Attributes:
        path: the file that workers wait for.
    """

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="cilium-e2e-run-"))
        self.path = self._folder / "clusters.json"

    def give(self, handles: Mapping[str, Handle]) -> None:
        """Let the workers begin."""
        self._write({"handles": {topology: handle.to_data() for topology, handle in handles.items()}})

    def refuse(self) -> None:
        """Let them end: there is no cluster to test on."""
        self._write(None)

    def close(self) -> None:
        """Remove the file."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, data: Mapping[str, Any] | None) -> None:
        unfinished = self.path.with_suffix(".part")
        unfinished.write_text(json.dumps(data), encoding="utf-8")
        unfinished.replace(self.path)  # at once, or a worker would read a part of it


def receive(path: Path, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Handle] | None:
    """A worker's side: the clusters, once they are up, by topology; None where none came up.

    Waits for as long as it takes: a worker whose controller ends is ended with it.
    """
    while not path.exists():
        sleep(_POLL_S)
    data = json.loads(path.read_text(encoding="utf-8"))
    if data is None:
        return None
    return {topology: Handle.from_data(handle) for topology, handle in data["handles"].items()}
