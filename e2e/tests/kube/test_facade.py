"""Retries, waits and commands over a transport, on virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.kube import FIELD_MANAGER, Kube, condition, is_true
from cilium_e2e.model import ClusterStateError, KubeError, Object, Ref, StreamLost, WaitTimeout
from support.memory import FakeExec, MemoryTransport, pod

POD = Ref("v1", "Pod", "a", "default")
PODS = Ref("v1", "Pod", namespace="default")
UNAVAILABLE = KubeError(503, "ServiceUnavailable", "etcd is electing")
FORBIDDEN = KubeError(403, "Forbidden", "pods is forbidden", place="Pod default/")


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def kube(api: MemoryTransport) -> Kube:
    return Kube(api, clock=api.clock)


def running(found: Sequence[Object]) -> Object | None:
    return next((obj for obj in found if obj["status"].get("phase") == "Running"), None)


class TestRetry:
    @pytest.mark.parametrize("status", [0, 409, 429, 500, 503])
    def test_what_may_pass_is_tried_again(self, kube: Kube, api: MemoryTransport, status: int) -> None:
        api.put(pod("a"))
        api.fail("get", KubeError(status, "", "later"), times=3)
        assert kube.get(POD)["metadata"]["name"] == "a"
        assert len(api.clock.slept) == 3
        assert api.clock.slept == sorted(api.clock.slept)

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
    def test_what_will_not_pass_is_raised_at_once(
        self, kube: Kube, api: MemoryTransport, status: int
    ) -> None:
        api.put(pod("a"))
        api.fail("get", KubeError(status, "", "never"))
        with pytest.raises(KubeError, match="never") as caught:
            kube.get(POD)
        assert caught.value.status == status
        assert api.clock.slept == []

    def test_gives_up_within_about_eight_seconds(self, kube: Kube, api: MemoryTransport) -> None:
        api.fail("apply", UNAVAILABLE, times=1000)
        with pytest.raises(KubeError) as caught:
            kube.apply(pod("a"))
        assert caught.value is UNAVAILABLE
        assert 5 < sum(api.clock.slept) < 10

    def test_each_object_of_apply_all_is_retried_for_itself(self, kube: Kube, api: MemoryTransport) -> None:
        api.fail("apply", UNAVAILABLE, times=2)
        kube.apply_all([pod("a"), pod("b")])
        assert [obj["metadata"]["name"] for obj in api.applied] == ["a", "b"]


class TestObjects:
    def test_find_answers_none_for_what_is_not_there(self, kube: Kube, api: MemoryTransport) -> None:
        assert kube.find(POD) is None
        api.put(pod("a"))
        found = kube.find(POD)
        assert found is not None
        assert found["metadata"]["name"] == "a"

    def test_find_does_not_take_a_refusal_for_absence(self, kube: Kube, api: MemoryTransport) -> None:
        api.fail("get", FORBIDDEN)
        with pytest.raises(KubeError, match="forbidden"):
            kube.find(POD)

    def test_apply_takes_over_under_our_own_name(self) -> None:
        seen: dict[str, Any] = {}

        class Recorder(MemoryTransport):
            def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
                seen.update(field_manager=field_manager, force=force)
                return obj

        Kube(Recorder()).apply(pod("a"))
        assert seen == {"field_manager": FIELD_MANAGER, "force": True}

    def test_deleting_what_is_gone_is_fine(self, kube: Kube, api: MemoryTransport) -> None:
        kube.delete(POD)
        api.put(pod("a"))
        kube.delete(POD)
        assert api.stored(POD) is None

    def test_a_refused_deletion_is_told(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a"))
        api.fail("delete", FORBIDDEN)
        with pytest.raises(KubeError, match="forbidden"):
            kube.delete(POD)

    def test_of_a_kind_that_is_not_known_there_is_none(self, kube: Kube, api: MemoryTransport) -> None:
        assert [p["metadata"]["name"] for p in kube.list_known(PODS)] == [
            p["metadata"]["name"] for p in kube.list_all(PODS)
        ]
        api.missing_kinds.add("Pod")
        assert kube.list_known(PODS) == []
        api.missing_kinds.clear()
        api.fail("list", KubeError(403, "Forbidden", "no"))
        with pytest.raises(KubeError, match="no"):
            kube.list_known(PODS)

    def test_list_all_selects_by_label(self, kube: Kube, api: MemoryTransport) -> None:
        one = pod("a")
        one["metadata"]["labels"] = {"app": "x"}
        api.put(one)
        api.put(pod("b"))
        assert [p["metadata"]["name"] for p in kube.list_all(PODS, label_selector="app=x")] == ["a"]


class TestWait:
    def test_what_is_so_already_needs_no_watch(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Running"))
        found = kube.wait(PODS, running, timeout_s=5, what="a pod to run")
        assert found["metadata"]["name"] == "a"
        assert ("watch", "Pod default/") not in api.calls
        assert api.clock.now == 1000

    def test_what_comes_later_is_seen_when_it_comes(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        api.later(3, lambda: api.put(pod("a", phase="Running")))
        kube.wait(PODS, running, timeout_s=10, what="a pod to run")
        assert api.clock.now == 1003

    def test_nothing_between_list_and_watch_is_missed(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))

        def judge(found: Sequence[Object]) -> Object | None:
            if api.version == 1:  # the list was answered, the watch is not open yet
                api.put(pod("a", phase="Running"))
                return None
            return running(found)

        kube.wait(PODS, judge, timeout_s=10, what="a pod to run")
        assert api.clock.now == 1000

    def test_a_deleted_object_is_no_longer_among_them(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a"))
        api.put(pod("b"))
        api.later(1, lambda: api.remove(POD))
        states: list[list[str]] = []
        kube.wait(
            PODS,
            lambda found: True if len(found) == 1 else None,
            timeout_s=5,
            what="one pod",
            on_change=lambda found: states.append([p["metadata"]["name"] for p in found]),
        )
        assert states == [["a", "b"], ["b"]]

    def test_a_bookmark_is_no_state(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        api.later(1, api.bookmark)
        api.later(2, lambda: api.put(pod("a", phase="Running")))
        judged: list[int] = []
        kube.wait(
            PODS, running, timeout_s=5, what="a pod to run", on_change=lambda found: judged.append(len(found))
        )
        assert judged == [1, 1]

    def test_other_objects_do_not_count(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        api.put(pod("a", namespace="elsewhere", phase="Running"))
        api.later(1, lambda: api.put(pod("b", phase="Running")))
        with pytest.raises(WaitTimeout):
            kube.wait(POD, running, timeout_s=3, what="the pod a to run")

    def test_the_deadline_tells_the_last_state(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        with pytest.raises(WaitTimeout) as caught:
            kube.wait(
                PODS,
                running,
                timeout_s=7.5,
                what="a pod to run",
                describe=lambda found: f"{len(found)} pods, {found[0]['status']['phase']}",
            )
        assert str(caught.value) == (
            "Pod default/: expected a pod to run within 7.5 s, last seen: 1 pods, Pending"
        )
        assert api.clock.now == pytest.approx(1007.5)

    def test_without_words_of_its_own_it_names_the_objects(self, kube: Kube, api: MemoryTransport) -> None:
        with pytest.raises(WaitTimeout, match="last seen: nothing"):
            kube.wait(PODS, running, timeout_s=2, what="a pod to run")
        api.put(pod("a", phase="Pending"))
        with pytest.raises(WaitTimeout, match="last seen: default/a"):
            kube.wait(PODS, running, timeout_s=2, what="a pod to run")

    def test_an_api_server_that_went_away_is_told_with_the_state_before(
        self, kube: Kube, api: MemoryTransport
    ) -> None:
        api.put(pod("a", phase="Pending"))
        api.later(1, lambda: api.fail("list", KubeError(0, "NoAnswer", "connection refused"), times=99))
        api.later(1, lambda: api.break_watches(KubeError(0, "ConnectionLost", "the watch broke")))
        with pytest.raises(WaitTimeout) as caught:
            kube.wait(
                PODS,
                running,
                timeout_s=10,
                what="a pod to run",
                describe=lambda found: found[0]["status"]["phase"],
            )
        assert "connection refused" in str(caught.value)
        assert "Pending" in str(caught.value)

    def test_a_version_too_old_means_to_list_again(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        api.later(1, lambda: api.put(pod("a", phase="Running")))
        api.fail("watch", KubeError(410, "Expired", "too old resource version"))
        kube.wait(PODS, running, timeout_s=10, what="a pod to run")
        assert [call for call, _ in api.calls].count("list") == 2

    def test_an_event_lost_to_compaction_is_found_by_the_list(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))

        def compacted() -> None:
            api.put(pod("a", phase="Running"))
            api.compact()

        api.later(1, compacted)
        kube.wait(PODS, running, timeout_s=10, what="a pod to run")
        assert api.clock.now < 1003

    def test_a_kind_that_is_not_there_yet_is_asked_for_anew(self, kube: Kube, api: MemoryTransport) -> None:
        api.missing_kinds.add("Pod")

        def served() -> None:
            api.missing_kinds.clear()
            api.put(pod("a", phase="Running"))

        api.later(2, served)
        kube.wait(PODS, running, timeout_s=10, what="a pod to run")
        assert api.invalidated >= 3

    def test_a_kind_that_never_comes_is_named_in_the_end(self, kube: Kube, api: MemoryTransport) -> None:
        api.missing_kinds.add("Pod")
        with pytest.raises(WaitTimeout, match="has no kind Pod"):
            kube.wait(PODS, running, timeout_s=3, what="a pod to run")

    def test_a_refusal_ends_the_wait_at_once(self, kube: Kube, api: MemoryTransport) -> None:
        api.fail("list", FORBIDDEN)
        with pytest.raises(KubeError) as caught:
            kube.wait(PODS, running, timeout_s=600, what="a pod to run")
        assert caught.value.status == 403
        assert api.clock.now == 1000

    def test_a_watch_that_breaks_is_opened_again(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(pod("a", phase="Pending"))
        api.later(1, lambda: api.break_watches(KubeError(0, "ConnectionLost", "reset")))
        api.later(4, lambda: api.put(pod("a", phase="Running")))
        kube.wait(PODS, running, timeout_s=10, what="a pod to run")
        assert api.clock.now == 1004

    def test_long_waits_are_made_of_short_watches(self, kube: Kube, api: MemoryTransport) -> None:
        api.later(200, lambda: api.put(pod("a", phase="Running")))
        kube.wait(PODS, running, timeout_s=600, what="a pod to run")
        assert max(api.watch_timeouts) <= 60
        assert len(api.watch_timeouts) == 4

    def test_a_server_that_ends_every_watch_at_once_is_not_asked_without_pause(self) -> None:
        class Impatient(MemoryTransport):
            def watch(self, ref: Ref, **_: Any) -> Any:
                self._enter("watch", ref)
                assert len(self.calls) < 1000, "asked without a pause"
                return iter(())

        api = Impatient()
        with pytest.raises(WaitTimeout):
            Kube(api, clock=api.clock).wait(PODS, running, timeout_s=5, what="a pod to run")

    def test_a_judge_may_give_up(self, kube: Kube, api: MemoryTransport) -> None:
        def hopeless(found: Sequence[Object]) -> None:
            raise ClusterStateError("it cannot be")

        with pytest.raises(ClusterStateError, match="it cannot be"):
            kube.wait(PODS, hopeless, timeout_s=600, what="a pod to run")

    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("put"), st.sampled_from("abc")),
                st.tuples(st.just("remove"), st.sampled_from("abc")),
                st.tuples(st.sampled_from(["break", "compact", "bookmark"]), st.just("")),
            ),
            max_size=20,
        )
    )
    def test_whatever_happens_the_last_state_is_the_server_s(self, steps: list[tuple[str, str]]) -> None:
        api = MemoryTransport()
        expected: set[str] = set()

        def step(action: str, name: str) -> None:
            if action == "put":
                api.put(pod(name))
                expected.add(name)
            elif action == "remove" and name in expected:
                api.remove(Ref("v1", "Pod", name, "default"))
                expected.discard(name)
            elif action == "break":
                api.break_watches(KubeError(0, "ConnectionLost", "reset"))
            elif action == "compact":
                api.compact()
            elif action == "bookmark":
                api.bookmark()

        for index, (action, name) in enumerate(steps):
            api.later(index + 1, lambda action=action, name=name: step(action, name))
        seen: list[set[str]] = []
        with pytest.raises(WaitTimeout):
            Kube(api, clock=api.clock).wait(
                PODS,
                lambda _: None,
                timeout_s=60,
                what="nothing",
                on_change=lambda found: seen.append({p["metadata"]["name"] for p in found}),
            )
        assert seen[-1] == expected


class TestRun:
    def start(self, api: MemoryTransport, stream: FakeExec) -> FakeExec:
        api.on_exec = lambda ref, container, command: stream
        return stream

    def test_output_and_exit_code(self, kube: Kube, api: MemoryTransport) -> None:
        stream = self.start(api, FakeExec("one", "two", stderr="a warning"))
        done = kube.run(POD, ["ls"], container="main")
        assert (done.returncode, done.stdout, done.stderr) == (0, "one\ntwo", "a warning")
        assert stream.closed

    def test_a_failed_command_says_what_it_said(self, kube: Kube, api: MemoryTransport) -> None:
        self.start(api, FakeExec("partial", code=3, stderr="no such socket\n"))
        with pytest.raises(ClusterStateError) as caught:
            kube.run(POD, ["cilium-dbg", "status"], container="main")
        assert str(caught.value) == "cilium-dbg status in Pod default/a: exit code 3: no such socket"

    def test_a_failed_command_that_was_expected_to_fail(self, kube: Kube, api: MemoryTransport) -> None:
        self.start(api, FakeExec(code=1))
        assert kube.run(POD, ["false"], container="main", check=False).returncode == 1

    @pytest.mark.parametrize("check", [True, False])
    def test_a_lost_stream_is_no_end(self, kube: Kube, api: MemoryTransport, check: bool) -> None:
        stream = self.start(api, FakeExec("half", StreamLost("the connection broke")))
        with pytest.raises(StreamLost):
            kube.run(POD, ["ls"], container="main", check=check)
        assert stream.closed

    @pytest.mark.parametrize("check", [True, False])
    def test_an_end_without_an_exit_code_is_a_lost_stream(
        self, kube: Kube, api: MemoryTransport, check: bool
    ) -> None:
        self.start(api, FakeExec("all of it?", code=None))
        with pytest.raises(StreamLost, match="without an exit code"):
            kube.run(POD, ["ls"], container="main", check=check)

    def test_the_time_limit_is_for_all_of_it(self, kube: Kube, api: MemoryTransport) -> None:
        class Slow(FakeExec):
            def read_line(self, *, timeout_s: float) -> str | None:
                api.clock.sleep(2)
                return super().read_line(timeout_s=timeout_s)

        stream = self.start(api, Slow(*["tick"] * 100))
        with pytest.raises(WaitTimeout):
            kube.run(POD, ["yes"], container="main", timeout_s=5)
        assert stream.closed
        assert len(stream.lines) > 90


class TestCondition:
    def obj(self, *conditions: Object, generation: int | None = 2, **status: Any) -> Object:
        metadata = {} if generation is None else {"generation": generation}
        return {"metadata": metadata, "status": {"conditions": list(conditions), **status}}

    @pytest.mark.parametrize(
        ("entry", "expected"),
        [
            ({"type": "Ready", "status": "True"}, True),
            ({"type": "Ready", "status": "True", "observedGeneration": 2}, True),
            ({"type": "Ready", "status": "True", "observedGeneration": 1}, False),
            ({"type": "Ready", "status": "False", "observedGeneration": 2}, False),
            ({"type": "Ready", "status": "Unknown"}, False),
            ({"type": "Other", "status": "True"}, False),
        ],
    )
    def test_only_the_current_generation_counts(self, entry: Object, expected: bool) -> None:
        assert is_true(self.obj(entry), "Ready") is expected

    def test_a_deployment_says_once_for_all_conditions_what_it_observed(self) -> None:
        available = {"type": "Available", "status": "True"}
        assert not is_true(self.obj(available, observedGeneration=1), "Available")
        assert is_true(self.obj(available, observedGeneration=2), "Available")

    def test_a_condition_s_own_word_goes_first(self) -> None:
        # helm-controller says -1 for the object until it is done, as recorded.
        ready = {"type": "Ready", "status": "False", "observedGeneration": 2, "reason": "InstallFailed"}
        found = condition(self.obj(ready, observedGeneration=-1), "Ready")
        assert found is not None
        assert found["reason"] == "InstallFailed"

    def test_objects_without_generation_or_status(self) -> None:
        assert is_true(self.obj({"type": "Ready", "status": "True"}, generation=None), "Ready")
        assert condition({}, "Ready") is None
        assert condition({"status": None}, "Ready") is None
        assert condition({"status": {"conditions": None}}, "Ready") is None
