"""A Docker client in memory, with the part of its surface that the harness uses."""

from __future__ import annotations

import io
import itertools
import socket as socket_module
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
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
    fed: list[bytes] = field(default_factory=list)

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
                content = tar.extractfile(member)
                assert content is not None
                self.files[f"{folder}/{member.name}"] = (member.mode, content.read())
        return self.docker.takes_files

    def start(self) -> None:
        self.docker.check("start")
        self.status = "running"

    def remove(self, *, force: bool, v: bool) -> None:
        self.docker.check("remove")
        assert force
        assert v
        del self.docker.by_name[self.name]


class FakeDocker:
    """What ``docker.from_env`` answers; put an exception into ``failures`` to have a call fail."""

    def __init__(self) -> None:
        self.by_name: dict[str, FakeContainer] = {}
        self.local_images: dict[str, list[bytes]] = {}
        self.saved: list[str] = []
        self.pulled: list[str] = []
        self.failures: dict[str, Exception] = {}
        self.takes_files = True
        self.closed = False
        self.base_url = "http+docker://localhost"
        self.deaf: set[str] = set()
        self._numbers = itertools.count()
        self._threads: dict[str, threading.Thread] = {}
        self._execs: dict[str, tuple[FakeContainer, list[str]]] = {}
        self._codes: dict[str, int] = {}
        self.on_exec: Callable[[str, Sequence[str]], tuple[int, bytes, bytes]] = lambda name, command: (
            0,
            b"",
            b"",
        )
        self.containers = self.images = self.api = self

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

    def exec_create(self, container: str, command: Sequence[str], *, stdin: bool) -> dict[str, str]:
        self.check("exec_create")
        assert stdin
        number = str(next(self._numbers))  # several nodes are served at a time
        self._execs[number] = (self.get(container), list(command))
        return {"Id": number}

    def exec_start(self, number: str, *, socket: bool) -> socket_module.socket:
        self.check("exec_start")
        assert socket
        ours, theirs = socket_module.socketpair()
        thread = threading.Thread(target=self._run, args=(number, theirs))
        self._threads[number] = thread
        thread.start()
        return ours

    def exec_inspect(self, number: str) -> dict[str, int]:
        self.check("exec_inspect")
        self._threads[number].join(5)
        return {"ExitCode": self._codes[number]}

    def _run(self, number: str, stdin: socket_module.socket) -> None:
        """A command that reads to the end, unless it is deaf, and then speaks, as the engine frames it."""
        container, command = self._execs[number]
        container.ran.append(command)
        with stdin:
            pieces: list[bytes] = []
            while container.name not in self.deaf and (piece := stdin.recv(1 << 20)):
                pieces.append(piece)
            container.fed.append(b"".join(pieces))
            self._codes[number], out, err = self.on_exec(container.name, command)
            for stream, text in ((1, out), (2, err)):
                if text:
                    stdin.sendall(struct.pack(">BxxxL", stream, len(text)) + text)

    def info(self) -> dict[str, str]:
        self.check("info")
        return {"OperatingSystem": "Linux"}

    def create(self, image: str, command: Sequence[str], *, name: str, **options: Any) -> FakeContainer:
        self.check("create")
        made = FakeContainer(self, name, options["labels"], status="created")
        made.created = {"image": image, "command": command, **options}
        self.by_name[name] = made
        return made

    def close(self) -> None:
        self.closed = True
