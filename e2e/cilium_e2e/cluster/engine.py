"""The container engine: what the harness needs of Docker, with its errors made plain."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import docker
import docker.errors
from docker.models.containers import Container
from requests.exceptions import RequestException

from cilium_e2e.model import BackendUnavailable, EngineError

# Set by kind on every node container.
_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
_ROLE_LABEL = "io.x-k8s.kind.role"
RUN_LABEL = "io.cilium-e2e.run"
"""On every container of ours; its value is the cluster's name."""

_ERRORS = (docker.errors.DockerException, RequestException, OSError)
_TIMEOUT_S = 300
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NodeContainer:
    """A kind node as the engine knows it.

    Attributes:
        name: the container's name, which is the Kubernetes node's name too.
        role: ``control-plane``, ``worker`` or ``external-load-balancer``.
    """

    name: str
    role: str


class Engine:
    """A Docker engine that answers.

    Raises:
        BackendUnavailable: on construction, when none answers.
    """

    def __init__(self) -> None:
        try:
            self._docker = docker.from_env(timeout=_TIMEOUT_S)
            self.version: str = self._docker.version()["Version"]
        except _ERRORS as error:
            raise BackendUnavailable(
                "no container engine answers",
                place="backend kind",
                hint=(
                    "Start Docker (or set DOCKER_HOST), or choose --backend existing with a kubeconfig. "
                    f"The engine's client says: {_first_line(error)}"
                ),
            ) from error

    def nodes(self, cluster: str) -> list[NodeContainer]:
        """The node containers of a kind cluster, by name."""
        found = self._try(
            lambda: self._docker.containers.list(all=True, filters={"label": f"{_CLUSTER_LABEL}={cluster}"}),
            f"listing the nodes of {cluster}",
        )
        return sorted(
            (NodeContainer(str(c.name), c.labels.get(_ROLE_LABEL, "")) for c in found),
            key=lambda node: node.name,
        )

    def has_image(self, image: str) -> bool:
        """Whether the engine has an image under this name and tag."""
        try:
            self._docker.images.get(image)
        except docker.errors.ImageNotFound:
            return False
        except _ERRORS as error:
            raise _failed(f"looking up image {image}", error) from error
        return True

    @contextmanager
    def saved(self, image: str) -> Iterator[Path]:
        """An image as an archive in a temporary file, as ``docker save`` writes it."""
        with tempfile.NamedTemporaryFile(prefix="cilium-e2e-image-", suffix=".tar") as archive:

            def save() -> None:
                # Not Image.save(): it refuses names that the engine accepts, such as docker.io/library/x.
                for chunk in self._docker.api.get_image(image):
                    archive.write(chunk)
                archive.flush()

            self._try(save, f"saving image {image}")
            yield Path(archive.name)

    def execute(self, container: str, command: Sequence[str]) -> str:
        """Run a command in a container to its end; answers standard output.

        Raises:
            EngineError: it exited with another code than 0; the message holds its last words.
        """
        place = f"{command[0]} in container {container}"
        result = self._try(lambda: self._get(container).exec_run(list(command), demux=True), place)
        streams: tuple[bytes | None, bytes | None] = result.output  # type: ignore[assignment]  # demux gives a pair
        out, err = ((part or b"").decode(errors="replace") for part in streams)
        if result.exit_code != 0:
            raise EngineError(f"exit code {result.exit_code}: {(err or out).strip()[-500:]}", place=place)
        return out

    def put(self, container: str, folder: str, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
        """Write small files into a folder of a container; the folder must exist."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), mode
                tar.addfile(info, io.BytesIO(content))
        self._put_tar(container, folder, buffer.getvalue())

    def put_large(self, container: str, folder: str, name: str, source: Path) -> None:
        """Write one large file into a folder of a container, without reading it into memory."""
        with tempfile.TemporaryFile(prefix="cilium-e2e-put-") as stream:
            with tarfile.open(fileobj=stream, mode="w") as tar:
                tar.add(source, arcname=name)
            stream.seek(0)
            self._put_tar(container, folder, stream)

    def run(
        self,
        image: str,
        command: Sequence[str],
        *,
        name: str,
        network: str,
        labels: Mapping[str, str],
        prepare: Callable[[str], None],
    ) -> None:
        """Create a container, let ``prepare`` put files into it, and start it."""

        def go() -> None:
            container = self._docker.containers.create(
                image, list(command), name=name, network=network, labels=dict(labels), detach=True
            )
            prepare(name)
            container.start()

        self._try(go, f"running container {name}")

    def logs(self, container: str) -> str:
        """The end of a container's log."""
        raw = self._try(lambda: self._get(container).logs(tail=50), f"reading the log of {container}")
        return bytes(raw).decode(errors="replace")

    def running(self, container: str) -> bool:
        """Whether a container exists and runs."""
        try:
            return self._get(container).status == "running"
        except docker.errors.NotFound:
            return False
        except _ERRORS as error:
            raise _failed(f"looking up container {container}", error) from error

    def ours(self, cluster: str) -> list[str]:
        """The names of our own containers that belong to a cluster."""
        found = self._try(
            lambda: self._docker.containers.list(all=True, filters={"label": f"{RUN_LABEL}={cluster}"}),
            "listing containers",
        )
        return sorted(str(c.name) for c in found)

    def remove(self, container: str) -> None:
        """Stop and delete a container with its anonymous volumes; one that is gone is fine."""
        try:
            self._get(container).remove(force=True, v=True)
        except docker.errors.NotFound:
            return
        except _ERRORS as error:
            raise _failed(f"removing container {container}", error) from error

    def close(self) -> None:
        """Release connections."""
        self._docker.close()

    def _get(self, name: str) -> Container:
        return self._docker.containers.get(name)

    def _put_tar(self, container: str, folder: str, data: bytes | IO[bytes]) -> None:
        stored = self._try(
            lambda: self._get(container).put_archive(folder, data),
            f"copying into {container}:{folder}",
        )
        if not stored:
            raise EngineError("the engine did not take the files", place=f"{container}:{folder}")

    def _try(self, call: Callable[[], T], what: str) -> T:
        try:
            return call()
        except _ERRORS as error:
            raise _failed(what, error) from error


def _failed(what: str, error: Exception) -> EngineError:
    return EngineError(f"the container engine failed: {_first_line(error)}", place=what)


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
