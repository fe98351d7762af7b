"""What a user may get wrong, and the one clear error for it."""

import pytest

from cilium_e2e.model import InputError, ManifestError, ReleaseError, ValuesError
from cilium_e2e.repository import load

KUSTOMIZATION = (
    "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [release.yaml]\n"
)


def refused(root, kind: type[InputError], message: str, path: str = "cilium", **options) -> InputError:
    with pytest.raises(kind, match=message) as caught:
        load(root, path, **options)
    assert caught.value.exit_code == 4
    return caught.value


def test_the_good_case(tree, helmrelease: str) -> None:
    loaded = load(
        tree({"cilium/release.yaml": helmrelease, "cilium/kustomization.yaml": KUSTOMIZATION}), "cilium"
    )
    assert loaded.release.name == "cilium/cilium"
    assert loaded.release.file == "cilium/release.yaml"
    assert loaded.release.identity == ("cilium", "cilium", "cilium")


def test_a_yaml_error_names_file_and_line(tree, helmrelease: str) -> None:
    broken = helmrelease.replace("  interval: 30m", "  interval: 30m\n bad: [")
    root = tree({"cilium/release.yaml": broken, "cilium/kustomization.yaml": KUSTOMIZATION})
    refused(root, ManifestError, r"^cilium/release\.yaml:\d+: not valid YAML: ")


def test_a_yaml_error_in_the_kustomization(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease, "cilium/kustomization.yaml": KUSTOMIZATION + "x: [\n"})
    refused(root, ManifestError, r"^cilium/kustomization\.yaml:\d+: not valid YAML: ")


def test_a_yaml_error_in_a_later_layer(tree, layer, helmrelease: str) -> None:
    root = tree({"flux/k.yaml": layer("cilium", "./cilium"), "cilium/release.yaml": helmrelease + "\t- x\n"})
    refused(root, ManifestError, r"^cilium/release\.yaml:17: not valid YAML: ", path="flux")


def test_a_doubled_key_names_file_and_line(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease + "  interval: 10m\n"})
    refused(root, ManifestError, r"^cilium/release\.yaml:17: not valid YAML: the key 'interval' stands twice")


def test_a_missing_folder(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease})
    refused(root, ManifestError, r"^--path cilum: the repository has no folder cilum$", path="cilum")


def test_a_folder_outside(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease})
    refused(root, ManifestError, r"--path \.\./x: expected a folder inside the repository", path="../x")
    refused(root, ManifestError, r"--path /usr: expected a folder of the repository", path="/usr")


def test_a_missing_repository(tmp_path) -> None:
    refused(tmp_path / "gone", ManifestError, "gone: expected the root of a repository, found no such folder")


def test_a_missing_kustomization_and_no_manifests(tree) -> None:
    root = tree({"cilium/README.md": "nothing"})
    error = refused(
        root, ManifestError, r"^cilium: expected a kustomization\.yaml or manifests, found neither\. Name"
    )
    assert error.hint


def test_a_missing_kustomization_is_generated_as_flux_does(tree, helmrelease: str) -> None:
    assert (
        load(tree({"cilium/sub/release.yaml": helmrelease}), "cilium").release.file
        == "cilium/sub/release.yaml"
    )


def test_a_kustomization_that_names_nothing(tree) -> None:
    root = tree({"cilium/kustomization.yaml": KUSTOMIZATION})
    refused(
        root,
        ManifestError,
        r"^cilium/kustomization\.yaml: names cilium/release\.yaml: no such file or folder$",
    )


def test_a_kustomization_that_names_a_folder_without_one(tree, helmrelease: str) -> None:
    text = KUSTOMIZATION.replace("release.yaml", "sub")
    root = tree({"cilium/kustomization.yaml": text, "cilium/sub/release.yaml": helmrelease})
    refused(root, ManifestError, r"^cilium/kustomization\.yaml: cilium/sub has no kustomization\.yaml$")


def test_a_kustomization_that_leaves_the_repository(tree) -> None:
    root = tree({"cilium/kustomization.yaml": KUSTOMIZATION.replace("release.yaml", "../../x.yaml")})
    refused(root, ManifestError, r"\.\./x\.yaml is outside of the repository")


def test_what_kustomize_itself_refuses(tree, helmrelease: str) -> None:
    root = tree(
        {"cilium/release.yaml": helmrelease, "cilium/kustomization.yaml": KUSTOMIZATION + "colour: red\n"}
    )
    error = refused(root, ManifestError, r"^cilium: kustomize cannot build it: .*unknown field \"colour\"")
    assert "cilium-e2e-" not in str(error)
    assert "\n" not in str(error)


def test_a_yaml_error_in_a_patch(tree, helmrelease: str) -> None:
    text = KUSTOMIZATION + "patches: [{path: patch.yaml}]\n"
    root = tree(
        {"cilium/release.yaml": helmrelease, "cilium/kustomization.yaml": text, "cilium/patch.yaml": "a: [\n"}
    )
    refused(root, ManifestError, r"^cilium/patch\.yaml:2: not valid YAML: ")


def test_no_helmrelease(tree) -> None:
    root = tree({"cilium/ns.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: cilium}\n"})
    refused(
        root,
        ReleaseError,
        r"^cilium: found no HelmRelease of the chart cilium\. Name the folder that Flux builds",
    )


def test_a_release_of_another_chart(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease.replace("chart: cilium", "chart: podinfo")})
    message = r"found no HelmRelease of the chart cilium; others: cilium/cilium \(chart podinfo in cilium/rel"
    refused(root, ReleaseError, message)
    refused(root, ReleaseError, "it installs the chart podinfo, expected cilium", release="cilium/cilium")


def test_two_releases_without_a_choice(tree, helmrelease: str) -> None:
    other = helmrelease.replace("namespace: cilium", "namespace: kube-system")
    root = tree({"cilium/a.yaml": helmrelease, "cilium/b.yaml": other})
    error = refused(
        root,
        ReleaseError,
        "found 2 HelmReleases of the chart cilium, expected one: cilium/cilium .*kube-system/cilium",
    )
    assert "--release NAMESPACE/NAME" in error.hint
    assert load(root, "cilium", release="kube-system/cilium").release.file == "cilium/b.yaml"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("cilium", "--release cilium: expected NAMESPACE/NAME. The tree has: cilium/cilium"),
        ("a/b/c", "expected NAMESPACE/NAME"),
        (
            "cilium/gone",
            "--release cilium/gone: the tree has no such HelmRelease. The tree has: cilium/cilium",
        ),
    ],
)
def test_a_release_that_is_not_there(tree, helmrelease: str, wanted: str, message: str) -> None:
    refused(tree({"cilium/release.yaml": helmrelease}), ReleaseError, message, release=wanted)


def test_a_suspended_release(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease.replace("interval: 30m", "suspend: true")})
    refused(
        root, ReleaseError, r"cilium/release\.yaml: HelmRelease cilium/cilium is suspended, Flux would not"
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            "kubeProxyReplacement: [true]",
            r"release\.yaml:16: expected kubeProxyReplacement to be bool or str, got list",
        ),
        ("l7Proxy: 'true'", r"release\.yaml:16: expected l7Proxy to be bool, got str 'true'"),
        ("hubble: true", r"release\.yaml:16: expected hubble to be mapping, got bool True"),
        (
            "operator: {replicas: two}",
            r"release\.yaml:16: expected operator\.replicas to be int, got str 'two'",
        ),
        ("operator: {replicas: true}", r"expected operator\.replicas to be int, got bool True"),
        ("k8sServicePort: kubeprism", r"expected k8sServicePort to be a port number, got str 'kubeprism'"),
        (
            "routingMode: direct",
            r"expected routingMode to be one of '', 'tunnel', 'native', got str 'direct'",
        ),
    ],
)
def test_values_of_a_wrong_type(tree, helmrelease: str, values: str, message: str) -> None:
    text = helmrelease.replace("kubeProxyReplacement: true", values)
    refused(tree({"cilium/release.yaml": text}), ValuesError, message)


def test_values_of_a_wrong_type_in_a_values_file(tree, helmrelease: str) -> None:
    root = tree(
        {"cilium/release.yaml": helmrelease, "mine.yaml": "# why\n\nhubble:\n  relay:\n    enabled: 1\n"}
    )
    message = r"mine\.yaml:5: expected hubble\.relay\.enabled to be bool, got int 1"
    refused(root, ValuesError, message, values=[root / "mine.yaml"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "expected one mapping, got list"),
        ("a: [\n", r"mine\.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "2 documents"),
    ],
)
def test_a_values_file_that_is_none(tree, helmrelease: str, text: str, message: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease, "mine.yaml": text})
    refused(root, ValuesError, message, values=[root / "mine.yaml"])


def test_a_values_file_that_is_not_there(tree, helmrelease: str) -> None:
    root = tree({"cilium/release.yaml": helmrelease})
    refused(root, ValuesError, r"gone\.yaml: no such file", values=[root / "gone.yaml"])


def test_values_that_are_no_mapping(tree, helmrelease: str) -> None:
    text = helmrelease.replace("values:\n    kubeProxyReplacement: true", "values: 3")
    refused(tree({"cilium/release.yaml": text}), ValuesError, "expected spec.values to be a mapping, got int")


def test_a_substitution_without_a_value(tree, layer, helmrelease: str) -> None:
    text = helmrelease.replace("version: 1.18.4", "version: ${CILIUM_VERSION}")
    root = tree(
        {
            "flux/k.yaml": layer("cilium", "./cilium", more="postBuild: {substitute: {OTHER: x}}"),
            "cilium/release.yaml": text,
        }
    )
    message = (
        r"^cilium/release\.yaml: HelmRelease cilium/cilium uses \$\{CILIUM_VERSION\}, which Kustomization "
        r"flux-system/cilium does not define\. Define it in spec\.postBuild, or give it a default"
    )
    refused(root, ManifestError, message, path="flux")


def test_an_ignored_file_is_named_as_such(tree, helmrelease: str) -> None:
    root = tree({"cilium/kustomization.yaml": KUSTOMIZATION, "elsewhere.yaml": helmrelease})
    (root / "cilium/release.yaml").symlink_to(root / "elsewhere.yaml")
    refused(root, ManifestError, "git ignores it, or it is a symbolic link, so Flux would not see it")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "  chart:\n    spec:",
            "  chart: cilium\n  x:\n    y:",
            r"expected spec\.chart to be a mapping, got str",
        ),
        ("  namespace: cilium\n", "", "HelmRelease cilium has no namespace, Flux refuses that"),
        (
            "  interval: 30m",
            "  valuesFrom: [secret]",
            r"expected each of spec\.valuesFrom to be a mapping, got str",
        ),
        ("  interval: 30m", "  releaseName: 3", r"expected spec\.releaseName to be a string, got int"),
    ],
)
def test_malformed_releases(tree, helmrelease: str, old: str, new: str, message: str) -> None:
    refused(tree({"cilium/release.yaml": helmrelease.replace(old, new)}), InputError, message)
