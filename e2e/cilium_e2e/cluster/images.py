"""Images of the local engine, loaded into the nodes so that nothing need be pulled there."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from cilium_e2e.cluster.engine import Engine

_ARCHIVE = "cilium-e2e-image.tar"
_FOLDER = "/var"


def load(engine: Engine, cluster: str, images: Iterable[str]) -> None:
    """Load images into every node: each is saved once, the nodes take it in parallel.

    Args:
        engine: the engine that has the images and runs the nodes.
        cluster: the cluster's name.
        images: image names with tags, all present in the engine.

    Raises:
        EngineError: an image could not be saved, or a node refused it.
    """
    nodes = [node.name for node in engine.nodes(cluster) if node.role != "external-load-balancer"]

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="load") as pool:
        for image in images:
            with engine.saved(image) as archive:

                def one(node: str) -> None:
                    engine.put_large(node, _FOLDER, _ARCHIVE, archive)
                    path = f"{_FOLDER}/{_ARCHIVE}"
                    engine.execute(node, ["ctr", "--namespace=k8s.io", "images", "import", "--digests", path])
                    engine.execute(node, ["rm", "-f", path])

                list(pool.map(one, nodes))
