"""What a running agent says about itself: its status, and the health of its modules.

All of it is parsed from the agent's own command line, because a ConfigMap says what was asked for and not
what an agent does: an agent that cannot load its datapath is Ready all the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import ClusterStateError


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """``cilium-dbg status -o json``, as far as tests look at it.

    Attributes:
        states: component to its state and message: ``cilium``, ``kubernetes``, ``cni-file``, ``hubble``,
            ``health``.
        kube_proxy_replacement: ``True`` or ``False``, as the agent spells it.
        socket_lb: whether Services are translated at the socket.
        attach_mode: how programs are attached: ``tcx`` or ``tc``.
        routing: between nodes, ``Tunnel`` or ``Native``.
        host_routing: between pods and host, ``Legacy`` (the host's stack) or ``BPF``.
        tunnel_protocol: ``vxlan`` or ``geneve``; empty without a tunnel.
        masquerading: ``iptables`` or ``BPF``; ``Disabled`` where nothing is masqueraded.
        encryption: ``Disabled``, ``Wireguard`` or ``IPsec``.
        envoy: ``external`` or ``embedded``; empty without an L7 proxy.
        addresses: of the pods and of the node's own router and health endpoint: address to owner.
        failing: controllers whose last run failed, each with what it said.
    """

    states: dict[str, tuple[str, str]]
    kube_proxy_replacement: str
    socket_lb: bool
    attach_mode: str
    routing: str
    host_routing: str
    tunnel_protocol: str
    masquerading: str
    encryption: str
    envoy: str
    addresses: dict[str, str]
    failing: tuple[str, ...]

    @property
    def hubble(self) -> str:
        """Hubble's state: ``Ok``, ``Disabled`` ..."""
        return self.states["hubble"][0]


@dataclass(frozen=True, slots=True)
class Module:
    """The health of one part of an agent: its name, ``OK``, ``Degraded`` or ``Stopped``, and why."""

    name: str
    level: str
    message: str


def parse_status(answer: dict[str, Any]) -> AgentStatus:
    """``cilium-dbg status -o json``."""
    replacement = answer.get("kube-proxy-replacement") or {}
    routing = answer.get("routing") or {}
    masquerading = answer.get("masquerading") or {}
    states = {name: _state(answer.get(name)) for name in ("cilium", "kubernetes", "cni-file", "hubble")}
    states["health"] = _state((answer.get("cluster") or {}).get("ciliumHealth"))
    return AgentStatus(
        states=states,
        kube_proxy_replacement=replacement.get("mode", ""),
        socket_lb=bool(((replacement.get("features") or {}).get("socketLB") or {}).get("enabled")),
        attach_mode=answer.get("attach-mode", ""),
        routing=routing.get("inter-host-routing-mode", ""),
        host_routing=routing.get("intra-host-routing-mode", ""),
        tunnel_protocol=routing.get("tunnel-protocol", ""),
        masquerading=masquerading.get("mode", "") if masquerading.get("enabled") else "Disabled",
        encryption=(answer.get("encryption") or {}).get("mode", ""),
        envoy=(answer.get("proxy") or {}).get("envoy-deployment-mode", ""),
        addresses=dict((answer.get("ipam") or {}).get("allocations") or {}),
        failing=tuple(_failing(answer.get("controllers") or [])),
    )


def _state(component: dict[str, Any] | None) -> tuple[str, str]:
    found = component or {}
    return found.get("state", "missing"), found.get("msg", "")


def _failing(controllers: list[dict[str, Any]]) -> Iterator[str]:
    for controller in controllers:
        status = controller.get("status") or {}
        if status.get("consecutive-failure-count"):
            yield f"{controller['name']}: {status.get('last-failure-msg', 'no message')}"


def parse_modules(text: str, *, place: str) -> list[Module]:
    """The agent's table of module health, as JSON objects one after the other.

    Raises:
        ClusterStateError: it is something else, or empty.
    """
    decoder = json.JSONDecoder()
    modules = []
    rest = text.strip()
    while rest:
        try:
            entry, end = decoder.raw_decode(rest)
            name = ".".join([*entry["ID"]["Module"], *(entry["ID"]["Component"] or [])])
            modules.append(Module(name, entry["Level"], entry.get("Error") or entry.get("Message", "")))
        except (ValueError, KeyError, TypeError) as error:
            raise ClusterStateError(
                f"expected module health as JSON, got {rest[:200]!r}", place=place
            ) from error
        rest = rest[end:].lstrip()
    if not modules:
        raise ClusterStateError("expected module health, got nothing", place=place)
    return modules
