"""kind.yaml as kind reads it, wherever the topology lies and wherever kind is started."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cilium_e2e.cluster.kind_config import resolved
from cilium_e2e.model import EXIT_USAGE, Difference, Topology, TopologyError
from cilium_e2e.repository import clusters_folder, load_topologies, load_topology

OURS = clusters_folder(Path(__file__).parents[3], None)


def kind_yaml(topology: Topology, **gates: bool) -> dict[str, Any]:
    text, _ = resolved(topology, gates)
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def mounts(config: dict[str, Any]) -> list[Path]:
    return [Path(mount["hostPath"]) for node in config["nodes"] for mount in node.get("extraMounts") or []]


@pytest.mark.parametrize("topology", load_topologies(OURS), ids=lambda t: t.name)
def test_nothing_but_host_paths_changes(topology: Topology) -> None:
    config, plain = kind_yaml(topology), yaml.safe_load(topology.kind_config.read_text())
    assert all(path.is_absolute() for path in mounts(config))
    for shape in (config, plain):
        for node in shape["nodes"]:
            for mount in node.get("extraMounts") or []:
                mount["hostPath"] = Path(mount["hostPath"]).name
    assert config == plain


def test_a_packaged_folder_works_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it lies in site-packages, seen from a user's repository that has no topologies of its own."""
    packaged = tmp_path / "site-packages/cilium_e2e/_clusters"
    shutil.copytree(OURS, packaged)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = mounts(kind_yaml(load_topology(packaged, "talos-like")))
    assert found
    assert all(path.exists() and packaged.resolve() in path.parents for path in found)


def test_a_folder_that_is_named_relative_to_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(OURS, tmp_path / "clusters")
    monkeypatch.chdir(tmp_path)
    topology = load_topology(Path("clusters"), "talos-like")
    assert all(path.is_absolute() and path.exists() for path in mounts(kind_yaml(topology)))


@pytest.fixture
def mounting(tmp_path: Path) -> Topology:
    """A topology whose one node mounts a file beside it and a folder of the host."""
    folder = tmp_path / "clusters/own"
    folder.mkdir(parents=True)
    (folder / "extra.conf").touch()
    (tmp_path / "host").mkdir()
    (folder / "topology.yaml").write_text("{description: one, tier: quick, capabilities: []}\n")
    (folder / "kind.yaml").write_text(
        "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n"
        "networking: {disableDefaultCNI: true, kubeProxyMode: none}\n"
        "featureGates: {KubeletInUserNamespace: true, Other: false}\n"
        "nodes:\n- role: control-plane\n  extraMounts:\n"
        f"  - {{hostPath: ./extra.conf, containerPath: /a}}\n"
        f"  - {{hostPath: {tmp_path}/host, containerPath: /b}}\n"
    )
    return load_topology(folder.parent, "own")


def test_absolute_paths_stay(mounting: Topology, tmp_path: Path) -> None:
    assert mounts(kind_yaml(mounting)) == [tmp_path / "clusters/own/extra.conf", tmp_path / "host"]


def test_a_file_that_went_away_is_named(mounting: Topology, tmp_path: Path) -> None:
    """The engine would make an empty folder in its place."""
    (tmp_path / "clusters/own/extra.conf").unlink()
    with pytest.raises(TopologyError) as caught:
        resolved(mounting, {})
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value) == (
        f"{mounting.kind_config}: the file ./extra.conf to mount into a node does not exist"
    )


class TestFeatureGates:
    def test_none_is_the_topology_s_own(self, mounting: Topology) -> None:
        text, differences = resolved(mounting, {})
        assert yaml.safe_load(text)["featureGates"] == {"KubeletInUserNamespace": True, "Other": False}
        assert differences == []

    def test_one_more_is_a_declared_difference(self, mounting: Topology) -> None:
        text, differences = resolved(mounting, {"NewGate": False})
        assert yaml.safe_load(text)["featureGates"] == {
            "KubeletInUserNamespace": True,
            "Other": False,
            "NewGate": False,
        }
        assert differences == [
            Difference("feature gate NewGate", "false", "this host needs it", "--feature-gate NewGate=false")
        ]

    def test_another_value_is_a_difference(self, mounting: Topology) -> None:
        text, differences = resolved(mounting, {"Other": True})
        assert yaml.safe_load(text)["featureGates"]["Other"] is True
        assert [str(d) for d in differences] == [
            "feature gate Other = true (--feature-gate Other=true: this host needs it)"
        ]

    def test_what_the_topology_says_anyway_is_none(self, mounting: Topology) -> None:
        assert resolved(mounting, {"KubeletInUserNamespace": True})[1] == []

    def test_a_topology_without_any(self) -> None:
        topology = load_topology(OURS, "default")
        assert kind_yaml(topology, G=True)["featureGates"] == {"G": True}
        assert "featureGates" not in kind_yaml(topology)
