"""Whatever somebody writes into Flux objects: it is loaded, or refused by one clear error. Never a crash."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.model import InputError
from cilium_e2e.repository import Features
from cilium_e2e.repository.layers import build_layers
from cilium_e2e.repository.release import find_release
from cilium_e2e.repository.shapes import check_shape
from cilium_e2e.repository.tree import BuiltObject
from cilium_e2e.repository.values import resolve

OBJECTS = """\
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: cilium, namespace: flux-system, labels: {a: b}}
spec:
  path: ./cilium
  sourceRef: {kind: GitRepository, name: flux-system, namespace: flux-system}
  dependsOn: [{name: before, namespace: flux-system}]
  postBuild: {substitute: {V: "1"}, substituteFrom: [{kind: ConfigMap, name: vars, optional: true}]}
  commonMetadata: {labels: {x: y}}
---
apiVersion: kustomize.toolkit.fluxcd.io/v1
kind: Kustomization
metadata: {name: before, namespace: flux-system}
spec: {path: before, sourceRef: {kind: GitRepository, name: other}}
---
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: other, namespace: flux-system}
spec: {url: "https://example.org/x", ref: {tag: v1}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: vars, namespace: flux-system}
data: {W: "2"}
"""
RELEASE = """\
apiVersion: v1
kind: Secret
metadata: {name: more, namespace: cilium}
data: {values.yaml: bDdQcm94eTogdHJ1ZQ==}
stringData: {port: "7445"}
---
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: cilium, namespace: cilium, annotations: {c: d}}
spec:
  releaseName: cilium
  chart: {spec: {chart: cilium, version: "${V}.18", sourceRef: {kind: HelmRepository, name: cilium}}}
  valuesFrom:
    - {kind: Secret, name: more}
    - {kind: Secret, name: more, valuesKey: port, targetPath: k8sServicePort}
  values: {hubble: {relay: {enabled: true}}, k8sServicePort: 7445, operator: {replicas: 1}}
"""
SCALARS = [None, True, 0, -1, 1.5, "", "x", "${V}", "${", "../.."]
JUNK: Any = st.sampled_from([*SCALARS, [], [1], ["x"], [None], {}, {"x": 1}])


class _Memory:
    """A workspace without files: two folders, whose objects are given."""

    def __init__(self, folders: dict[str, list[Any]], root: Path) -> None:
        self.folders, self.root = folders, root

    def is_folder(self, path: str) -> bool:
        return path in self.folders

    def build(self, path: str, spec: Any = None, *, hint: str = "") -> tuple[BuiltObject, ...]:
        built = []
        for obj in copy.deepcopy(self.folders.get(path, [])):
            check_shape(obj, place=path)
            built.append(BuiltObject(obj, f"{path}/file.yaml"))
        return tuple(built)


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    steps: list[Any] = []
    if isinstance(value, dict):
        steps = list(value.items())
    elif isinstance(value, list):
        steps = list(enumerate(value))
    return [found for key, below in steps for found in [(*here, key), *paths(below, (*here, key))]]


def put(holder: Any, path: tuple[Any, ...], value: Any) -> None:
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value


def run(folders: dict[str, list[Any]], root: Path) -> Features:
    result = build_layers(_Memory(folders, root), "flux")
    release = find_release(result.built, result.external, None, path="flux")
    values, _ = resolve(release, result.objects(), "")
    return Features.of(values)


def fresh() -> dict[str, list[Any]]:
    return {"flux": list(yaml.safe_load_all(OBJECTS)), "cilium": list(yaml.safe_load_all(RELEASE))}


def test_the_unspoiled_tree_loads(tmp_path: Path) -> None:
    assert run(fresh(), tmp_path).api_port == 7445


WHERE = [(folder, *path) for folder, objects in fresh().items() for path in paths(objects) if len(path) > 1]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(WHERE), JUNK), min_size=1, max_size=2))
def test_spoiled_trees_load_or_are_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Any]
) -> None:
    folders = fresh()
    for path, junk in changes:
        try:
            put(folders, path, copy.deepcopy(junk))
        except (TypeError, KeyError, IndexError):
            continue  # the first change took the second one's place away
    try:
        run(folders, tmp_path_factory.getbasetemp())
    except InputError as refused:
        assert str(refused)
        assert "\n" not in str(refused)
