"""The files of the working tree: what a commit of everything would hold, and so what is published."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cilium_e2e.model import ManifestError

IGNORED_BY_FLUX = frozenset(
    {
        ".appveyor.yml",
        ".circleci",
        ".drone.yml",
        ".flux.yaml",
        ".github",
        ".gitlab-ci.yml",
        ".goreleaser.yml",
        ".sops.yaml",
        ".travis.yml",
        "appveyor.yml",
        "cloudbuild.yaml",
        "codeship-services.yml",
        "codeship-steps.yml",
    }
)
"""Folders and YAML files that source-controller leaves out of artifacts unless told otherwise."""

_NEVER = frozenset({".git", ".venv", "venv", "node_modules", "__pycache__", ".cilium-e2e"})


@dataclass(frozen=True, slots=True)
class TreeFiles:
    """The regular files of a tree, as sorted POSIX paths relative to its root.

    Attributes:
        files: all of them; uncommitted changes are in their content, deleted files are not here.
        untracked: those git does not track and does not ignore; empty where there is no git.
        skipped: symbolic links, sockets and submodules: Flux leaves them out of its artifacts too.
    """

    files: tuple[str, ...]
    untracked: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def tracked_files(root: Path) -> TreeFiles:
    """List the working tree under ``root``, which may be a folder inside a git work tree.

    In a git work tree these are the tracked files and the untracked ones that no ignore rule names.
    Elsewhere all files are listed, except in folders that never belong to a tree (``.git``, ``.venv`` ...).
    A path with a symbolic link in it is skipped, so that nothing outside ``root`` is ever read.

    Raises:
        ManifestError: ``root`` is no directory, or a work tree that git refuses to list.
    """
    if not root.is_dir():
        raise ManifestError("expected a directory", place=str(root))
    tracked = _git(root, "--cached")
    if tracked is None:
        return _sorted(root, _walk(root), ())
    untracked = _git(root, "--others", "--exclude-standard") or []
    if not tracked and not untracked:
        return _sorted(root, _walk(root), ())  # an ignored folder of somebody else's work tree
    return _sorted(root, [*tracked, *untracked], untracked)


def source_ignored(root: Path, files: TreeFiles) -> frozenset[str]:
    """Files that the tree's ``.sourceignore`` files take out of Flux's artifacts; git reads those rules.

    Empty where there is no git to read them.
    """
    if not any(name.rpartition("/")[2] == ".sourceignore" for name in files.files):
        return frozenset()
    rules = ("--ignored", "--exclude-per-directory=.sourceignore")
    return frozenset([*(_git(root, "--cached", *rules) or []), *(_git(root, "--others", *rules) or [])])


def _sorted(root: Path, names: list[str], untracked: list[str] | tuple[()]) -> TreeFiles:
    files: list[str] = []
    skipped: list[str] = []
    links: dict[str, bool] = {}
    for name in sorted(set(names)):
        path = root / name
        if not path.exists() and not path.is_symlink():
            continue  # deleted, not yet committed
        if _through_link(root, name, links) or not path.is_file():
            skipped.append(name.rstrip("/"))
        else:
            files.append(name)
    present = set(files)
    return TreeFiles(tuple(files), tuple(sorted(present.intersection(untracked))), tuple(skipped))


def _through_link(root: Path, name: str, known: dict[str, bool]) -> bool:
    """Whether the path or one of its folders below ``root`` is a symbolic link."""
    if name in known:
        return known[name]
    head, _, _ = name.rpartition("/")
    known[name] = (bool(head) and _through_link(root, head, known)) or (root / name).is_symlink()
    return known[name]


def _git(root: Path, *which: str) -> list[str] | None:
    """What ``git ls-files`` lists under ``root``; None where there is no git or no work tree.

    Raises:
        ManifestError: git refuses for another reason, such as a work tree of another owner. To
            list all files instead would publish what it ignores.
    """
    # Variables that a git hook sets would point git at another work tree.
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env["LC_ALL"] = "C"  # its words are looked at below
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-z", *which],
            capture_output=True,
            check=False,
            timeout=60,
            env=env,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        said = " ".join(done.stderr.decode(errors="replace").split())
        if "not a git repository" in said:
            return None
        raise ManifestError(f"git cannot list the files: {said}", place=str(root))
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name]


def _walk(root: Path) -> list[str]:
    names: list[str] = []
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = [name for name in folders if name not in _NEVER and name not in linked]
        names.extend((here / name).relative_to(root).as_posix() for name in [*files, *linked])
    return names
