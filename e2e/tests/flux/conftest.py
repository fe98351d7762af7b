"""Each different folder is built by kustomize once: starting kubectl is what these tests wait for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cilium_e2e.repository import kustomize

_KNOWN: dict[tuple[tuple[str, bytes], ...], str] = {}


@pytest.fixture(scope="module", autouse=True)
def _each_folder_is_built_once() -> Iterator[None]:
    original = kustomize.build

    def build(folder: Path, *, root: Path, place: str, timeout_s: float = 120.0) -> str:
        files = sorted(file for file in folder.rglob("*") if file.is_file())
        content = tuple((file.relative_to(folder).as_posix(), file.read_bytes()) for file in files)
        if any(b"../" in data for _, data in content):  # what it builds is not all in it
            return original(folder, root=root, place=place, timeout_s=timeout_s)
        if content not in _KNOWN:
            _KNOWN[content] = original(folder, root=root, place=place, timeout_s=timeout_s)
        return _KNOWN[content]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kustomize, "build", build)
        yield
