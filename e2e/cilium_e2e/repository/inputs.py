"""Things the tree names and does not hold: an address and the checksum of what must be found there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cilium_e2e.model import ManifestError
from cilium_e2e.repository.yamlfiles import read_mapping

INSTALL_INPUT = "install.input.yaml"
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FluxInstall:
    """Flux's install manifest.

    Attributes:
        version: the release, for people.
        url: where it is.
        sha256: of its content, 64 lower-case hexadecimal digits.
    """

    version: str
    url: str
    sha256: str


def read_flux_install(file: Path, *, place: str = "") -> FluxInstall:
    """Read an ``install.input.yaml``.

    Raises:
        ManifestError: a key is missing, unknown or malformed; an empty checksum is refused, because it
            would let anything be installed that the address happens to answer.
    """
    place = place or str(file)
    data = read_mapping(file, place=place)
    wanted = {"version", "url", "sha256"}
    if set(data) != wanted:
        seen = ", ".join(sorted(map(str, data))) or "none"
        raise ManifestError(f"expected the keys {', '.join(sorted(wanted))}, got {seen}", place=place)
    version, url, sha256 = (str(data[key] or "") for key in ("version", "url", "sha256"))
    if not url.startswith("https://"):
        raise ManifestError(f"expected an https:// address, got {url!r}", place=place)
    if not _SHA256.fullmatch(sha256):
        raise ManifestError(
            f"expected the sha256 of what stands at {url} (64 hexadecimal digits), got {sha256!r}",
            place=place,
        )
    return FluxInstall(version, url, sha256)
