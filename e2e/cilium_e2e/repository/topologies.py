"""Topologies: a folder each, with kind.yaml, topology.yaml and patches.yaml."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from cilium_e2e.model import Capability, Tier, Topology, TopologyError, TopologyNode, ValuesPatch
from cilium_e2e.repository.yamlfiles import line_of, read_mapping, read_text, type_name
from cilium_e2e.repository.yamlfiles import parse as parse_yaml

KIND_FILE = "kind.yaml"
TOPOLOGY_FILE = "topology.yaml"
PATCHES_FILE = "patches.yaml"


def clusters_folder(root: Path, given: Path | None = None) -> Path:
    """Where topologies are: the folder given, else the repository's ``clusters/``, else those shipped.

    A repository's ``clusters/`` counts only when it holds a topology: many repositories have a folder of that
    name for something else.

    Raises:
        TopologyError: the folder given does not exist, or none is to be found.
    """
    if given is not None:
        if not given.is_dir():
            raise TopologyError("expected a folder of topologies", place=f"--clusters {given}")
        return given
    own = root / "clusters"
    if names(own):
        return own
    packaged = resources.files("cilium_e2e") / "_clusters"
    if isinstance(packaged, Path) and packaged.is_dir():
        return packaged
    beside = Path(__file__).parents[3] / "clusters"
    if names(beside):  # an editable installation
        return beside
    raise TopologyError("found no topologies", place=str(own), hint="Name their folder with --clusters DIR.")


def names(folder: Path) -> list[str]:
    """The topologies of a folder, sorted; empty where it has none or does not exist."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / TOPOLOGY_FILE).is_file())


def load_all(folder: Path) -> list[Topology]:
    """All topologies of a folder, by name.

    Raises:
        TopologyError: one of them cannot be used.
    """
    return [load(folder, name) for name in names(folder)]


def load(folder: Path, name: str) -> Topology:
    """One topology.

    Raises:
        TopologyError: unknown (the message lists the known ones), malformed (``file:line``), or with a CNI or
            a kube-proxy that would work instead of the Cilium under test.
    """
    known = names(folder)
    if name not in known:
        raise TopologyError(
            f"unknown topology {name!r}, expected one of: {', '.join(known) or 'none are there'}",
            place=str(folder),
        )
    here = folder / name
    label = f"{folder.name}/{name}"
    about = _Checked(here / TOPOLOGY_FILE, f"{label}/{TOPOLOGY_FILE}")
    about.only({"description", "tier", "capabilities"})
    kind = _Checked(here / KIND_FILE, f"{label}/{KIND_FILE}")
    nodes, ip_family = _kind(kind)
    return Topology(
        name=name,
        description=str(about.get("description", str)),
        tier=_enum(about, "tier", Tier, about.get("tier", str)),
        capabilities=frozenset(
            _enum(about, "capabilities", Capability, value)
            for value in about.get("capabilities", list, default=[])
        ),
        nodes=nodes,
        ip_family=ip_family,
        kind_config=here / KIND_FILE,
        patches=_patches(here / PATCHES_FILE, f"{label}/{PATCHES_FILE}"),
    )


class _Checked:
    """A YAML mapping whose values are asked for with their type."""

    def __init__(self, file: Path, place: str) -> None:
        self.place = place
        self.folder = file.parent
        self.text = read_text(file, place=place, error=TopologyError)
        self.data = read_mapping(file, place=place, error=TopologyError)

    def at(self, *path: str | int) -> str:
        line = line_of(self.text, path)
        return f"{self.place}:{line}" if line else self.place

    def only(self, known: set[str]) -> None:
        for key in self.data:
            if key not in known:
                raise TopologyError(
                    f"unknown key {key!r}, expected {', '.join(sorted(known))}", place=self.at(key)
                )

    def get(self, key: str, kind: type, *, default: Any = None) -> Any:
        value = self.data.get(key, default)
        if not isinstance(value, kind):
            wanted = "mapping" if kind is dict else kind.__name__
            raise TopologyError(
                f"expected {key} to be a {wanted}, got {type_name(value)}", place=self.at(key)
            )
        return value


def _enum(about: _Checked, key: str, kind: Any, value: object) -> Any:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise TopologyError(f"unknown {key} {value!r}, expected {known}", place=about.at(key)) from None


def _kind(kind: _Checked) -> tuple[tuple[TopologyNode, ...], str]:
    if kind.data.get("kind") != "Cluster" or not str(kind.data.get("apiVersion", "")).startswith(
        "kind.x-k8s.io/"
    ):
        raise TopologyError(
            "expected a kind Cluster (kind: Cluster, apiVersion: kind.x-k8s.io/v1alpha4)", place=kind.place
        )
    networking: Mapping[str, Any] = kind.get("networking", dict, default={})
    if networking.get("disableDefaultCNI") is not True:
        raise TopologyError(
            "expected networking.disableDefaultCNI: true; with kind's own CNI pods reach each other without "
            "Cilium, and the tests would prove nothing",
            place=kind.at("networking", "disableDefaultCNI"),
        )
    if networking.get("kubeProxyMode") != "none":
        raise TopologyError(
            "expected networking.kubeProxyMode: none; with a kube-proxy Services work without Cilium's "
            "replacement, and the tests would prove nothing",
            place=kind.at("networking", "kubeProxyMode"),
        )
    nodes = kind.data.get("nodes") or [{"role": "control-plane"}]
    if not isinstance(nodes, list) or not all(isinstance(node, dict) for node in nodes):
        raise TopologyError("expected nodes to be a list of mappings", place=kind.at("nodes"))
    roles = tuple(TopologyNode(str(node.get("role", "control-plane"))) for node in nodes)
    for index, node in enumerate(roles):
        if node.role not in {"control-plane", "worker"}:
            raise TopologyError(
                f"expected role control-plane or worker, got {node.role!r}",
                place=kind.at("nodes", index, "role"),
            )
    if not any(node.role == "control-plane" for node in roles):
        raise TopologyError("expected at least one control-plane node", place=kind.at("nodes"))
    _check_mounts(kind, nodes)
    family = networking.get("ipFamily", "ipv4")
    if family not in {"ipv4", "ipv6", "dual"}:
        raise TopologyError(
            f"expected ipFamily ipv4, ipv6 or dual, got {family!r}", place=kind.at("networking", "ipFamily")
        )
    return roles, str(family)


def _check_mounts(kind: _Checked, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Relative host paths stand for files beside the kind.yaml: kind is started there."""
    for index, node in enumerate(nodes):
        for number, mount in enumerate(node.get("extraMounts") or []):
            host = str(mount.get("hostPath") or "")
            if not (kind.folder / host).exists():
                raise TopologyError(
                    f"extraMounts names {host or 'no hostPath'}, expected a file beside it",
                    place=kind.at("nodes", index, "extraMounts", number),
                )


def _patches(file: Path, place: str) -> tuple[ValuesPatch, ...]:
    if not file.exists():
        return ()
    text = read_text(file, place=place, error=TopologyError)
    documents: Sequence[Any] = parse_yaml(text, place=place, error=TopologyError)
    if not documents:
        return ()
    entries = documents[0]
    if len(documents) > 1 or not isinstance(entries, list):
        raise TopologyError("expected one list of {values, reason}", place=place)
    patches: list[ValuesPatch] = []
    for index, entry in enumerate(entries):
        line = line_of(text, [index])
        where = f"{place}:{line}" if line else place
        if not isinstance(entry, dict) or set(entry) != {"values", "reason"}:
            raise TopologyError("expected exactly the keys values and reason", place=where)
        values, reason = entry["values"], entry["reason"]
        if not isinstance(values, dict) or not values:
            raise TopologyError(f"expected values to be a mapping, got {type_name(values)}", place=where)
        if not isinstance(reason, str) or not reason.strip():
            raise TopologyError("expected a reason: every difference says why it must be", place=where)
        patches.append(ValuesPatch(values, " ".join(reason.split())))
    return tuple(patches)
