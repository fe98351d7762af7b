"""A recorded cluster as the oracle's world."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from cilium_e2e.cluster.agents import parse_endpoint
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    ClusterInfo,
    ClusterStateError,
    Decision,
    DropReason,
    KubeError,
    NodeInfo,
    Ref,
    WorldAgent,
)
from cilium_e2e.policy import Enforcement, Options, Oracle, service_verdicts
from cilium_e2e.scenario.live_world import live_policies, live_world, options_of
from support.memory import MemoryTransport
from support.recordings import items, recorded

INFO = ClusterInfo(
    name="lab",
    backend=Backend.KIND,
    topology="default",
    nodes=(
        NodeInfo("lab-control-plane", "control-plane", ("172.18.0.2",)),
        NodeInfo("lab-worker", "worker", ("172.18.0.3",)),
    ),
    release="cilium/cilium",
    cilium_namespace="cilium",
    world=(WorldAgent("one", ("172.18.0.9",)), WorldAgent("two", ("172.18.0.10",))),
)


def endpoints(*, since_s=None):
    listed = recorded("cilium-dbg-endpoint-list-demo-policy")
    return [parse_endpoint(entry, node="lab-worker") for entry in listed]


def named(kind, name, namespace="", **parts):
    meta = {"name": name, **({"namespace": namespace} if namespace else {}), **parts.pop("metadata", {})}
    version = "discovery.k8s.io/v1" if kind == "EndpointSlice" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": meta, **parts}


def agent_pod(name, ports=()):
    container = {"name": "agent", "ports": [{"name": n, "containerPort": number} for n, number in ports]}
    return named("Pod", name, "default", metadata={"labels": {"app": name}}, spec={"containers": [container]})


def slice_of(service, *addresses):
    return named(
        "EndpointSlice",
        f"{service}-x",
        "default",
        metadata={"labels": {"kubernetes.io/service-name": service}},
        endpoints=[{"addresses": [address]} for address in addresses],
    )


def service(name, port, target, selector=None):
    spec = {"ports": [{"port": port, "protocol": "TCP", "targetPort": target}]}
    return named("Service", name, "default", spec={**spec, **({"selector": selector} if selector else {})})


@pytest.fixture
def transport():
    nodes = [{"apiVersion": "v1", "kind": "Node", **node} for node in items("nodes")]
    return MemoryTransport(
        {"apiVersion": "v1", "kind": "ConfigMap", **recorded("cilium-config")},
        *nodes,
        named("Namespace", "default", metadata={"labels": {"kubernetes.io/metadata.name": "default"}}),
        agent_pod("demo", [("web", 8080)]),
        agent_pod("frontend"),
        agent_pod("other"),
        service("demo", 80, "web", {"app": "demo"}),
        service("kubernetes", 443, 6443),
        slice_of("kubernetes", "172.18.0.2"),
    )


@pytest.fixture
def cluster():
    return SimpleNamespace(info=INFO, endpoints=endpoints)


def world(cluster, transport, **names):
    return live_world(cluster, Kube(transport), dns_names=names)


def test_pods_are_the_agents_endpoints_with_their_identities(cluster, transport):
    found = {pod.key: pod for pod in world(cluster, transport).pods}
    assert {"default/demo", "default/frontend", "default/other"} <= found.keys()
    assert all("/" in key and not key.startswith("/") for key in found), "host and health are no pods"
    demo = found["default/demo"]
    assert "k8s:io.cilium.k8s.policy.serviceaccount=default" in demo.identity
    assert demo.node == "lab-worker"
    assert demo.labels == {"app": "demo"}
    assert demo.named_ports == {"web": (8080, "TCP")}


def test_everything_else_is_asked_about_as_probes_name_it(cluster, transport):
    found = {peer.key: peer for peer in world(cluster, transport, one=["one.e2e.test"]).peers}
    assert found.keys() == {"node:lab-control-plane", "node:lab-worker", "world:one", "world:two"}
    assert found["node:lab-control-plane"].labels == ("reserved:remote-node", "reserved:kube-apiserver")
    assert found["node:lab-worker"].labels == ("reserved:remote-node",)
    assert found["node:lab-worker"].node_labels["kubernetes.io/hostname"] == "lab-worker"
    assert found["world:one"].address == "172.18.0.9"
    assert found["world:one"].dns_names == ("one.e2e.test",)
    assert found["world:two"].dns_names == ()


def test_an_api_server_elsewhere_is_a_peer_of_its_own(cluster, transport):
    transport.put(slice_of("kubernetes", "203.0.113.7"))
    found = {peer.key: peer for peer in world(cluster, transport).peers}
    assert found["kube-apiserver"].address == "203.0.113.7"
    assert found["node:lab-control-plane"].labels == ("reserved:remote-node",)


def test_the_recorded_policy_gives_the_recorded_verdicts(cluster, transport):
    """What Hubble showed in the same recording: frontend on 8080 only, others dropped without a rule."""
    transport.put(recorded("cnp-demo-policy"))
    oracle = Oracle(world(cluster, transport), live_policies(Kube(transport)))
    assert oracle.verdict("default/frontend", "default/demo", "TCP", 8080).passes
    for source, port in (("default/frontend", 8081), ("default/other", 8080), ("world:one", 8080)):
        verdict = oracle.verdict(source, "default/demo", "TCP", port)
        assert (verdict.ingress, verdict.drop_reason) == (Decision.DENIED, DropReason.POLICY_DENIED)
    # The local host always reaches its pods, another node does not.
    assert oracle.verdict("node:lab-worker", "default/demo", "TCP", 8081).passes
    assert not oracle.verdict("node:lab-control-plane", "default/demo", "TCP", 8081).passes


def test_services_are_translated(cluster, transport):
    oracle = Oracle(world(cluster, transport))
    [demo] = service_verdicts(oracle, "default/frontend", "default/demo", "TCP", 80)
    assert (demo.backend, demo.port) == ("default/demo", 8080)
    [api] = service_verdicts(oracle, "default/frontend", "default/kubernetes", "TCP", 443)
    assert (api.backend, api.port) == ("node:lab-control-plane", 6443)


def test_a_policy_on_its_way_out_counts_no_more(transport):
    policy = recorded("cnp-demo-policy")
    policy["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    transport.put(policy)
    assert live_policies(Kube(transport)) == []


def test_kinds_the_cluster_does_not_have_are_empty(cluster, transport):
    for kind in ("CiliumCIDRGroup", "CiliumNetworkPolicy"):
        transport.fail("list", KubeError(404, "NotFound", "no such kind"), kind=kind, times=9)
    assert world(cluster, transport).cidr_groups == ()
    assert live_policies(Kube(transport)) == []


def test_cidr_groups_are_read(cluster, transport):
    group = {"apiVersion": "cilium.io/v2alpha1", "kind": "CiliumCIDRGroup", "metadata": {"name": "office"}}
    transport.put({**group, "spec": {"externalCIDRs": ["172.18.0.8/29"]}})
    [found] = world(cluster, transport).cidr_groups
    assert (found.name, found.cidrs) == ("office", ("172.18.0.8/29",))


def test_a_remade_pod_counts_once(cluster, transport):
    old = next(e for e in endpoints() if e.pod == "demo")
    twice = [*endpoints(), dataclasses.replace(old, id=9, state="disconnecting")]
    found = world(SimpleNamespace(info=INFO, endpoints=lambda *, since_s: twice), transport)
    assert [pod.key for pod in found.pods].count("default/demo") == 1


def test_without_configuration_nothing_is_assumed(cluster, transport):
    transport.remove(Ref("v1", "ConfigMap", "cilium-config", "cilium"))
    with pytest.raises(ClusterStateError, match="agents' configuration"):
        world(cluster, transport)


def test_the_recorded_configuration_is_the_default_one():
    assert options_of(recorded("cilium-config")["data"]) == Options()


@pytest.mark.parametrize(
    ("key", "value", "field", "expected"),
    [
        ("enable-policy", "always", "enforcement", Enforcement.ALWAYS),
        ("enable-host-firewall", "true", "host_firewall", True),
        ("enable-node-selector-labels", "true", "node_selector_labels", True),
        ("allow-localhost", "policy", "localhost_allowed", False),
        ("policy-cidr-match-mode", "nodes", "cidr_matches_nodes", True),
        ("enable-ipv6", "true", "ipv6", True),
        ("cluster-name", "east", "cluster_name", "east"),
        ("policy-default-local-cluster", "true", "default_local_cluster", True),
        ("enable-l7-proxy", "false", "l7_proxy", False),
        ("enable-icmp-rules", "false", "icmp_rules", False),
        ("enable-non-default-deny-policies", "false", "non_default_deny", False),
        ("kube-proxy-replacement", "false", "kube_proxy_replacement", False),
    ],
)
def test_each_option_is_read(key, value, field, expected):
    assert getattr(options_of({key: value}), field) == expected


def test_a_mode_no_agent_knows_is_an_error():
    with pytest.raises(ClusterStateError, match="expected enable-policy to be one of default, always, never"):
        options_of({"enable-policy": "sometimes"})
