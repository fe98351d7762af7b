"""The private copy of a tree: cheap to make, and nothing that is done in it reaches the user's files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cilium_e2e.repository.workspace import Workspace

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n"
OWN = "resources: [one.yaml]\n"
FILES = {"with/one.yaml": OBJECT, "with/kustomization.yaml": OWN, "without/one.yaml": OBJECT}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    return tmp_path


@pytest.mark.parametrize("folder", ["with", "without"])
def test_what_flux_writes_stays_in_the_copy(tree: Path, folder: str) -> None:
    with Workspace(tree) as workspace:
        (built,) = workspace.build(folder, {"namePrefix": "other-"})
        assert built.object["metadata"]["name"] == "other-one"
        (again,) = workspace.build(folder)
        assert again.object["metadata"]["name"] == "one"
    found = {str(file.relative_to(tree)): file.read_text() for file in tree.rglob("*") if file.is_file()}
    assert found == FILES


def test_a_file_has_a_second_name_where_nothing_is_written_to_it(tree: Path) -> None:
    with Workspace(tree):
        assert (tree / "with/one.yaml").stat().st_nlink == 2
        assert (tree / "with/kustomization.yaml").stat().st_nlink == 1
    assert (tree / "with/one.yaml").stat().st_nlink == 1


def test_where_there_are_no_links_it_is_copied(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with Workspace(tree) as workspace:
        assert workspace.text("with/one.yaml") == OBJECT
        (built,) = workspace.build("with")
    assert built.object["metadata"]["name"] == "one"
    assert (tree / "with/one.yaml").read_text() == OBJECT
