"""The types of the chart values that the harness reads. The chart's own schema judges the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cilium_e2e.model import ValuesError
from cilium_e2e.repository.yamlfiles import type_name

_BOOL = (bool,)
_INT = (int,)
_STR = (str,)
_STR_OR_INT = (str, int)
_BOOL_OR_STR = (bool, str)
_LIST = (list,)
_MAP = (dict,)

TYPES: Mapping[str, tuple[type, ...]] = {
    "bpf": _MAP,
    "bpf.hostLegacyRouting": _BOOL,
    "bpf.masquerade": _BOOL,
    "cgroup": _MAP,
    "cgroup.autoMount": _MAP,
    "cgroup.autoMount.enabled": _BOOL,
    "cgroup.hostRoot": _STR,
    "cluster": _MAP,
    "cluster.id": _INT,
    "cluster.name": _STR,
    "cni": _MAP,
    "cni.chainingMode": _STR,
    "cni.exclusive": _BOOL,
    "egressGateway": _MAP,
    "egressGateway.enabled": _BOOL,
    "encryption": _MAP,
    "encryption.enabled": _BOOL,
    "encryption.nodeEncryption": _BOOL,
    "encryption.type": _STR,
    "envoy": _MAP,
    "envoy.enabled": _BOOL,
    "gatewayAPI": _MAP,
    "gatewayAPI.enabled": _BOOL,
    "hostFirewall": _MAP,
    "hostFirewall.enabled": _BOOL,
    "hubble": _MAP,
    "hubble.enabled": _BOOL,
    "hubble.metrics": _MAP,
    "hubble.metrics.enabled": _LIST,
    "hubble.relay": _MAP,
    "hubble.relay.enabled": _BOOL,
    "hubble.relay.tls": _MAP,
    "hubble.relay.tls.server": _MAP,
    "hubble.relay.tls.server.enabled": _BOOL,
    "hubble.tls": _MAP,
    "hubble.tls.enabled": _BOOL,
    "hubble.ui": _MAP,
    "hubble.ui.enabled": _BOOL,
    "image": _MAP,
    "ingressController": _MAP,
    "ingressController.enabled": _BOOL,
    "ipam": _MAP,
    "ipam.mode": _STR,
    "ipv4": _MAP,
    "ipv4.enabled": _BOOL,
    "ipv6": _MAP,
    "ipv6.enabled": _BOOL,
    "k8sServiceHost": _STR,
    "k8sServicePort": _STR_OR_INT,
    "kubeProxyReplacement": _BOOL_OR_STR,
    "l7Proxy": _BOOL,
    "localRedirectPolicy": _BOOL,
    "operator": _MAP,
    "operator.replicas": _INT,
    "policyEnforcementMode": _STR,
    "resources": _MAP,
    "rollOutCiliumPods": _BOOL,
    "routingMode": _STR,
    "securityContext": _MAP,
    "securityContext.capabilities": _MAP,
    "securityContext.capabilities.ciliumAgent": _LIST,
    "securityContext.capabilities.cleanCiliumState": _LIST,
    "tunnelProtocol": _STR,
}
"""Dotted path to the types it may have; source: values.schema.json of the chart, 1.18.4."""

CHOICES: Mapping[str, tuple[object, ...]] = {
    "encryption.type": ("ipsec", "wireguard", "ztunnel"),
    "kubeProxyReplacement": (True, False, "true", "false"),
    "policyEnforcementMode": ("", "default", "always", "never"),
    "routingMode": ("", "tunnel", "native"),
    "tunnelProtocol": ("", "vxlan", "geneve"),
}
"""Values among which one must be chosen."""


def check_types(values: Mapping[str, Any], at: Callable[[tuple[str, ...]], str]) -> None:
    """Refuse values of a wrong type. ``null`` is always allowed: it takes a chart default away.

    Args:
        values: to be checked.
        at: says where the value at a path stands, for the message.

    Raises:
        ValuesError: with the place, the expected and the seen type.
    """
    _check(values, (), at)


def _check(values: Mapping[str, Any], path: tuple[str, ...], at: Callable[[tuple[str, ...]], str]) -> None:
    for key, value in values.items():
        here = (*path, str(key))
        dotted = ".".join(here)
        wanted = TYPES.get(dotted)
        if wanted and value is not None and not _fits(value, wanted):
            names = " or ".join("mapping" if kind is dict else kind.__name__ for kind in wanted)
            raise ValuesError(f"expected {dotted} to be {names}, got {_shown(value)}", place=at(here))
        choices = CHOICES.get(dotted)
        if choices and value is not None and value not in choices:
            names = ", ".join(
                repr(choice) if isinstance(choice, str) else str(choice).lower() for choice in choices
            )
            raise ValuesError(f"expected {dotted} to be one of {names}, got {_shown(value)}", place=at(here))
        if dotted == "k8sServicePort" and isinstance(value, str) and value and not _port(value):
            raise ValuesError(f"expected {dotted} to be a port number, got {_shown(value)}", place=at(here))
        if isinstance(value, Mapping):
            _check(value, here, at)


def _port(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) <= 65535


def _fits(value: object, wanted: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in wanted
    return isinstance(value, wanted)


def _shown(value: object) -> str:
    name = type_name(value)
    return name if isinstance(value, (dict, list)) else f"{name} {value!r}"
