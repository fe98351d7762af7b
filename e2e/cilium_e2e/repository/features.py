"""What Cilium does with a set of chart values, as far as tests depend on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.repository.merge import dig, merge

DEFAULTS_1_18: Mapping[str, Any] = {
    "bpf": {"hostLegacyRouting": False, "masquerade": False},
    "cluster": {"id": 0, "name": "default"},
    "cni": {"chainingMode": None, "exclusive": True},
    "egressGateway": {"enabled": False},
    "encryption": {"enabled": False, "nodeEncryption": False, "type": "ipsec"},
    "envoy": {"enabled": None},
    "gatewayAPI": {"enabled": False},
    "hostFirewall": {"enabled": False},
    "hubble": {
        "enabled": True,
        "metrics": {"enabled": None},
        "relay": {"enabled": False, "tls": {"server": {"enabled": False}}},
        "tls": {"enabled": True},
        "ui": {"enabled": False},
    },
    "ingressController": {"enabled": False},
    "ipam": {"mode": "cluster-pool"},
    "ipv4": {"enabled": True},
    "ipv6": {"enabled": False},
    "k8sServiceHost": "",
    "k8sServicePort": "",
    "kubeProxyReplacement": False,
    "l7Proxy": True,
    "localRedirectPolicy": False,
    "operator": {"replicas": 2},
    "policyEnforcementMode": "default",
    "rollOutCiliumPods": False,
    "routingMode": "",
    "tunnelProtocol": "",
}
"""The chart's defaults of the values read here; source: values.yaml of the chart, 1.18.4."""


@dataclass(frozen=True, slots=True)
class Features:
    """Cilium's behaviour, derived from effective values and the chart's defaults.

    Attributes:
        kube_proxy_replacement: services are Cilium's business, on every interface.
        hubble, hubble_relay, hubble_ui, hubble_tls: observability.
        hubble_relay_tls: relay's server side, which its clients dial, speaks TLS.
        hubble_metrics: Hubble counts flows for Prometheus: ``hubble.metrics.enabled`` names at least one.
        gateway_api, ingress_controller: north-south traffic through Envoy.
        l7_proxy: HTTP and DNS rules are enforced.
        envoy_daemonset: Envoy runs in pods of its own rather than inside the agent.
        ipam: ``kubernetes``, ``cluster-pool`` ...
        routing: ``tunnel`` or ``native``.
        tunnel_protocol: ``vxlan`` or ``geneve``; empty without a tunnel.
        encryption: ``wireguard``, ``ipsec``, or empty.
        node_encryption: traffic between nodes is encrypted too.
        ipv4, ipv6: address families.
        host_firewall, host_legacy_routing, egress_gateway, local_redirect_policy, exclusive_cni: as named.
        bpf_masquerade: eBPF rather than iptables masquerades.
        policy_enforcement: ``default``, ``always`` or ``never``.
        cluster_name: in every identity's labels.
        api_host, api_port: where agents look for the API server; empty and 0 for the in-cluster Service.
        operator_replicas: how many operators run.
        roll_out_pods: changed values restart agents.
    """

    kube_proxy_replacement: bool
    hubble: bool
    hubble_relay: bool
    hubble_ui: bool
    hubble_tls: bool
    hubble_relay_tls: bool
    hubble_metrics: bool
    gateway_api: bool
    ingress_controller: bool
    l7_proxy: bool
    envoy_daemonset: bool
    ipam: str
    routing: str
    tunnel_protocol: str
    encryption: str
    node_encryption: bool
    ipv4: bool
    ipv6: bool
    host_firewall: bool
    host_legacy_routing: bool
    egress_gateway: bool
    local_redirect_policy: bool
    exclusive_cni: bool
    bpf_masquerade: bool
    policy_enforcement: str
    cluster_name: str
    api_host: str
    api_port: int
    operator_replicas: int
    roll_out_pods: bool

    @property
    def names(self) -> frozenset[str]:
        """The features that are on, by the names tests ask for: ``hubble-relay``, ``ipam-kubernetes`` ..."""
        switches = {
            "bpf-masquerade": self.bpf_masquerade,
            "egress-gateway": self.egress_gateway,
            "encryption": bool(self.encryption),
            "envoy-daemonset": self.envoy_daemonset,
            "exclusive-cni": self.exclusive_cni,
            "gateway-api": self.gateway_api,
            "host-firewall": self.host_firewall,
            "host-legacy-routing": self.host_legacy_routing,
            "hubble": self.hubble,
            "hubble-metrics": self.hubble_metrics,
            "hubble-relay": self.hubble_relay,
            "hubble-relay-tls": self.hubble_relay_tls,
            "hubble-tls": self.hubble and self.hubble_tls,
            "hubble-ui": self.hubble_ui,
            "ingress-controller": self.ingress_controller,
            "ipv4": self.ipv4,
            "ipv6": self.ipv6,
            "kube-proxy-replacement": self.kube_proxy_replacement,
            "l7-proxy": self.l7_proxy,
            "local-redirect-policy": self.local_redirect_policy,
            "node-encryption": self.node_encryption,
            "roll-out-pods": self.roll_out_pods,
            f"encryption-{self.encryption}": bool(self.encryption),
            f"ipam-{self.ipam}": True,
            f"policy-enforcement-{self.policy_enforcement}": True,
            f"routing-{self.routing}": True,
            f"tunnel-{self.tunnel_protocol}": bool(self.tunnel_protocol),
        }
        return frozenset(name for name, on in switches.items() if on)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Features:
        """Derive them from effective values, whose types were checked before."""
        full = merge(DEFAULTS_1_18, values)

        def on(path: str) -> bool:
            return dig(full, path) in (True, "true")

        native = dig(full, "routingMode") == "native"
        hubble = on("hubble.enabled")
        l7_proxy = on("l7Proxy")
        envoy = dig(full, "envoy.enabled")
        encryption = str(dig(full, "encryption.type") or "ipsec") if on("encryption.enabled") else ""
        return cls(
            kube_proxy_replacement=on("kubeProxyReplacement"),
            hubble=hubble,
            hubble_relay=hubble and on("hubble.relay.enabled"),
            hubble_ui=hubble and on("hubble.ui.enabled"),
            hubble_tls=on("hubble.tls.enabled"),
            hubble_relay_tls=hubble
            and on("hubble.relay.enabled")
            and on("hubble.tls.enabled")
            and on("hubble.relay.tls.server.enabled"),
            hubble_metrics=hubble and bool(dig(full, "hubble.metrics.enabled")),
            gateway_api=on("gatewayAPI.enabled"),
            ingress_controller=on("ingressController.enabled"),
            l7_proxy=l7_proxy,
            envoy_daemonset=l7_proxy and envoy is not False,
            ipam=str(dig(full, "ipam.mode") or ""),
            routing="native" if native else "tunnel",
            tunnel_protocol="" if native else str(dig(full, "tunnelProtocol") or "vxlan"),
            encryption=encryption,
            node_encryption=bool(encryption) and on("encryption.nodeEncryption"),
            ipv4=on("ipv4.enabled"),
            ipv6=on("ipv6.enabled"),
            host_firewall=on("hostFirewall.enabled"),
            host_legacy_routing=on("bpf.hostLegacyRouting"),
            egress_gateway=on("egressGateway.enabled"),
            local_redirect_policy=on("localRedirectPolicy"),
            exclusive_cni=on("cni.exclusive"),
            bpf_masquerade=on("bpf.masquerade"),
            policy_enforcement=str(dig(full, "policyEnforcementMode") or "default"),
            cluster_name=str(dig(full, "cluster.name") or "default"),
            api_host=str(dig(full, "k8sServiceHost") or ""),
            api_port=int(dig(full, "k8sServicePort") or 0),
            operator_replicas=int(dig(full, "operator.replicas") or 0),
            roll_out_pods=on("rollOutCiliumPods"),
        )
