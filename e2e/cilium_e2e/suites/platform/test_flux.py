"""README, "Flux Integration": Flux has reconciled everything, as one release, under the tree's identity."""

from collections.abc import Sequence
from typing import Any

import pytest

from cilium_e2e.flux import explain
from cilium_e2e.flux.storage import HelmRecord, records
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import Object, Ref
from cilium_e2e.repository import Repository, dig

pytestmark = pytest.mark.flowless

# A test of drift may be under way beside these: not ready for a moment is no failure.
READY_WITHIN_S = 45.0
KUSTOMIZATIONS = Ref("kustomize.toolkit.fluxcd.io/v1", "Kustomization")
SOURCE_KINDS = ("OCIRepository", "GitRepository", "Bucket", "HelmRepository", "HelmChart")


def _all_ready(kube: Kube, ref: Ref, what: str) -> list[Object]:
    def ready(found: Sequence[Object]) -> list[Object] | None:
        return list(found) if found and all(is_true(obj, "Ready") for obj in found) else None

    return kube.wait(
        ref,
        ready,
        timeout_s=READY_WITHIN_S,
        what=f"{what} to be ready",
        describe=lambda found: "; ".join(map(explain.state, found)) or "none",
    )


def _sources(kube: Kube) -> list[Object]:
    found = []
    for kind in SOURCE_KINDS:
        # Not every version of Flux has all of the kinds, and some have one as a beta.
        listed = kube.list_known(Ref("source.toolkit.fluxcd.io/v1", kind))
        found += [{**obj, "kind": kind, "apiVersion": "source.toolkit.fluxcd.io/v1"} for obj in listed]
    return found


@pytest.fixture
def helm_release(kube: Kube, repository: Repository) -> Object:
    """The HelmRelease under test, ready."""
    return _all_ready(kube, repository.release.ref, "the HelmRelease")[0]


@pytest.fixture(scope="module")
def helm_records(kube: Kube, repository: Repository) -> list[HelmRecord]:
    """What Helm has stored of this chart, anywhere."""
    return records(kube, repository.release.chart.name)


def test_the_release_is_deployed(helm_release: Object) -> None:
    """Claim "Cilium will be automatically deployed by Flux": Released, and Ready for what it says now."""
    # Helm's last word, which stays while generations change that are nothing to Helm, such as the interval.
    released = {c["type"]: c["status"] for c in helm_release["status"]["conditions"]}.get("Released")
    assert released == "True", explain.state(helm_release)
    newest = helm_release["status"]["history"][0]
    assert newest["status"] == "deployed", newest


def test_the_release_is_never_uninstalled(helm_release: Object, repository: Repository) -> None:
    """A CNI is not a web app: what the API server stored of the tree's remediation does not uninstall.

    An older Flux drops fields that it does not know, such as ``strategy``, without a word.
    """
    spec = helm_release["spec"]
    for action in ("install", "upgrade"):
        wanted = dig(repository.release.object["spec"], action) or {}
        stored: dict[str, Any] = spec.get(action) or {}
        lost = sorted(key for key in wanted if key not in stored)
        assert not lost, f"the API server dropped {lost} of spec.{action}"
        remediation = stored.get("remediation") or {}
        retries = (stored.get("strategy") or {}).get("name") == "RetryOnFailure"
        uninstalls = (
            remediation.get("retries", 0) != 0 or remediation.get("remediateLastFailure", False)
            if action == "install"
            else remediation.get("strategy") == "uninstall"
        )
        assert retries or not uninstalls, f"a failed {action} is remediated by uninstalling: {stored}"
    actions = {entry.get("status") for entry in helm_release["status"]["history"]}
    assert not actions & {"uninstalled", "uninstalling"}, f"it was uninstalled before: {actions}"


def test_the_release_has_the_trees_identity(
    helm_release: Object, helm_records: list[HelmRecord], repository: Repository
) -> None:
    """Claim "Namespace Isolation": release name, target and storage namespace, for Flux and for Helm."""
    release = repository.release
    newest = helm_release["status"]["history"][0]
    assert (newest["name"], newest["namespace"]) == (release.release_name, release.target_namespace)
    assert helm_release["status"]["storageNamespace"] == release.storage_namespace
    live = [record for record in helm_records if record.status == "deployed"]
    assert [record.identity for record in live] == [release.identity], f"Helm's records: {live}"
    assert (live[0].version, live[0].revision) == (newest["chartVersion"], newest["version"])


def test_there_is_no_second_release(helm_records: list[HelmRecord], repository: Repository) -> None:
    """No other Helm release of the chart is anywhere, nor was there one: two would fight over the network."""
    assert {record.identity for record in helm_records} == {repository.release.identity}
    pending = [record for record in helm_records if record.status not in {"deployed", "superseded"}]
    assert not pending


def test_every_kustomization_is_ready_at_its_sources_revision(kube: Kube, repository: Repository) -> None:
    """Claim "managed through Git like other resources": every layer, at what its source has."""
    live = _all_ready(kube, KUSTOMIZATIONS, "every Kustomization")
    names = {f"{obj['metadata']['namespace']}/{obj['metadata']['name']}" for obj in live}
    layers = {layer.name for layer in repository.layers if layer.kustomization is not None}
    assert layers <= names, f"expected the tree's layers {layers}, got {names}"
    sources = {Ref.of(source): source for source in _sources(kube)}
    for obj in live:
        name = obj["metadata"]["name"]
        ref = obj["spec"]["sourceRef"]
        namespace = ref.get("namespace") or obj["metadata"]["namespace"]
        source = sources[Ref("source.toolkit.fluxcd.io/v1", ref["kind"], ref["name"], namespace)]
        assert obj["status"]["lastAppliedRevision"] == source["status"]["artifact"]["revision"], name
        assert obj["status"]["lastAttemptedRevision"] == obj["status"]["lastAppliedRevision"], name


def test_every_source_is_ready(kube: Kube) -> None:
    """Claim "Managed through Git": each source has fetched what it points at, by digest if so pinned."""
    sources = _sources(kube)
    assert {source["kind"] for source in sources} & {"OCIRepository", "GitRepository"}
    for source in sources:
        if source["kind"] == "HelmRepository" and source["spec"].get("type") == "oci":
            continue  # a mere address: Flux gives it no status
        assert is_true(source, "Ready"), explain.state(source)
        pinned = dig(source, "spec.ref.digest")
        if pinned:
            assert source["status"]["artifact"]["revision"].endswith(pinned), explain.state(source)
