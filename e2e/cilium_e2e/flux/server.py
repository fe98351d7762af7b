"""The artifact server: a container beside the nodes, that Flux pulls the working tree from."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from cilium_e2e.cluster.engine import NETWORK, RUN_LABEL, Engine

PORT = 8080
_ROOT = "/tmp/artifacts"  # noqa: S108 - inside a container of our own


class ArtifactServer:
    """One per cluster; it leaves with it.

    Args:
        engine: where the nodes run.
        cluster: the cluster's name.
        image: a Python image.
    """

    def __init__(self, engine: Engine, cluster: str, *, image: str) -> None:
        self._engine = engine
        self._cluster = cluster
        self._image = image
        self.host = f"{cluster}-artifacts"

    @property
    def address(self) -> str:
        """``host:port`` as the nodes reach it."""
        return f"{self.host}:{PORT}"

    def start(self) -> None:
        """Start it, unless it runs already."""
        if self._engine.running(self.host):
            return
        self._engine.remove(self.host)
        if not self._engine.has_image(self._image):
            self._engine.pull(self._image)
        program = resources.files("cilium_e2e.flux").joinpath("artifact_server.py").read_bytes()

        def prepare(name: str) -> None:
            self._engine.put(name, "/tmp", {"artifact_server.py": program})  # noqa: S108 - in the container

        self._engine.run(
            self._image,
            ["python3", "/tmp/artifact_server.py", _ROOT, str(PORT)],  # noqa: S108 - in the container
            name=self.host,
            network=NETWORK,
            labels={RUN_LABEL: self._cluster},
            prepare=prepare,
        )

    def put(self, files: Mapping[str, bytes]) -> None:
        """Serve files, by path below the root; what is there already is replaced."""
        below = _ROOT.removeprefix("/tmp/")  # noqa: S108 - in the container
        self._engine.put(self.host, "/tmp", {f"{below}/{path}": content for path, content in files.items()})  # noqa: S108
