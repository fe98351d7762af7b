"""Agents on loopback; an ExecStream over the pipes of a local process, and one that follows a script."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cilium_e2e.probe
from cilium_e2e.model import Outcome, Probe, Protocol, Request, StreamLost, Target, WaitTimeout
from cilium_e2e.probe import BatchClient

ROOT = Path(cilium_e2e.probe.__file__).parents[2]
SOURCE = Target.pod("here", "asker")
SERVER = Target.pod("there", "server")
# Test workers share a network, and no two agents of a network may have one name.
NAME = f"there/server-{os.getpid()}"


def start(*arguments: str, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "cilium_e2e.probe.agent", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AGENT_NAME": name},
    )


class PipeStream:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.decode().rstrip("\n"))
        self._lines.put(None)

    def send_line(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.flush()
        except OSError as error:
            raise StreamLost(f"the pipe broke: {error}") from None

    def read_line(self, *, timeout_s: float) -> str | None:
        try:
            return self._lines.get(timeout=timeout_s)
        except queue.Empty:
            raise WaitTimeout(f"no line within {timeout_s} s") from None

    @property
    def returncode(self) -> int | None:
        return self.process.poll()

    def stderr(self) -> str:
        if self.process.poll() is None:
            return ""
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self._reader.join()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except OSError:
                continue


class ScriptStream:
    """Answers each line sent with what the script yields; an exception in it is raised by the read."""

    def __init__(self, script: Callable[[str], Iterator[str | Exception | None]], *hello: str) -> None:
        self.script = script
        self.closed = False
        self.sent: list[str] = []
        self._lines: list[str | Exception | None] = list(hello)

    def send_line(self, line: str) -> None:
        self.sent.append(line)
        self._lines.extend(self.script(line))

    def read_line(self, *, timeout_s: float) -> str | None:
        if not self._lines:
            raise WaitTimeout(f"no line within {timeout_s} s")
        line = self._lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    @property
    def returncode(self) -> int | None:
        return 137

    def stderr(self) -> str:
        return "a warning\nKilled\n"

    def close(self) -> None:
        self.closed = True


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET6, kind) as sock:
        sock.bind(("", 0))
        return int(sock.getsockname()[1])


@dataclass
class Loopback:
    """A serving agent, a client of an asking agent, and where targets are."""

    client: BatchClient
    name: str
    port: int
    http: int
    dns: int
    hosts: dict[Target, str] = field(default_factory=dict)
    streams: list[PipeStream] = field(default_factory=list)

    def probe(
        self,
        protocol: Protocol,
        *,
        target: Target = SERVER,
        port: int | None = None,
        timeout_s: float = 2.0,
        source_port: int = 0,
        id: str = "p",  # noqa: A002 - the field's name
        **request: object,
    ) -> Probe:
        if port is None:
            port = {Protocol.HTTP: self.http, Protocol.ICMP: 0}.get(protocol, self.port)
        return Probe(id, SOURCE, target, protocol, port, Request(**request), timeout_s, source_port)  # type: ignore[arg-type]

    def ask(self, protocol: Protocol, **options: object) -> Outcome:
        return self.client.run([self.probe(protocol, **options)])[0]  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def server() -> Iterator[tuple[int, int, int]]:
    """The TCP and UDP port, the HTTP port and the DNS port of a serving agent named :data:`NAME`."""
    port, http, dns = free_port(), free_port(), free_port(socket.SOCK_DGRAM)
    ports = ["--tcp", str(port), "--udp", str(port), "--http", str(http), "--dns", str(dns)]
    records = ["--record", "one.zone.example=10.1.1.1", "--record", "one.zone.example=fd00::1"]
    process = start("serve", *ports, *records, name=NAME)
    waiting = start("ready", "--timeout", "20", name=NAME)
    waiting.communicate()
    assert waiting.returncode == 0
    yield port, http, dns
    process.terminate()
    assert process.wait(timeout=5) == 0
    process.communicate()


@pytest.fixture
def loopback(server: tuple[int, int, int]) -> Iterator[Loopback]:
    streams: list[PipeStream] = []

    def open_stream() -> PipeStream:
        streams.append(PipeStream(start("batch", name="here/asker")))
        return streams[-1]

    hosts = {SERVER: "127.0.0.1"}
    client = BatchClient(open_stream, SOURCE, lambda targets: {target: hosts[target] for target in targets})
    yield Loopback(client, NAME, *server, hosts, streams)
    client.close()
    for stream in streams:
        stream.close()


@pytest.fixture
def script() -> type[ScriptStream]:
    return ScriptStream


@pytest.fixture(name="start")
def _start() -> Callable[..., subprocess.Popen[bytes]]:
    return start
