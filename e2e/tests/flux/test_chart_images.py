"""Which images a release runs, from its values and the chart's."""

from __future__ import annotations

from typing import Any

import pytest

from cilium_e2e.flux.chart_images import ChartImage, chart_images, unpinned
from cilium_e2e.repository import merge

DIGEST = "sha256:" + "0" * 64


def image(repository: str, tag: str = "v1.18.12", **more: Any) -> dict[str, Any]:
    return {"override": None, "repository": repository, "tag": tag, "useDigest": True, **more}


# The shape of a released chart's values.yaml.
DEFAULTS: dict[str, Any] = {
    "image": image("quay.io/cilium/cilium", digest=DIGEST),
    "operator": {
        "enabled": True,
        "image": image("quay.io/cilium/operator", genericDigest=DIGEST, suffix=""),
    },
    "hubble": {
        "relay": {"enabled": False, "image": image("quay.io/cilium/hubble-relay", digest=DIGEST)},
        "ui": {
            "enabled": False,
            "backend": {"image": image("quay.io/cilium/hubble-ui-backend", "v0.13.2", digest=DIGEST)},
            "frontend": {"image": image("quay.io/cilium/hubble-ui", "v0.13.2", digest=DIGEST)},
        },
    },
    "envoy": {"enabled": None, "image": image("quay.io/cilium/cilium-envoy", "v1.34.4", digest=DIGEST)},
}


def found(values: dict[str, Any], defaults: dict[str, Any] | None = DEFAULTS) -> dict[str, ChartImage]:
    return {each.path: each for each in chart_images(values, defaults, "1.18.12")}


def test_what_runs_by_default() -> None:
    images = found({})
    assert {path: each.name for path, each in images.items()} == {
        "image": "quay.io/cilium/cilium:v1.18.12",
        "operator.image": "quay.io/cilium/operator-generic:v1.18.12",
        "envoy.image": "quay.io/cilium/cilium-envoy:v1.34.4",
    }
    assert all(each.pinned for each in images.values())


@pytest.mark.parametrize(
    ("values", "path", "there"),
    [
        ({"hubble": {"relay": {"enabled": True}}}, "hubble.relay.image", True),
        ({"hubble": {"relay": {"enabled": False}}}, "hubble.relay.image", False),
        ({"hubble": {"ui": {"enabled": True}}}, "hubble.ui.frontend.image", True),
        ({"hubble": {"ui": {"enabled": True}}}, "hubble.ui.backend.image", True),
        ({"envoy": {"enabled": False}}, "envoy.image", False),
        ({"operator": {"enabled": False}}, "operator.image", False),
    ],
)
def test_switches(values: dict[str, Any], path: str, there: bool) -> None:
    assert (path in found(values)) is there


def test_the_release_s_values_go_over_the_chart_s() -> None:
    images = found({"image": {"repository": "mirror.example/cilium", "tag": "dev", "useDigest": False}})
    assert images["image"] == ChartImage("image", "mirror.example/cilium:dev", pinned=False)


def test_an_empty_digest_pins_nothing() -> None:
    assert not found({"image": {"digest": ""}})["image"].pinned
    assert not found({"operator": {"image": {"genericDigest": ""}}})["operator.image"].pinned


def test_an_override_is_taken_as_it_is() -> None:
    images = found({"operator": {"image": {"override": "mirror.example/op:1"}}})
    assert images["operator.image"] == ChartImage("operator.image", "mirror.example/op:1", pinned=False)


def test_the_operator_s_own_suffix() -> None:
    images = found({"operator": {"image": {"suffix": "-ci", "tag": "abc"}}})
    assert images["operator.image"].name == "quay.io/cilium/operator-generic-ci:abc"


def test_an_image_removed_by_null() -> None:
    assert "image" not in found({"image": None})


def test_a_chart_that_is_not_at_hand() -> None:
    images = found({"hubble": {"relay": {"enabled": True}}}, None)
    assert {path: each.name for path, each in images.items()} == {
        "image": "quay.io/cilium/cilium:v1.18.12",
        "operator.image": "quay.io/cilium/operator-generic:v1.18.12",
        "hubble.relay.image": "quay.io/cilium/hubble-relay:v1.18.12",
    }
    assert all(each.pinned for each in images.values())
    assert "hubble.relay.image" not in found({}, None)


def test_unpinned_lets_loaded_images_be_used() -> None:
    effective = {"hubble": {"relay": {"enabled": True}}}
    values = unpinned(chart_images(effective, DEFAULTS, "1.18.12"))
    assert values["image"] == {"useDigest": False}
    assert values["operator"] == {"image": {"useDigest": False}}
    assert values["hubble"] == {"relay": {"image": {"useDigest": False}}}
    again = chart_images(merge(effective, values), DEFAULTS, "1.18.12")
    assert not any(each.pinned for each in again)
    assert unpinned(again) == {}


def test_no_switch_unpins_an_override() -> None:
    pinned = f"mirror.example/cilium@{DIGEST}"
    images = found({"image": {"override": pinned}})
    assert images["image"].pinned
    assert "image" not in unpinned(list(images.values()))
