"""``spec.postBuild`` of Flux Kustomizations."""

import pytest

from cilium_e2e.model import ManifestError
from cilium_e2e.repository.layers import build_layers
from cilium_e2e.repository.workspace import Workspace

VARIABLES = "apiVersion: v1\nkind: {kind}\nmetadata: {{name: vars, namespace: flux-system}}\n{data}\n"


def run(tree, layer, post_build: str, text: str, **extra: str):
    root = tree(
        {"flux/k.yaml": layer("k", "./x", more=f"postBuild: {post_build}"), "x/cm.yaml": text, **extra}
    )
    with Workspace(root) as workspace:
        result = build_layers(workspace, "flux")
    return result, result.built[1].objects[0].object


def config(data: str, meta: str = "") -> str:
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: x{meta}}}\ndata: {data}\n"


def test_values_come_from_configmaps_secrets_and_inline_which_wins(tree, layer) -> None:
    sources = "{kind: ConfigMap, name: vars}, {kind: Secret, name: vars}"
    post = f"{{substituteFrom: [{sources}], substitute: {{C: inline}}}}"
    _, found = run(
        tree,
        layer,
        post,
        config('{v: "${A} ${B} ${C} ${D:=default}"}'),
        **{
            "flux/cm.yaml": VARIABLES.format(
                kind="ConfigMap", data="data: {A: config, B: config, C: config}"
            ),
            "flux/secret.yaml": VARIABLES.format(kind="Secret", data="data: {B: c2VjcmV0}"),
        },
    )
    assert found["data"] == {"v": "config secret inline default"}


def test_a_value_takes_the_type_of_its_text(tree, layer) -> None:
    pod = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: x}\n"
    pod += 'spec: {ports: [{port: "${P}"}], clusterIP: "a ${P}"}\n'
    _, found = run(tree, layer, "{substitute: {P: '80'}}", pod)
    assert found["spec"] == {"ports": [{"port": 80}], "clusterIP": "a 80"}


def test_text_of_several_lines_and_quotes_survive(tree, layer) -> None:
    text = config('{v: "a: ${V}\\nb: \\"${V}\\"\\n"}')
    _, found = run(tree, layer, "{substitute: {V: it''s}}".replace("it''s", '"it\'s"'), text)
    assert found["data"]["v"] == "a: it's\nb: \"it's\"\n"


@pytest.mark.parametrize("where", ["labels", "annotations"])
def test_an_object_can_opt_out(tree, layer, where: str) -> None:
    text = config('{v: "${UNKNOWN}"}', f", {where}: {{kustomize.toolkit.fluxcd.io/substitute: disabled}}")
    _, found = run(tree, layer, "{substitute: {P: '80'}}", text)
    assert found["data"] == {"v": "${UNKNOWN}"}


def test_without_post_build_nothing_is_substituted(tree, layer) -> None:
    _, found = run(tree, layer, "{}", config('{v: "${UNKNOWN} $$"}'))
    assert found["data"] == {"v": "${UNKNOWN} $$"}


def test_what_only_the_cluster_holds_is_declared(tree, layer) -> None:
    result, found = run(
        tree, layer, "{substituteFrom: [{kind: ConfigMap, name: outside}]}", config('{v: "${A:=x}"}')
    )
    assert found["data"] == {"v": "x"}
    (difference,) = result.differences
    assert difference.what == "variables from ConfigMap flux-system/outside"
    assert difference.origin == "Kustomization flux-system/k"


def test_what_only_the_cluster_holds_is_named_when_needed(tree, layer) -> None:
    post = "{substituteFrom: [{kind: ConfigMap, name: outside}]}"
    message = (
        r"x/cm\.yaml: ConfigMap x/c uses \$\{A\}, which Kustomization flux-system/k does not define; "
        r"ConfigMap flux-system/outside would have to say, and the tree does not hold it"
    )
    with pytest.raises(ManifestError, match=message):
        run(tree, layer, post, config('{v: "${A}"}'))


def test_an_optional_source_may_be_absent(tree, layer) -> None:
    post = "{substituteFrom: [{kind: ConfigMap, name: outside, optional: true}]}"
    result, _ = run(tree, layer, post, config("{v: x}"))
    assert result.differences == []


def test_an_encrypted_source_is_stubbed(tree, layer) -> None:
    secret = VARIABLES.format(
        kind="Secret", data="stringData: {A: 'ENC[AES256_GCM,data:x]'}\nsops: {version: '3'}"
    )
    result, found = run(
        tree,
        layer,
        "{substituteFrom: [{kind: Secret, name: vars}]}",
        config('{v: "${A}"}'),
        **{"flux/secret.yaml": secret},
    )
    assert found["data"] == {"v": "sops-stub"}
    assert [difference.origin for difference in result.differences] == ["SOPS"]


@pytest.mark.parametrize(
    ("post", "text", "message"),
    [
        (
            "{substitute: {A: x}}",
            config('{v: "${A"}'),
            r"x/cm\.yaml: ConfigMap x/c: bad substitution at '\$\{A",
        ),
        ("{substitute: {a-b: x}}", config("{v: x}"), "'a-b' is no name for a variable"),
        (
            "{substituteFrom: [{kind: Pod, name: x}]}",
            config("{v: x}"),
            "takes a ConfigMap or a Secret, got Pod",
        ),
        (
            "{substitute: {A: '['}}",
            config('{v: "${A}"}'),
            r"x/cm\.yaml, after substitution:\d+: not valid YAML",
        ),
        (
            "{substitute: 3}",
            config("{v: x}"),
            r"expected spec\.postBuild\.substitute to be a mapping, got int",
        ),
    ],
)
def test_what_cannot_be_substituted(tree, layer, post: str, text: str, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        run(tree, layer, post, text)
