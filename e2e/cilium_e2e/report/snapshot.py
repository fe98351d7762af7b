"""The cluster's state at a failure, before anything is cleaned up: bounded, and never an error of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cilium_e2e.cluster.agents import AGENT_SELECTOR
from cilium_e2e.kube import condition, is_true
from cilium_e2e.model import KubeError, KubeTransport, Object, Ref

_NAMESPACES = 6
_OBJECTS = 40
_EVENTS = 10
_POLICIES = (
    ("cilium.io/v2", "CiliumNetworkPolicy"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)


def snapshot(transport: KubeTransport, namespaces: Iterable[str], *, agents: str) -> dict[str, str]:
    """Notes on what there is now.

    Each call is made once: a broken cluster must not hold up the tests behind the one that found it broken.

    Args:
        transport: the cluster's API.
        namespaces: the test's own; the first few are looked at.
        agents: the namespace of Cilium's agents.

    Returns:
        note's name to text: nodes, Cilium agents, and for the namespaces pods, policies and warning events.
    """
    own = list(dict.fromkeys(namespaces))[:_NAMESPACES]
    look = _Look(transport)
    parts: dict[str, list[str]] = {
        "nodes": look.at(Ref("v1", "Node"), _node),
        "Cilium agents": look.at(Ref("v1", "Pod", namespace=agents), _pod, AGENT_SELECTOR),
        "pods": [line for name in own for line in look.at(Ref("v1", "Pod", namespace=name), _pod)],
        "policies": [
            line
            for version, kind in _POLICIES
            for name in own
            for line in look.at(Ref(version, kind, namespace=name), _policy)
        ]
        + look.at(Ref("cilium.io/v2", "CiliumClusterwideNetworkPolicy"), _policy),
        "warnings": _warnings(look, [*own, agents]),
    }
    notes = {f"state of {name}": "\n".join(_limited(lines)) for name, lines in parts.items() if lines}
    if look.errors:
        notes["state that could not be read"] = "\n".join(_limited(look.errors))
    return notes


class _Look:
    """Lists, and remembers what it could not list; once nobody answers, nobody is asked again."""

    def __init__(self, transport: KubeTransport) -> None:
        self._transport = transport
        self._silent = False
        self.errors: list[str] = []

    def objects(self, ref: Ref, selector: str = "") -> list[Object]:
        if self._silent:
            return []
        try:
            return self._transport.list(ref, label_selector=selector).items
        except KubeError as error:
            self._silent = error.status == 0
            self.errors.append(f"{ref.kind} in {ref.namespace or 'the cluster'}: {error}")
            return []

    def at(self, ref: Ref, say: Callable[[Object, str], str], selector: str = "") -> list[str]:
        return [say(obj, ref.kind) for obj in self.objects(ref, selector)]


def _node(node: Object, _: str) -> str:
    ready = condition(node, "Ready") or {}
    detail = "" if ready.get("status") == "True" else f": {ready.get('message', 'its kubelet says nothing')}"
    cordoned = ", cordoned" if node.get("spec", {}).get("unschedulable") else ""
    state = "ready" if ready.get("status") == "True" else "not ready"
    return f"{node['metadata']['name']} {state}{cordoned}{detail}"


def _pod(pod: Object, _: str) -> str:
    meta, status = pod["metadata"], pod.get("status") or {}
    containers = status.get("containerStatuses") or []
    restarts = sum(int(c.get("restartCount", 0)) for c in containers)
    waits = [
        c["state"]["waiting"].get("reason", "") for c in containers if (c.get("state") or {}).get("waiting")
    ]
    parts = [
        f"{meta.get('namespace', '')}/{meta['name']} {status.get('phase', 'Unknown')}",
        "ready" if is_true(pod, "Ready") else "not ready",
        f"on {pod.get('spec', {}).get('nodeName') or 'no node'}",
        str(status.get("podIP", "")),
        f"{restarts} restarts" if restarts else "",
        *waits,
        "being deleted" if "deletionTimestamp" in meta else "",
    ]
    return ", ".join(part for part in parts if part)


def _policy(policy: Object, kind: str) -> str:
    meta = policy["metadata"]
    where = f"{meta['namespace']}/" if meta.get("namespace") else ""
    name = f"{kind} {where}{meta['name']}"
    if kind == "NetworkPolicy":  # Kubernetes' own has no conditions
        return name
    valid = condition(policy, "Valid")
    if valid is None:
        return f"{name}: Valid unknown"
    detail = "" if valid.get("status") == "True" else f": {str(valid.get('message', '')).strip()}"
    return f"{name}: Valid={valid.get('status')}{detail}"


def _warnings(look: _Look, namespaces: Sequence[str]) -> list[str]:
    """The newest warning events, each text once."""
    found = [
        event
        for name in dict.fromkeys(namespaces)
        for event in look.objects(Ref("v1", "Event", namespace=name))
        if event.get("type") == "Warning"
    ]
    found.sort(key=_when)
    texts: dict[str, None] = {}
    for event in found:
        about: dict[str, Any] = event.get("involvedObject") or {}
        what = f"{about.get('kind', '')} {about.get('namespace', '')}/{about.get('name', '')}"
        text = f"{_when(event)} {event.get('reason', '')} on {what}: {(event.get('message') or '').strip()}"
        texts.pop(text, None)
        texts[text] = None
    return list(texts)[-_EVENTS:]


def _when(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _limited(lines: Sequence[str]) -> list[str]:
    """One line each, and no more than a screenful."""
    short = [" ".join(line.split())[:500] for line in lines]
    left_out = len(short) - _OBJECTS
    return [*short[:_OBJECTS], f"… and {left_out} more"] if left_out > 0 else short
