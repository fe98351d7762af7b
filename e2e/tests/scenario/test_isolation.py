"""Policies moved into a worker's namespaces, and nothing of them left outside."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import EXIT_USAGE, ScenarioError
from cilium_e2e.scenario import isolate

PREFIXES = ("", "k8s:", "any:", "k8s.", "any.")
LABELS = (
    "io.kubernetes.pod.namespace",
    "io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name",
    "kubernetes.io/metadata.name",
)
KEYS = [prefix + label for prefix in PREFIXES for label in LABELS]
NAMES = ("default", "x", "y", "kube-system")
MAP = {name: f"ce2e-gw0-{name}-1a2b" for name in NAMES}
BACK = {new: old for old, new in MAP.items()}


def policy(spec=None, *, kind="CiliumNetworkPolicy", **meta):
    return {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": {"name": "p", "namespace": "default", **meta},
        "spec": spec if spec is not None else {},
    }


names = st.sampled_from(NAMES)
other_labels = st.dictionaries(st.sampled_from(["app", "k8s:role", "any:tier"]), names, max_size=2)
match_labels = st.builds(
    lambda own, other: {**own, **other},
    st.dictionaries(st.sampled_from(KEYS), names, max_size=3),
    other_labels,
)
expressions = st.lists(
    st.one_of(
        st.fixed_dictionaries(
            {
                "key": st.sampled_from([*KEYS, "app"]),
                "operator": st.sampled_from(["In", "NotIn"]),
                "values": st.lists(names, min_size=1, max_size=3),
            }
        ),
        st.fixed_dictionaries({"key": st.sampled_from(KEYS), "operator": st.just("Exists")}),
    ),
    max_size=2,
)
selectors = st.fixed_dictionaries({}, optional={"matchLabels": match_labels, "matchExpressions": expressions})
services = st.one_of(
    st.fixed_dictionaries({"k8sService": st.fixed_dictionaries({"serviceName": names, "namespace": names})}),
    st.fixed_dictionaries(
        {"k8sServiceSelector": st.fixed_dictionaries({"selector": selectors, "namespace": names})}
    ),
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "fromEndpoints": st.lists(selectors, max_size=2),
        "toServices": st.lists(services, max_size=2),
        "toPorts": st.just([{"ports": [{"port": "80", "protocol": "TCP"}]}]),
    },
)
specs = st.fixed_dictionaries(
    {"endpointSelector": selectors}, optional={"ingress": st.lists(rules, max_size=2)}
)
policies = st.builds(
    lambda spec, more, namespace: {**policy(spec, namespace=namespace), "specs": more},
    specs,
    st.lists(specs, max_size=2),
    names,
)


@given(policies)
def test_there_and_back_is_where_it_was(original):
    before = copy.deepcopy(original)
    moved = isolate(original, MAP)
    assert original == before, "the original must not change"
    assert isolate(moved, BACK) == original


@given(policies)
def test_no_old_namespace_is_left_behind_a_namespace_label(original):
    def named(node):
        if isinstance(node, list):
            return {name for item in node for name in named(item)}
        if not isinstance(node, dict):
            return set()
        own = {value for key, value in node.items() if key in KEYS}
        own |= set(node["values"]) if node.get("key") in KEYS and "values" in node else set()
        own |= {node[key]["namespace"] for key in ("k8sService", "k8sServiceSelector") if key in node}
        return own.union(*(named(value) for value in node.values()))

    moved = isolate(original, MAP)
    assert named(moved["spec"]) | named(moved["specs"]) | {moved["metadata"]["namespace"]} <= set(BACK)


@pytest.mark.parametrize("key", KEYS)
def test_every_prefix_form_is_a_namespace(key):
    spec = {
        "endpointSelector": {"matchLabels": {key: "x", "app": "x"}},
        "ingress": [
            {"fromEndpoints": [{"matchExpressions": [{"key": key, "operator": "In", "values": ["x", "y"]}]}]}
        ],
    }
    moved = isolate(policy(spec), MAP)["spec"]
    assert moved["endpointSelector"]["matchLabels"] == {key: MAP["x"], "app": "x"}
    expression = moved["ingress"][0]["fromEndpoints"][0]["matchExpressions"][0]
    assert expression == {"key": key, "operator": "In", "values": [MAP["x"], MAP["y"]]}


def test_services_that_a_rule_names_move_too():
    spec = {"egress": [{"toServices": [{"k8sService": {"serviceName": "default", "namespace": "x"}}]}]}
    service = isolate(policy(spec), MAP)["spec"]["egress"][0]["toServices"][0]["k8sService"]
    assert service == {"serviceName": "default", "namespace": MAP["x"]}


def test_network_policies_name_namespaces_by_their_own_label():
    spec = {
        "podSelector": {},
        "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "y"}}}]}],
    }
    moved = isolate(policy(spec, kind="NetworkPolicy"), MAP)
    selector = moved["spec"]["ingress"][0]["from"][0]["namespaceSelector"]
    assert selector == {"matchLabels": {"kubernetes.io/metadata.name": MAP["y"]}}


def test_a_policy_without_a_namespace_is_one_of_the_default_namespace():
    bare = policy()
    del bare["metadata"]["namespace"]
    assert isolate(bare, MAP)["metadata"]["namespace"] == MAP["default"]


def test_a_cluster_wide_policy_gets_no_namespace():
    wide = policy(
        {"endpointSelector": {"matchLabels": {KEYS[1]: "x"}}}, kind="CiliumClusterwideNetworkPolicy"
    )
    del wide["metadata"]["namespace"]
    moved = isolate(wide, MAP)
    assert "namespace" not in moved["metadata"]
    assert moved["spec"]["endpointSelector"]["matchLabels"] == {KEYS[1]: MAP["x"]}


def test_what_the_server_adds_is_dropped_and_the_rest_kept():
    live = policy(
        uid="u",
        resourceVersion="7",
        creationTimestamp="t",
        deletionTimestamp="t",
        generation=3,
        managedFields=[],
        ownerReferences=[{"uid": "o"}],
        labels={"a": "b"},
    )
    live["status"] = {"conditions": []}
    moved = isolate(live, MAP)
    assert moved["metadata"] == {"name": "p", "namespace": MAP["default"], "labels": {"a": "b"}}
    assert "status" not in moved


@pytest.mark.parametrize(
    ("bad", "place"),
    [
        (policy(namespace="elsewhere"), "CiliumNetworkPolicy elsewhere/p"),
        (policy({"ingress": [{"fromEndpoints": [{"matchLabels": {KEYS[3]: "elsewhere"}}]}]}), "default/p"),
        (policy({"a": [{"key": KEYS[0], "operator": "NotIn", "values": ["x", "elsewhere"]}]}), "default/p"),
        (policy({"toServices": [{"k8sService": {"namespace": "elsewhere"}}]}), "default/p"),
    ],
)
def test_an_unknown_namespace_is_one_clear_error(bad, place):
    with pytest.raises(ScenarioError) as caught:
        isolate(bad, MAP)
    text = str(caught.value)
    assert place in text
    assert "expected only the namespaces default, kube-system, x, y, got elsewhere" in text
    assert "verbatim" in text
    assert caught.value.exit_code == EXIT_USAGE


def wide(selector, **rule):
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {"name": "wide"},
        "spec": {"endpointSelector": selector, **rule},
    }


def test_cluster_wide_objects_get_names_of_the_workers_own():
    moved = isolate(wide({"matchLabels": {KEYS[0]: "x"}}), MAP, suffix="gw0")
    assert moved["metadata"]["name"] == "wide-gw0"
    group = {"kind": "CiliumCIDRGroup", "metadata": {"name": "g"}, "spec": {"externalCIDRs": ["10.0.0.0/8"]}}
    assert isolate(group, MAP, suffix="gw0")["metadata"] == {"name": "g-gw0"}
    uses = policy({"ingress": [{"fromCIDRSet": [{"cidrGroupRef": "g"}]}]})
    assert isolate(uses, MAP, suffix="gw0")["spec"]["ingress"] == [
        {"fromCIDRSet": [{"cidrGroupRef": "g-gw0"}]}
    ]


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchLabels": {"app": "x"}},
        {"matchLabels": {KEYS[2]: "x"}},  # a pod's own label of that name
        {"matchLabels": {KEYS[0]: "elsewhere"}},
        {"matchExpressions": [{"key": KEYS[0], "operator": "NotIn", "values": ["x"]}]},
        {"matchExpressions": [{"key": KEYS[0], "operator": "Exists"}]},
        {"matchExpressions": [{"key": KEYS[0], "operator": "In", "values": ["x", "elsewhere"]}]},
    ],
)
def test_a_cluster_wide_policy_that_reaches_out_is_refused(selector):
    with pytest.raises(ScenarioError, match="expected a cluster-wide policy whose endpointSelector names"):
        isolate(wide(selector), MAP)


def test_each_rule_of_specs_must_be_confined():
    whole = wide({"matchLabels": {KEYS[0]: "x"}})
    isolate(whole, MAP)
    with pytest.raises(ScenarioError, match="a nodeSelector"):
        isolate({**whole, "specs": [{"nodeSelector": {}, "ingress": [{}]}]}, MAP)


def test_shared_namespaces_are_peers_and_nothing_else():
    dns = {"egress": [{"toEndpoints": [{"matchLabels": {KEYS[3]: "kube-dns"}}]}]}
    moved = isolate(policy(dns), MAP, shared=("kube-dns",))
    assert moved["spec"] == dns
    with pytest.raises(ScenarioError, match="got kube-dns"):
        isolate(policy(dns, namespace="kube-dns"), MAP, shared=("kube-dns",))


def test_groups_by_labels_see_every_workers():
    uses = policy({"ingress": [{"fromCIDRSet": [{"cidrGroupSelector": {"matchLabels": {"a": "b"}}}]}]})
    with pytest.raises(ScenarioError, match="cidrGroupSelector"):
        isolate(uses, MAP)
