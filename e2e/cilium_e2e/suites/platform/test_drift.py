"""README, "GitOps Workflow": what somebody changes by hand is put back, by Helm's and Kustomize's controller.

"Sync Interval: 30m" is how long that may take; here Flux is asked to look now, as ``flux reconcile`` does.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from cilium_e2e.flux.request import reconcile
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, PatchType, Ref
from cilium_e2e.repository import Repository, dig

pytestmark = [pytest.mark.flowless, pytest.mark.usefixtures("disposable"), pytest.mark.tier("full")]

RECONCILED_WITHIN_S = 60.0
LABEL = "app.kubernetes.io/part-of"
OTHER = "changed-by-hand"

Change = Callable[[Ref, Mapping[str, Any]], Object]


@pytest.fixture
def change(kube: Kube) -> Iterator[Change]:
    """Changes fields of an object as somebody with kubectl would; what is not put back is, at the end."""
    before: list[tuple[Ref, Object]] = []

    def patch(ref: Ref, body: Mapping[str, Any]) -> Object:
        old = kube.get(ref)
        before.append((ref, _of(old, body)))
        return kube.retry(lambda: kube.transport.patch(ref, dict(body), patch_type=PatchType.MERGE))

    yield patch
    for ref, body in before:
        kube.transport.patch(ref, body, patch_type=PatchType.MERGE)


def _of(obj: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """What an object has where a merge patch would change it."""
    return {
        key: _of(obj.get(key) or {}, value) if isinstance(value, Mapping) else obj.get(key)
        for key, value in body.items()
    }


@pytest.fixture
def detects_drift(repository: Repository) -> None:
    """The release asks for it: helm-controller's default is not to look."""
    mode = dig(repository.release.object["spec"], "driftDetection.mode")
    if mode != "enabled":
        pytest.skip(f"the release does not ask for it: driftDetection.mode is {mode or 'not set'}")


@pytest.mark.usefixtures("detects_drift")
def test_a_field_of_the_release_is_put_back(kube: Kube, repository: Repository, change: Change) -> None:
    """Claim "managed through Git": a label that the chart sets on the agents' DaemonSet; no pod has it."""
    ref = Ref("apps/v1", "DaemonSet", "cilium", repository.release.target_namespace)
    label = kube.get(ref)["metadata"]["labels"][LABEL]
    assert label != OTHER
    changed = change(ref, {"metadata": {"labels": {LABEL: OTHER}}})
    assert changed["metadata"]["labels"][LABEL] == OTHER
    reconcile(kube, repository.release.ref, timeout_s=RECONCILED_WITHIN_S)
    after = kube.get(ref)
    assert after["metadata"]["labels"][LABEL] == label
    assert after["metadata"]["generation"] == changed["metadata"]["generation"], "the agents were touched"


@pytest.mark.requires("hubble-relay")
@pytest.mark.usefixtures("detects_drift")
def test_configuration_of_the_release_is_put_back(kube: Kube, repository: Repository, change: Change) -> None:
    """Claim "configurations are managed through Git": relay's, which it reads at its start only."""
    ref = Ref("v1", "ConfigMap", "hubble-relay-config", repository.release.target_namespace)
    text = kube.get(ref)["data"]["config.yaml"]
    change(ref, {"data": {"config.yaml": f"{text}\n# {OTHER}\n"}})
    reconcile(kube, repository.release.ref, timeout_s=RECONCILED_WITHIN_S)
    assert kube.get(ref)["data"]["config.yaml"] == text


@pytest.mark.usefixtures("detects_drift")
def test_what_is_deleted_of_the_release_comes_back(kube: Kube, repository: Repository) -> None:
    """Claim "managed through Git": an object deleted by hand. Agents need this Role only when they start."""
    namespace = repository.release.target_namespace
    ref = Ref("rbac.authorization.k8s.io/v1", "Role", "cilium-config-agent", namespace)
    before = kube.get(ref)
    kube.delete(ref)
    try:
        reconcile(kube, repository.release.ref, timeout_s=RECONCILED_WITHIN_S)
        after = kube.get(ref)
    finally:
        if kube.find(ref) is None:
            kept = {
                key: before["metadata"][key] for key in ("labels", "annotations") if key in before["metadata"]
            }
            kube.apply({**before, "metadata": {**kept, "name": ref.name, "namespace": ref.namespace}})
    assert after["metadata"]["uid"] != before["metadata"]["uid"], "expected it to have been deleted"
    assert after["rules"] == before["rules"]


def test_a_field_of_a_kustomization_is_put_back(kube: Kube, repository: Repository, change: Change) -> None:
    """Claim "managed through Git like other resources": the HelmRelease's interval."""
    release = repository.release
    wanted = kube.get(release.ref)["spec"]["interval"]
    assert wanted == release.object["spec"]["interval"], "it differs from the tree before anybody changed it"
    changed = change(release.ref, {"spec": {"interval": "29m59s"}})
    assert changed["spec"]["interval"] == "29m59s"
    namespace, _, name = release.layer.partition("/")
    layer = Ref("kustomize.toolkit.fluxcd.io/v1", "Kustomization", name, namespace)
    if not name:
        pytest.skip("the release is not applied by a Kustomization of the tree")
    reconcile(kube, layer, timeout_s=RECONCILED_WITHIN_S)
    assert kube.get(release.ref)["spec"]["interval"] == wanted
