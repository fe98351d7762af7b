"""What a killed run left on a kept cluster is cleared, and nothing else."""

from __future__ import annotations

import pytest

from cilium_e2e.kube import FIELD_MANAGER, Kube
from cilium_e2e.model import KubeError, Object, Ref, WaitTimeout
from cilium_e2e.scenario.residents import RESTS
from cilium_e2e.session import leftovers
from support.memory import MemoryTransport

OURS = {"app.kubernetes.io/managed-by": "cilium-e2e"}


def namespace(name: str, labels: dict[str, str] | None = None) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels or {}}}


def wide(name: str, manager: str) -> Object:
    meta = {"name": name, "managedFields": [{"manager": manager, "operation": "Apply"}]}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": meta}


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport(
        namespace("ce2e-gw0-demo", OURS),
        namespace("ce2e-hosts", OURS),
        namespace("default"),
        wide("left", FIELD_MANAGER),
        wide("of-the-tree", "kustomize-controller"),
    )


def clear(api: MemoryTransport, told: list[str] | None = None) -> None:
    say = (told if told is not None else []).append
    leftovers.clear(Kube(api, clock=api.clock), keep="ce2e-hosts", say=say, timeout_s=5.0)


def names(api: MemoryTransport, ref: Ref) -> set[str]:
    return {obj["metadata"]["name"] for obj in api.list(ref).items}


def test_namespaces_and_policies_of_earlier_runs_go(api: MemoryTransport) -> None:
    told: list[str] = []
    clear(api, told)
    assert names(api, Ref("v1", "Namespace")) == {"ce2e-hosts", "default"}
    assert names(api, Ref("cilium.io/v2", "CiliumClusterwideNetworkPolicy")) == {"of-the-tree"}
    assert told == [
        "  left by an earlier run, deleted: Namespace ce2e-gw0-demo",
        "  left by an earlier run, deleted: CiliumClusterwideNetworkPolicy left",
    ]


def test_what_rests_for_the_next_run_stays(api: MemoryTransport) -> None:
    resting = namespace("ce2e-gw0-reach-1234", OURS)
    resting["metadata"]["annotations"] = {RESTS: "abc"}
    api.put(resting)
    clear(api)
    assert names(api, Ref("v1", "Namespace")) == {"ce2e-hosts", "default", "ce2e-gw0-reach-1234"}


def test_a_second_time_there_is_nothing_to_do(api: MemoryTransport) -> None:
    clear(api)
    told: list[str] = []
    clear(api, told)
    assert told == []


def test_a_namespace_that_does_not_go_is_named(api: MemoryTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "delete", lambda ref, **given: None)
    with pytest.raises(WaitTimeout, match="the old Namespace ce2e-gw0-demo to be gone"):
        clear(api)


def test_without_the_kind_there_are_no_policies(api: MemoryTransport) -> None:
    missing = KubeError(404, "NotFound", "the server could not find the requested resource")
    api.fail("list", missing, kind="CiliumClusterwideNetworkPolicy")
    clear(api)
    assert names(api, Ref("v1", "Namespace")) == {"ce2e-hosts", "default"}
