"""A private copy of the tree to build layers in, because Flux edits kustomization.yaml before it builds.

kustomize-controller unpacks the artifact, writes what the Flux Kustomization asks for (patches, images,
target namespace ...) into the folder's own kustomization.yaml, generates one where there is none, and runs
kustomize. An overlay on top would not be the same: kustomize applies patches before it renames, so a patch
that names its target finds it in the one case and not in the other. The copy holds exactly what would be
published, so a reference to an ignored file fails here as it fails in the cluster.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

import yaml

from cilium_e2e.model import ManifestError, Object
from cilium_e2e.repository import kustomize
from cilium_e2e.repository.files import IGNORED_BY_FLUX, TreeFiles, source_ignored, tracked_files
from cilium_e2e.repository.shapes import check_shape
from cilium_e2e.repository.tree import BuiltObject
from cilium_e2e.repository.yamlfiles import parse, read_mapping, read_text, type_name

_ORIGIN = "config.kubernetes.io/origin"
_YAML = (".yaml", ".yml")
_NOTHING: Mapping[str, Any] = {}
_EDITS = ("targetNamespace", "namePrefix", "nameSuffix", "patches", "components", "images")


def _place(source: Path, target: Path) -> None:
    """Have a file in the copy: as a second name of the same file where that can be, which costs little.

    Not where something is written to it here.
    """
    if source.name not in kustomize.KUSTOMIZATION_FILES:
        with suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


class Workspace:
    """The copy; use it in a ``with`` statement.

    Attributes:
        root: the repository it was made from.
        files: what was copied.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: TreeFiles = tracked_files(root)
        self._copy = Path()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._source_ignored: frozenset[str] | None = None

    def __enter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="cilium-e2e-")
        self._copy = Path(self._temporary.name).resolve()
        made: set[Path] = set()
        for name in self.files.files:
            target = self._copy / name
            if target.parent not in made:
                target.parent.mkdir(parents=True, exist_ok=True)
                made.add(target.parent)
            _place(self.root / name, target)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    def text(self, file: str) -> str:
        """The text of a file of the tree."""
        return read_text(self._copy / file, place=file)

    def is_folder(self, path: str) -> bool:
        """Whether the tree has that folder."""
        return (self._copy / path).is_dir()

    def build(
        self, path: str, spec: Mapping[str, Any] = _NOTHING, *, hint: str = ""
    ) -> tuple[BuiltObject, ...]:
        """Build a folder with what a Flux Kustomization's ``spec`` adds.

        Args:
            path: the folder, relative to the root, normalized.
            spec: the Flux Kustomization's; empty for a plain build.
            hint: what to do where the folder turns out to hold nothing.

        Raises:
            ManifestError: the folder is missing or holds no manifests, a file is no YAML (``file:line``),
                or kustomize refuses.
        """
        folder = self._copy / path
        if not folder.is_dir():
            raise ManifestError("no such folder in the repository", place=path)
        existing = kustomization_file(folder)
        file = existing or folder / kustomize.KUSTOMIZATION_FILES[0]
        if not existing and not self._manifests(path):
            raise ManifestError(
                "expected a kustomization.yaml or manifests, found neither", place=path, hint=hint
            )
        self._check_yaml(path, seen=set())
        if existing:
            wanted = read_mapping(existing, place=self._name(existing))
        else:
            wanted = {"resources": self._manifests(path)}
        own = [*_list_of(wanted, "buildMetadata", self._name(file))]
        _add(wanted, spec, folder)
        wanted["buildMetadata"] = sorted({*own, "originAnnotations"})
        before = file.read_bytes() if existing else None
        file.unlink(missing_ok=True)  # whatever it is, it must not be the user's own file that is written to
        file.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")
        try:
            text = kustomize.build(folder, root=self._copy, place=path)
        finally:
            if before is None:
                file.unlink()
            else:
                file.write_bytes(before)
        keep = "originAnnotations" in own
        documents = parse(text, place=path)
        return tuple(_built(document, path, keep=keep) for document in documents)

    def _ignored(self, name: str) -> bool:
        if self._source_ignored is None:
            self._source_ignored = source_ignored(self.root, self.files)
        return name in self._source_ignored or not IGNORED_BY_FLUX.isdisjoint(PurePosixPath(name).parts)

    def _name(self, file: Path) -> str:
        return file.relative_to(self._copy).as_posix()

    def _manifests(self, path: str) -> list[str]:
        """What Flux lists where a folder has no kustomization.yaml.

        That is every YAML file below it; a sub-folder that has a kustomization.yaml is listed as a whole.
        """
        folder = self._copy / path
        found: list[str] = []
        for here, folders, files in os.walk(folder):
            current = Path(here)
            if current != folder and kustomization_file(current):
                found.append(f"./{current.relative_to(folder).as_posix()}")
                folders.clear()
                continue
            folders.sort()
            found += [
                f"./{(current / name).relative_to(folder).as_posix()}"
                for name in sorted(files)
                if name.endswith(_YAML) and not self._ignored(self._name(current / name))
            ]
        return found

    def _check_yaml(self, path: str, *, seen: set[str]) -> None:
        """Parse every local file a build of ``path`` reads, for errors with a line, before kustomize does."""
        path = posixpath.normpath(path)
        if path in seen:
            return
        seen.add(path)
        folder = self._copy / path
        file = kustomization_file(folder)
        if file is None:
            for name in self._manifests(path):
                self._check_entry(posixpath.join(path, name), place=path, seen=seen)
            return
        place = self._name(file)
        content = read_mapping(file, place=place)
        for entry in _named_in(content, place):
            if not is_remote(entry):
                self._check_entry(posixpath.join(path, entry), place=place, seen=seen)

    def _check_entry(self, name: str, *, place: str, seen: set[str]) -> None:
        name = posixpath.normpath(name)
        if name.startswith("../") or name == ".." or PurePosixPath(name).is_absolute():
            raise ManifestError(f"{name} is outside of the repository, where Flux does not read", place=place)
        target = self._copy / name
        if target.is_dir():
            if kustomization_file(target) is None:
                raise ManifestError(f"{name} has no kustomization.yaml", place=place)
            self._check_yaml(name, seen=seen)
        elif target.is_file():
            if name.endswith(_YAML):
                parse(read_text(target, place=name), place=name)
        else:
            why = "no such file or folder"
            if (self.root / name).exists():
                why = "git ignores it, or it is a symbolic link, so Flux would not see it"
            raise ManifestError(f"names {name}: {why}", place=place)


def kustomization_file(folder: Path) -> Path | None:
    """The kustomization file of a folder, None where there is none."""
    return next((folder / name for name in kustomize.KUSTOMIZATION_FILES if (folder / name).is_file()), None)


def changes_build(spec: Mapping[str, Any]) -> bool:
    """Whether a Flux Kustomization's ``spec`` makes its build differ from a plain one."""
    return any(spec.get(key) for key in _EDITS)


def is_remote(entry: str) -> bool:
    """Whether a resource of a kustomization is an address, which kustomize fetches."""
    lowered = entry.lower()
    starts = ("git::", "gh:", "ssh://", "https://", "http://", "git@", "github.com:", "github.com/")
    return lowered.startswith(starts) or "?ref=" in lowered


def _named_in(content: Mapping[str, Any], place: str) -> list[str]:
    """The files and folders that a kustomization names and that are YAML or hold it."""
    found: list[str] = []
    for key in ("resources", "bases", "components"):
        for entry in _list_of(content, key, place):
            if not isinstance(entry, str):
                raise ManifestError(f"expected strings in {key}, got {type_name(entry)}", place=place)
            found.append(entry)
    for key in ("patches", "patchesJson6902", "replacements"):
        paths = [entry.get("path") for entry in _list_of(content, key, place) if isinstance(entry, dict)]
        found += [path for path in paths if isinstance(path, str)]
    return found


def _list_of(content: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = content.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ManifestError(f"expected a list in {key}, got {type_name(value)}", place=place)
    return value


def _add(wanted: dict[str, Any], spec: Mapping[str, Any], folder: Path) -> None:
    """Write into a kustomization what kustomize-controller writes into it."""
    for theirs, ours in (("targetNamespace", "namespace"), ("namePrefix",) * 2, ("nameSuffix",) * 2):
        if spec.get(theirs):
            wanted[ours] = spec[theirs]
    patches = [
        {key: patch[key] for key in ("patch", "target") if key in patch}
        for patch in spec.get("patches") or []
    ]
    if patches:
        wanted["patches"] = [*(wanted.get("patches") or []), *patches]
    components = [
        entry
        for entry in spec.get("components") or []
        if not spec.get("ignoreMissingComponents") or (folder / entry).exists()
    ]
    if components:
        wanted["components"] = [*(wanted.get("components") or []), *components]
    if spec.get("images"):
        names = {image["name"] for image in spec["images"]}
        kept = [image for image in wanted.get("images") or [] if image.get("name") not in names]
        wanted["images"] = [*kept, *spec["images"]]


def _built(document: object, path: str, *, keep: bool) -> BuiltObject:
    if not isinstance(document, dict):
        raise ManifestError(f"kustomize built a {type_name(document)}, expected an object", place=path)
    built: Object = document
    check_shape(built, place=path)
    annotations = built["metadata"].get("annotations") or {}
    origin = str(annotations.get(_ORIGIN, ""))
    if origin and not keep:
        del annotations[_ORIGIN]
        if not annotations:
            del built["metadata"]["annotations"]
    source = next((line[6:].strip() for line in origin.splitlines() if line.startswith("path: ")), "")
    return BuiltObject(built, posixpath.normpath(posixpath.join(path, source)) if source else "")
