"""Images of the local engine, loaded into the nodes so that nothing need be pulled there."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from cilium_e2e.cluster.engine import Engine
from cilium_e2e.model import EngineError

_IMPORT = ("ctr", "--namespace=k8s.io", "images", "import", "--digests", "-")
# Pieces a node may be behind the others; bounds memory to this many times the piece's size, 2 MiB.
_AHEAD = 8


def load(engine: Engine, cluster: str, images: Iterable[str], *, stop: threading.Event | None = None) -> None:
    """Load images into every node: each image is read once, and all nodes take it at the same time.

    An image that every node has under this name is left as it is.

    Args:
        engine: the engine that has the images and runs the nodes.
        cluster: the cluster's name.
        images: image names with tags, all present in the engine.
        stop: set by somebody else to give up: the image under way is not finished.

    Raises:
        EngineError: an image could not be read, or a node refused it.
    """
    nodes = [node.name for node in engine.nodes(cluster) if node.role != "external-load-balancer"]
    with ThreadPoolExecutor(max_workers=len(nodes) or 1, thread_name_prefix="load") as pool:
        present = set.intersection(*pool.map(lambda node: _present(engine, node), nodes)) if nodes else set()
        for image in dict.fromkeys(images):
            if _full_name(image) in present or (stop is not None and stop.is_set()):
                continue
            branches = [_Branch() for _ in nodes]
            tasks = [
                pool.submit(branch.drain, engine, node) for node, branch in zip(nodes, branches, strict=True)
            ]
            try:
                for piece in engine.save(image):
                    if stop is not None and stop.is_set():
                        break
                    for branch in branches:
                        branch.put(piece)
            finally:
                for branch in branches:
                    branch.put(None)
            if stop is not None and stop.is_set():
                return  # what the nodes say of half an image is of no interest
            for node, task in zip(nodes, tasks, strict=True):
                try:
                    task.result()
                except EngineError as error:
                    raise EngineError(
                        error.message, place=f"loading image {image} into {node}", hint=error.hint
                    ) from error


def _present(engine: Engine, node: str) -> set[str]:
    """The names of the images a node has."""
    return set(engine.execute(node, ["ctr", "--namespace=k8s.io", "images", "list", "--quiet"]).split())


def _full_name(image: str) -> str:
    """A name as containerd has it: with registry, and with ``library`` for Docker's own images."""
    first, slash, _ = image.partition("/")
    if not slash:
        return f"docker.io/library/{image}"
    if "." in first or ":" in first or first == "localhost":
        return image
    return f"docker.io/{image}"


class _Branch:
    """One node's copy of a stream; a node that has failed takes no more and holds nobody up."""

    def __init__(self) -> None:
        self._pieces: queue.Queue[bytes | None] = queue.Queue(maxsize=_AHEAD)
        self._done = threading.Event()

    def put(self, piece: bytes | None) -> None:
        """Hand over the next piece, or None for the end; waits while the node is behind."""
        while not self._done.is_set():
            try:
                self._pieces.put(piece, timeout=0.2)
            except queue.Full:
                continue
            return

    def drain(self, engine: Engine, node: str) -> None:
        """Feed the stream to a node's importer."""
        try:
            engine.feed(node, _IMPORT, self._iterate())
        finally:
            self._done.set()

    def _iterate(self) -> Iterator[bytes]:
        while (piece := self._pieces.get()) is not None:
            yield piece
