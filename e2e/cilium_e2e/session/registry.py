"""Which clusters are ours, whose run is still alive, and which were left behind.

Each cluster has a record and a lock in a folder of the user's. The run that owns the cluster holds the lock
as long as it lives; the kernel lets go of it however the process ends, SIGKILL included. A record whose lock
can be taken, of a cluster that was not to be kept, is left over, and the next run sweeps it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from cilium_e2e.model import BackendUnavailable

# Others hold a lock for a moment only to see whether somebody owns it.
_ASKING_S = 0.5


@dataclass(frozen=True, slots=True)
class Record:
    """A cluster of ours.

    Attributes:
        name: the cluster's name.
        topology: its topology.
        engine: the engine it is on (``DOCKER_HOST``, empty for the default).
        keep: whether it is to outlive its run.
        handle: how to reach it, as :meth:`Handle.to_data` has it; empty until Cilium was ready.
    """

    name: str
    topology: str
    engine: str
    keep: bool
    handle: dict[str, Any]


class Registry:
    """The records of a folder.

    Args:
        folder: made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def records(self) -> list[Record]:
        """All of them, by name; one that is unreadable, or speaks of another cluster, is no record."""
        found: list[Record] = []
        for file in sorted(self._folder.glob("*.cluster.json")):
            try:
                record = Record(**json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, TypeError, OSError):
                continue
            # A name that is not the file's could be anybody's, and what is swept goes by its name.
            if file == self._file(record.name) and isinstance(record.handle, dict):
                found.append(record)
        return found

    def find(self, name: str) -> Record | None:
        """The record of a cluster."""
        return next((record for record in self.records() if record.name == name), None)

    def write(self, record: Record) -> None:
        """Store a record; readers see the old one or the new one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file, part = self._file(record.name), self._part(record.name)
        part.write_text(json.dumps(asdict(record)), encoding="utf-8")
        part.replace(file)

    def forget(self, name: str) -> None:
        """Remove a record."""
        self._file(name).unlink(missing_ok=True)
        self._part(name).unlink(missing_ok=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[None]:
        """Own a cluster for the length of a block.

        Raises:
            BackendUnavailable: another run owns it.
        """
        lock = self._lock(name)
        try:
            lock.acquire(timeout=_ASKING_S)
        except Timeout:
            raise BackendUnavailable(
                "another run is using this cluster",
                place=f"cluster {name}",
                hint="Wait until it has ended, or choose another name.",
            ) from None
        try:
            yield
        finally:
            if self.find(name) is None:
                # While it is still ours: whoever comes next makes a new file.
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()

    def left_over(self, engine: str) -> list[Record]:
        """Clusters on an engine whose run is dead and which nobody wanted to keep."""
        return [r for r in self.records() if r.engine == engine and not r.keep and not self.owned(r.name)]

    def owned(self, name: str) -> bool:
        """Whether a living run owns a cluster."""
        lock = self._lock(name)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
        return False

    def _lock(self, name: str) -> FileLock:
        self._folder.mkdir(parents=True, exist_ok=True)
        # Not thread-local: a run may be ended by another thread than the one that began it.
        return FileLock(self._folder / f"{name}.lock", thread_local=False)

    def _part(self, name: str) -> Path:
        """A record that is being written."""
        return self._file(name).with_suffix(".part")

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.cluster.json"
