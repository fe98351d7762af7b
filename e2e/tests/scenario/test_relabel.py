"""Another label, another identity: patched once, awaited until it is there."""

from __future__ import annotations

import dataclasses

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    Endpoint,
    EnforcementNotProven,
    Identity,
    PatchType,
    Ref,
    Target,
)
from cilium_e2e.scenario.relabel import relabel
from support.memory import MemoryTransport, VirtualClock

POD = Target.pod("x", "a")
OLD = Endpoint(1, "x", "a", "w1", ("10.0.0.1",), Identity(1001, ("k8s:app=old", "k8s:team=red")))
NEW = dataclasses.replace(OLD, identity=Identity(1002, ("k8s:app=new", "k8s:team=red")))


class Scripted:
    """Gives one answer after the other, the last one for ever."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.clock = VirtualClock()

    def endpoints(self, *, since_s=None):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def kube():
    return Kube(
        MemoryTransport({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x"}})
    )


def test_the_identity_is_waited_for(kube):
    busy = dataclasses.replace(NEW, state="regenerating")
    cluster = Scripted([OLD], ClusterStateError("restarting"), [], [busy], [NEW])
    assert relabel(cluster, kube, POD, {"app": "new"}) == NEW
    assert kube.transport.patched == [
        (Ref("v1", "Pod", "a", "x"), {"metadata": {"labels": {"app": "new"}}}, PatchType.MERGE, "")
    ]
    assert len(cluster.clock.slept) == 4


def test_a_label_that_is_taken_away_must_be_gone(kube):
    bare = dataclasses.replace(OLD, identity=Identity(1003, ("k8s:app=old",)))
    other = dataclasses.replace(NEW, pod="b", identity=Identity(1004, ()))
    assert relabel(Scripted([other, OLD], [other, bare]), kube, POD, {"team": None}) == bare


def test_an_identity_that_never_comes_is_an_error(kube):
    with pytest.raises(EnforcementNotProven) as error:
        relabel(Scripted([OLD]), kube, POD, {"app": "new", "team": None}, timeout_s=1.0)
    text = str(error.value)
    assert text.startswith(
        "x/a: expected an identity with app=new, team=none within 1 s, last seen: ready as "
    )
    assert "1001" in text
