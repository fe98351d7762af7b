"""The tree under test: built as Flux would, its Cilium release, values, features, topologies."""

from cilium_e2e.repository.features import DEFAULTS_1_18, Features
from cilium_e2e.repository.files import TreeFiles, tracked_files
from cilium_e2e.repository.inputs import INSTALL_INPUT, FluxInstall, read_flux_install
from cilium_e2e.repository.kustomize import find_kubectl
from cilium_e2e.repository.load import DEFAULT_PATH, load
from cilium_e2e.repository.merge import dig, leaves, merge
from cilium_e2e.repository.topologies import clusters_folder
from cilium_e2e.repository.topologies import load as load_topology
from cilium_e2e.repository.topologies import load_all as load_topologies
from cilium_e2e.repository.topologies import names as topology_names
from cilium_e2e.repository.tree import BuiltObject, Chart, ExternalLayer, Layer, Release, Repository

__all__ = [
    "DEFAULTS_1_18",
    "DEFAULT_PATH",
    "INSTALL_INPUT",
    "BuiltObject",
    "Chart",
    "ExternalLayer",
    "Features",
    "FluxInstall",
    "Layer",
    "Release",
    "Repository",
    "TreeFiles",
    "clusters_folder",
    "dig",
    "find_kubectl",
    "leaves",
    "load",
    "load_topologies",
    "load_topology",
    "merge",
    "read_flux_install",
    "topology_names",
    "tracked_files",
]
