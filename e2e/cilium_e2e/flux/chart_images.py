"""The images that a release of the chart runs, so that those at hand need not be pulled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.repository import dig, merge
from cilium_e2e.repository.merge import nest

# Where the chart's values name images, and which value must be on for each to be used. Source: values.yaml
# and templates of the chart, 1.18. The operator's repository gets a suffix from the chart.
_IMAGES = (
    ("image", "", ""),
    ("operator.image", "operator.enabled", "-generic"),
    ("hubble.relay.image", "hubble.relay.enabled", ""),
    ("hubble.ui.backend.image", "hubble.ui.enabled", ""),
    ("hubble.ui.frontend.image", "hubble.ui.enabled", ""),
    ("envoy.image", "envoy.enabled", ""),
)
# For a chart that is not at hand as a file: images that carry the chart's own version.
_VERSIONED = {
    "image": "quay.io/cilium/cilium",
    "operator.image": "quay.io/cilium/operator",
    "hubble.relay.image": "quay.io/cilium/hubble-relay",
}


@dataclass(frozen=True, slots=True)
class ChartImage:
    """An image of the release.

    Attributes:
        path: where the chart's values name it.
        name: repository and tag.
        pinned: whether the release asks for it by digest, which a loaded image does not carry.
    """

    path: str
    name: str
    pinned: bool


def chart_images(
    effective: Mapping[str, Any], defaults: Mapping[str, Any] | None, version: str
) -> list[ChartImage]:
    """The images of a release.

    Args:
        effective: the release's values.
        defaults: the chart's values.yaml; None where the chart is not at hand, and then only the images
            that carry the chart's version are known.
        version: the chart's version.
    """
    values = merge(defaults if defaults is not None else _assumed(version), effective)
    images: list[ChartImage] = []
    for path, switch, suffix in _IMAGES:
        image = dig(values, path)
        # Envoy's switch is null by default, which the chart takes for on.
        if not isinstance(image, Mapping) or (switch and dig(values, switch) is False):
            continue
        if image.get("override"):
            images.append(ChartImage(path, str(image["override"]), pinned="@" in str(image["override"])))
        elif image.get("repository") and image.get("tag"):
            name = f"{image['repository']}{suffix}{image.get('suffix') or ''}:{image['tag']}"
            pinned = image.get("useDigest") is True and bool(_digest(image))
            images.append(ChartImage(path, name, pinned))
    return images


def unpinned(images: list[ChartImage]) -> dict[str, Any]:
    """The values that let loaded images be used in place of pinned digests."""
    values: dict[str, Any] = {}
    for image in images:
        if image.pinned and "@" not in image.name:  # a digest in an override is not asked for by a switch
            values = merge(values, nest(tuple(image.path.split(".")), {"useDigest": False}))
    return values


def _digest(image: Mapping[str, Any]) -> str:
    return str(image.get("digest") or image.get("genericDigest") or "")


def _assumed(version: str) -> dict[str, Any]:
    """What a released chart's values.yaml says of the images that carry its version."""
    values: dict[str, Any] = {"hubble": {"relay": {"enabled": False}}}
    for path, repository in _VERSIONED.items():
        image = {"repository": repository, "tag": f"v{version}", "useDigest": True, "digest": "the chart's"}
        values = merge(values, nest(tuple(path.split(".")), image))
    return values
