"""Where a chart can come from."""

import pytest

from cilium_e2e.model import ReleaseError
from cilium_e2e.repository import load

RELEASE = """\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata: {name: net, namespace: flux-system}
spec:
  interval: 30m
  targetNamespace: kube-system
"""


def source(kind: str, spec: str) -> str:
    meta = "metadata: {name: src, namespace: flux-system}"
    return f"apiVersion: source.toolkit.fluxcd.io/v1\nkind: {kind}\n{meta}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("release", "objects", "version", "url"),
    [
        (
            "  chartRef: {kind: OCIRepository, name: src}\n",
            source("OCIRepository", '{url: "oci://quay.io/cilium/charts/cilium", ref: {tag: 1.18.2}}'),
            "1.18.2",
            "oci://quay.io/cilium/charts/cilium",
        ),
        (
            "  chartRef: {kind: OCIRepository, name: src}\n",
            source("OCIRepository", '{url: "oci://example.org/cilium/", ref: {semver: 1.18.x}}'),
            "1.18.x",
            "oci://example.org/cilium/",
        ),
        (
            "  chartRef: {kind: HelmChart, name: src}\n",
            source(
                "HelmChart", "{chart: cilium, version: 1.18.1, sourceRef: {kind: HelmRepository, name: h}}"
            ),
            "1.18.1",
            "",
        ),
        (
            "  chart: {spec: {chart: ./charts/cilium, sourceRef: {kind: GitRepository, name: src}}}\n",
            source("GitRepository", '{url: "https://example.org/g"}'),
            "",
            "https://example.org/g",
        ),
        (
            "  chart: {spec: {chart: cilium, sourceRef: {kind: HelmRepository, name: src}}}\n",
            source("HelmRepository", '{url: "https://helm.cilium.io/"}'),
            "*",
            "https://helm.cilium.io/",
        ),
    ],
)
def test_charts_are_recognised(tree, release: str, objects: str, version: str, url: str) -> None:
    found = load(tree({"a/release.yaml": RELEASE + release, "a/source.yaml": objects}), "a").release
    assert (found.chart.name, found.chart.version, found.chart.url) == ("cilium", version, url)


def test_helm_controllers_defaults_of_the_identity(tree) -> None:
    chart = "  chart: {spec: {chart: cilium, sourceRef: {kind: HelmRepository, name: src}}}\n"
    found = load(tree({"a/release.yaml": RELEASE + chart}), "a").release
    assert found.identity == ("kube-system-net", "kube-system", "flux-system")


def test_an_unknown_chart_is_said_to_be_unknown(tree) -> None:
    root = tree({"a/release.yaml": RELEASE + "  chartRef: {kind: OCIRepository, name: gone}\n"})
    with pytest.raises(ReleaseError, match=r"others: flux-system/net \(chart unknown in a/release.yaml\)"):
        load(root, "a")
    with pytest.raises(ReleaseError, match="OCIRepository flux-system/gone, which the tree does not hold"):
        load(root, "a", release="flux-system/net")
