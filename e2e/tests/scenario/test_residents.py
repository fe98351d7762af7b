"""Workloads that rest between the runs of a kept cluster."""

from __future__ import annotations

from typing import Any

import pytest

from cilium_e2e.kube import Kube
from cilium_e2e.model import EnforcementNotProven, Object, Ref
from cilium_e2e.probe import Port
from cilium_e2e.scenario import PodSpec, Quarter, Residents, ServiceSpec
from cilium_e2e.scenario.residents import RESTS
from support.memory import MemoryTransport, obliging, pod

PORTS = (Port(80),)
LAYOUT = {
    "x": Quarter([PodSpec("a", {"app": "a"}, PORTS)], [ServiceSpec("svc", {"app": "a"}, PORTS)], {"ns": "x"}),
    "y": Quarter([PodSpec("a", {"app": "a"})], labels={"ns": "y"}),
}
POLICY = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy"}


@pytest.fixture
def api() -> MemoryTransport:
    return obliging(MemoryTransport())


@pytest.fixture
def residents(api: MemoryTransport, scripted: Any) -> Any:
    """Makes a run's residents; all runs are on one cluster."""

    def make(*, worker: str = "gw0", keep: bool = True, image: str = "python:x") -> Residents:
        kube = Kube(api, clock=api.clock)
        return Residents(scripted(lambda *_: None), kube, image=image, worker=worker, keep=keep)

    return make


def spaces(api: MemoryTransport) -> list[Object]:
    return list(api.list(Ref("v1", "Namespace")).items)


def resting(api: MemoryTransport) -> list[str]:
    return [o["metadata"]["name"] for o in spaces(api) if RESTS in o["metadata"].get("annotations", {})]


def made(api: MemoryTransport) -> list[str]:
    return [obj["metadata"]["name"] for obj in api.applied if obj["kind"] == "Pod"]


def test_a_workload_is_started_in_namespaces_of_the_workers_own(api: MemoryTransport, residents: Any) -> None:
    found = residents().up("reach", LAYOUT)
    assert found.names == {"x": f"ce2e-gw0-reach-x-{found.group}", "y": f"ce2e-gw0-reach-y-{found.group}"}
    assert sorted(o["metadata"]["labels"]["ns"] for o in spaces(api)) == ["x", "y"]
    assert resting(api) == []


def test_one_namespace_needs_no_second_word(residents: Any) -> None:
    found = residents().up("demo", {"demo": LAYOUT["x"]})
    assert found.names == {"demo": f"ce2e-gw0-demo-{found.group}"}


def test_without_a_kept_cluster_all_is_deleted(api: MemoryTransport, residents: Any) -> None:
    run = residents(keep=False)
    run.up("reach", LAYOUT)
    run.close()
    assert spaces(api) == []


def test_the_next_run_takes_up_what_rests(api: MemoryTransport, residents: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    assert sorted(resting(api)) == sorted(before.names.values())
    second = residents()
    after = second.up("reach", LAYOUT)
    assert (after.names, after.group) == (before.names, before.group)
    assert resting(api) == [], "a run that is killed must not leave it looking as if nobody had used it"
    labels = [o["metadata"]["labels"] for o in spaces(api)]
    assert all(set(own) == set(labels[0]) for own in labels), "a mark among the labels would be an identity"
    second.close()
    assert sorted(resting(api)) == sorted(before.names.values())


def test_workers_share_nothing(residents: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    assert residents(worker="gw1").up("reach", LAYOUT).group != before.group


@pytest.mark.parametrize(
    "change",
    [
        lambda api, names: api.put({**POLICY, "metadata": {"name": "left", "namespace": names["y"]}}),
        lambda api, names: api.put(pod("foreign", names["x"])),
        lambda api, names: api.delete(Ref("v1", "Pod", "a", names["y"])),
        lambda api, names: api.put(
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "more", "namespace": names["x"]}}
        ),
        lambda api, names: api.delete(Ref("v1", "Namespace", names["x"])),
    ],
    ids=["policy", "another pod", "a pod less", "another service", "a namespace less"],
)
def test_what_is_not_as_it_was_made_is_made_anew(api: MemoryTransport, residents: Any, change: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    change(api, before.names)
    after = residents().up("reach", LAYOUT)
    assert after.group != before.group
    left = {o["metadata"]["name"] for o in spaces(api)}
    assert left == set(after.names.values()), "what nobody will ever take up is deleted"


def test_other_labels_of_a_pod_are_another_workload(api: MemoryTransport, residents: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    api.put({**pod("a", before.names["x"]), "metadata": {"name": "a", "namespace": before.names["x"]}})
    assert residents().up("reach", LAYOUT).group != before.group


def test_another_image_is_another_workload(residents: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    assert residents(image="python:y").up("reach", LAYOUT).group != before.group


def test_pods_of_controllers_are_theirs(api: MemoryTransport, residents: Any) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    meta = {"name": "web-1", "namespace": before.names["x"], "ownerReferences": [{"kind": "ReplicaSet"}]}
    api.put({**pod("web-1"), "metadata": meta})
    first.close()
    assert residents().up("reach", LAYOUT).group == before.group


def test_what_does_not_come_up_any_more_is_made_anew(
    api: MemoryTransport, scripted: Any, residents: Any
) -> None:
    first = residents()
    before = first.up("reach", LAYOUT)
    first.close()
    cluster = scripted(lambda *_: None)
    whole, looks = cluster.prove, []

    def prove(*args: Any, **options: Any) -> Any:
        looks.append(args)
        if len(looks) == 1:
            raise EnforcementNotProven("a is no endpoint of any agent", place="x/a")
        return whole(*args, **options)

    cluster.prove = prove
    run = Residents(cluster, Kube(api, clock=api.clock), image="python:x", worker="gw0", keep=True)
    assert run.up("reach", LAYOUT).group != before.group
    assert len(looks) == 2


def test_what_is_let_go_of_without_rest_is_deleted(api: MemoryTransport, residents: Any) -> None:
    run = residents()
    run.down(run.up("reach", LAYOUT), rest=False)
    assert spaces(api) == []
    run.close()
    assert spaces(api) == []


def test_what_cannot_be_started_is_not_left(api: MemoryTransport, residents: Any) -> None:
    api.on_apply = None  # no service account ever
    with pytest.raises(Exception, match="the default service account"):
        residents().up("reach", LAYOUT)
    assert spaces(api) == []
    assert made(api) == []
