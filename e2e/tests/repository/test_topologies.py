"""Topologies: those of this repository, and what is refused."""

from pathlib import Path

import pytest
import yaml

from cilium_e2e.model import Capability, Tier, TopologyError
from cilium_e2e.repository import (
    clusters_folder,
    load_topologies,
    load_topology,
    topology_names,
)
from cilium_e2e.repository.values import overlay

KIND = """\
kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
networking:
  disableDefaultCNI: true
  kubeProxyMode: none
nodes:
  - role: control-plane
"""
ABOUT = "description: a test\ntier: quick\ncapabilities: []\n"


def given(tree, **files: str) -> Path:
    """A folder of topologies with one named ``one``; a key is a file's name up to its dot."""
    contents = {"kind": KIND, "topology": ABOUT} | files
    return tree({f"clusters/one/{name}.yaml": text for name, text in contents.items()}) / "clusters"


@pytest.mark.parametrize(
    ("name", "control_planes", "workers", "capabilities"),
    [
        ("default", 1, 2, {Capability.MULTI_NODE}),
        ("single-node", 1, 0, set()),
        ("dual-stack", 1, 1, {Capability.MULTI_NODE, Capability.DUAL_STACK}),
        ("ha", 3, 1, {Capability.MULTI_NODE, Capability.HA}),
        ("talos-like", 1, 1, {Capability.MULTI_NODE, Capability.POD_SECURITY, Capability.RESTRICTED_MODULES}),
        ("cgroup-v1", 1, 1, {Capability.MULTI_NODE, Capability.CGROUP_V1}),
    ],
)
def test_the_topologies_of_this_repository(
    repository_root: Path, name: str, control_planes: int, workers: int, capabilities: set[Capability]
) -> None:
    topology = load_topology(clusters_folder(repository_root), name)
    assert (topology.control_planes, topology.workers) == (control_planes, workers)
    assert topology.capabilities == capabilities
    assert topology.ip_family == ("dual" if name == "dual-stack" else "ipv4")
    assert topology.kind_config == repository_root / "clusters" / name / "kind.yaml"
    config = yaml.safe_load(topology.kind_config.read_text(encoding="utf-8"))
    assert config["networking"]["disableDefaultCNI"] is True
    assert config["networking"]["kubeProxyMode"] == "none"


def test_all_are_listed(repository_root: Path) -> None:
    listed = [topology.name for topology in load_topologies(clusters_folder(repository_root))]
    assert listed == ["cgroup-v1", "default", "dual-stack", "ha", "single-node", "talos-like"]
    assert all((repository_root / "clusters" / name / "patches.yaml").is_file() for name in listed)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default", {}),
        ("talos-like", {}),
        ("ha", {}),
        ("single-node", {"operator.replicas": "1"}),
        ("dual-stack", {"ipv6.enabled": "true"}),
        (
            "cgroup-v1",
            {
                "cgroup.autoMount.enabled": "true",
                "cgroup.hostRoot": "/run/cilium/cgroupv2",
                "operator.replicas": "1",
            },
        ),
    ],
)
def test_differences_are_declared_with_reasons(
    repository_root: Path, name: str, expected: dict[str, str]
) -> None:
    topology = load_topology(clusters_folder(repository_root), name)
    release = repository_root / "manifests/cilium/helmrelease.yaml"
    values = yaml.safe_load(release.read_text(encoding="utf-8"))["spec"]["values"]
    _, differences = overlay(values, topology, ())
    assert {difference.what: difference.instead for difference in differences} == expected
    assert all(difference.reason and difference.origin == f"topology {name}" for difference in differences)


def test_cgroup_v1_has_the_feature_gate(repository_root: Path) -> None:
    config = yaml.safe_load((repository_root / "clusters/cgroup-v1/kind.yaml").read_text(encoding="utf-8"))
    assert config["featureGates"] == {"KubeletInUserNamespace": True}


def test_talos_like_enforces_baseline_and_bounds_containerd(repository_root: Path) -> None:
    folder = repository_root / "clusters/talos-like"
    admission = yaml.safe_load((folder / "pod-security.yaml").read_text(encoding="utf-8"))
    assert admission["plugins"][0]["configuration"]["defaults"]["enforce"] == "baseline"
    assert "CapabilityBoundingSet=~CAP_SYS_MODULE" in (folder / "containerd-bounding-set.conf").read_text()
    config = yaml.safe_load((folder / "kind.yaml").read_text(encoding="utf-8"))
    mounts = [mount for node in config["nodes"] for mount in node["extraMounts"]]
    assert all((folder / mount["hostPath"]).is_file() for mount in mounts)
    assert sum("containerd.service.d" in mount["containerPath"] for mount in mounts) == 2
    beta3 = yaml.safe_load(config["kubeadmConfigPatches"][0])
    beta4 = yaml.safe_load(config["kubeadmConfigPatchesJSON6902"][0]["patch"])
    inside = next(mount["containerPath"] for mount in mounts if "admission" in mount["containerPath"])
    assert beta3["apiServer"]["extraArgs"]["admission-control-config-file"] == inside
    assert beta4[0]["value"] == {"name": "admission-control-config-file", "value": inside}


def test_mounts_are_beside_the_kind_yaml(tree) -> None:
    folder = given(tree, kind=KIND + "    extraMounts: [{hostPath: ./file.conf, containerPath: /x}]\n")
    with pytest.raises(
        TopologyError, match=r"clusters/one/kind\.yaml:8: extraMounts names \./file\.conf, expected"
    ):
        load_topology(folder, "one")
    (folder / "one/file.conf").write_text("x")
    assert load_topology(folder, "one").name == "one"


def test_an_unknown_topology_lists_the_known(repository_root: Path) -> None:
    with pytest.raises(
        TopologyError, match="unknown topology 'defualt', expected one of: cgroup-v1, default, "
    ) as caught:
        load_topology(clusters_folder(repository_root), "defualt")
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"kind": KIND.replace("disableDefaultCNI: true", "disableDefaultCNI: false")},
            r"^clusters/one/kind\.yaml:4: expected networking\.disableDefaultCNI: true; with kind's own CNI",
        ),
        (
            {"kind": KIND.replace("  disableDefaultCNI: true\n", "")},
            r"^clusters/one/kind\.yaml: expected networking\.disableDefaultCNI: true; .* prove nothing",
        ),
        (
            {"kind": KIND.replace("none", "iptables")},
            r"^clusters/one/kind\.yaml:5: expected networking\.kubeProxyMode: none; with a kube-proxy",
        ),
        ({"kind": KIND + "  - {role: worker\n"}, r"^clusters/one/kind\.yaml:9: not valid YAML: "),
        (
            {"kind": KIND.replace("role: control-plane", "role: boss")},
            r"kind\.yaml:7: expected role .* got 'boss'",
        ),
        (
            {"kind": KIND.replace("control-plane", "worker")},
            r"kind\.yaml:6: expected at least one control-plane",
        ),
        ({"kind": "kind: Pod\napiVersion: v1\n"}, r"kind\.yaml: expected a kind Cluster"),
        (
            {"topology": ABOUT.replace("quick", "often")},
            r"topology\.yaml:2: unknown tier 'often', expected quick, full",
        ),
        (
            {"topology": ABOUT.replace("[]", "[fast]")},
            r"topology\.yaml:3: unknown capabilities 'fast', expected multi",
        ),
        ({"topology": "tier: quick\n"}, r"topology\.yaml: expected description to be a str, got null"),
        ({"topology": ABOUT + "colour: red\n"}, r"topology\.yaml:4: unknown key 'colour'"),
        ({"patches": "values: {}\n"}, r"patches\.yaml: expected one list"),
        ({"patches": "- values: {a: 1}\n"}, r"patches\.yaml:1: expected exactly the keys values and reason"),
        ({"patches": "- {values: {a: 1}, reason: ''}\n"}, r"patches\.yaml:1: expected a reason"),
        (
            {"patches": "- {values: 3, reason: x}\n"},
            r"patches\.yaml:1: expected values to be a mapping, got int",
        ),
    ],
)
def test_what_cannot_serve_is_refused(tree, files: dict[str, str], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        load_topology(given(tree, **files), "one")


def test_kind_yaml_must_exist(tree) -> None:
    folder = given(tree)
    (folder / "one/kind.yaml").unlink()
    with pytest.raises(TopologyError, match=r"clusters/one/kind\.yaml: no such file"):
        load_topology(folder, "one")


def test_patches_may_be_absent_and_tiers_are_read(tree) -> None:
    topology = load_topology(given(tree), "one")
    assert (topology.patches, topology.tier, topology.description) == ((), Tier.QUICK, "a test")


def test_where_topologies_are_looked_for(tree, repository_root: Path, tmp_path: Path) -> None:
    folder = given(tree)
    assert clusters_folder(tmp_path) == folder
    assert clusters_folder(repository_root, folder) == folder
    with pytest.raises(TopologyError, match=r"--clusters .*nowhere: expected a folder"):
        clusters_folder(tmp_path, tmp_path / "nowhere")
    other = tmp_path / "other"
    (other / "clusters/production").mkdir(parents=True)
    assert topology_names(other / "clusters") == []
    assert "default" in topology_names(clusters_folder(other))
