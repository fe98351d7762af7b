"""What can be known before a cluster exists: one clear error for each bad input."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
import yaml

from cilium_e2e.flux import manifest
from cilium_e2e.flux.chart_images import ChartImage
from cilium_e2e.flux.deploy import ChartOverride
from cilium_e2e.model import EXIT_USAGE, InputError
from cilium_e2e.session import Options
from cilium_e2e.session.prepare import chart_override, image_overrides, overrides, prepare


def options(tree: Path, **given) -> Options:
    return Options(**{"repository": tree, "flux_manifest": str(tree / "flux.yaml"), **given})


def refused(given: Options) -> str:
    with pytest.raises(InputError) as caught:
        prepare(given)
    assert caught.value.exit_code == EXIT_USAGE
    return str(caught.value)


def test_everything_is_read(prepared):
    assert prepared.topology.name == "default"
    assert prepared.repository.release.name == "cilium/cilium"
    assert prepared.chart is not None
    assert prepared.chart_version == "1.18.9"
    assert prepared.flux_origin.endswith("flux.yaml")
    assert prepared.flux == Path(prepared.flux_origin).read_bytes()
    assert isinstance(prepared.external["flux-system/outside"], Path)


def test_kind_gets_absolute_mounts(prepared):
    config = yaml.safe_load(prepared.kind_config)
    (mount,) = config["nodes"][0]["extraMounts"]
    assert Path(mount["hostPath"]).is_absolute()
    assert Path(mount["hostPath"]).name == "extra.conf"
    assert Path(mount["hostPath"]).exists()


def test_a_chart_of_another_name(tree):
    (tree / "chart/Chart.yaml").write_text("{name: ciliom, version: 1.18.9}")
    text = refused(options(tree, chart=tree / "chart"))
    assert text == f"--chart {tree / 'chart'}: expected the chart cilium, got ciliom"


def test_a_chart_version_that_contradicts_the_chart(tree):
    text = refused(options(tree, chart=tree / "chart", chart_version="1.18.4"))
    assert (
        "the chart given is version 1.18.9, --chart-version says 1.18.4. Leave --chart-version out." in text
    )
    prepare(options(tree, chart=tree / "chart", chart_version="1.18.9"))


def test_a_chart_and_a_chart_repository(tree):
    text = refused(options(tree, chart=tree / "chart", chart_repository="https://charts.example"))
    assert text == "--chart-repository: --chart and --chart-repository exclude each other"


def test_no_chart_where_one_is_named(tree):
    text = refused(options(tree, chart=tree / "flux.yaml"))
    assert text.startswith(f"{tree / 'flux.yaml'}: expected a Helm chart")


def test_an_unknown_topology(tree):
    text = refused(options(tree, topology="big"))
    assert "unknown topology 'big', expected one of: default" in text


def test_a_mount_that_names_nothing(tree):
    (tree / "clusters/default/extra.conf").unlink()
    text = refused(options(tree))
    assert text == ("clusters/default/kind.yaml:6: extraMounts names ./extra.conf, expected a file beside it")


def test_an_unknown_external_layer(tree):
    text = refused(options(tree, external={"flux-system/typo": "skip"}))
    assert text == (
        "--external flux-system/typo=skip: no external layer flux-system/typo in the tree, "
        "expected: flux-system/outside"
    )


def test_an_external_folder_that_is_missing(tree):
    text = refused(options(tree, external={"flux-system/outside": str(tree / "nowhere")}))
    assert "expected a folder or 'skip', got" in text


def test_an_external_layer_may_be_left_out(tree):
    assert prepare(options(tree, external={"flux-system/outside": "skip"})).external == {
        "flux-system/outside": "skip"
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "Flux's manifest cannot be read"),
        ("a: [", "not YAML"),
        (
            "kind: Namespace\nmetadata: {name: x}\n",
            "source-controller, kustomize-controller, helm-controller",
        ),
        ("just words\n", "expected Kubernetes objects"),
    ],
)
def test_a_flux_manifest_that_cannot_be_used(tree, content, message):
    """Malformed ones too are found before a cluster is made for them."""
    file = tree / "flux.yaml"
    file.unlink() if content is None else file.write_text(content)
    text = refused(options(tree))
    assert text.startswith(f"{file}: ")
    assert message in text


def test_a_chart_source_that_cannot_be_overridden(tree):
    """Found dry, not after Flux was installed."""
    file = tree / "manifests/flux-system/cilium.yaml"
    file.write_text(
        file.read_text().replace("HelmRepository", "GitRepository").replace("url:", "interval2: x, url:")
    )
    text = refused(options(tree, chart=tree / "chart"))
    assert "expected a HelmRepository in the tree to point elsewhere" in text


class Answer(io.BytesIO):
    """What urlopen gives."""


@pytest.fixture
def asked(monkeypatch, tree):
    """Records what would be downloaded, and answers with the manifest of the tree."""
    urls = []

    def urlopen(url, *, timeout):
        urls.append(url)
        return Answer((tree / "flux.yaml").read_bytes())

    monkeypatch.setattr(manifest.urllib.request, "urlopen", urlopen)
    return urls


def test_the_trees_own_flux_is_fetched_and_checked(tree, asked):
    url = "https://flux.example/install.yaml"
    (tree / "manifests/flux-system/install.input.yaml").write_text(
        f"{{version: v9, url: '{url}', sha256: '{'0' * 64}'}}"
    )
    text = refused(options(tree, flux_manifest=""))
    assert text.startswith(f"{url}: expected sha256 {'0' * 64}, got ")
    assert asked == [url]


def test_the_pinned_flux_is_the_default(tree, asked):
    assert "expected sha256 cc3dcd" in refused(options(tree, flux_manifest=""))
    assert asked == [manifest.DEFAULT_URL]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ChartOverride("", "", "")),
        (
            {"chart_repository": "https://c.example"},
            ChartOverride("https://c.example", "", "--chart-repository"),
        ),
        ({"chart_version": "1.18.5"}, ChartOverride("", "1.18.5", "--chart-version")),
        (
            {"chart_repository": "https://c.example", "chart_version": "1.18.5"},
            ChartOverride("https://c.example", "1.18.5", "--chart-repository --chart-version"),
        ),
    ],
)
def test_where_the_chart_comes_from(prepared, given, expected):
    plain = dataclasses.replace(prepared, chart=None, options=Options(repository=Path(), **given))
    assert chart_override(plain, "server:1") == expected
    assert plain.chart_version == (given.get("chart_version") or "1.18.4")


def test_a_chart_given_is_served(prepared):
    override = chart_override(prepared, "server:1")
    assert (override.url, override.version) == ("http://server:1/charts", "1.18.9")


IMAGES = [
    ChartImage("image", "r/cilium:v1", pinned=True),
    ChartImage("operator.image", "r/operator:v1", pinned=True),
    ChartImage("envoy.image", "r/envoy:v1", pinned=False),
]


def test_local_images_are_loaded_unpinned_and_declared():
    local, values, differences = image_overrides(IMAGES, {"r/cilium:v1", "r/envoy:v1"}.__contains__)
    assert local == ["r/cilium:v1", "r/envoy:v1"]
    assert values == {"image": {"useDigest": False}}
    assert [(d.what, d.instead, d.origin) for d in differences] == [
        ("image.useDigest", "false", "loaded images")
    ]


def test_without_local_images_nothing_changes():
    assert image_overrides(IMAGES, lambda _: False) == ([], {}, [])


def test_the_runs_values_are_the_trees_overrides_and_the_images(prepared):
    repository = dataclasses.replace(prepared.repository, overrides={"operator": {"replicas": 1}})
    merged = overrides(dataclasses.replace(prepared, repository=repository), {"image": {"useDigest": False}})
    assert merged == {"operator": {"replicas": 1}, "image": {"useDigest": False}}


def test_the_images_of_the_release_come_from_the_chart_given(prepared):
    assert ChartImage("image", "r.example/cilium:v1.18.9", pinned=True) in prepared.images()
    assumed = dataclasses.replace(prepared, chart=None).images()
    assert "quay.io/cilium/cilium:v1.18.4" in [image.name for image in assumed]
