"""The artifact server's container."""

from __future__ import annotations

from collections.abc import Iterator

import docker
import docker.errors
import pytest

from cilium_e2e.cluster.engine import RUN_LABEL, Engine
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.model import EngineError
from support.docker import FakeDocker


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    found = FakeDocker()
    monkeypatch.setattr(docker, "from_env", lambda timeout: found)
    return found


@pytest.fixture
def server(fake: FakeDocker) -> Iterator[ArtifactServer]:
    engine = Engine()
    yield ArtifactServer(engine, "x", image="python:3.13-slim")
    engine.close()


def test_it_runs_beside_the_nodes(server: ArtifactServer, fake: FakeDocker) -> None:
    server.start()
    made = fake.by_name["x-artifacts"]
    assert server.address == "x-artifacts:8080"
    assert made.labels == {RUN_LABEL: "x"}
    assert made.created["network"] == "kind"
    assert made.created["image"] == "python:3.13-slim"
    python, program, root, port = made.created["command"]
    assert (python, port) == ("python3", "8080")
    compile(made.files[program][1], program, "exec")
    server.put({"v2/tree/blobs/sha256:1": b"content"})
    assert made.files[f"{root}/v2/tree/blobs/sha256:1"][1] == b"content"


def test_its_image_is_pulled_where_the_engine_has_none(server: ArtifactServer, fake: FakeDocker) -> None:
    server.start()
    assert fake.pulled == ["python:3.13-slim"]


def test_an_image_at_hand_is_not_pulled(server: ArtifactServer, fake: FakeDocker) -> None:
    fake.local_images["python:3.13-slim"] = [b""]
    server.start()
    assert fake.pulled == []


def test_an_image_that_cannot_be_had_is_told(server: ArtifactServer, fake: FakeDocker) -> None:
    fake.failures["pull"] = docker.errors.APIError("no such host")
    with pytest.raises(EngineError) as caught:
        server.start()
    assert str(caught.value) == (
        "image python:3.13-slim: the image is not in the local engine, and cannot be pulled: no such host. "
        "Pull or load it into the engine before, or name another one (--agent-image)."
    )


def test_one_that_runs_is_kept(server: ArtifactServer, fake: FakeDocker) -> None:
    server.start()
    before = fake.by_name["x-artifacts"]
    server.start()
    assert fake.by_name["x-artifacts"] is before


def test_one_that_has_ended_is_replaced(server: ArtifactServer, fake: FakeDocker) -> None:
    server.start()
    before = fake.by_name["x-artifacts"]
    before.status = "exited"
    server.start()
    assert fake.by_name["x-artifacts"] is not before
    assert fake.by_name["x-artifacts"].status == "running"
