"""The files of the working tree."""

import os
import subprocess
from pathlib import Path

import pytest

from cilium_e2e.model import ManifestError
from cilium_e2e.repository import FluxInstall, read_flux_install, tracked_files
from cilium_e2e.repository.workspace import Workspace


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True, env=env)


def config_map(name: str) -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: x}}\n"


def test_a_generated_kustomization_leaves_out_what_flux_leaves_out(tree) -> None:
    names = ["kept", "tests/out", ".github/ci", "sub/kept-too", "sub/out-here"]
    root = tree({f"{name}.yaml": config_map(name.rpartition("/")[2]) for name in names})
    tree({".sourceignore": "/tests/\n", "sub/.sourceignore": "out-*\n", ".sops.yaml": "creation_rules: []\n"})
    git(root, "init", "-q")
    git(root, "add", "kept.yaml", "tests")
    with Workspace(root) as workspace:
        assert [built.ref.name for built in workspace.build(".")] == ["kept", "kept-too"]


@pytest.fixture
def work_tree(tree) -> Path:
    root = tree({".gitignore": "secret\n", "a.yaml": "a: 1\n", "sub/b.yaml": "b: 1\n", "gone.yaml": "x: 1\n"})
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "x")
    (root / "a.yaml").write_text("a: 2\n")
    (root / "gone.yaml").unlink()
    (root / "secret").write_text("x")
    (root / "new ü.yaml").write_text("n: 1\n")
    return root


def test_what_a_commit_of_everything_would_hold(work_tree: Path) -> None:
    found = tracked_files(work_tree)
    assert found.files == (".gitignore", "a.yaml", "new ü.yaml", "sub/b.yaml")
    assert found.untracked == ("new ü.yaml",)
    assert found.skipped == ()


def test_uncommitted_changes_are_in_the_copy(work_tree: Path) -> None:
    with Workspace(work_tree) as workspace:
        assert workspace.text("a.yaml") == "a: 2\n"


def test_a_folder_of_a_work_tree_stands_for_itself(work_tree: Path) -> None:
    assert tracked_files(work_tree / "sub").files == ("b.yaml",)


def test_an_ignored_folder_is_walked(work_tree: Path) -> None:
    (work_tree / "secret").unlink()
    (work_tree / "secret").mkdir()
    (work_tree / "secret/c.yaml").write_text("")
    assert tracked_files(work_tree / "secret").files == ("c.yaml",)


def test_variables_of_a_git_hook_do_not_mislead(work_tree: Path, monkeypatch) -> None:
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    assert "a.yaml" in tracked_files(work_tree).files


def test_links_are_skipped_never_followed(work_tree: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "key").write_text("private")
    (work_tree / "link.yaml").symlink_to(outside / "key")
    (work_tree / "folder").symlink_to(outside)
    (work_tree / "dangling").symlink_to("nowhere")
    git(work_tree, "add", ".")
    found = tracked_files(work_tree)
    assert found.skipped == ("dangling", "folder", "link.yaml")
    assert not [name for name in found.files if "link" in name or "key" in name]


def test_a_tracked_folder_replaced_by_a_link_is_skipped(work_tree: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "b.yaml").write_text("private")
    (work_tree / "sub/b.yaml").unlink()
    (work_tree / "sub").rmdir()
    (work_tree / "sub").symlink_to(outside)
    found = tracked_files(work_tree)
    assert "sub/b.yaml" in found.skipped
    assert "sub/b.yaml" not in found.files


def test_without_git_everything_is_listed_but_what_never_belongs(tree) -> None:
    root = tree(
        {"a.yaml": "", "sub/b.yaml": "", ".venv/x.py": "", "node_modules/x.js": "", ".github/w.yaml": ""}
    )
    (root / "link").symlink_to(root / "a.yaml")
    found = tracked_files(root)
    assert found.files == (".github/w.yaml", "a.yaml", "sub/b.yaml")
    assert found.skipped == ("link",)
    assert found.untracked == ()


def test_git_need_not_be_installed(work_tree: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "secret" in tracked_files(work_tree).files


def test_a_work_tree_that_git_refuses_is_an_error(work_tree: Path) -> None:
    (work_tree / ".git/index").write_bytes(b"broken")
    with pytest.raises(ManifestError, match=r"git cannot list the files: .*index"):
        tracked_files(work_tree)


def test_a_file_is_no_tree(work_tree: Path) -> None:
    with pytest.raises(ManifestError, match="expected a directory"):
        tracked_files(work_tree / "a.yaml")


def test_the_flux_input_of_this_repository_is_pinned(repository_root: Path) -> None:
    found = read_flux_install(repository_root / "manifests/flux-system/install.input.yaml")
    assert found.url == f"https://github.com/fluxcd/flux2/releases/download/{found.version}/install.yaml"


GOOD = {"version": "v2.7.5", "url": "https://example.org/install.yaml", "sha256": "0" * 64}


def test_a_flux_input_is_read(tree) -> None:
    root = tree({"i.yaml": "".join(f"{key}: '{value}'\n" for key, value in GOOD.items())})
    assert read_flux_install(root / "i.yaml") == FluxInstall(**GOOD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sha256": ""},
            r"i\.yaml: expected the sha256 of what stands at https://example.org/install.yaml .*got ''",
        ),
        ({"sha256": "XYZ"}, "expected the sha256"),
        ({"url": "http://example.org/x"}, "expected an https:// address"),
        ({"colour": "red"}, "expected the keys sha256, url, version, got colour, sha256, url, version"),
    ],
)
def test_a_flux_input_without_a_checksum_is_refused(tree, change: dict[str, str], message: str) -> None:
    root = tree({"i.yaml": "".join(f"{key}: '{value}'\n" for key, value in (GOOD | change).items())})
    with pytest.raises(ManifestError, match=message):
        read_flux_install(root / "i.yaml", place="i.yaml")
