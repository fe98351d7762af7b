"""Helm's own records of its releases: Secrets, each a release in one revision."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from dataclasses import dataclass

from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, Object, Ref

SELECTOR = "owner=helm"


@dataclass(frozen=True, slots=True)
class HelmRecord:
    """One revision of one Helm release.

    Attributes:
        storage: the namespace its record is in.
        release: the release's name.
        namespace: where it installs.
        chart, version: what it installed.
        revision: 1 for the first.
        status: ``deployed``, ``superseded``, ``failed``, ``uninstalled`` ...
    """

    storage: str
    release: str
    namespace: str
    chart: str
    version: str
    revision: int
    status: str

    @property
    def identity(self) -> tuple[str, str, str]:
        """Release name, target namespace, storage namespace: as the tree's release has it."""
        return (self.release, self.namespace, self.storage)


def records(kube: Kube, chart: str) -> list[HelmRecord]:
    """All records of a chart, in all namespaces.

    Raises:
        ClusterStateError: a record cannot be read.
    """
    found = [parse(secret) for secret in kube.list_all(Ref("v1", "Secret"), label_selector=SELECTOR)]
    return [record for record in found if record.chart == chart]


def parse(secret: Object) -> HelmRecord:
    """A record: JSON, gzipped, in Helm's base64, in a Secret's base64.

    Raises:
        ClusterStateError: it is something else.
    """
    meta = secret["metadata"]
    place = f"Secret {meta['namespace']}/{meta['name']}"
    try:
        packed = base64.b64decode(base64.b64decode(secret["data"]["release"]))
        release = json.loads(gzip.decompress(packed))
        about = release["chart"]["metadata"]
        return HelmRecord(
            storage=meta["namespace"],
            release=release["name"],
            namespace=release["namespace"],
            chart=about["name"],
            version=about["version"],
            revision=int(release["version"]),
            status=release["info"]["status"],
        )
    except (binascii.Error, OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise ClusterStateError(f"expected a record of a Helm release: {error!r}", place=place) from error
