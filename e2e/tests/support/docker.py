"""A Docker client in memory, with the part of its surface that the harness uses."""

from __future__ import annotations

import io
import socket
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import docker.errors


class ExecResult(NamedTuple):
    exit_code: int
    output: tuple[bytes | None, bytes | None]


@dataclass
class FakeContainer:
    """A container: its files by path, the commands it ran."""

    docker: FakeDocker
    name: str
    labels: dict[str, str] = field(default_factory=dict)
    status: str = "running"
    files: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    ran: list[list[str]] = field(default_factory=list)
    created: dict[str, Any] = field(default_factory=dict)
    fed: list[tuple[list[str], bytes]] = field(default_factory=list)
    addresses: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)

    def exec_run(self, command: list[str], *, demux: bool) -> ExecResult:
        assert demux
        self.docker.check("exec_run")
        self.ran.append(command)
        code, out, err = self.docker.on_exec(self.name, command)
        return ExecResult(code, (out or None, err or None))

    def put_archive(self, folder: str, data: Any) -> bool:
        self.docker.check("put_archive")
        raw = data if isinstance(data, bytes) else data.read()
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for member in tar:
                if member.isdir():
                    self.folders[f"{folder}/{member.name}"] = member.mode
                    continue
                content = tar.extractfile(member)
                assert content is not None
                self.files[f"{folder}/{member.name}"] = (member.mode, content.read())
        return self.docker.takes_files

    def start(self) -> None:
        self.docker.check("start")
        self.status = "running"
        self.docker.started += 1
        self.addresses = {
            "IPAddress": f"172.18.0.{100 + self.docker.started}",
            "GlobalIPv6Address": f"fc00::{100 + self.docker.started}" if self.docker.ipv6 else "",
        }

    @property
    def attrs(self) -> dict[str, Any]:
        return {"NetworkSettings": {"Networks": {self.created.get("network", "kind"): self.addresses}}}

    def remove(self, *, force: bool, v: bool) -> None:
        self.docker.check("remove")
        assert force
        assert v
        del self.docker.by_name[self.name]


@dataclass
class FakeExec:
    """A command whose standard input and output are a connection, as the engine has it."""

    container: str
    command: list[str]
    code: int | None = None
    thread: threading.Thread | None = None


def frame(content: bytes, *, stream: int = 1) -> bytes:
    """Output as the engine multiplexes it: stream 1 is standard output, 2 standard error."""
    return struct.pack(">BxxxL", stream, len(content)) + content


def read_all(connection: socket.socket) -> bytes:
    """Standard input to its end."""
    content = bytearray()
    while piece := connection.recv(1 << 16):
        content += piece
    return bytes(content)


class FakeDocker:
    """What ``docker.from_env`` answers; put an exception into ``failures`` to have a call fail."""

    def __init__(self) -> None:
        self.by_name: dict[str, FakeContainer] = {}
        self.local_images: dict[str, list[bytes]] = {}
        self.saved: list[str] = []
        self.pulled: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.takes_files = True
        self.started = 0
        self.ipv6 = False
        self.closed = False
        self.on_exec: Callable[[str, Sequence[str]], tuple[int, bytes, bytes]] = lambda name, command: (
            0,
            b"",
            b"",
        )
        self.on_feed: Callable[[str, list[str], socket.socket], int | None] = self.take_all
        self.execs: list[FakeExec] = []
        self._lock = threading.Lock()
        self.about: dict[str, Any] = {}
        self.base_url = "http+docker://localhost"
        self.containers = self.images = self.api = self

    def take_all(self, name: str, command: list[str], connection: socket.socket) -> int | None:
        """What a command does with its standard input: read all of it, then do as ``on_exec`` says."""
        self.by_name[name].fed.append((command, read_all(connection)))
        code, out, err = self.on_exec(name, command)
        connection.sendall((frame(out) if out else b"") + (frame(err, stream=2) if err else b""))
        return code

    def exec_create(self, container: str, command: list[str], *, stdin: bool) -> dict[str, str]:
        self.check("exec_create")
        assert stdin
        self.get(container)
        with self._lock:  # several nodes are served at a time
            self.execs.append(FakeExec(container, command))
            return {"Id": str(len(self.execs) - 1)}

    def exec_start(self, number: str, *, socket: bool) -> Any:
        self.check("exec_start")
        assert socket
        return self._connect(self.execs[int(number)])

    def _connect(self, started: FakeExec) -> socket.SocketIO:
        ours, theirs = socket.socketpair()

        def run() -> None:
            with theirs, suppress(BrokenPipeError, ConnectionResetError):
                started.code = self.on_feed(started.container, started.command, theirs)

        started.thread = threading.Thread(target=run, name=f"exec in {started.container}")
        started.thread.start()
        return socket.SocketIO(ours, "rwb")

    def exec_inspect(self, number: str) -> dict[str, int | None]:
        self.check("exec_inspect")
        thread = self.execs[int(number)].thread
        assert thread is not None
        thread.join(timeout=10)
        return {"ExitCode": self.execs[int(number)].code}

    def check(self, call: str) -> None:
        if call in self.failures:
            raise self.failures[call]

    def node(self, name: str, role: str = "worker", cluster: str = "x") -> FakeContainer:
        labels = {"io.x-k8s.kind.cluster": cluster, "io.x-k8s.kind.role": role}
        self.by_name[name] = FakeContainer(self, name, labels)
        return self.by_name[name]

    def version(self) -> dict[str, str]:
        self.check("version")
        return {"Version": "27.0"}

    def info(self) -> dict[str, Any]:
        self.check("info")
        return self.about

    def list(self, *, all: bool, filters: dict[str, str]) -> list[FakeContainer]:  # noqa: A002 - docker's word
        self.check("list")
        key, _, value = filters["label"].partition("=")
        return [c for c in self.by_name.values() if c.labels.get(key) == value]

    def get(self, name: str) -> Any:
        self.check("get")
        if name in self.local_images:
            return name
        if name in self.by_name:
            return self.by_name[name]
        if ":" in name:
            raise docker.errors.ImageNotFound(f"no image {name}")
        raise docker.errors.NotFound(f"no container {name}")

    def pull(self, name: str) -> str:
        self.check("pull")
        self.pulled.append(name)
        self.local_images[name] = [b""]
        return "{}"

    def get_image(self, name: str) -> Iterator[bytes]:
        self.check("get_image")
        self.saved.append(name)
        yield from self.local_images[name]

    def create(self, image: str, command: Sequence[str], *, name: str, **options: Any) -> FakeContainer:
        self.check("create")
        made = FakeContainer(self, name, options["labels"], status="created")
        made.created = {"image": image, "command": command, **options}
        self.by_name[name] = made
        return made

    def close(self) -> None:
        self.closed = True
