"""The agents on the nodes' own networks, as pods."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster import host_agents as module
from cilium_e2e.cluster.host_agents import HostAgents
from cilium_e2e.kube import Kube
from cilium_e2e.model import KubeError, Object, Ref, WaitTimeout
from support.memory import READY, MemoryTransport, obliging

NODES = ["w", "cp"]
NAMESPACE = Ref("v1", "Namespace", "ce2e-hosts")


@pytest.fixture
def api() -> MemoryTransport:
    return obliging(MemoryTransport())


def agents(api: MemoryTransport, image: str = "python:x") -> HostAgents:
    return HostAgents(Kube(api, clock=api.clock), image=image)


def pods(api: MemoryTransport) -> dict[str, Object]:
    return {obj["metadata"]["name"]: obj for obj in api.list(Ref("v1", "Pod")).items}


def made(api: MemoryTransport) -> list[str]:
    """The pods that were applied since the last look."""
    names = [obj["metadata"]["name"] for obj in api.applied if obj["kind"] == "Pod"]
    api.applied.clear()
    return names


def test_one_on_each_node_answers_with_the_node_s_name(api: MemoryTransport) -> None:
    assert agents(api).start(NODES, timeout_s=5) == (("cp", "ce2e-hosts/cp"), ("w", "ce2e-hosts/w"))
    for node, obj in pods(api).items():
        spec = obj["spec"]
        assert spec["hostNetwork"] is True
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert terms["nodeSelectorTerms"][0]["matchFields"][0]["values"] == [node]
        (container,) = spec["containers"]
        names = {env["name"]: env.get("value") for env in container["env"]}
        assert names["AGENT_NAME"] == f"node:{node}"
        assert container["command"][-6:] == ["--tcp", "18080", "--udp", "18080", "--http", "18081"]
        assert container["image"] == "python:x"


def test_their_namespace_allows_what_they_need_and_its_files_come_first(api: MemoryTransport) -> None:
    agents(api).start(NODES, timeout_s=5)
    namespace = api.stored(NAMESPACE)
    assert namespace is not None
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"
    assert [obj["kind"] for obj in api.applied] == ["Namespace", "ConfigMap", "Pod", "Pod"]


def test_they_are_awaited(api: MemoryTransport) -> None:
    oblige = api.on_apply
    assert oblige is not None
    api.on_apply = lambda obj: None if obj["metadata"]["name"] == "w" else oblige(obj)
    with pytest.raises(WaitTimeout) as caught:
        agents(api).start(NODES, timeout_s=5)
    assert "expected an agent on the network of each node (cp, w) within 5 s" in str(caught.value)
    assert "w unknown" in str(caught.value)
    late = pods(api)["w"]
    api.later(2.0, lambda: api.put({**late, "status": READY}))
    assert len(agents(api).start(NODES, timeout_s=5)) == 2


class TestAgain:
    """A kept cluster."""

    def test_those_that_run_stay(self, api: MemoryTransport) -> None:
        agents(api).start(NODES, timeout_s=5)
        assert made(api) == ["cp", "w"]
        agents(api).start(NODES, timeout_s=5)
        assert made(api) == []
        assert "delete" not in {method for method, _ in api.calls}

    def test_another_source_has_them_made_anew(
        self, api: MemoryTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The older ones go before: a node's port is free only then, and a pod cannot be changed."""
        agents(api).start(NODES, timeout_s=5)
        made(api)
        real = module.config_map
        monkeypatch.setattr(module, "config_map", lambda namespace: {**real(namespace), "data": {"a.py": ""}})
        gone: list[set[str]] = []
        oblige = api.on_apply
        assert oblige is not None

        def act(obj: Object) -> None:
            if obj["kind"] == "ConfigMap":
                gone.append({"cp", "w"} & pods(api).keys())
            oblige(obj)

        api.on_apply = act
        agents(api).start(NODES, timeout_s=5)
        assert gone == [set()]
        assert made(api) == ["cp", "w"]

    def test_another_image_too(self, api: MemoryTransport) -> None:
        agents(api).start(NODES, timeout_s=5)
        agents(api, image="python:y").start(NODES, timeout_s=5)
        images = {obj["spec"]["containers"][0]["image"] for obj in pods(api).values()}
        assert images == {"python:y"}

    @pytest.mark.parametrize(
        "spoilt", [{"status": {"phase": "Failed"}}, {"metadata": {"name": "w", "namespace": "ce2e-hosts"}}]
    )
    def test_one_that_has_failed_or_is_not_ours(self, api: MemoryTransport, spoilt: Object) -> None:
        agents(api).start(NODES, timeout_s=5)
        made(api)
        api.put({**pods(api)["w"], **spoilt})
        agents(api).start(NODES, timeout_s=5)
        assert made(api) == ["w"]

    def test_one_of_a_node_that_has_left(self, api: MemoryTransport) -> None:
        agents(api).start(NODES, timeout_s=5)
        assert agents(api).start(["cp"], timeout_s=5) == (("cp", "ce2e-hosts/cp"),)
        assert list(pods(api)) == ["cp"]


def test_a_start_that_nobody_wants_any_more(api: MemoryTransport) -> None:
    class OverError(Exception):
        pass

    def over() -> None:
        raise OverError

    with pytest.raises(OverError):
        agents(api).start(NODES, timeout_s=5, check=over)
    assert made(api) == []


def test_a_refusal_has_the_cluster_s_words(api: MemoryTransport) -> None:
    api.fail("apply", KubeError(403, "Forbidden", "violates PodSecurity"), kind="Pod")
    with pytest.raises(KubeError, match="violates PodSecurity"):
        agents(api).start(NODES, timeout_s=5)


def test_deleting_is_of_its_namespace_and_may_come_twice(api: MemoryTransport) -> None:
    found = agents(api)
    found.start(NODES, timeout_s=5)
    found.delete()
    found.delete()
    assert [call for call in api.calls if call[0] == "delete"] == [("delete", str(NAMESPACE))] * 2
