"""Flux Kustomizations are followed, ordered and built as kustomize-controller does."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.model import ManifestError
from cilium_e2e.repository import layers as module
from cilium_e2e.repository import load
from cilium_e2e.repository.layers import build_layers
from cilium_e2e.repository.tree import BuiltObject
from cilium_e2e.repository.workspace import Workspace

HEAD = "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\n"


def config_map(name: str, **data: str) -> str:
    lines = "".join(f"  {key}: '{value}'\n" for key, value in data.items())
    head = f"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: x\n"
    return f"{head}data:\n{lines or '  a: b'}\n"


def built(root, path="flux"):
    with Workspace(root) as workspace:
        return build_layers(workspace, path)


def test_order_follows_depends_on_not_the_alphabet(tree, layer) -> None:
    root = tree(
        {
            "flux/all.yaml": layer("a", "./a", depends="z")
            + layer("m", "./m", depends="a z")
            + layer("z", "./z"),
            **{f"{name}/cm.yaml": config_map(name) for name in "amz"},
        }
    )
    assert [each.path for each in built(root).built] == ["flux", "z", "a", "m"]


def test_nested_kustomizations_are_found_and_may_be_waited_for(tree, layer) -> None:
    root = tree(
        {
            "flux/all.yaml": layer("late", "./late", depends="inner") + layer("outer", "./outer"),
            "outer/inner.yaml": layer("inner", "./inner"),
            "inner/cm.yaml": config_map("inner"),
            "late/cm.yaml": config_map("late"),
        }
    )
    assert [each.name for each in built(root).built] == [
        "",
        "flux-system/outer",
        "flux-system/inner",
        "flux-system/late",
    ]


def test_a_circle_is_named(tree, layer) -> None:
    root = tree({"flux/all.yaml": layer("a", "./a", depends="b") + layer("b", "./b", depends="a")})
    with pytest.raises(ManifestError, match=r"in a circle: flux-system/a → flux-system/b → flux-system/a"):
        built(root)


def test_a_dependency_that_is_nowhere_is_named(tree, layer) -> None:
    root = tree({"flux/all.yaml": layer("a", "./a", depends="gone")})
    with pytest.raises(
        ManifestError, match=r"flux/all.yaml: Kustomization flux-system/a: depends on flux-system/gone"
    ):
        built(root)


def test_two_kustomizations_of_one_name_are_refused(tree, layer) -> None:
    root = tree(
        {
            "flux/one.yaml": layer("a", "./a"),
            "flux/more/two.yaml": layer("b", "./b"),
            "b/a.yaml": layer("a", "./b"),
            "a/cm.yaml": config_map("a"),
        }
    )
    with pytest.raises(ManifestError, match="Kustomization flux-system/a is defined twice, also in flux/one"):
        built(root)


def test_what_is_not_ours_is_recorded_and_not_built(tree, layer) -> None:
    source = """\
        apiVersion: source.toolkit.fluxcd.io/v1
        kind: GitRepository
        metadata: {name: other, namespace: flux-system}
        spec: {interval: 1m, url: "https://example.org/other.git"}
        """
    root = tree(
        {
            "flux/source.yaml": source,
            "flux/other.yaml": layer("other", "./x", source="other"),
            "flux/asleep.yaml": layer("asleep", "./x", more="suspend: true"),
            "flux/remote.yaml": layer("remote", "./x", more="kubeConfig: {secretRef: {name: c}}"),
            "flux/elsewhere.yaml": layer("elsewhere", "./nowhere", source="unknown"),
            "flux/mine.yaml": layer("mine", "./x", depends="other asleep"),
            "x/cm.yaml": config_map("x"),
        }
    )
    result = built(root)
    assert [each.name for each in result.built] == ["", "flux-system/mine"]
    reasons = {each.name.partition("/")[2]: each.reason for each in result.external}
    assert "GitRepository other, not this repository" in reasons["other"]
    assert "suspended" in reasons["asleep"]
    assert "another cluster" in reasons["remote"]
    assert "neither its source GitRepository unknown nor its path nowhere" in reasons["elsewhere"]


def test_a_source_with_the_address_of_a_remote_is_ours(tree, layer, monkeypatch) -> None:
    monkeypatch.setattr(
        "cilium_e2e.repository.sources._remotes", lambda _: frozenset({"example.org/us/gitops"})
    )
    source = """\
        apiVersion: source.toolkit.fluxcd.io/v1
        kind: GitRepository
        metadata: {name: gitops, namespace: flux-system}
        spec: {interval: 1m, url: "ssh://git@example.org:22/us/gitops.git"}
        """
    root = tree(
        {"flux/s.yaml": source, "flux/k.yaml": layer("k", "x", source="gitops"), "x/cm.yaml": config_map("x")}
    )
    assert [each.path for each in built(root).built] == ["flux", "x"]


def test_what_flux_bootstrap_writes_builds_its_own_folder_once(tree, layer) -> None:
    root = tree(
        {
            "clusters/one/flux-system/sync.yaml": layer(
                "flux-system",
                "./clusters/one",
                more="""\
                postBuild:
                  substitute: {WHO: production}""",
            ),
            "clusters/one/apps.yaml": layer("apps", "./apps", depends="flux-system"),
            "clusters/one/cm.yaml": config_map("own", who="${WHO}"),
            "apps/cm.yaml": config_map("apps"),
        }
    )
    result = built(root, "clusters/one")
    assert [(each.name, each.path) for each in result.built] == [
        ("flux-system/flux-system", "clusters/one"),
        ("flux-system/apps", "apps"),
    ]
    own = next(each.object for each in result.built[0].objects if each.ref.name == "own")
    assert own["data"] == {"who": "production"}


def test_patches_images_names_and_namespace_are_applied_as_flux_does(tree, layer) -> None:
    pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: old}\n"
    pod += "spec: {containers: [{name: c, image: nginx:1}]}\n"
    more = """\
        targetNamespace: new
        namePrefix: pre-
        commonMetadata: {labels: {team: net}}
        images: [{name: nginx, newName: registry.example.org/nginx, newTag: "2"}]
        components: [../component]
        patches:
          - target: {kind: Pod, name: p, namespace: old}
            patch: |
              - {op: add, path: /metadata/labels, value: {patched: "yes"}}
        """
    component = (
        "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\ncommonAnnotations: {seen: 'true'}\n"
    )
    root = tree(
        {
            "flux/k.yaml": layer("k", "./x", more=more),
            "x/pod.yaml": pod,
            "x/kustomization.yaml": "resources: [pod.yaml]\n",
            "component/kustomization.yaml": component,
        }
    )
    (found,) = built(root).built[1].objects
    assert found.object["metadata"] == {
        "name": "pre-p",
        "namespace": "new",
        "labels": {"patched": "yes", "team": "net"},
        "annotations": {"seen": "true"},
    }
    assert found.object["spec"]["containers"][0]["image"] == "registry.example.org/nginx:2"
    assert found.file == "x/pod.yaml"


def test_the_tree_itself_is_never_written_to(tree, layer) -> None:
    root = tree(
        {
            "flux/k.yaml": layer("k", "./x", more="namePrefix: p-"),
            "x/kustomization.yaml": "resources: [cm.yaml]\n",
            "x/cm.yaml": config_map("x"),
        }
    )
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    built(root)
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("spec: 3", r"Kustomization k: expected spec to be a mapping, got int"),
        ("spec: {path: 3}", r"expected spec\.path to be a string, got int"),
        ("spec: {path: ../..}", r"spec\.path \.\./\.\. leads out of the repository"),
        (
            "spec: {path: gone, sourceRef: {kind: GitRepository, name: flux-system}}",
            r"spec\.path gone is no folder",
        ),
        ("spec: {path: x, dependsOn: [a]}", r"expected each of spec\.dependsOn to be a mapping, got str"),
    ],
)
def test_malformed_kustomizations_give_one_clear_error(tree, text: str, message: str) -> None:
    head = HEAD + "metadata: {name: k, namespace: flux-system}\n"
    with pytest.raises(ManifestError, match=message):
        built(tree({"flux/k.yaml": head + text, "x/cm.yaml": config_map("x")}))


def test_a_kustomization_without_a_namespace_is_refused(tree) -> None:
    head = HEAD + "metadata: {name: k}\nspec: {path: x}\n"
    with pytest.raises(
        ManifestError, match=r"flux/k\.yaml: Kustomization k has no namespace, Flux refuses that"
    ):
        built(tree({"flux/k.yaml": head}))


NAMES = [f"k{number}" for number in range(6)]


class _NoFiles:
    """Stands in for a workspace: every folder exists, only the first one holds anything."""

    def __init__(self, objects, root) -> None:
        self.objects, self.root = objects, root

    def is_folder(self, path: str) -> bool:
        return True

    def build(self, path: str, spec=None, *, hint=""):
        return self.objects if path == "flux" else ()


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), max_size=9), st.permutations(NAMES)
)
def test_any_graph_is_ordered_or_its_circle_named(tmp_path_factory, edges, order) -> None:
    depends = {name: sorted({there for here, there in edges if here == name}) for name in NAMES}
    objects = tuple(
        BuiltObject(
            {
                "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
                "kind": "Kustomization",
                "metadata": {"name": name, "namespace": "f"},
                "spec": {
                    "path": name,
                    "sourceRef": {"kind": "GitRepository", "name": "flux-system"},
                    "dependsOn": [{"name": other} for other in depends[name]],
                },
            },
            "flux/k.yaml",
        )
        for name in order
    )
    workspace = _NoFiles(objects, tmp_path_factory.getbasetemp())
    try:
        result = module.build_layers(workspace, "flux")
    except ManifestError as exc:
        circle = str(exc.message).partition("circle: ")[2].replace("f/", "").split(" → ")
        assert circle[0] == circle[-1]
        assert all(there in depends[here] for here, there in pairwise(circle))
        return
    names = [each.path for each in result.built[1:]]
    assert sorted(names) == NAMES
    for name in names:
        assert all(names.index(other) < names.index(name) for other in depends[name])


def test_load_names_what_was_not_built_when_nothing_is_found(tree, layer) -> None:
    root = tree({"flux/k.yaml": layer("k", "./x", more="suspend: true")})
    with pytest.raises(Exception, match="flux-system/k was not built: it is suspended"):
        load(root, "flux")
