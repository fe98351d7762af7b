"""Release values against what a live agent reported for them."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest

from cilium_e2e.cluster.effective import Reported, settings, stale
from cilium_e2e.cluster.status import AgentStatus, parse_status
from cilium_e2e.repository import Features, merge
from support.recordings import recorded

# What the recorded cluster was installed with, as far as it shows in an agent.
VALUES: dict[str, Any] = {
    "bpf": {"hostLegacyRouting": True},
    "cgroup": {"autoMount": {"enabled": True}, "hostRoot": "/run/cilium/cgroupv2"},
    "cni": {"exclusive": True},
    "envoy": {"enabled": False},
    "ipam": {"mode": "kubernetes"},
    "kubeProxyReplacement": True,
    "l7Proxy": True,
}
LOADED: dict[str, str] = recorded("cilium-config")["data"]


@pytest.fixture
def reported() -> Reported:
    return Reported(parse_status(recorded("cilium-dbg-status")), recorded("cilium-dbg-config-all"), LOADED)


def wrong(values: dict[str, Any], reported: Reported) -> dict[str, str]:
    found = settings(values, Features.of(values))
    return {setting.value: text for setting in found if (text := setting.differs(reported))}


def test_the_recorded_agent_does_what_its_release_says(reported: Reported) -> None:
    assert wrong(VALUES, reported) == {}


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"ipam": {"mode": "cluster-pool"}}, "ipam.mode"),
        ({"cgroup": {"hostRoot": "/sys/fs/cgroup"}}, "cgroup.hostRoot"),
        ({"l7Proxy": False}, "l7Proxy"),
        ({"cluster": {"name": "prod"}}, "cluster.name"),
        ({"cluster": {"id": 7}}, "cluster.id"),
        ({"ipv6": {"enabled": True}}, "ipv6.enabled"),
        ({"bpf": {"hostLegacyRouting": False}}, "bpf.hostLegacyRouting"),
        ({"kubeProxyReplacement": False}, "kubeProxyReplacement"),
        ({"routingMode": "native"}, "routingMode"),
        ({"tunnelProtocol": "geneve"}, "tunnelProtocol"),
        ({"hubble": {"enabled": False}}, "hubble.enabled"),
        ({"hubble": {"tls": {"enabled": False}}}, "hubble.tls.enabled"),
        ({"encryption": {"enabled": True, "type": "wireguard"}}, "encryption"),
        ({"envoy": {"enabled": True}}, "envoy.enabled"),
        ({"cni": {"exclusive": False}}, "cni.exclusive"),
        ({"hostFirewall": {"enabled": True}}, "hostFirewall.enabled"),
        ({"localRedirectPolicy": True}, "localRedirectPolicy"),
        ({"policyEnforcementMode": "always"}, "policyEnforcementMode"),
    ],
)
def test_a_value_that_did_not_arrive_is_found(values: dict[str, Any], path: str, reported: Reported) -> None:
    text = wrong(merge(VALUES, values), reported)[path]
    assert text.startswith(f"{path}: expected ")
    assert "the agent's " in text


def test_the_status_counts_where_option_and_status_differ(reported: Reported) -> None:
    """The option says legacy routing, and the agent does otherwise."""
    status = dataclasses.replace(reported.status, host_routing="BPF")
    found = wrong(VALUES, dataclasses.replace(reported, status=status))
    assert found == {
        "bpf.hostLegacyRouting": "bpf.hostLegacyRouting: expected 'Legacy', "
        "the agent's status of host routing says 'BPF'"
    }


def test_ebpf_host_routing_is_expected_only_where_it_can_be(reported: Reported) -> None:
    def host_routing(values: dict[str, Any]) -> list[object]:
        found = settings(values, Features.of(values))
        return [s.expected for s in found if s.value == "bpf.hostLegacyRouting" and "status" in s.where]

    no_legacy = merge(VALUES, {"bpf": {"hostLegacyRouting": False}})
    assert host_routing(VALUES) == ["Legacy"]
    assert host_routing(no_legacy) == []
    assert host_routing(merge(no_legacy, {"bpf": {"masquerade": True}})) == ["BPF"]


def test_socket_load_balancing_belongs_to_the_replacement(reported: Reported) -> None:
    status: AgentStatus = dataclasses.replace(reported.status, socket_lb=False)
    assert "socket" in wrong(VALUES, dataclasses.replace(reported, status=status))["kubeProxyReplacement"]


def test_an_option_that_the_agent_does_not_report(reported: Reported) -> None:
    options = copy.deepcopy(dict(reported.options))
    del options["IPAM"]
    assert wrong(VALUES, dataclasses.replace(reported, options=options)) == {
        "ipam.mode": "ipam.mode: expected 'kubernetes', the agent's option IPAM says None"
    }


class TestStale:
    def test_an_agent_that_has_read_it_all(self) -> None:
        loaded = LOADED | {"config-sources": "[]", "config-sources-overrides": "{}"}
        assert stale(loaded, LOADED, frozenset()) == []

    def test_changed_added_and_removed(self) -> None:
        configured = {**LOADED, "debug": "true", "new": "1"}
        del configured["ipam"]
        assert stale(LOADED, configured, frozenset()) == [
            "debug: the ConfigMap says 'true', the running agent has 'false'",
            "ipam: the ConfigMap says 'nothing', the running agent has 'kubernetes'",
            "new: the ConfigMap says '1', the running agent has 'nothing'",
        ]

    def test_what_is_set_per_node_may_differ(self) -> None:
        assert stale(LOADED, {**LOADED, "debug": "true"}, frozenset({"debug"})) == []
