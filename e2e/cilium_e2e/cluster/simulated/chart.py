"""What Cilium's chart makes of a release's values, as far as the cluster's workloads go.

Not a rendering of the chart: names, labels and options are those of a recorded release, reduced to what the
harness and its suites look at.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import Object
from cilium_e2e.repository import Features, dig

_TOLERATE_ALL = [{"operator": "Exists"}]


@dataclass(frozen=True, slots=True)
class Values:
    """A release's values, and what they mean.

    Attributes:
        effective: the values.
        features: derived from them.
        namespace: where the release installs.
        release: the HelmRelease, ``namespace/name``.
        version: the chart's.
    """

    effective: Mapping[str, Any]
    features: Features
    namespace: str
    release: str
    version: str


def config(values: Values) -> dict[str, str]:
    """The options in ConfigMap ``cilium-config``."""
    on, features = _word, values.features
    host_root = dig(values.effective, "cgroup.hostRoot") or "/run/cilium/cgroupv2"
    found = {
        "cgroup-root": str(host_root),
        "cluster-id": str(dig(values.effective, "cluster.id") or 0),
        "cluster-name": features.cluster_name,
        "cni-exclusive": on(features.exclusive_cni),
        "enable-bpf-masquerade": on(features.bpf_masquerade),
        "enable-host-firewall": on(features.host_firewall),
        "enable-host-legacy-routing": on(features.host_legacy_routing),
        "enable-hubble": on(features.hubble),
        "enable-ipsec": on(features.encryption == "ipsec"),
        "enable-ipv4": on(features.ipv4),
        "enable-ipv6": on(features.ipv6),
        "enable-l7-proxy": on(features.l7_proxy),
        "enable-local-redirect-policy": on(features.local_redirect_policy),
        "enable-policy": features.policy_enforcement,
        "enable-wireguard": on(features.encryption == "wireguard"),
        "external-envoy-proxy": on(features.envoy_daemonset),
        "ipam": features.ipam,
        "kube-proxy-replacement": on(features.kube_proxy_replacement),
        "monitor-aggregation": "medium",
        "routing-mode": features.routing,
        "tunnel-protocol": features.tunnel_protocol,
    }
    if features.hubble:
        found["hubble-disable-tls"] = on(not features.hubble_tls)
        found["hubble-listen-address"] = ":4244"
    return found


def _word(value: bool) -> str:  # noqa: FBT001 - one of two values, not a mode
    return "true" if value else "false"


def objects(values: Values) -> list[Object]:
    """Everything the release installs, with Helm's and Flux's labels."""
    options = config(values)
    found = [_config_map("cilium-config", options), *_agents(values, options), *_operator(values)]
    if values.features.envoy_daemonset:
        found += _envoy()
    if values.features.hubble:
        found.append(_service("hubble-peer", {"k8s-app": "cilium"}, 443, 4244))
    if values.features.hubble_relay:
        found += _relay()
    if values.features.hubble_ui:
        found += _ui()
    namespace, _, name = values.release.partition("/")
    for obj in found:
        meta = obj["metadata"]
        if obj["kind"] not in {"ClusterRole", "ClusterRoleBinding"}:
            meta["namespace"] = values.namespace
        meta["labels"] = {
            "app.kubernetes.io/managed-by": "Helm",
            "app.kubernetes.io/part-of": "cilium",
            "helm.toolkit.fluxcd.io/name": name,
            "helm.toolkit.fluxcd.io/namespace": namespace,
            **(meta.get("labels") or {}),
        }
    return found


def _agents(values: Values, options: Mapping[str, str]) -> list[Object]:
    annotations = {}
    if values.features.roll_out_pods:
        text = json.dumps(options, sort_keys=True)
        annotations["cilium.io/cilium-configmap-checksum"] = hashlib.sha256(text.encode()).hexdigest()
    container = {
        "name": "cilium-agent",
        "image": f"quay.io/cilium/cilium:v{values.version}",
        "command": ["cilium-agent"],
        "args": ["--config-dir=/tmp/cilium/config-map"],
        "env": _api_server(values),
    }
    template = _template(
        {
            "app.kubernetes.io/name": "cilium-agent",
            "app.kubernetes.io/part-of": "cilium",
            "k8s-app": "cilium",
        },
        container,
        host=True,
        account="cilium",
        annotations=annotations,
    )
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch"]}]
    return [
        _account("cilium"),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": {"name": "cilium-config-agent"},
            "rules": rules,
        },
        _workload("DaemonSet", "cilium", {"k8s-app": "cilium"}, template),
    ]


def _operator(values: Values) -> list[Object]:
    labels = {"io.cilium/app": "operator", "name": "cilium-operator"}
    container = {
        "name": "cilium-operator",
        "image": f"quay.io/cilium/operator-generic:v{values.version}",
        "env": _api_server(values),
    }
    template = _template(labels, container, host=True, account="cilium-operator")
    workload = _workload("Deployment", "cilium-operator", labels, template)
    workload["spec"]["replicas"] = values.features.operator_replicas
    return [_account("cilium-operator"), workload]


def _envoy() -> list[Object]:
    labels = {"k8s-app": "cilium-envoy"}
    container = {"name": "cilium-envoy", "image": "quay.io/cilium/cilium-envoy"}
    template = _template(labels, container, host=True, account="cilium-envoy")
    return [_account("cilium-envoy"), _workload("DaemonSet", "cilium-envoy", labels, template)]


def _relay() -> list[Object]:
    labels = {"k8s-app": "hubble-relay"}
    container = {
        "name": "hubble-relay",
        "image": "hubble-relay",
        "ports": [{"name": "grpc", "containerPort": 4245}],
    }
    template = _template(
        {**labels, "app.kubernetes.io/name": "hubble-relay"}, container, account="hubble-relay"
    )
    return [
        _account("hubble-relay"),
        _config_map(
            "hubble-relay-config", {"config.yaml": "cluster-name: default\npeer-service: hubble-peer:443\n"}
        ),
        _service("hubble-relay", labels, 80, "grpc"),
        _workload("Deployment", "hubble-relay", labels, template),
    ]


def _ui() -> list[Object]:
    labels = {"k8s-app": "hubble-ui"}
    container = {"name": "frontend", "image": "hubble-ui", "ports": [{"name": "http", "containerPort": 8081}]}
    template = _template(labels, container, account="hubble-ui")
    return [
        _account("hubble-ui"),
        _service("hubble-ui", labels, 80, 8081),
        _workload("Deployment", "hubble-ui", labels, template),
    ]


def _api_server(values: Values) -> list[Object]:
    host, port = values.features.api_host, values.features.api_port
    if not host:
        return []
    pairs = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": str(port)}
    return [{"name": name, "value": value} for name, value in pairs.items()]


def _account(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}


def _config_map(name: str, data: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}


def _service(name: str, selector: Mapping[str, str], port: int, target: int | str) -> Object:
    ports = [{"name": "main", "port": port, "protocol": "TCP", "targetPort": target}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "labels": dict(selector)},
        "spec": {"selector": dict(selector), "ports": ports},
    }


def _template(
    labels: Mapping[str, str],
    container: Object,
    *,
    account: str,
    host: bool = False,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    spec: Object = {
        "serviceAccountName": account,
        "containers": [container],
        "terminationGracePeriodSeconds": 1,
    }
    if host:
        spec |= {"hostNetwork": True, "tolerations": _TOLERATE_ALL}
    return {"metadata": {"labels": dict(labels), "annotations": dict(annotations or {})}, "spec": spec}


def _workload(kind: str, name: str, labels: Mapping[str, str], template: Object) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"selector": {"matchLabels": dict(labels)}, "template": template},
    }
