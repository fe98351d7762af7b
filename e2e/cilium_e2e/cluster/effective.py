"""From a release's values to what a running agent must report; each pair is compared on its own.

The agent's own word counts, not the ConfigMap's: its status where that says what it does, its options
where only they tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.cluster.status import AgentStatus
from cilium_e2e.repository import DEFAULTS_1_18, Features, dig, merge

_HOST_ROOT = "/run/cilium/cgroupv2"
"""The chart's default of ``cgroup.hostRoot``; source: values.yaml of the chart, 1.18.4."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What one running agent reports.

    Attributes:
        status: its status.
        options: ``cilium-dbg config --all -o json``: what its process holds.
        loaded: option to value, as its process read them when it started.
    """

    status: AgentStatus
    options: Mapping[str, Any]
    loaded: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a release and where a running agent shows it.

    Attributes:
        value: the path in the release's values.
        expected: what the agent must report.
        where: what is read, for messages.
        read: reads it; None where the agent does not report it.
    """

    value: str
    expected: object
    where: str
    read: Callable[[Reported], object]

    def differs(self, reported: Reported) -> str:
        """What is wrong, empty when nothing is."""
        seen = self.read(reported)
        if seen == self.expected:
            return ""
        return f"{self.value}: expected {self.expected!r}, the agent's {self.where} says {seen!r}"


def settings(effective: Mapping[str, Any], features: Features) -> list[Setting]:
    """Everything that a running agent must report for these values.

    Args:
        effective: the release's values with this run's declared differences.
        features: derived from them.
    """
    full = merge(DEFAULTS_1_18, effective)
    found = [
        _option("ipam.mode", features.ipam, "IPAM"),
        _option("cgroup.hostRoot", dig(full, "cgroup.hostRoot") or _HOST_ROOT, "CGroupRoot"),
        _option("l7Proxy", features.l7_proxy, "EnableL7Proxy"),
        _option("cluster.name", features.cluster_name, "ClusterName"),
        _option("cluster.id", int(dig(full, "cluster.id") or 0), "ClusterID"),
        _option("ipv4.enabled", features.ipv4, "EnableIPv4"),
        _option("ipv6.enabled", features.ipv6, "EnableIPv6"),
        _option("bpf.hostLegacyRouting", features.host_legacy_routing, "EnableHostLegacyRouting"),
        _option("hostFirewall.enabled", features.host_firewall, "EnableHostFirewall"),
        _option("localRedirectPolicy", features.local_redirect_policy, "EnableLocalRedirectPolicy"),
        _option("policyEnforcementMode", features.policy_enforcement, "policy-enforcement"),
        _loaded("cni.exclusive", features.exclusive_cni, "cni-exclusive"),
        _loaded("hubble.tls.enabled", not features.hubble_tls, "hubble-disable-tls")
        if features.hubble
        else None,
        _status(
            "kubeProxyReplacement",
            str(features.kube_proxy_replacement),
            "kube-proxy replacement",
            lambda s: s.kube_proxy_replacement,
        ),
        _status("routingMode", features.routing.capitalize(), "routing", lambda s: s.routing),
        _status("tunnelProtocol", features.tunnel_protocol, "tunnel", lambda s: s.tunnel_protocol),
        _status(
            "hubble.enabled", "Ok" if features.hubble else "Disabled", "state of Hubble", lambda s: s.hubble
        ),
        _status(
            "encryption",
            {"": "Disabled", "wireguard": "Wireguard", "ipsec": "IPsec"}.get(features.encryption),
            "encryption",
            lambda s: s.encryption,
        ),
        _status("envoy.enabled", _envoy(features), "Envoy", lambda s: s.envoy),
        _host_routing(features),
    ]
    if features.kube_proxy_replacement:
        found.append(_status("kubeProxyReplacement", "on", "socket load balancing", _socket_lb))
    return [setting for setting in found if setting is not None]


def _option(value: str, expected: object, name: str) -> Setting:
    return Setting(value, expected, f"option {name}", lambda reported: reported.options.get(name))


def _loaded(value: str, expected: bool, name: str) -> Setting:  # noqa: FBT001 - one of two values, not a mode
    word = "true" if expected else "false"
    return Setting(value, word, f"loaded option {name}", lambda reported: reported.loaded.get(name))


def _status(value: str, expected: object, what: str, read: Callable[[AgentStatus], object]) -> Setting:
    return Setting(value, expected, f"status of {what}", lambda reported: read(reported.status))


def _envoy(features: Features) -> str:
    if not features.l7_proxy:
        return ""
    return "external" if features.envoy_daemonset else "embedded"


def _socket_lb(status: AgentStatus) -> str:
    return "on" if status.socket_lb else "off"


def _host_routing(features: Features) -> Setting | None:
    """How packets go between pods and host; None where the agent may fall back for reasons of its own."""
    if features.host_legacy_routing:
        expected = "Legacy"
    elif features.bpf_masquerade and features.kube_proxy_replacement:
        expected = "BPF"
    else:
        return None
    return _status("bpf.hostLegacyRouting", expected, "host routing", lambda s: s.host_routing)


# Where the options are from, added by whoever writes them down for the agent.
_ADDED = frozenset({"config-sources", "config-sources-overrides"})


def stale(loaded: Mapping[str, str], configured: Mapping[str, str], overridden: frozenset[str]) -> list[str]:
    """What a ConfigMap says and a running agent has not read, or no longer should have.

    Args:
        loaded: as the agent's process read it.
        configured: as the ConfigMap is now.
        overridden: options that something else (a CiliumNodeConfig) may set per node.
    """
    return [
        f"{name}: the ConfigMap says {configured.get(name, 'nothing')!r}, "
        f"the running agent has {loaded.get(name, 'nothing')!r}"
        for name in sorted(loaded.keys() | configured.keys())
        if name not in overridden | _ADDED and loaded.get(name) != configured.get(name)
    ]
