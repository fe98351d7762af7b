"""A small cluster in memory, all well: two nodes with agents, cluster DNS, relay; for tests that break it."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from cilium_e2e.model import Object, Ref, Target
from support.memory import FakeExec, MemoryTransport, VirtualClock, pod

NODES = ("n1", "n2")
HOSTS = {"n1": "172.18.0.2", "n2": "172.18.0.3"}
HEALTH = {"n1": "10.244.0.9", "n2": "10.244.1.9"}
NOW_S = 1_700_000_000.0


class WallClock(VirtualClock):
    """Virtual time that the API server's clock agrees with."""

    def time(self) -> float:
        return NOW_S + self.now - 1000.0


def at(seconds: float) -> str:
    """A time of the API's, some seconds from now."""
    return datetime.fromtimestamp(NOW_S + seconds, UTC).isoformat().replace("+00:00", "Z")


def ready(obj: Object, *, is_ready: bool = True, message: str = "") -> Object:
    """An object with a Ready condition."""
    status = "True" if is_ready else "False"
    conditions = [{"type": "Ready", "status": status, "message": message}]
    obj.setdefault("status", {})["conditions"] = conditions
    return obj


def ready_pod(target: Target, node_name: str = NODES[0]) -> Object:
    """An agent in a pod that runs."""
    found = ready(pod(target.name, target.namespace, phase="Running"))
    found["spec"]["nodeName"] = node_name
    return found


def node(name: str) -> Object:
    return ready({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})


def lease(name: str, age_s: float) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"renewTime": at(-age_s)},
    }


def agent(node_name: str) -> Object:
    found = ready_pod(Target.pod("cilium", f"cilium-{node_name}"), node_name)
    found["metadata"] |= {"labels": {"k8s-app": "cilium"}, "creationTimestamp": at(-600)}
    return found


def deployment(
    name: str, namespace: str, *, replicas: int = 1, up: int | None = None, **labels: str
) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"replicas": replicas},
        "status": {"readyReplicas": replicas if up is None else up},
    }


def cilium_node(name: str) -> Object:
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNode",
        "metadata": {"name": name},
        "spec": {
            "addresses": [{"type": "InternalIP", "ip": HOSTS[name]}],
            "health": {"ipv4": HEALTH[name]},
        },
    }


class SmallCluster(MemoryTransport):
    """The API of it.

    Attributes:
        silent: addresses that answer no greeting.
        hanging: nodes whose agents' execs never answer, until :attr:`let_go` is set.
        held: UIDs of the policies that the agents hold.
    """

    def __init__(self) -> None:
        self.silent: set[str] = set()
        self.hanging: set[str] = set()
        self.held: set[str] = set()
        self.let_go = threading.Event()
        dns = deployment("coredns", "kube-system", replicas=2, **{"k8s-app": "kube-dns"})
        super().__init__(
            *(make(name) for name in NODES for make in (node, agent, cilium_node)),
            *(lease(name, 4.0) for name in NODES),
            dns,
            deployment("hubble-relay", "cilium"),
            clock=WallClock(),
        )
        self.on_exec = self._answer

    def change(self, ref: Ref, **parts: dict[str, Any]) -> None:
        """Merge into parts of a stored object."""
        found = self.stored(ref)
        assert found is not None
        for name, part in parts.items():
            found[name] = found.get(name, {}) | part
        self.put(found)

    def _answer(self, ref: Ref, container: str, command: Sequence[str]) -> FakeExec:
        assert container == "cilium-agent"
        if ref.name.removeprefix("cilium-") in self.hanging:
            self.let_go.wait(10.0)
        if "policy" in command:
            rules = [{"labels": [{"key": "io.cilium.k8s.policy.uid", "value": uid}]} for uid in self.held]
            return FakeExec(json.dumps({"policy": json.dumps(rules), "revision": 5}))
        assert command[0] == "bash", command
        return FakeExec(*(f"{ip} {'' if ip in self.silent else 'HTTP/1.0 200 OK'}" for ip in command[4:]))
