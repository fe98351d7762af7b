"""Deployments planned from small trees and from this repository's own; the patches meet a real kustomize."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cilium_e2e.flux.deploy import SKIP, TREE, ChartOverride, Deployment, ServedSource, plan
from cilium_e2e.model import InputError, Object, Ref
from cilium_e2e.repository import Repository, load, load_topology
from support.gitops import (
    FLUX,
    config_map,
    git,
    helm_repository,
    kustomized,
    layer,
    only,
    open_tree,
    release,
)

ROOT = Path(__file__).parents[3]
SERVER = "x-artifacts:8080"
SERVED = ServedSource("tree", "sha256:" + "1" * 64)
NOTHING = ChartOverride()


def planned(
    repository: Repository,
    overrides: Mapping[str, Any] | None = None,
    chart: ChartOverride = NOTHING,
    **external: ServedSource | str,
) -> Deployment:
    return plan(
        repository,
        server=SERVER,
        tree=SERVED,
        overrides=overrides or {},
        chart=chart,
        external={name.replace("__", "/"): what for name, what in external.items()},
    )


def names(objects: list[Object]) -> list[str]:
    return [obj["metadata"]["name"] for obj in objects]


def by_name(deployment: Deployment) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj["spec"] for obj in deployment.kustomizations}


def depends(deployment: Deployment, name: str) -> list[str]:
    return [f"{d['namespace']}/{d['name']}" for d in by_name(deployment)[name].get("dependsOn") or []]


def differences(deployment: Deployment) -> dict[str, str]:
    return {difference.what: difference.instead for difference in deployment.differences}


# The usual tree: flux/ names the layers, crds/ comes from elsewhere, cilium/ has the release.
USUAL: dict[str, str | list[Object]] = {
    "flux/all.yaml": [
        git(),
        git("crds", "https://git.example.org/crds"),
        layer("crds", source="crds"),
        layer("cilium", "crds"),
    ],
    "cilium/release.yaml": [helm_repository(), release(hubble={"enabled": True}, tunnelPort=8472)],
}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    policies: dict[str, str | list[Object]] = {
        "flux/policies.yaml": [layer("policies", "cilium")],
        "policies/one.yaml": [config_map()],
    }
    return open_tree(tmp_path_factory.mktemp("usual"), {**USUAL, **policies})


class TestLayers:
    def test_they_are_fed_from_the_published_tree(self, usual: Repository) -> None:
        found = planned(usual)
        source = next(obj for obj in found.sources if obj["metadata"]["name"] == TREE)
        assert source["kind"] == "OCIRepository"
        assert source["spec"]["url"] == "oci://x-artifacts:8080/tree"
        assert source["spec"]["ref"] == {"digest": SERVED.digest}
        assert source["spec"]["insecure"] is True
        for name in ("cilium", "policies"):
            assert by_name(found)[name]["sourceRef"] == {
                "kind": "OCIRepository",
                "name": TREE,
                "namespace": FLUX,
            }

    def test_everything_else_is_as_the_tree_says(self, usual: Repository) -> None:
        found = by_name(planned(usual))
        assert found["cilium"]["prune"] is True
        assert found["cilium"]["interval"] == "30m"
        assert found["policies"]["path"] == "./policies"
        assert "patches" not in found["policies"]

    def test_the_order_is_kept(self, usual: Repository) -> None:
        found = planned(usual)
        assert names(found.kustomizations) == ["crds", "cilium", "policies"]
        assert depends(found, "cilium") == ["flux-system/crds"]
        assert depends(found, "policies") == ["flux-system/cilium"]

    def test_what_is_awaited(self, usual: Repository) -> None:
        found = planned(usual)
        assert found.release == Ref("helm.toolkit.fluxcd.io/v2", "HelmRelease", "cilium", "cilium")
        assert (found.chart.kind, found.chart.namespace, found.chart.name) == (
            "HelmChart",
            "cilium",
            "cilium-cilium",
        )
        assert "wait" not in by_name(found)["cilium"], "what the tree awaits is the tree's affair"
        assert found.target_namespace == "cilium"
        assert found.release_layer == Ref.of(found.kustomizations[1])
        assert found.digest == SERVED.digest

    def test_the_loaded_tree_is_not_touched(self, usual: Repository) -> None:
        before = repr(usual)
        planned(usual, {"a": 1})
        assert repr(usual) == before

    def test_nothing_that_differs_means_no_difference(self, usual: Repository) -> None:
        assert planned(usual).differences == []

    def test_a_release_without_any_kustomization(self, tmp_path: Path) -> None:
        repository = open_tree(tmp_path, {"flux/all.yaml": [helm_repository(), release()]})
        found = planned(repository, {"debug": {"enabled": True}})
        (entry,) = found.kustomizations
        assert entry["metadata"] == {"name": "cilium-e2e-entry", "namespace": FLUX}
        assert entry["spec"]["path"] == "./flux"
        built = kustomized(repository, entry)
        assert only(built, "HelmRelease")["spec"]["values"] == {"debug": {"enabled": True}}

    def test_sops_is_left_out_and_declared(self, tmp_path: Path) -> None:
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "s", "namespace": "cilium"},
            "data": {"password": "ENC[AES256_GCM,data:x,type:str]", "plain": "eA=="},
            "sops": {"mac": "ENC[AES256_GCM,data:y]"},
        }
        decryption = {"provider": "sops", "secretRef": {"name": "keys"}}
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer("cilium", decryption=decryption)],
            "cilium/secret.yaml": [secret, {**secret, "metadata": {"name": "t", "namespace": "cilium"}}],
        }
        repository = open_tree(tmp_path, files)
        found = planned(repository)
        assert "decryption" not in by_name(found)["cilium"]
        assert differences(found)["decryption of Kustomization flux-system/cilium"] == "left out"
        secrets = [s for s in kustomized(repository, found.kustomizations[0]) if s["kind"] == "Secret"]
        assert len(secrets) == 2
        for stubbed in secrets:
            assert "sops" not in stubbed  # Flux refuses what says that it is encrypted
            assert stubbed["data"]["plain"] == "eA=="
            assert "ENC" not in stubbed["data"]["password"]


class TestPlumbing:
    def test_flux_s_own_objects_are_left_to_us(self, tmp_path: Path) -> None:
        files = {
            **USUAL,
            "flux/all.yaml": [
                git(),
                layer("cilium"),
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": FLUX}},
                {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kept"}},
                controller("source-controller"),
                config_map(namespace=FLUX),
            ],
        }
        repository = open_tree(tmp_path, files)
        found = planned(repository)
        assert names(found.kustomizations) == ["cilium-e2e-entry", "cilium"]
        built = kustomized(repository, found.kustomizations[0])
        assert sorted((obj["kind"], obj["metadata"]["name"]) for obj in built) == [
            ("ConfigMap", "c"),
            ("Namespace", "kept"),
        ]

    def test_a_release_in_flux_s_own_namespace_stays(self, tmp_path: Path) -> None:
        spec = {"targetNamespace": "kube-system", "valuesFrom": [{"kind": "ConfigMap", "name": "values"}]}
        files: dict[str, str | list[Object]] = {
            "flux/all.yaml": [
                git(),
                helm_repository(FLUX),
                release(namespace=FLUX, spec=spec, a=1),
                config_map("values", FLUX, **{"values.yaml": "b: 2\n"}),
            ]
        }
        repository = open_tree(tmp_path, files)
        found = planned(repository, {"a": 2}, ChartOverride("http://s/charts", "1.18.13", "--chart"))
        built = kustomized(repository, found.kustomizations[0])
        assert only(built, "HelmRelease")["spec"]["values"] == {"a": 2}
        assert only(built, "HelmRepository")["spec"]["url"] == "http://s/charts"
        assert only(built, "ConfigMap")["metadata"]["name"] == "values"
        assert found.target_namespace == "kube-system"

    def test_a_chart_s_own_source_stays(self, tmp_path: Path) -> None:
        oci = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "OCIRepository",
            "metadata": {"name": "cilium", "namespace": FLUX},
            "spec": {
                "interval": "1h",
                "url": "oci://registry.example/charts/cilium",
                "ref": {"tag": "1.18.12"},
            },
        }
        spec = {"chartRef": {"kind": "OCIRepository", "name": "cilium"}, "chart": None}
        repository = open_tree(tmp_path, {"flux/all.yaml": [git(), oci, release(namespace=FLUX, spec=spec)]})
        found = planned(repository)
        assert {obj["kind"] for obj in kustomized(repository, found.kustomizations[0])} == {
            "OCIRepository",
            "HelmRelease",
        }
        assert found.chart.kind == ""

    def test_with_a_namespace_set_by_kustomize(self, tmp_path: Path) -> None:
        bare = [git(), layer("cilium")]
        for obj in bare:
            del obj["metadata"]["namespace"]
        files = {
            **USUAL,
            "flux/kustomization.yaml": f"namespace: {FLUX}\nresources: [all.yaml, map.yaml]\n",
            "flux/all.yaml": bare,
            "flux/map.yaml": [config_map()],
        }
        repository = open_tree(tmp_path, files)
        built = kustomized(repository, planned(repository).kustomizations[0])
        assert [obj["kind"] for obj in built] == ["ConfigMap"]


def controller(name: str) -> Object:
    """One of Flux's own Deployments, as a bootstrap commits it."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": FLUX, "labels": {"app.kubernetes.io/part-of": "flux"}},
    }


class TestValues:
    def test_they_reach_the_release_as_they_are(self, tmp_path: Path) -> None:
        cases: dict[str, tuple[Any, Any, Any]] = {
            "untouched": (1, ..., 1),
            "the same number as a switch": (1, True, True),
            "added": (..., {"c": True}, {"c": True}),
            "null inside": ({"b": 1, "c": 2}, {"b": None}, {"b": None, "c": 2}),
            "null": ({"b": 1}, None, None),
            "list": ({"b": 1}, [1, {"x": None}], [1, {"x": None}]),
            "empty": (1, {"b": {}}, {"b": {}}),
            "a/b": ({"~": 1}, {"~": "2"}, {"~": "2"}),
            "words": (..., ["yes", "0755", "1e3", "null"], ["yes", "0755", "1e3", "null"]),
        }
        inline = {key: case[0] for key, case in cases.items() if case[0] is not ...}
        overrides = {key: case[1] for key, case in cases.items() if case[1] is not ...}
        files = {**USUAL, "cilium/release.yaml": [helm_repository(), release(**inline)]}
        repository = open_tree(tmp_path, files)
        cilium = planned(repository, overrides).kustomizations[1]
        built = only(kustomized(repository, cilium), "HelmRelease")
        assert built["spec"]["values"] == {key: case[2] for key, case in cases.items()}

    def test_a_release_without_inline_values(self, tmp_path: Path) -> None:
        bare = release()
        del bare["spec"]["values"]
        repository = open_tree(tmp_path, {**USUAL, "cilium/release.yaml": [helm_repository(), bare]})
        cilium = planned(repository, {"a": None}).kustomizations[1]
        assert only(kustomized(repository, cilium), "HelmRelease")["spec"]["values"] == {"a": None}

    @pytest.mark.parametrize(
        "kustomization",
        [
            "namespace: cilium\nresources: [release.yaml]\n",
            "namespace: cilium\nnamePrefix: prod-\nresources: [release.yaml]\n",
            "namespace: cilium\nresources: [base]\n",
        ],
    )
    def test_they_reach_a_release_that_kustomize_names(self, tmp_path: Path, kustomization: str) -> None:
        objects = [helm_repository(), release(a=1)]
        for obj in objects:
            del obj["metadata"]["namespace"]
        objects[1]["spec"]["chart"]["spec"]["sourceRef"]["name"] = (
            "prod-cilium" if "prod-" in kustomization else "cilium"
        )
        folder = "cilium/base" if "base" in kustomization else "cilium"
        files = {**USUAL, "cilium/kustomization.yaml": kustomization, f"{folder}/release.yaml": objects}
        if folder != "cilium":
            del files["cilium/release.yaml"]
            files["cilium/base/kustomization.yaml"] = "resources: [release.yaml]\n"
        repository = open_tree(tmp_path, files)
        found = planned(repository, {"a": 2}, ChartOverride("http://s/charts", "", "--chart-repository"))
        built = kustomized(repository, found.kustomizations[1])
        assert only(built, "HelmRelease")["spec"]["values"] == {"a": 2}
        assert only(built, "HelmRepository")["spec"]["url"] == "http://s/charts"

    def test_they_reach_a_release_through_a_target_namespace(self, tmp_path: Path) -> None:
        objects = [helm_repository(), release(a=1)]
        for obj in objects:
            del obj["metadata"]["namespace"]
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer("cilium", targetNamespace="net")],
            "cilium/release.yaml": objects,
        }
        repository = open_tree(tmp_path, files)
        found = planned(repository, {"a": 2})
        built = only(kustomized(repository, found.kustomizations[0]), "HelmRelease")
        assert (built["metadata"]["namespace"], built["spec"]["values"]) == ("net", {"a": 2})

    def test_another_release_in_the_layer_is_left_alone(self, tmp_path: Path) -> None:
        other = release("other")
        other["spec"]["chart"]["spec"]["chart"] = "podinfo"
        twin = release("cilium", "twin")
        twin["spec"]["chart"]["spec"] |= {"chart": "podinfo"}
        files = {**USUAL, "cilium/release.yaml": [helm_repository(), release(a=1), other, twin]}
        repository = open_tree(tmp_path, files)
        built = kustomized(repository, planned(repository, {"a": 2}).kustomizations[1])
        values = {
            (obj["metadata"]["namespace"], obj["metadata"]["name"]): obj["spec"]["values"]
            for obj in built
            if obj["kind"] == "HelmRelease"
        }
        assert values == {("cilium", "cilium"): {"a": 2}, ("cilium", "other"): {}, ("twin", "cilium"): {}}

    def test_a_patch_that_would_not_reach_it_is_refused(self, tmp_path: Path) -> None:
        other = release("other")
        other["spec"]["chart"]["spec"]["chart"] = "podinfo"
        objects = [helm_repository(), release(a=1), other]
        objects[1]["spec"]["chart"]["spec"]["sourceRef"]["name"] = "p-cilium"
        files = {
            **USUAL,
            "cilium/kustomization.yaml": "namePrefix: p-\nresources: [release.yaml]\n",
            "cilium/release.yaml": objects,
        }
        repository = open_tree(tmp_path, files)
        with pytest.raises(
            InputError, match="the patches of this run do not reach the HelmRelease"
        ) as caught:
            planned(repository, {"a": 2})
        assert caught.value.place == "flux-system/cilium"

    def test_the_tree_s_own_patches_go_first(self, tmp_path: Path) -> None:
        own = {
            "target": {"kind": "HelmRelease"},
            "patch": '[{"op": "add", "path": "/spec/values/own", "value": 1}]',
        }
        files = {**USUAL, "flux/all.yaml": [git(), layer("cilium", patches=[own])]}
        repository = open_tree(tmp_path, files)
        found = planned(repository, {"own": 2})
        assert by_name(found)["cilium"]["patches"][0] == own
        built = only(kustomized(repository, found.kustomizations[0]), "HelmRelease")
        assert built["spec"]["values"]["own"] == 2

    def test_values_that_are_so_already_need_no_patch(self, usual: Repository) -> None:
        assert "patches" not in by_name(planned(usual, {"tunnelPort": 8472}))["cilium"]


class TestChart:
    def test_another_version(self, usual: Repository) -> None:
        found = planned(usual, chart=ChartOverride(version="1.18.13", origin="--chart-version"))
        built = only(kustomized(usual, found.kustomizations[1]), "HelmRelease")
        assert built["spec"]["chart"]["spec"]["version"] == "1.18.13"
        assert differences(found) == {"chart version": "1.18.13"}
        assert "instead of 1.18.12" in str(found.differences[0])

    def test_the_same_version_is_no_difference(self, usual: Repository) -> None:
        found = planned(usual, chart=ChartOverride(version="1.18.12", origin="--chart-version"))
        assert found.differences == []
        assert "patches" not in by_name(found)["cilium"]

    def test_another_repository(self, tmp_path: Path) -> None:
        source = helm_repository(
            type="oci", secretRef={"name": "login"}, passCredentials=True, provider="aws"
        )
        repository = open_tree(tmp_path, {**USUAL, "cilium/release.yaml": [source, release()]})
        found = planned(repository, chart=ChartOverride("http://s/charts", "", "--chart-repository"))
        built = only(kustomized(repository, found.kustomizations[1]), "HelmRepository")
        assert built["spec"] == {"interval": "24h", "url": "http://s/charts"}
        assert differences(found) == {"chart repository": "http://s/charts"}

    def test_the_repository_may_be_in_another_layer(self, tmp_path: Path) -> None:
        spec_source = {"kind": "HelmRepository", "name": "cilium", "namespace": "sources"}
        own = release()
        own["spec"]["chart"]["spec"]["sourceRef"] = spec_source
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer("sources"), layer("cilium", "sources")],
            "sources/all.yaml": [helm_repository("sources")],
            "cilium/release.yaml": [own],
        }
        repository = open_tree(tmp_path, files)
        found = planned(repository, chart=ChartOverride("http://s/charts", "1.18.13", "--chart"))
        assert only(kustomized(repository, found.kustomizations[0]), "HelmRepository")["spec"]["url"] == (
            "http://s/charts"
        )
        assert only(kustomized(repository, found.kustomizations[1]), "HelmRelease")
        assert found.chart.namespace == "sources"

    def test_a_chart_ref_cannot_be_overridden(self, tmp_path: Path) -> None:
        oci = {
            "apiVersion": "source.toolkit.fluxcd.io/v1",
            "kind": "OCIRepository",
            "metadata": {"name": "cilium", "namespace": "cilium"},
            "spec": {
                "interval": "1h",
                "url": "oci://registry.example/charts/cilium",
                "ref": {"tag": "1.18.12"},
            },
        }
        own = release(spec={"chartRef": {"kind": "OCIRepository", "name": "cilium"}})
        del own["spec"]["chart"]
        repository = open_tree(tmp_path, {**USUAL, "cilium/release.yaml": [oci, own]})
        with pytest.raises(InputError, match="has a chartRef, which cannot be overridden"):
            planned(repository, chart=ChartOverride(version="1.18.13"))

    @pytest.mark.parametrize("chart", [ChartOverride(version="1.18.13"), ChartOverride(url="http://s")])
    def test_nor_can_a_chart_from_git(self, tmp_path: Path, chart: ChartOverride) -> None:
        own = release()
        own["spec"]["chart"]["spec"] |= {
            "chart": "./charts/cilium",
            "sourceRef": {"kind": "GitRepository", "name": "charts"},
        }
        source = git("charts")
        source["metadata"]["namespace"] = "cilium"
        repository = open_tree(tmp_path, {**USUAL, "cilium/release.yaml": [source, own]})
        with pytest.raises(InputError, match="expected a HelmRepository in the tree"):
            planned(repository, chart=chart)

    def test_nor_one_whose_repository_is_nowhere(self, tmp_path: Path) -> None:
        repository = open_tree(tmp_path, {**USUAL, "cilium/release.yaml": [release()]})
        with pytest.raises(InputError, match="expected a HelmRepository in the tree"):
            planned(repository, chart=ChartOverride(url="http://s"))


class TestExternal:
    def test_from_its_own_source(self, usual: Repository) -> None:
        found = planned(usual)
        assert names(found.sources) == [TREE, "crds"]
        assert by_name(found)["crds"]["sourceRef"]["name"] == "crds"
        assert found.differences == []

    def test_a_shared_source_is_applied_once(self, tmp_path: Path) -> None:
        flux = [
            git(),
            git("crds", "https://git.example.org/crds"),
            layer("crds", source="crds"),
            layer("more", source="crds"),
            layer("cilium", "crds"),
        ]
        found = planned(open_tree(tmp_path, {**USUAL, "flux/all.yaml": flux}))
        assert names(found.sources) == [TREE, "crds"]

    def test_from_a_folder_of_ours(self, usual: Repository) -> None:
        found = planned(usual, **{f"{FLUX}__crds": ServedSource("external-crds", "sha256:2")})
        own = found.sources[-1]
        assert own["kind"] == "OCIRepository"
        assert own["spec"]["ref"] == {"digest": "sha256:2"}
        assert by_name(found)["crds"]["sourceRef"]["name"] == own["metadata"]["name"]
        assert differences(found) == {f"source of Kustomization {FLUX}/crds": "a local folder"}
        assert "crds" not in names(found.sources)

    def test_left_out(self, usual: Repository) -> None:
        found = planned(usual, **{f"{FLUX}__crds": SKIP})
        assert names(found.kustomizations) == ["cilium", "policies"]
        assert depends(found, "cilium") == []
        assert names(found.sources) == [TREE]
        assert differences(found) == {f"Kustomization {FLUX}/crds": "left out"}

    def test_who_came_after_one_left_out_comes_after_what_was_before_it(self, tmp_path: Path) -> None:
        flux = [
            git(),
            git("crds", "https://git.example.org/crds"),
            layer("base"),
            layer("crds", "base", source="crds"),
            layer("cilium", "crds"),
        ]
        repository = open_tree(tmp_path, {**USUAL, "flux/all.yaml": flux, "base/a.yaml": [config_map()]})
        assert depends(planned(repository, **{f"{FLUX}__crds": SKIP}), "cilium") == [f"{FLUX}/base"]

    def test_an_unknown_name(self, usual: Repository) -> None:
        with pytest.raises(InputError, match=f"no external layer {FLUX}/crd, expected one of: {FLUX}/crds"):
            planned(usual, **{f"{FLUX}__crd": SKIP})

    def test_a_layer_whose_source_the_tree_does_not_define(self, tmp_path: Path) -> None:
        flux = [git(), layer("crds", source="elsewhere"), layer("cilium", "crds")]
        repository = open_tree(tmp_path, {**USUAL, "flux/all.yaml": flux})
        found = planned(repository)
        assert names(found.kustomizations) == ["cilium"]
        assert depends(found, "cilium") == []
        assert differences(found) == {f"Kustomization {FLUX}/crds": "left out"}
        served = planned(repository, **{f"{FLUX}__crds": ServedSource("external-crds", "sha256:2")})
        assert names(served.kustomizations) == ["crds", "cilium"]
        assert depends(served, "cilium") == [f"{FLUX}/crds"]

    def test_suspended_ones_are_left_out_as_flux_does(self, tmp_path: Path) -> None:
        flux = [
            git(),
            layer("later", suspend=True),
            layer("far", kubeConfig={"secretRef": {"name": "k"}}),
            layer("cilium", "later", "far"),
        ]
        files = {**USUAL, "flux/all.yaml": flux, "later/a.yaml": [config_map()], "far/a.yaml": [config_map()]}
        repository = open_tree(tmp_path, files)
        found = planned(repository)
        assert names(found.kustomizations) == ["cilium"]
        assert depends(found, "cilium") == []
        served = planned(repository, **{f"{FLUX}__later": ServedSource("external-later", "sha256:2")})
        assert names(served.kustomizations) == ["later", "cilium"]
        assert "suspend" not in by_name(served)["later"]
        with pytest.raises(InputError, match="another cluster"):
            planned(repository, **{f"{FLUX}__far": ServedSource("external-far", "sha256:2")})


class TestOrder:
    def test_a_layer_of_nothing_but_layers_is_not_waited_for(self, tmp_path: Path) -> None:
        """Its children are applied by us; who depended on it would wait for ever."""
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer("infra", wait=True), layer("apps", "infra")],
            "infra/all.yaml": [layer("base"), layer("cilium", "base")],
            "base/a.yaml": [config_map()],
            "apps/a.yaml": [config_map("app")],
        }
        found = planned(open_tree(tmp_path, files))
        assert sorted(names(found.kustomizations)) == ["apps", "base", "cilium"]
        assert sorted(depends(found, "apps")) == [f"{FLUX}/base", f"{FLUX}/cilium"]
        assert depends(found, "cilium") == [f"{FLUX}/base"]

    def test_without_wait_its_children_were_not_waited_for(self, tmp_path: Path) -> None:
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer("infra"), layer("apps", "infra")],
            "infra/all.yaml": [layer("cilium")],
            "apps/a.yaml": [config_map("app")],
        }
        assert depends(planned(open_tree(tmp_path, files)), "apps") == []

    def test_the_bootstrap_s_own_kustomization(self, tmp_path: Path) -> None:
        files = {
            **USUAL,
            "flux/all.yaml": [git(), layer(FLUX, path="flux"), layer("cilium", FLUX)],
        }
        found = planned(open_tree(tmp_path, files))
        assert names(found.kustomizations) == ["cilium"]
        assert depends(found, "cilium") == []


@pytest.fixture(scope="module")
def own() -> Repository:
    return load(ROOT, topology=load_topology(ROOT / "clusters", "cgroup-v1"))


class TestThisRepository:
    def test_it_can_be_planned(self, own: Repository) -> None:
        found = planned(own)
        assert names(found.kustomizations) == ["gateway-api", "cilium", "policies"]
        assert names(found.sources) == [TREE, "gateway-api"]
        assert depends(found, "policies") == [f"{FLUX}/cilium"]

    def test_the_topology_s_values_reach_the_release(self, own: Repository) -> None:
        found = planned(own, own.overrides, ChartOverride("http://s/charts", "1.18.0", "--chart c.tgz"))
        cilium = next(k for k in found.kustomizations if k["metadata"]["name"] == "cilium")
        built = kustomized(own, cilium)
        values = only(built, "HelmRelease")["spec"]["values"]
        assert values["cgroup"] == {"autoMount": {"enabled": True}, "hostRoot": "/run/cilium/cgroupv2"}
        assert values["operator"]["replicas"] == 1
        assert values["operator"]["rollOutPods"] is True
        assert only(built, "HelmRelease")["spec"]["chart"]["spec"]["version"] == "1.18.0"
        assert only(built, "HelmRepository")["spec"]["url"] == "http://s/charts"
        assert only(built, "Namespace")["metadata"]["name"] == "cilium"

    def test_without_gateway_api(self, own: Repository) -> None:
        found = planned(own, **{f"{FLUX}__gateway-api": SKIP})
        assert depends(found, "cilium") == []

    def test_all_of_it_is_yaml(self, own: Repository) -> None:
        found = planned(own, own.overrides)
        again = list(yaml.safe_load_all(yaml.safe_dump_all([*found.sources, *found.kustomizations])))
        assert again == [*found.sources, *found.kustomizations]
