"""Input that only Flux can tell to be bad: one clear error each, at once, with pytest's exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cilium_e2e.flux import reconcile
from cilium_e2e.flux.deploy import TREE, Deployment
from cilium_e2e.kube import Kube
from cilium_e2e.model import EXIT_INTERRUPTED, Object, ReconcileError, Ref
from support.gitops import layer
from support.memory import MemoryTransport
from support.recordings import FOLDER, items, recorded

DIGEST = "sha256:new"
REFUSED = (FOLDER / "admission-rejected.txt").read_text().strip()


@pytest.fixture
def deployment() -> Deployment:
    layers = [layer("cilium"), layer("policies", "cilium")]
    for obj in layers:
        obj["spec"]["sourceRef"] = {"kind": "OCIRepository", "name": TREE}
    return Deployment(
        kustomizations=layers,
        release=Ref("helm.toolkit.fluxcd.io/v2", "HelmRelease", "cilium", "cilium"),
        release_layer=Ref.of(layers[0]),
        chart=Ref("source.toolkit.fluxcd.io/v1", "HelmChart", "cilium-cilium", "cilium"),
        digest=DIGEST,
        target_namespace="cilium",
    )


def renamed(name: str) -> Object:
    """A recorded release under the name of the one under test."""
    found: Object = recorded(name)
    found["metadata"]["name"] = "cilium"
    return found


def told(wait: Callable[[], object]) -> str:
    with pytest.raises(ReconcileError) as caught:
        wait()
    assert caught.value.exit_code == EXIT_INTERRUPTED
    return str(caught.value)


def release_of(deployment: Deployment, *objects: Object) -> str:
    api = MemoryTransport(*objects, watchers=3)
    kube = Kube(api, clock=api.clock)
    try:
        return told(lambda: reconcile.wait_release(kube, deployment, timeout_s=600, progress=lambda _: None))
    finally:
        assert api.clock.now < 1060, "it is told long before the time is up"
        api.close()


def test_a_chart_version_that_does_not_exist(deployment: Deployment) -> None:
    """The release itself only says that its source is not ready; the chart says why."""
    words = "invalid chart reference: failed to get chart version for remote reference: no 'cilium' chart"
    chart = next(obj for obj in items("helmrepository-helmchart") if obj["kind"] == "HelmChart")
    chart["status"]["conditions"][0].update(status="False", reason="InvalidChartReference", message=words)
    text = release_of(deployment, renamed("helmrelease-missing-version"), chart)
    assert text.splitlines()[0] == (
        f"HelmChart cilium/cilium-cilium: {words}. Give a version that the chart's repository has."
    )


def test_values_that_break_the_chart_s_schema(deployment: Deployment) -> None:
    text = release_of(deployment, renamed("helmrelease-bad-values"))
    assert text.startswith("HelmRelease cilium/cilium: Helm install failed for release ")
    assert "- at '/ipam/mode': got number, want string" in text
    assert text.count("Helm install failed") == 1
    assert "The chart refused the values" in text


def test_a_policy_that_the_api_server_refuses(deployment: Deployment) -> None:
    """Flux's message names the policy, the field, and what it may be."""
    words = f"CiliumNetworkPolicy/default/invalid-proto dry-run failed (Invalid): {REFUSED}"
    good, bad = (obj | {"status": {}} for obj in deployment.kustomizations)
    for obj, status, reason, message in (
        (good, "True", "ReconciliationSucceeded", ""),
        (bad, "False", "ReconciliationFailed", words),
    ):
        obj["metadata"]["generation"] = 1
        entry = {"type": "Ready", "status": status, "reason": reason, "message": message}
        obj["status"] = {
            "conditions": [{**entry, "observedGeneration": 1}],
            "lastAppliedRevision": f"latest@{DIGEST}",
        }
    api = MemoryTransport(good, bad)
    kube = Kube(api, clock=api.clock)
    text = told(lambda: reconcile.wait_layers(kube, deployment, timeout_s=600, progress=lambda _: None))
    assert text.startswith(f"Kustomization flux-system/policies: {words}")
    assert 'Unsupported value: "TPC"' in text
    assert api.clock.now < 1120, "it may pass, so it is given half a minute, and not the whole time"
