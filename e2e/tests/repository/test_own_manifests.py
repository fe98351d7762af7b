"""This repository's own tree, built for real: what its README claims, and the guards around the release."""

import re
from pathlib import Path

import pytest
import yaml

from cilium_e2e.repository import Repository, dig, load
from cilium_e2e.repository.workspace import Workspace


@pytest.fixture(scope="module")
def loaded() -> Repository:
    return load(Path(__file__).parents[3])


def spec_of(loaded: Repository, kind: str, name: str) -> dict:
    for built in loaded.objects():
        if built.ref.kind == kind and built.ref.name == name and "toolkit" in built.ref.api_version:
            return built.object["spec"]
    raise AssertionError(f"no {kind} {name}")


def test_layers_come_in_the_order_flux_applies_them(loaded: Repository) -> None:
    assert [layer.name for layer in loaded.layers] == ["", "flux-system/cilium", "flux-system/policies"]
    assert [layer.name for layer in loaded.external] == ["flux-system/gateway-api"]
    assert loaded.layers[1].depends_on == ("flux-system/gateway-api",)
    assert loaded.layers[2].depends_on == ("flux-system/cilium",)


def test_the_release_is_found_from_its_own_folder_too(loaded: Repository, repository_root: Path) -> None:
    direct = load(repository_root, "manifests/cilium")
    assert direct.release.object == loaded.release.object
    assert [layer.path for layer in direct.layers] == ["manifests/cilium"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("cni.exclusive", True),
        ("ipam.mode", "kubernetes"),
        ("cgroup.autoMount.enabled", False),
        ("cgroup.hostRoot", "/sys/fs/cgroup"),
        ("kubeProxyReplacement", True),
        ("k8sServiceHost", "localhost"),
        ("k8sServicePort", 7445),
        ("bpf.hostLegacyRouting", True),
        ("l7Proxy", True),
        ("gatewayAPI.enabled", True),
        ("hubble.enabled", True),
        ("hubble.relay.enabled", True),
        ("hubble.ui.enabled", True),
        ("rollOutCiliumPods", True),
        ("operator.rollOutPods", True),
        ("envoy.rollOutPods", True),
        ("hubble.relay.rollOutPods", True),
        ("hubble.ui.rollOutPods", True),
    ],
)
def test_every_value_of_the_readme(loaded: Repository, path: str, value: object) -> None:
    assert dig(loaded.values, path) == value


def test_capabilities_are_those_of_the_readme_in_its_order(loaded: Repository) -> None:
    capabilities = dig(loaded.values, "securityContext.capabilities")
    agent = "CHOWN,KILL,NET_ADMIN,NET_RAW,IPC_LOCK,SYS_ADMIN,SYS_RESOURCE,DAC_OVERRIDE,FOWNER,SETGID,SETUID"
    assert ",".join(capabilities["ciliumAgent"]) == agent
    assert ",".join(capabilities["cleanCiliumState"]) == "NET_ADMIN,SYS_ADMIN,SYS_RESOURCE"


@pytest.mark.parametrize(
    "component",
    [
        "resources",
        "operator.resources",
        "envoy.resources",
        "hubble.relay.resources",
        "hubble.ui.backend.resources",
        "hubble.ui.frontend.resources",
    ],
)
def test_every_component_has_limits_and_requests(loaded: Repository, component: str) -> None:
    resources = dig(loaded.values, component)
    assert set(resources) == {"limits", "requests"}
    assert all(set(amounts) == {"cpu", "memory"} for amounts in resources.values())


def test_features_are_derived(loaded: Repository) -> None:
    assert {
        "kube-proxy-replacement",
        "hubble-relay",
        "hubble-ui",
        "gateway-api",
        "l7-proxy",
        "ipam-kubernetes",
        "envoy-daemonset",
        "host-legacy-routing",
        "exclusive-cni",
        "roll-out-pods",
    } <= loaded.features.names
    assert (loaded.features.api_host, loaded.features.api_port) == ("localhost", 7445)
    assert loaded.features.encryption == ""
    assert loaded.differences == ()


def test_the_release_retries_and_never_uninstalls(loaded: Repository) -> None:
    spec = loaded.release.object["spec"]
    for action in ("install", "upgrade"):
        assert spec[action]["strategy"]["name"] == "RetryOnFailure"
        assert "remediation" not in spec[action]
    assert spec["driftDetection"] == {"mode": "enabled"}
    assert spec["interval"] == "30m"


def test_the_release_is_pinned(loaded: Repository) -> None:
    assert loaded.release.identity == ("cilium", "cilium", "cilium")
    assert {"releaseName", "targetNamespace", "storageNamespace"} <= set(loaded.release.object["spec"])
    assert loaded.release.chart.url == "https://helm.cilium.io/"
    assert re.fullmatch(r"1\.18\.\d+", loaded.release.chart.version)


def test_the_version_stands_in_one_place(loaded: Repository, repository_root: Path) -> None:
    files = [
        file
        for file in (repository_root / "manifests").rglob("*.yaml")
        if loaded.release.chart.version in file.read_text(encoding="utf-8")
    ]
    assert [file.name for file in files] == ["helmrelease.yaml"]


def test_what_carries_the_network_is_not_pruned(loaded: Repository) -> None:
    kept = {
        str(built.ref)
        for built in loaded.layers[1].objects
        if (built.object["metadata"].get("annotations") or {}).get("kustomize.toolkit.fluxcd.io/prune")
        == "disabled"
    }
    assert kept == {"Namespace cilium", "HelmRelease cilium/cilium"}


def test_the_namespace_admits_privileged_pods(loaded: Repository) -> None:
    namespace = next(built.object for built in loaded.objects() if built.ref.kind == "Namespace")
    assert namespace["metadata"]["name"] == "cilium"
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {
        "privileged"
    }


@pytest.mark.parametrize("name", ["gateway-api", "policies"])
def test_flux_waits_for_each_layer(loaded: Repository, name: str) -> None:
    spec = spec_of(loaded, "Kustomization", name)
    assert spec["wait"] is True
    assert spec["timeout"]


def test_the_policies_wait_for_the_agents_and_for_their_own_kinds(loaded: Repository) -> None:
    spec = spec_of(loaded, "Kustomization", "cilium")
    assert "wait" not in spec, "with wait, Flux ignores the health checks"
    assert spec["timeout"]
    checked = {(check["kind"], check["name"]) for check in spec["healthChecks"]}
    assert {("HelmRelease", "cilium"), ("DaemonSet", "cilium")} <= checked
    kinds = {f"{policy['kind'].lower()}".replace("policy", "policies") for policy in loaded.policies}
    assert kinds
    assert {("CustomResourceDefinition", f"{kind}.cilium.io") for kind in kinds} <= checked


def test_deleting_a_layer_deletes_neither_crds_nor_the_network(loaded: Repository) -> None:
    assert spec_of(loaded, "Kustomization", "gateway-api")["prune"] is False
    assert spec_of(loaded, "Kustomization", "cilium")["deletionPolicy"] == "Orphan"
    assert spec_of(loaded, "Kustomization", "policies")["prune"] is True


def test_the_gateway_api_is_pinned_by_commit(loaded: Repository) -> None:
    source = loaded.external[0].source
    assert source is not None
    assert source["spec"]["url"] == "https://github.com/kubernetes-sigs/gateway-api"
    assert re.fullmatch(r"v\d+\.\d+\.\d+", source["spec"]["ref"]["tag"])
    assert re.fullmatch(r"[0-9a-f]{40}", source["spec"]["ref"]["commit"])


def test_no_copied_crds(loaded: Repository) -> None:
    assert not [built.ref for built in loaded.objects() if built.ref.kind == "CustomResourceDefinition"]


def test_the_demo_policy_is_the_readmes(loaded: Repository) -> None:
    (policy,) = loaded.policies
    assert policy["metadata"] == {"name": "demo-policy", "namespace": "default"}
    assert policy["spec"] == {
        "endpointSelector": {"matchLabels": {"app": "demo"}},
        "ingress": [
            {
                "fromEndpoints": [{"matchLabels": {"app": "frontend"}}],
                "toPorts": [{"ports": [{"port": "8080", "protocol": "TCP"}]}],
            }
        ],
    }


def test_the_scenario_names_what_is_there(loaded: Repository, repository_root: Path) -> None:
    folder = repository_root / "manifests/policies"
    scenario = yaml.safe_load((folder / "demo-policy.scenario.yaml").read_text(encoding="utf-8"))
    assert [(folder / name).is_file() for name in scenario["policies"]] == [True]
    assert {entry["outcome"] for entry in scenario["expect"]} == {"connected", "denied"}


def test_the_workloads_build_and_are_restricted(repository_root: Path) -> None:
    with Workspace(repository_root) as workspace:
        objects = [built.object for built in workspace.build("manifests/workloads")]
    pods = [obj for obj in objects if obj["kind"] == "Pod"]
    assert {pod["metadata"]["labels"]["app"] for pod in pods} == {"demo", "frontend", "other"}
    for pod in pods:
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["image"] == "docker.io/library/python:3.13-slim"
