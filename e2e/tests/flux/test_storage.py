"""Helm's records: read as Helm writes them, refused when they are something else."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from cilium_e2e.flux.storage import HelmRecord, parse, records
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError
from support.memory import MemoryTransport


def secret(chart: str = "cilium", *, revision: int = 1, status: str = "deployed") -> dict[str, Any]:
    release = {
        "name": chart,
        "namespace": chart,
        "version": revision,
        "info": {"status": status},
        "chart": {"metadata": {"name": chart, "version": "1.18.4"}},
    }
    packed = base64.b64encode(gzip.compress(json.dumps(release).encode()))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": f"sh.helm.release.v1.{chart}.v{revision}",
            "namespace": "storage",
            "labels": {"owner": "helm", "name": chart, "status": status},
        },
        "data": {"release": base64.b64encode(packed).decode()},
    }


def test_a_record() -> None:
    record = parse(secret(revision=3, status="superseded"))
    assert record == HelmRecord("storage", "cilium", "cilium", "cilium", "1.18.4", 3, "superseded")
    assert record.identity == ("cilium", "cilium", "storage")


def test_only_records_of_the_chart() -> None:
    other = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "tls", "namespace": "storage"}}
    kube = Kube(MemoryTransport(secret(), secret(revision=2), secret("podinfo"), other))
    assert [record.revision for record in records(kube, "cilium")] == [1, 2]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"release": ""},
        {"release": "%%%"},
        {"release": base64.b64encode(b"plain").decode()},
        {"release": base64.b64encode(base64.b64encode(gzip.compress(b"{}")[:-4])).decode()},
        {"release": base64.b64encode(base64.b64encode(gzip.compress(b"[]"))).decode()},
        {"release": base64.b64encode(base64.b64encode(gzip.compress(b"{}"))).decode()},
    ],
)
def test_what_is_no_record(data: dict[str, str]) -> None:
    with pytest.raises(ClusterStateError, match=r"Secret storage/sh\.helm.*: expected a record"):
        parse({**secret(), "data": data})
