"""What keeps pods from being ready, in few lines; shapes from recordings of a live cluster."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cilium_e2e.flux import explain
from cilium_e2e.kube import Kube
from cilium_e2e.model import KubeError, Object
from support.memory import MemoryTransport, pod
from support.recordings import items, recorded


def told(
    *objects: Object, logs: dict[tuple[str, str, bool], str] | None = None, name: str = "cilium"
) -> list[str]:
    api = MemoryTransport(*objects)
    api.log_texts = logs or {}
    return explain.namespace(Kube(api, clock=api.clock), name)


def workloads() -> list[Object]:
    return [obj for obj in items("cilium-workloads") if obj["kind"] == "Pod"]


def container(name: str = "main", *, ready: bool = False, restarts: int = 0, **state: Any) -> Object:
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


class TestState:
    def test_in_the_object_s_own_words(self) -> None:
        text = explain.state(recorded("helmrelease-bad-values"))
        assert text.startswith(
            "HelmRelease cilium/bad-values: Ready=False InstallFailed: Helm install failed"
        )
        assert text.endswith("- at '/ipam/mode': got number, want string")

    def test_ready(self) -> None:
        text = explain.state(recorded("kustomization-ready"))
        assert text.startswith(
            "Kustomization flux-system/cilium: Ready=True ReconciliationSucceeded: Applied"
        )

    def test_of_an_older_generation(self) -> None:
        obj = recorded("kustomization-ready")
        obj["metadata"]["generation"] += 1
        assert explain.state(obj) == "Kustomization flux-system/cilium: not yet reconciled"

    def test_stalled(self) -> None:
        obj = recorded("helmrelease-bad-values")
        assert not explain.stalled(obj)
        obj["status"]["conditions"].append({"type": "Stalled", "status": "True", "observedGeneration": 1})
        assert explain.stalled(obj)


class TestPods:
    def test_pods_that_are_ready_are_not_worth_a_word(self) -> None:
        assert told(*workloads()) == []

    def test_a_crashing_agent(self) -> None:
        agent = copy.deepcopy(next(p for p in workloads() if p["metadata"]["name"].startswith("cilium-l")))
        name = agent["metadata"]["name"]
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting"}}
        for status in agent["status"]["containerStatuses"]:
            if status["name"] == "cilium-agent":
                status |= {"ready": False, "restartCount": 3, "state": waiting}
        before = {(name, "cilium-agent", True): "one\ntwo\nfatal: unable to mount\nbye\n"}
        assert told(agent, logs=before) == [
            f"Pod cilium/{name}, container cilium-agent: CrashLoopBackOff back-off 40s restarting",
            "  log: two",
            "  log: fatal: unable to mount",
            "  log: bye",
        ]

    def test_the_run_before_has_no_log_any_more(self) -> None:
        broken = pod("a", "cilium", containerStatuses=[container(restarts=1, running={})])
        assert told(broken, logs={("a", "main", False): "now\n"}) == [
            "Pod cilium/a, container main: running but not ready, 1 restarts",
            "  log: now",
        ]
        assert told(broken) == ["Pod cilium/a, container main: running but not ready, 1 restarts"]

    def test_an_image_that_cannot_be_pulled(self) -> None:
        waiting = {"reason": "ImagePullBackOff", "message": "Back-off pulling image x"}
        assert told(pod("a", "cilium", containerStatuses=[container(waiting=waiting)])) == [
            "Pod cilium/a, container main: ImagePullBackOff Back-off pulling image x"
        ]

    def test_a_failed_init_container(self) -> None:
        failed = container("mount-bpf", terminated={"exitCode": 1, "reason": "Error"})
        done = container("config", terminated={"exitCode": 0, "reason": "Completed"})
        assert told(pod("a", "cilium", initContainerStatuses=[done, failed])) == [
            "Pod cilium/a, container mount-bpf: Error (exit code 1)"
        ]

    def test_one_that_is_not_scheduled(self) -> None:
        recorded_pod = copy.deepcopy(workloads()[-1])
        recorded_pod["status"] = {
            "phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}],
        }
        name = recorded_pod["metadata"]["name"]
        assert told(recorded_pod) == [f"Pod cilium/{name}: not scheduled: 0/2 nodes are available"]

    @pytest.mark.parametrize(
        "status",
        [
            {},
            {"containerStatuses": None, "initContainerStatuses": None},
            {"containerStatuses": [{"name": "main", "state": None}]},
            {"containerStatuses": [{"name": "main", "state": {"terminated": None, "waiting": None}}]},
            {"phase": "Pending", "conditions": None},
        ],
    )
    def test_bare_statuses_are_no_crash(self, status: dict[str, Any]) -> None:
        assert all(line.startswith("Pod cilium/a") for line in told(pod("a", "cilium", **status)))


class TestEvents:
    def test_the_newest_warnings_of_the_namespace(self) -> None:
        lines = told(*items("events"), name="flux-system")
        assert len(lines) == 2
        assert all(
            line.startswith("event GitOperationFailed on GitRepository repo: failed to") for line in lines
        )
        assert "http://172.18.0.1:8880/repo.git" in lines[-1]  # the later one

    def test_other_namespaces_and_normal_events_are_not_told(self) -> None:
        (line,) = told(*items("events"))
        assert line.startswith("event FailedScheduling on Pod hubble-relay-55cc7dbc6d-fzgdv: 0/2 nodes are")

    def test_at_most_five_each_once(self) -> None:
        def event(number: int, message: str) -> Object:
            return {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"e{number}", "namespace": "cilium"},
                "type": "Warning",
                "reason": "Failed",
                "involvedObject": {"kind": "Pod", "name": "a"},
                "message": message,
                "lastTimestamp": None if number % 2 else f"2026-11-23T05:00:{number:02}Z",
                "eventTime": f"2026-11-23T05:00:{number:02}.000000Z" if number % 2 else None,
            }

        events = [event(number, f"m{number % 7}") for number in range(20)]
        assert told(*events) == [f"event Failed on Pod a: m{n}" for n in (1, 2, 3, 4, 5)]

    def test_an_event_of_few_words(self) -> None:
        bare = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": "e", "namespace": "cilium"},
            "type": "Warning",
        }
        assert told(bare) == ["event  on  : "]


def test_a_namespace_that_cannot_be_looked_at_is_said_so() -> None:
    api = MemoryTransport()
    api.fail("list", KubeError(403, "Forbidden", "pods is forbidden"))
    assert explain.namespace(Kube(api, clock=api.clock), "cilium") == [
        "namespace cilium cannot be looked at: pods is forbidden"
    ]
