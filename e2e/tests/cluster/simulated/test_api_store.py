"""The simulated API server: what holds for any sequence of changes, and the server's own words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.cluster.simulated.addresses import Addresses
from cilium_e2e.cluster.simulated.admission import Admission
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.lifecycle import Lifecycle
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.cluster.simulated.transport import SimulatedTransport
from cilium_e2e.model import EventType, KubeError, PatchType, Ref

MAPS = Ref("v1", "ConfigMap", namespace="default")
WORDS = st.sampled_from(["a", "b", "c"])
DATA = st.dictionaries(WORDS, WORDS, max_size=3)
LABELS = st.dictionaries(st.just("app"), WORDS, max_size=1)


class Nothing:
    def exec(self, ref, container, command):
        raise KubeError(501, "NotImplemented", "nothing runs here")

    def logs(self, ref, container):
        return ["one", "two", "three"]


def api(*, history: int = 4096) -> SimulatedTransport:
    clock = VirtualClock()
    store = Store(clock, history=history)
    Lifecycle(store)
    transport = SimulatedTransport(store, Admission(store, Addresses((4,))), Nothing())
    namespace(transport, "default")
    return transport


def namespace(transport: SimulatedTransport, name: str) -> None:
    transport.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}, field_manager="t")


def config(name: str, data: dict[str, str], labels: dict[str, str] | None = None) -> dict:
    meta = {"name": name, "namespace": "default", "labels": labels or {}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def content(obj: dict) -> dict:
    return {k: v for k, v in obj.items() if k != "metadata"} | {"labels": obj["metadata"].get("labels") or {}}


@given(data=DATA, labels=LABELS)
@settings(max_examples=40, deadline=None)
def test_applying_twice_is_applying_once(data, labels):
    transport = api()
    once = transport.apply(config("x", data, labels), field_manager="t")
    twice = transport.apply(config("x", data, labels), field_manager="t")
    assert twice == once
    assert once.get("data", {}) == data


@given(first=DATA, second=DATA)
@settings(max_examples=60, deadline=None)
def test_what_one_manager_no_longer_names_is_gone(first, second):
    transport = api()
    transport.apply(config("x", first), field_manager="t")
    assert transport.apply(config("x", second), field_manager="t").get("data", {}) == second


@given(mine=DATA, theirs=DATA)
@settings(max_examples=80, deadline=None)
def test_two_managers_keep_each_others_fields_or_conflict(mine, theirs):
    transport = api()
    transport.apply(config("x", mine), field_manager="me")
    contested = {key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]}
    if contested:
        with pytest.raises(KubeError, match='conflict with "me"') as caught:
            transport.apply(config("x", theirs), field_manager="they")
        assert caught.value.conflict
        forced = transport.apply(config("x", theirs), field_manager="they", force=True)
        assert forced["data"] == {**mine, **theirs}
        # What was taken is theirs now: I can give it up without its going away.
        rest = {key: value for key, value in mine.items() if key not in contested}
        assert transport.apply(config("x", rest), field_manager="me")["data"].items() >= theirs.items()
    else:
        assert transport.apply(config("x", theirs), field_manager="they").get("data", {}) == {
            **mine,
            **theirs,
        }


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), WORDS, DATA, LABELS),
        st.tuples(st.just("patch"), WORDS, DATA, LABELS),
        st.tuples(st.just("delete"), WORDS, DATA, LABELS),
    ),
    max_size=12,
)


def run(transport: SimulatedTransport, operations) -> None:
    for what, name, data, labels in operations:
        ref = Ref("v1", "ConfigMap", name, "default")
        try:
            if what == "apply":
                transport.apply(config(name, data, labels), field_manager="t", force=True)
            elif what == "patch":
                body = {"data": data, "metadata": {"labels": labels}}
                transport.patch(ref, body, patch_type=PatchType.MERGE)
            else:
                transport.delete(ref)
        except KubeError as error:
            assert error.not_found


@given(
    before=OPERATIONS, after=OPERATIONS, selector=st.sampled_from(["", "app=a", "app!=a", "app in (a, b)"])
)
@settings(max_examples=80, deadline=None)
def test_a_watch_is_the_difference_of_two_lists(before, after, selector):
    transport = api()
    run(transport, before)
    listed = transport.list(MAPS, label_selector=selector)
    run(transport, after)
    state = {obj["metadata"]["name"]: content(obj) for obj in listed.items}
    events = transport.watch(
        MAPS, resource_version=listed.resource_version, timeout_s=1.0, label_selector=selector
    )
    for event in events:
        name = event.object["metadata"].get("name")
        if event.type is EventType.BOOKMARK:
            continue
        assert (name in state) is (event.type is not EventType.ADDED), event
        if event.type is EventType.DELETED:
            del state[name]
        else:
            state[name] = content(event.object)
    now = transport.list(MAPS, label_selector=selector).items
    assert state == {obj["metadata"]["name"]: content(obj) for obj in now}


def test_a_watch_from_too_long_ago_is_expired():
    transport = api(history=5)
    version = transport.list(MAPS).resource_version
    for number in range(10):
        transport.apply(config("x", {"n": str(number)}), field_manager="t")
    with pytest.raises(KubeError) as caught:
        next(iter(transport.watch(MAPS, resource_version=version, timeout_s=1.0)))
    assert caught.value.expired


def test_generations_count_specs_and_versions_count_everything():
    transport = api()
    spec = {"selector": {"app": "a"}, "ports": [{"port": 80}]}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s", "namespace": "default"}}
    first = transport.apply({**service, "spec": spec}, field_manager="t")
    ref = Ref("v1", "Service", "s", "default")
    labelled = transport.patch(ref, {"metadata": {"labels": {"a": "b"}}}, patch_type=PatchType.MERGE)
    assert labelled["metadata"]["generation"] == first["metadata"]["generation"] == 1
    assert int(labelled["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    changed = transport.patch(
        ref, [{"op": "replace", "path": "/spec/ports/0/port", "value": 81}], patch_type=PatchType.JSON
    )
    assert changed["metadata"]["generation"] == 2
    assert changed["spec"]["clusterIP"] == first["spec"]["clusterIP"]


def test_finalizers_hold_an_object_until_they_are_gone():
    transport = api()
    held = config("x", {})
    held["metadata"]["finalizers"] = ["somebody/waits"]
    transport.apply(held, field_manager="t")
    ref = Ref("v1", "ConfigMap", "x", "default")
    transport.delete(ref)
    assert "deletionTimestamp" in transport.get(ref)["metadata"]
    transport.patch(ref, {"metadata": {"finalizers": None}}, patch_type=PatchType.MERGE)
    with pytest.raises(KubeError, match='configmaps "x" not found'):
        transport.get(ref)


def test_a_namespace_takes_along_what_is_in_it_and_takes_nothing_more_meanwhile():
    transport = api()
    namespace(transport, "gone")
    inside = config("x", {})
    inside["metadata"]["namespace"] = "gone"
    transport.apply(inside, field_manager="t")
    transport.store.clock.sleep(1)
    assert transport.get(Ref("v1", "ServiceAccount", "default", "gone"))
    transport.delete(Ref("v1", "Namespace", "gone"))
    with pytest.raises(KubeError, match="is being terminated") as caught:
        transport.apply({**inside, "metadata": {"name": "y", "namespace": "gone"}}, field_manager="t")
    assert caught.value.status == 403
    transport.store.clock.sleep(1)
    with pytest.raises(KubeError, match='namespaces "gone" not found'):
        transport.get(Ref("v1", "Namespace", "gone"))
    with pytest.raises(KubeError, match='namespaces "gone" not found'):
        transport.apply(inside, field_manager="t")


def test_pods_need_a_service_account_and_keep_their_spec():
    transport = api()
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "nobody"},
    }
    with pytest.raises(KubeError, match='serviceaccount "nobody" not found') as caught:
        transport.apply(pod, field_manager="t")
    assert caught.value.status == 403
    transport.store.clock.sleep(1)
    pod["spec"]["serviceAccountName"] = "default"
    transport.apply(pod, field_manager="t")
    with pytest.raises(KubeError, match="pod updates may not change") as caught:
        transport.apply({**pod, "spec": {**pod["spec"], "hostNetwork": True}}, field_manager="t")
    assert caught.value.status == 422


@pytest.mark.parametrize(
    ("call", "status"),
    [
        (lambda t: t.list(Ref("cilium.io/v2", "CiliumNetworkPolicy")), 404),
        (lambda t: t.get(Ref("v1", "ConfigMap", "x")), 400),
        (lambda t: t.list(MAPS, label_selector="a in b"), 400),
        (lambda t: t.list(MAPS, field_selector="nothing"), 400),
        (lambda t: t.raw("/metrics"), 404),
        (
            lambda t: t.patch(
                Ref("v1", "Namespace", "default"), [{"op": "remove", "path": "/x"}], patch_type=PatchType.JSON
            ),
            422,
        ),
    ],
    ids=["no kind", "no namespace", "labels", "fields", "path", "patch"],
)
def test_what_cannot_be_served_is_refused_with_its_status(call, status):
    with pytest.raises(KubeError) as caught:
        call(api())
    assert caught.value.status == status


def test_selectors_select():
    transport = api()
    for name, app in (("x", "a"), ("y", "b"), ("z", "c")):
        transport.apply(config(name, {}, {"app": app}), field_manager="t")
    transport.store.clock.sleep(1)

    def names(labels="", fields=""):
        found = transport.list(MAPS, label_selector=labels, field_selector=fields).items
        return {obj["metadata"]["name"] for obj in found}

    everything = {"x", "y", "z", "kube-root-ca.crt"}
    assert names() == everything
    assert names("app in (a,b)") == {"x", "y"}
    assert names("app notin (a, b)") == everything - {"x", "y"}
    assert names("!app") == {"kube-root-ca.crt"}
    assert names("app,app!=a") == {"y", "z"}
    assert names("app==c") == {"z"}
    assert names(fields="metadata.name=y") == {"y"}
    assert names(fields="metadata.name!=y") == everything - {"y"}


def test_logs_have_their_end_and_no_past():
    transport = api()
    assert transport.logs(Ref("v1", "Pod", "p", "default"), container="c", tail_lines=2) == "two\nthree\n"
    with pytest.raises(KubeError, match="previous terminated container"):
        transport.logs(Ref("v1", "Pod", "p", "default"), container="c", tail_lines=2, previous=True)
