"""OCI artifacts and chart repositories as plain files, to be served by GET.

Formats: the OCI image specification's manifest, Flux's media types for a tree of manifests, and the
index.yaml of a Helm repository.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from cilium_e2e.model import InputError

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.cncf.flux.config.v1+json"
# It travels over no network worth the name, and whoever waits for it waits for all of this.
_QUICKLY = 1
_CONTENT_TYPE = "application/vnd.cncf.flux.content.v1.tar+gzip"


@dataclass(frozen=True, slots=True)
class Artifact:
    """Files to serve, by path below the server's root.

    Attributes:
        digest: ``sha256:...`` of the manifest; equal trees have equal digests.
        files: path to content.
    """

    digest: str
    files: Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class Chart:
    """A packaged chart: its name, version and application version, its default values, its bytes."""

    name: str
    version: str
    app_version: str
    values: Mapping[str, object]
    package: bytes


def tree(root: Path, paths: Iterable[str], *, name: str) -> Artifact:
    """A tree of files as an OCI artifact of Flux's content type.

    Args:
        root: the folder the paths are relative to.
        paths: files and symbolic links, in any order, with ``/`` between their parts.
        name: the OCI repository's name.

    Raises:
        InputError: a file vanished or cannot be read.
    """
    layer = _tar_gz(root, sorted(paths))
    config = b"{}"
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": _CONTENT_TYPE, "digest": digest(layer), "size": len(layer)}],
        },
        sort_keys=True,
    ).encode()
    base = f"v2/{name}"
    return Artifact(
        digest(manifest),
        {
            f"{base}/manifests/{digest(manifest)}": manifest,
            f"{base}/blobs/{digest(config)}": config,
            f"{base}/blobs/{digest(layer)}": layer,
        },
    )


def digest(content: bytes) -> str:
    """``sha256:`` and the sum in hexadecimal digits."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def read_chart(path: Path) -> Chart:
    """A chart from a ``.tgz`` or from an unpacked folder.

    Raises:
        InputError: neither, or its Chart.yaml is missing or malformed.
    """
    place = str(path)
    try:
        package = _package(path) if path.is_dir() else path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as archive:
            meta = _member(archive, "Chart.yaml")
            values = _member(archive, "values.yaml")
    except (OSError, tarfile.TarError, EOFError, zlib.error, yaml.YAMLError, TypeError, KeyError) as error:
        raise InputError(
            f"expected a Helm chart, a .tgz or a folder: {' '.join(str(error).split())}",
            place=place,
            hint="Make one with helm package.",
        ) from error
    try:
        about = yaml.safe_load(meta or b"")
        name, version, app_version = about["name"], about["version"], about.get("appVersion", "")
    except (yaml.YAMLError, TypeError, KeyError, ValueError) as error:
        raise InputError(
            f"its Chart.yaml has no name and version: {' '.join(repr(error).split())}", place=place
        ) from error
    try:
        defaults = yaml.safe_load(values or b"") or {}
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"its values.yaml is no YAML: {' '.join(str(error).split())}", place=place
        ) from error
    if not isinstance(defaults, dict):
        raise InputError("expected a mapping in its values.yaml", place=place)
    return Chart(str(name), str(version), str(app_version), defaults, package)


def chart_repository(chart: Chart, *, folder: str) -> dict[str, bytes]:
    """The files of a Helm repository that holds one chart, below ``folder``."""
    package = f"{chart.name}-{chart.version}.tgz"
    entry = {
        "apiVersion": "v2",
        "name": chart.name,
        "version": chart.version,
        "appVersion": chart.app_version,
        "digest": hashlib.sha256(chart.package).hexdigest(),
        "urls": [package],
    }
    index = yaml.safe_dump({"apiVersion": "v1", "entries": {chart.name: [entry]}}).encode()
    return {f"{folder}/index.yaml": index, f"{folder}/{package}": chart.package}


def _tar_gz(root: Path, paths: Iterable[str]) -> bytes:
    """A reproducible archive: no times, no owners."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=_QUICKLY) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in paths:
            try:
                _add(archive, root / path, path)
            except OSError as error:
                raise InputError(f"a file of the tree cannot be read: {error}", place=path) from error
    return buffer.getvalue()


def _package(folder: Path) -> bytes:
    """An unpacked chart as helm would package it: below one folder of the chart's name."""
    about = yaml.safe_load((folder / "Chart.yaml").read_bytes())
    files = sorted(
        str(PurePosixPath(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file()
    )
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=_QUICKLY) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name in files:
            _add(archive, folder / name, f"{about['name']}/{name}", follow=True)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, file: Path, name: str, *, follow: bool = False) -> None:
    """Add a file or a symbolic link as what it is, and nothing of when, whose and on which disk it is."""
    # Not gettarinfo: of two hard links to a file it makes the second one a link, which Flux leaves out.
    info = tarfile.TarInfo(name)
    if file.is_symlink() and not follow:
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, str(file.readlink()), 0o777
        archive.addfile(info)
        return
    content = file.read_bytes()
    info.size, info.mode = len(content), 0o755 if file.stat().st_mode & 0o100 else 0o644
    archive.addfile(info, io.BytesIO(content))


def _member(archive: tarfile.TarFile, name: str) -> bytes | None:
    """A file of the chart's top folder."""
    for info in archive:
        if PurePosixPath(info.name).parts[1:] == (name,):
            file = archive.extractfile(info)
            return file.read() if file else None
    return None
