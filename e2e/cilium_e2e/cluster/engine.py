"""The container engine: what the harness needs of Docker, with its errors made plain."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

import docker
import docker.errors
from docker.context import ContextAPI
from docker.models.containers import Container
from docker.utils.socket import frames_iter
from requests.exceptions import RequestException

from cilium_e2e.model import BackendUnavailable, EngineError

# Set by kind on every node container.
_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
_ROLE_LABEL = "io.x-k8s.kind.role"
RUN_LABEL = "io.cilium-e2e.run"
"""On every container of ours; its value is the cluster's name."""
NETWORK = "kind"
"""The network that kind puts its nodes on, and we our containers."""

_ERRORS = (docker.errors.DockerException, RequestException, OSError)
_TIMEOUT_S = 300
_CODE_TRIES, _CODE_POLL_S = 40, 0.05
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


@dataclass(frozen=True, slots=True)
class Attached:
    """A command that runs in a container, with its standard streams.

    Attributes:
        socket: what goes to standard input, and where output comes from, in the engine's frames.
        early: output that came together with the engine's answer to the start.
        exit_code: asks for the command's exit code, None while it runs.
        close: gives the connection back, which ends the command's standard input.
    """

    socket: socket.socket
    early: bytes
    exit_code: Callable[[], int | None]
    close: Callable[[], None]


def adopt_context() -> None:
    """Make this process and its children talk to the engine that the user's ``docker`` talks to.

    The library knows ``DOCKER_HOST`` and the default socket, ``docker`` (and with it kind) also the current
    context of Docker Desktop, Colima and the like. Two engines for one cluster would be one too many.
    """
    if os.environ.get("DOCKER_HOST"):
        return
    try:
        context = ContextAPI.get_current_context()
    except (docker.errors.DockerException, OSError, ValueError):
        return  # the default socket then, and an error that names it
    if context.name != "default" and context.Host:
        os.environ["DOCKER_HOST"] = context.Host


class Engine:
    """A Docker engine that answers.

    Raises:
        BackendUnavailable: on construction, when none answers.
    """

    def __init__(self) -> None:
        adopt_context()
        opened = ExitStack()
        try:
            self._docker = docker.from_env(timeout=_TIMEOUT_S)
            opened.callback(self._docker.close)
            self.version: str = self._docker.version()["Version"]
            opened.pop_all()
        except _ERRORS as error:
            opened.close()
            _let_go(error)
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

    def save(self, image: str) -> Iterator[bytes]:
        """An image as an archive, in pieces, as ``docker save`` writes it."""
        # Not Image.save(): it refuses names that the engine accepts, such as docker.io/library/x.
        pieces = iter(self._try(lambda: self._docker.api.get_image(image), f"saving image {image}"))
        while (piece := self._try(lambda: next(pieces, None), f"saving image {image}")) is not None:
            yield piece

    def feed(self, container: str, command: Sequence[str], pieces: Iterable[bytes]) -> None:
        """Run a command in a container with ``pieces`` as its standard input.

        Raises:
            EngineError: it exited with another code than 0, or stopped reading; the message holds its words.
        """
        place = f"{command[0]} in container {container}"
        number, stream = self._start(container, command, place)
        # Over a local engine's socket or plain TCP the library wraps the socket; over TLS it is bare.
        raw = getattr(stream, "_sock", stream)
        frames: Any = frames_iter  # untyped in the library
        refused, output = "", b""
        with ExitStack() as opened:
            opened.callback(raw.close)  # closing what wraps it leaves it open
            opened.callback(stream.close)
            try:
                for piece in pieces:
                    raw.sendall(piece)
                raw.shutdown(socket.SHUT_WR)
            except OSError as error:
                refused = f"it stopped reading ({error}); "  # what it said before is still to be read
            try:
                for _, part in frames(stream, tty=False):
                    output += part
            except (OSError, docker.errors.DockerException) as error:
                refused = refused or f"its output broke off ({error}); "
        code = self._try(lambda: self._exit_code(number), place)
        if code != 0 or refused:
            words = output.decode(errors="replace").strip()[-500:]
            ending = "it ended without an exit code" if code is None else f"exit code {code}"
            raise EngineError(f"{refused}{ending}: {words}", place=place, hint=disk_hint(words))

    def attach(self, container: str, command: Sequence[str]) -> Attached:
        """Start a command in a container and stay connected with it.

        Raises:
            EngineError: it could not be started.
        """
        place = f"{command[0]} in container {container}"
        number, stream = self._start(container, command, place)
        raw = getattr(stream, "_sock", stream)  # as in feed()

        def close() -> None:
            stream.close()
            raw.close()

        return Attached(
            raw, _early(stream, raw), lambda: self._try(lambda: self._exit_code(number), place), close
        )

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
            words = (err or out).strip()[-500:]
            raise EngineError(f"exit code {result.exit_code}: {words}", place=place, hint=disk_hint(words))
        return out

    def put(self, container: str, folder: str, files: Mapping[str, bytes], *, mode: int = 0o644) -> None:
        """Write small files into a folder of a container; the folder must exist, those below it are made."""
        buffer = io.BytesIO()
        below = {str(parent) for name in files for parent in PurePosixPath(name).parents} - {"."}
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name in sorted(below):
                # Said, and not left to the engine: not every version lets others than root look into them.
                info = tarfile.TarInfo(name)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            for name, content in files.items():
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), mode
                tar.addfile(info, io.BytesIO(content))
        stored = self._try(
            lambda: self._get(container).put_archive(folder, buffer.getvalue()),
            f"copying into {container}:{folder}",
        )
        if not stored:
            raise EngineError("the engine did not take the files", place=f"{container}:{folder}")

    def run(
        self,
        image: str,
        command: Sequence[str],
        *,
        name: str,
        network: str,
        labels: Mapping[str, str],
        prepare: Callable[[str], None],
        **options: Any,
    ) -> None:
        """Create a container, let ``prepare`` put files into it, and start it.

        Further options (``environment``, ``sysctls``, ``user``) are the engine's own.
        """

        def go() -> None:
            container = self._docker.containers.create(
                image, list(command), name=name, network=network, labels=dict(labels), detach=True, **options
            )
            prepare(name)
            container.start()

        self._try(go, f"running container {name}")

    def pull(self, image: str) -> None:
        """Pull an image.

        Raises:
            EngineError: it cannot be had.
        """
        try:
            self._docker.api.pull(image)
            self._docker.images.get(image)
        except _ERRORS as error:
            raise EngineError(
                f"the image is not in the local engine, and cannot be pulled: {_first_line(error)}",
                place=f"image {image}",
                hint="Pull or load it into the engine before, or name another one (--agent-image).",
            ) from error

    def info(self) -> dict[str, Any]:
        """What the engine says of itself and of its host."""
        found: dict[str, Any] = self._try(lambda: self._docker.info(), "asking for its info")  # noqa: PLW0108
        return found

    @property
    def local(self) -> bool:
        """Whether it is on this machine, so that its host's files are ours to look at."""
        return str(self._docker.api.base_url).startswith(("http+unix://", "http+docker://localhost"))

    def running(self, container: str) -> bool:
        """Whether a container exists and runs."""
        try:
            return self._get(container).status == "running"
        except docker.errors.NotFound:
            return False
        except _ERRORS as error:
            raise _failed(f"looking up container {container}", error) from error

    def labels(self, container: str) -> dict[str, str]:
        """A container's labels."""
        return self._try(lambda: dict(self._get(container).labels), f"looking up container {container}")

    def addresses(self, container: str, network: str) -> tuple[str, ...]:
        """A running container's addresses on a network, IPv4 first; one or none of each family."""
        attrs = self._try(lambda: self._get(container).attrs, f"looking up container {container}")
        on = attrs["NetworkSettings"]["Networks"].get(network) or {}
        return tuple(on[key] for key in ("IPAddress", "GlobalIPv6Address") if on.get(key))

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

    def pause(self, container: str) -> None:
        """Freeze all processes of a container."""
        self._try(lambda: self._get(container).pause(), f"pausing {container}")

    def unpause(self, container: str) -> None:
        """Let a frozen container go on; one that is not frozen is fine."""
        if self._try(lambda: self._get(container).status, f"looking up container {container}") == "paused":
            self._try(lambda: self._get(container).unpause(), f"unpausing {container}")

    def close(self) -> None:
        """Release connections."""
        self._docker.close()

    def _start(self, container: str, command: Sequence[str], place: str) -> tuple[str, Any]:
        """Start a command with its standard streams connected; answers its id and what the library gives."""
        api = self._docker.api

        def go() -> tuple[str, Any]:
            created = api.exec_create(container, list(command), stdin=True)
            return created["Id"], api.exec_start(created["Id"], socket=True)

        return self._try(go, place)

    def _exit_code(self, number: str) -> int | None:
        """The exit code of a command whose output has ended; None when it does not come."""
        for _ in range(_CODE_TRIES):
            found = self._docker.api.exec_inspect(number)
            if found["ExitCode"] is not None:
                return int(found["ExitCode"])
            time.sleep(_CODE_POLL_S)  # the engine closes the streams before it notes the code
        return None

    def _get(self, name: str) -> Container:
        return self._docker.containers.get(name)

    def _try(self, call: Callable[[], T], what: str) -> T:
        try:
            return call()
        except _ERRORS as error:
            raise _failed(what, error) from error


def _early(stream: Any, raw: socket.socket) -> bytes:
    """What the library's HTTP client has read beyond the engine's answer; it would be lost there."""
    answer = getattr(stream, "_response", None)
    if answer is None:
        return b""
    raw.setblocking(False)  # noqa: FBT003 - the standard library's signature
    try:
        early: bytes = answer.raw._fp.fp.peek()  # noqa: SLF001 - where the library itself takes the socket from
    finally:
        raw.setblocking(True)  # noqa: FBT003 - the standard library's signature
    return early


def disk_hint(words: str) -> str:
    """What to do when a command or the engine says that the disk is full; empty where it does not say so."""
    if "no space left on device" not in words.lower() and "disk quota exceeded" not in words.lower():
        return ""
    return (
        "The disk with the container engine's data is full: free some, for example with docker image prune."
    )


def _failed(what: str, error: Exception) -> EngineError:
    return EngineError(
        f"the container engine failed: {_first_line(error)}", place=what, hint=disk_hint(str(error))
    )


def _let_go(error: BaseException) -> None:
    """Close the socket that the client leaves open where it cannot connect, and that the error's frames keep.

    Left to the garbage collector it would be warned of at some other place, as an error of a test run.
    """
    seen: BaseException | None = error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        while seen is not None:
            traceback.clear_frames(seen.__traceback__)
            seen = seen.__cause__ or seen.__context__


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
