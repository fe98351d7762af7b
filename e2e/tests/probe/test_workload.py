"""The objects that deploy agents."""

from __future__ import annotations

import pytest

from cilium_e2e.probe import BATCH_COMMAND, CONFIG_MAP, IMAGE, Port, agent_files, config_map, pod, service


def test_pods_satisfy_pod_security_restricted():
    spec = pod("ns", "a", ports=[Port(80), Port(81, "UDP", "dns")])["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    allowed = {"net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start"}
    assert {s["name"] for s in spec["securityContext"]["sysctls"]} == allowed
    assert all("configMap" in volume for volume in spec["volumes"])
    assert "hostNetwork" not in spec
    assert not {"hostPort", "hostIP"} & {key for p in container["ports"] for key in p}


def test_labels_are_exactly_what_was_asked_for():
    assert pod("ns", "a")["metadata"]["labels"] == {}
    assert pod("ns", "a", labels={"app": "demo"})["metadata"]["labels"] == {"app": "demo"}


def test_ports_are_served_and_named():
    container = pod("ns", "a", ports=[Port(8080, name="web"), Port(8080, "UDP"), Port(8443, "HTTP")])["spec"][
        "containers"
    ][0]
    assert container["command"][-6:] == ["--tcp", "8080", "--udp", "8080", "--http", "8443"]
    assert container["ports"] == [
        {"containerPort": 8080, "protocol": "TCP", "name": "web"},
        {"containerPort": 8080, "protocol": "UDP"},
        {"containerPort": 8443, "protocol": "TCP"},
    ]
    assert container["image"] == IMAGE
    assert BATCH_COMMAND[-1] == "batch"


def test_a_pod_is_bound_to_its_node_through_the_scheduler():
    spec = pod("ns", "a", node="worker-1", service_account="who")["spec"]
    terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchFields"][0]["values"] == ["worker-1"]
    assert "nodeName" not in spec
    assert spec["tolerations"]
    assert spec["serviceAccountName"] == "who"


def test_host_network_agents_set_no_sysctl():
    spec = pod("ns", "a", host_network=True, ports=[Port(80)])["spec"]
    assert "sysctls" not in spec["securityContext"]
    assert spec["hostNetwork"] is True
    assert spec["dnsPolicy"] == "ClusterFirstWithHostNet"


@pytest.mark.parametrize(
    ("given", "expected"), [({}, "$(POD_NAMESPACE)/$(POD_NAME)"), ({"agent": "node:n1"}, "node:n1")]
)
def test_what_an_agent_answers_with(given, expected):
    (container,) = pod("ns", "a", **given)["spec"]["containers"]
    assert [e["value"] for e in container["env"] if e["name"] == "AGENT_NAME"] == [expected]


def test_the_config_map_holds_the_source_and_fits():
    source = config_map("ns")
    assert source["metadata"]["name"] == CONFIG_MAP
    assert source["data"] == agent_files()
    assert sum(map(len, source["data"].values())) < 200_000


def test_services():
    plain = service(
        "ns", "demo", selector={"app": "demo"}, ports=[Port(80), Port(80, "UDP")], target_ports={80: "web"}
    )
    assert plain["spec"]["ports"] == [
        {"name": "tcp-80", "port": 80, "protocol": "TCP", "targetPort": "web"},
        {"name": "udp-80", "port": 80, "protocol": "UDP", "targetPort": "web"},
    ]
    special = service(
        "ns",
        "demo",
        selector={},
        ports=[Port(80, "HTTP")],
        headless=True,
        session_affinity=True,
        ip_family_policy="PreferDualStack",
    )["spec"]
    assert (special["clusterIP"], special["sessionAffinity"]) == ("None", "ClientIP")
    assert special["ipFamilyPolicy"] == "PreferDualStack"
    assert not {"ipFamilies", "externalTrafficPolicy"} & special.keys()
    local = service(
        "ns",
        "demo",
        selector={},
        ports=[Port(80)],
        kind="NodePort",
        ip_families=("IPv6", "IPv4"),
        external_traffic_policy="Local",
    )["spec"]
    assert local["ipFamilies"] == ["IPv6", "IPv4"]
    assert (local["type"], local["externalTrafficPolicy"]) == ("NodePort", "Local")
