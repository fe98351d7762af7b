"""A relay in this process, and the recordings of a live cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from cilium_e2e.hubble.convert import from_json
from cilium_e2e.model import Flow
from support.relay import FakeRelay

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings"


@pytest.fixture
def relay() -> Iterator[FakeRelay]:
    fake = FakeRelay()
    fake.up()
    yield fake
    fake.down()


@pytest.fixture
def new_relay() -> Iterator[type[FakeRelay]]:
    made: list[FakeRelay] = []

    def make(credentials: grpc.ServerCredentials | None = None) -> FakeRelay:
        made.append(FakeRelay(credentials))
        return made[-1]

    yield make  # type: ignore[misc]
    for fake in made:
        fake.down()


def recorded(name: str) -> list[Any]:
    lines = (RECORDINGS / f"flows-{name}.jsonl").read_text().splitlines()
    return [from_json(json.loads(line)) for line in lines]


@pytest.fixture(scope="session")
def demo() -> list[Flow]:
    """The flows of the README's demo policy in force."""
    return [event for event in recorded("demo-policy") if isinstance(event, Flow)]


@pytest.fixture(scope="session")
def recording() -> Any:
    return recorded
