"""A worker gets the controller's clusters whole, whenever they come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cilium_e2e.model import Backend, ClusterInfo
from cilium_e2e.plugin.handover import Handover, receive
from cilium_e2e.session import Handle


@pytest.fixture
def handover():
    made = Handover()
    yield made
    made.close()


@pytest.fixture
def handle(tmp_path) -> Handle:
    info = ClusterInfo(
        name="ce2e-x",
        backend=Backend.KIND,
        topology="default",
        nodes=(),
        release="cilium/cilium",
        cilium_namespace="cilium",
        differences=(),
    )
    return Handle(info, tmp_path / "kubeconfig", "python:x", ("create cluster  1.0 s",))


def test_clusters_arrive_as_they_were_given(handover, handle):
    handover.give({"default": handle})
    assert receive(handover.path) == {"default": handle}


def test_a_worker_that_is_early_waits(handover, handle):
    pauses = []

    def sleep(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            handover.give({"default": handle})

    assert receive(handover.path, sleep=sleep) == {"default": handle}
    assert len(pauses) == 3


def test_a_worker_is_told_that_there_will_be_none(handover):
    handover.refuse()
    assert receive(handover.path) is None


def test_no_part_of_the_file_can_be_read(handover, handle, monkeypatch):
    """It is there under its name only when it is whole."""
    replaced = []
    monkeypatch.setattr(
        Path, "replace", lambda part, to: replaced.append((json.loads(part.read_text()), part, to))
    )
    handover.give({"default": handle})
    [(data, part, to)] = replaced
    assert data["handles"]["default"]["info"]["name"] == "ce2e-x"
    assert part != to == handover.path
    assert not handover.path.exists()


def test_nothing_stays(handover):
    handover.give({})
    folder = handover.path.parent
    assert folder.stat().st_mode & 0o077 == 0
    handover.close()
    assert not folder.exists()
    handover.close()
