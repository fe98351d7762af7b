"""Waiting for Flux over an API in memory, with what live controllers were recorded to say."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from cilium_e2e.flux import reconcile
from cilium_e2e.flux.deploy import TREE, Deployment
from cilium_e2e.flux.manifest import FluxManifest
from cilium_e2e.kube import Kube
from cilium_e2e.model import KubeError, Object, ReconcileError, Ref, WaitTimeout
from support.gitops import layer, release
from support.memory import MemoryTransport, pod
from support.recordings import items, recorded

CHART = next(obj for obj in items("helmrepository-helmchart") if obj["kind"] == "HelmChart")


def conditioned(obj: Object, status: str, reason: str = "", message: str = "", kind: str = "Ready") -> Object:
    """The object with a condition of its current generation."""
    made = copy.deepcopy(obj)
    made["metadata"]["generation"] = 1
    entry = {"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1}
    made["status"] = {"conditions": [entry]}
    return made


def helm(status: str, reason: str = "", message: str = "") -> Object:
    return conditioned(release(), status, reason, message)


def chart(status: str, reason: str = "", message: str = "") -> Object:
    return conditioned(CHART, status, reason, message)


def kustomization(name: str, status: str, reason: str = "", message: str = "") -> Object:
    made = layer(name)
    made["spec"]["sourceRef"] = {"kind": "OCIRepository", "name": TREE}
    return conditioned(made, status, reason, message)


def at_revision(name: str, revision: str) -> Object:
    made = kustomization(name, "True")
    made["status"] |= {"lastAppliedRevision": revision, "lastAttemptedRevision": revision}
    return made


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(
        kustomizations=[layer("cilium"), layer("policies", "cilium")],
        release=Ref("helm.toolkit.fluxcd.io/v2", "HelmRelease", "cilium", "cilium"),
        chart=Ref("source.toolkit.fluxcd.io/v1", "HelmChart", "cilium-cilium", "cilium"),
        target_namespace="cilium",
    )


@pytest.fixture
def redeployment(deployment: Deployment) -> Deployment:
    deployment.release_layer = Ref.of(deployment.kustomizations[0])
    deployment.digest = "sha256:new"
    return deployment


@pytest.fixture
def api() -> Iterator[MemoryTransport]:
    found = MemoryTransport(watchers=3)
    yield found
    found.close()


@pytest.fixture
def kube(api: MemoryTransport) -> Kube:
    return Kube(api, clock=api.clock)


def wait(kube: Kube, deployment: Deployment, told: list[str] | None = None, timeout_s: float = 300) -> None:
    reconcile.wait_release(
        kube, deployment, timeout_s=timeout_s, progress=(told if told is not None else []).append
    )


def failed(kube: Kube, deployment: Deployment) -> str:
    with pytest.raises(ReconcileError) as caught:
        wait(kube, deployment)
    return str(caught.value)


class TestRelease:
    def test_ready(self, kube: Kube, api: MemoryTransport, deployment: Deployment) -> None:
        api.put(helm("Unknown", "Progressing", "Running 'install' action"))
        api.last(20, lambda: api.put(helm("True", "InstallSucceeded")))
        told: list[str] = []
        wait(kube, deployment, told)
        assert api.clock.now == 1020
        assert any("Running 'install' action" in line for line in told)

    def test_the_recorded_one(self, kube: Kube, api: MemoryTransport, deployment: Deployment) -> None:
        api.frozen = True
        api.put(recorded("helmrelease-ready"))
        wait(kube, deployment)
        assert api.clock.now == 1000

    def test_ready_of_an_older_generation_does_not_count(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        stale = recorded("helmrelease-ready")
        stale["metadata"]["generation"] += 1
        api.put(stale)
        api.last(5, lambda: api.put(recorded("helmrelease-ready")))
        wait(kube, deployment)
        assert api.clock.now == 1005

    def test_bad_values_in_helm_s_own_words(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        bad = recorded("helmrelease-bad-values")
        bad["metadata"]["name"] = "cilium"
        api.last(10, lambda: api.put(bad))
        text = failed(kube, deployment)
        assert text.startswith("HelmRelease cilium/cilium: Helm install failed for release")
        assert "- at '/ipam/mode': got number, want string" in text
        assert "The chart refused the values" in text
        assert api.clock.now == 1010

    def test_a_version_that_does_not_exist(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        missing = recorded("helmrelease-missing-version")
        missing["metadata"]["name"] = "cilium"
        api.put(missing)
        words = "invalid chart reference: no 'cilium' chart with version matching '1.99.0' found"
        api.last(10, lambda: api.put(chart("False", "InvalidChartReference", words)))
        text = failed(kube, deployment)
        assert text.startswith(f"HelmChart cilium/cilium-cilium: {words}")
        assert "Give a version that the chart's repository has" in text
        assert api.clock.now == 1010

    def test_a_layer_that_cannot_be_built(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        words = "kustomize build failed: no such file"
        api.later(3, lambda: api.put(kustomization("cilium", "False", "BuildFailed", words)))
        text = failed(kube, deployment)
        assert text.startswith(f"Kustomization flux-system/cilium: {words}")
        assert "kubectl kustomize" in text

    def test_a_layer_in_another_namespace(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        elsewhere = layer("cilium")
        elsewhere["metadata"]["namespace"] = "team"
        deployment.kustomizations.append(elsewhere)
        api.later(3, lambda: api.put(conditioned(elsewhere, "False", "BuildFailed", "broken")))
        assert failed(kube, deployment).startswith("Kustomization team/cilium: broken")

    def test_other_people_s_layers_may_fail(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(kustomization("not-ours", "False", "BuildFailed", "broken"))
        api.later(3, lambda: api.put(helm("True")))
        wait(kube, deployment)

    def test_what_flux_itself_gave_up(self, kube: Kube, api: MemoryTransport, deployment: Deployment) -> None:
        stalled = helm("False", "Whatever", "will not retry")
        stalled["status"]["conditions"].append({"type": "Stalled", "status": "True"})
        api.frozen = True
        api.put(stalled)
        assert "will not retry" in failed(kube, deployment)
        assert api.clock.now == 1000

    def test_what_may_pass_is_waited_for(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(helm("False", "SourceNotReady", "HelmChart is not ready"))
        api.put(chart("False", "ChartPullError", "connection refused"))
        api.later(20, lambda: api.put(chart("True")))
        api.later(40, lambda: api.put(helm("True")))
        wait(kube, deployment)

    def test_what_might_pass_and_does_not(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(chart("False", "ChartPullError", "connection refused"))
        text = failed(kube, deployment)
        assert text.startswith("HelmChart cilium/cilium-cilium: connection refused")
        assert api.clock.now > 1030

    def test_in_time_means_the_release_s_own_time(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(helm("Unknown", "Progressing", "Running 'install' action"))
        api.put(chart("True", "ChartPullSucceeded", "pulled"))
        api.put(kustomization("cilium", "Unknown", "Progressing", "Running health checks"))
        text = failed(kube, deployment)
        assert text.startswith(
            "HelmRelease cilium/cilium: expected HelmRelease cilium/cilium to be ready within 300 s"
        )
        assert "Ready=Unknown Progressing: Running 'install' action" in text
        assert "Kustomization flux-system/cilium: Ready=Unknown Progressing: Running health checks" in text
        assert "pulled" not in text
        assert api.clock.now >= 1300

    def test_a_release_that_never_appears(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(kustomization("cilium", "False", "DependencyNotReady", "dependency 'crds' is not ready"))
        text = failed(kube, deployment)
        assert "last seen: not there yet" in text
        assert "dependency 'crds' is not ready" in text

    def test_pods_and_events_are_told_where_they_run(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        deployment.target_namespace = "kube-system"
        waiting = {"name": "m", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
        api.put(pod("agent", "kube-system", containerStatuses=[waiting]))
        api.put(helm("False", "InstallFailed", "timed out"))
        assert "\n    Pod kube-system/agent, container m: ImagePullBackOff" in failed(kube, deployment)

    def again(self, kube: Kube, deployment: Deployment, timeout_s: float = 300) -> None:
        reconcile.wait_release(kube, deployment, timeout_s=timeout_s, progress=lambda _: None, again=True)

    def test_again_means_with_the_tree_as_it_is_now(
        self, kube: Kube, api: MemoryTransport, redeployment: Deployment
    ) -> None:
        api.put(helm("True"))
        api.put(at_revision("cilium", "sha256:old"))
        api.later(5, lambda: api.put(at_revision("policies", "latest@sha256:new")))
        api.last(10, lambda: api.put(at_revision("cilium", "latest@sha256:new")))
        self.again(kube, redeployment)
        assert api.clock.now == 1010

    def test_again_a_release_that_was_ready_must_become_so_again(
        self, kube: Kube, api: MemoryTransport, redeployment: Deployment
    ) -> None:
        api.put(helm("True"))
        api.put(at_revision("cilium", "sha256:old"))
        upgrading = {**helm("True"), "metadata": {**helm("True")["metadata"], "generation": 2}}

        def applied() -> None:
            api.put(upgrading)
            api.put(at_revision("cilium", "latest@sha256:new"))

        api.later(5, applied)
        api.last(90, lambda: api.put(helm("True")))
        self.again(kube, redeployment)
        assert api.clock.now == 1090

    def test_again_old_failures_are_past(
        self, kube: Kube, api: MemoryTransport, redeployment: Deployment
    ) -> None:
        api.put(helm("False", "InstallFailed", "of the old tree"))
        api.put(chart("False", "InvalidChartReference", "of the old tree"))
        api.put(kustomization("cilium", "False", "BuildFailed", "of the old tree"))

        def applied() -> None:
            api.put(chart("True"))
            api.put(helm("Unknown", "Progressing"))
            api.put(at_revision("cilium", "latest@sha256:new"))

        api.later(5, applied)
        api.last(10, lambda: api.put(helm("True")))
        self.again(kube, redeployment)
        assert api.clock.now == 1010

    def test_again_new_failures_are_not(
        self, kube: Kube, api: MemoryTransport, redeployment: Deployment
    ) -> None:
        failing = kustomization("cilium", "False", "BuildFailed", "of the new tree")
        failing["status"]["lastAttemptedRevision"] = "latest@sha256:new"
        api.put(helm("True"))
        api.last(5, lambda: api.put(failing))
        with pytest.raises(ReconcileError, match="of the new tree"):
            self.again(kube, redeployment)

    def test_again_a_release_that_fails_while_its_layer_waits_for_it(
        self, kube: Kube, api: MemoryTransport, redeployment: Deployment
    ) -> None:
        waiting = kustomization("cilium", "Unknown", "Progressing", "Running health checks")
        waiting["status"]["lastAttemptedRevision"] = "latest@sha256:new"
        api.put(helm("True"))
        api.later(5, lambda: api.put(waiting))
        api.later(10, lambda: api.put(helm("False", "UpgradeFailed", "of the new tree")))
        with pytest.raises(ReconcileError, match="of the new tree"):
            self.again(kube, redeployment)

    def test_again_in_vain(self, kube: Kube, api: MemoryTransport, redeployment: Deployment) -> None:
        api.put(helm("True"))
        api.put(at_revision("cilium", "sha256:old"))
        with pytest.raises(ReconcileError, match="expected Kustomization to be ready within 60 s"):
            self.again(kube, redeployment, timeout_s=60)

    def test_a_chart_ref_has_no_helm_chart(self, deployment: Deployment) -> None:
        deployment.chart = Ref("", "")
        api = MemoryTransport(watchers=2)
        api.later(5, lambda: api.put(helm("True")))
        wait(Kube(api, clock=api.clock), deployment)
        api.close()

    def test_a_refusal_ends_it(self, kube: Kube, api: MemoryTransport, deployment: Deployment) -> None:
        api.fail("list", KubeError(403, "Forbidden", "helmreleases is forbidden"), kind="HelmRelease")
        assert "helmreleases is forbidden" in failed(kube, deployment)

    def test_a_flaw_of_ours_ends_it_too(
        self, kube: Kube, api: MemoryTransport, deployment: Deployment
    ) -> None:
        api.put(helm("Unknown"))

        def broken(line: str) -> None:
            raise RuntimeError(line)

        with pytest.raises(RuntimeError, match="HelmRelease cilium/cilium"):
            reconcile.wait_release(kube, deployment, timeout_s=60, progress=broken)


@pytest.fixture
def alone() -> tuple[Kube, MemoryTransport]:
    api = MemoryTransport()
    return Kube(api, clock=api.clock), api


class TestLayers:
    def wait(self, kube: Kube, deployment: Deployment) -> None:
        reconcile.wait_layers(kube, deployment, timeout_s=60, progress=lambda _: None)

    def test_all_of_them(self, alone: tuple[Kube, MemoryTransport], deployment: Deployment) -> None:
        kube, api = alone
        api.put(kustomization("cilium", "True"))
        api.later(10, lambda: api.put(kustomization("policies", "True")))
        self.wait(kube, deployment)
        assert api.clock.now == 1010

    def test_ready_with_an_older_tree_does_not_count(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        deployment.digest = "sha256:new"
        for obj in deployment.kustomizations:
            obj["spec"]["sourceRef"] = {"kind": "OCIRepository", "name": TREE}
        api.put(at_revision("cilium", "latest@sha256:new"))
        api.put(at_revision("policies", "latest@sha256:old"))
        api.later(10, lambda: api.put(at_revision("policies", "latest@sha256:new")))
        self.wait(kube, deployment)
        assert api.clock.now == 1010

    def test_one_is_late(self, alone: tuple[Kube, MemoryTransport], deployment: Deployment) -> None:
        kube, api = alone
        api.put(kustomization("cilium", "True"))
        api.put(kustomization("policies", "Unknown", "Progressing", "Reconciliation in progress"))
        with pytest.raises(
            WaitTimeout, match="policies: Ready=Unknown Progressing: Reconciliation in progress"
        ):
            self.wait(kube, deployment)

    def test_one_fails(self, alone: tuple[Kube, MemoryTransport], deployment: Deployment) -> None:
        kube, api = alone
        api.put(kustomization("policies", "False", "BuildFailed", "kustomize build failed: no such file"))
        with pytest.raises(ReconcileError, match="kustomize build failed: no such file"):
            self.wait(kube, deployment)

    def test_a_failure_that_flux_tries_again_may_pass(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        api.put(kustomization("cilium", "True"))
        api.put(kustomization("policies", "False", "ReconciliationFailed", "no webhook answers"))
        api.later(20, lambda: api.put(kustomization("policies", "True")))
        self.wait(kube, deployment)

    def test_a_failure_that_lasts_ends_the_wait_whatever_its_words(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        api.put(kustomization("cilium", "True"))
        for second in (0, 20, 40):
            text = f"attempt at {second}"
            api.later(second, lambda t=text: api.put(kustomization("policies", "False", "Odd", t)))
        with pytest.raises(ReconcileError, match="attempt at 40"):
            self.wait(kube, deployment)

    def test_kinds_that_an_operator_registers_are_waited_for(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        api.put(kustomization("cilium", "True"))
        words = 'dry-run failed: no matches for kind "CiliumNetworkPolicy" in version "cilium.io/v2"'
        for second in (0, 20, 40):
            again = kustomization("policies", "False", "ReconciliationFailed", words)
            api.later(second, lambda obj=again: api.put(obj))
        api.later(55, lambda: api.put(kustomization("policies", "True")))
        self.wait(kube, deployment)


def crd(name: str) -> Object:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {},
    }


def controller(name: str) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "flux-system"},
        "spec": {},
    }


class TestInstall:
    FLUX = FluxManifest("x", (crd("a"), crd("b")), (controller("one"), controller("two")), ())

    def test_until_its_kinds_are_served(self, alone: tuple[Kube, MemoryTransport]) -> None:
        kube, api = alone
        api.put(crd("somebody-else-s"))
        api.later(2, lambda: api.put(conditioned(crd("a"), "True", kind="Established")))
        api.later(4, lambda: api.put(conditioned(crd("b"), "True", kind="Established")))
        reconcile.install(kube, self.FLUX, timeout_s=60)
        assert [obj["metadata"]["name"] for obj in api.applied] == ["a", "b", "one", "two"]
        assert api.clock.now == 1004
        assert api.invalidated == 1

    def test_kinds_that_are_never_served(self, alone: tuple[Kube, MemoryTransport]) -> None:
        kube, api = alone
        api.later(2, lambda: api.put(conditioned(crd("a"), "True", kind="Established")))
        with pytest.raises(WaitTimeout, match="expected Flux's CRDs to be established within 60 s"):
            reconcile.install(kube, self.FLUX, timeout_s=60)

    def test_controllers(self, alone: tuple[Kube, MemoryTransport]) -> None:
        kube, api = alone
        api.put(conditioned(controller("one"), "True", kind="Available"))
        api.later(8, lambda: api.put(conditioned(controller("two"), "True", kind="Available")))
        reconcile.wait_controllers(kube, self.FLUX, timeout_s=60)
        assert api.clock.now == 1008

    def test_a_controller_that_does_not_come_up(self, alone: tuple[Kube, MemoryTransport]) -> None:
        kube, api = alone
        api.put(conditioned(controller("one"), "True", kind="Available"))
        waiting: dict[str, Any] = {"waiting": {"reason": "ErrImagePull", "message": "no route"}}
        api.put(pod("two-1", "flux-system", containerStatuses=[{"name": "manager", "state": waiting}]))
        with pytest.raises(ReconcileError) as caught:
            reconcile.wait_controllers(kube, self.FLUX, timeout_s=60)
        assert "expected Flux's controllers to be available within 60 s" in str(caught.value)
        assert "\n    Pod flux-system/two-1, container manager: ErrImagePull no route" in str(caught.value)

    def test_the_release_s_layer_comes_last(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        deployment.release_layer = Ref.of(deployment.kustomizations[0])
        reconcile.apply_without_release(kube, deployment)
        assert [obj["metadata"]["name"] for obj in api.applied] == ["policies"]
        reconcile.apply_release(kube, deployment)
        assert [obj["metadata"]["name"] for obj in api.applied] == ["policies", "cilium"]

    def test_sources_come_before_what_uses_them(
        self, alone: tuple[Kube, MemoryTransport], deployment: Deployment
    ) -> None:
        kube, api = alone
        source = {"apiVersion": "v1", "kind": "OCIRepository", "metadata": {"name": "tree"}, "spec": {}}
        deployment.sources.append(source)
        reconcile.apply(kube, deployment)
        assert [obj["metadata"]["name"] for obj in api.applied] == ["tree", "cilium", "policies"]
