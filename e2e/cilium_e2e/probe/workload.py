"""The Kubernetes objects that put agents into a cluster.

Pods satisfy the Pod Security level ``restricted``: any non-root user, no capabilities, no privilege
escalation, the runtime's seccomp profile, and a read-only root file system on top. Safe sysctls stand in
for capabilities: ICMP needs no raw socket where ``net.ipv4.ping_group_range`` holds the agent's group, and
ports below 1024 are served where ``net.ipv4.ip_unprivileged_port_start`` says so.

There is no readiness probe by TCP or HTTP: the kubelet's connections would be flows among the flows under
test, and some policies deny them. A startup probe execs ``agent ready`` until it succeeds once; from then
on the pod is ready as long as its process runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from cilium_e2e.model import Object

IMAGE = "docker.io/library/python:3.13-slim"
CONTAINER = "agent"
CONFIG_MAP = "cilium-e2e-agent"
HOME = "/cilium-e2e"
GROUP = 65532
MANAGED_BY = {"app.kubernetes.io/managed-by": "cilium-e2e"}

RUN = ("python3", "-m", "agent")
"""How the agent runs, in a container as in a shell, with ``PYTHONPATH`` set to the folder above it."""

BATCH_COMMAND = (*RUN, "batch")
"""What an exec stream to an agent's container starts."""

ONCE_COMMAND = (*RUN, "once")
"""Makes the probes of one batch, which follows as an argument, and ends."""


@dataclass(frozen=True, slots=True)
class Port:
    """A port an agent serves.

    Attributes:
        number: 1-65535.
        protocol: ``TCP``, ``UDP``, ``SCTP``, or what is served on them: ``HTTP`` on TCP, ``DNS`` on UDP.
        name: the container port's name, for named ports in policies; empty for none.
    """

    number: int
    protocol: str = "TCP"
    name: str = ""

    @property
    def transport(self) -> str:
        """The protocol Kubernetes knows it by."""
        return {"HTTP": "TCP", "DNS": "UDP"}.get(self.protocol, self.protocol)


def agent_files() -> dict[str, str]:
    """The agent's source, by file name; it runs wherever these lie together in a folder ``agent``."""
    folder = resources.files("cilium_e2e.probe") / "agent"
    return {
        file.name: file.read_text(encoding="utf-8")
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".py")
    }


def serve_command(ports: Sequence[Port], *, records: Sequence[str] = ()) -> list[str]:
    """The command line that serves these ports; ``records`` (``NAME=ADDRESS``) are for DNS ports."""
    command = [*RUN, "serve"]
    for protocol in ("TCP", "UDP", "SCTP", "HTTP", "DNS"):
        numbers = [str(port.number) for port in ports if port.protocol == protocol]
        if numbers:
            command += [f"--{protocol.lower()}", ",".join(numbers)]
    for record in records:
        command += ["--record", record]
    return command


def config_map(namespace: str) -> Object:
    """The agent's source as a ConfigMap; each namespace with agents needs one."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": CONFIG_MAP, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "data": agent_files(),
    }


def pod(
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    ports: Sequence[Port] = (),
    node: str = "",
    image: str = IMAGE,
    host_network: bool = False,
    service_account: str = "",
    agent: str = "",
) -> Object:
    """An agent's pod.

    Args:
        namespace: where it lives, beside the ConfigMap.
        name: the pod's name; the agent answers with ``namespace/name``.
        labels: its labels, exactly: policies select by them, so nothing is added.
        ports: what it serves.
        node: the node it must run on, by affinity, so that the scheduler still checks resources; empty
            for any. Tolerates control-plane nodes when given.
        image: any image with Python 3.9 or later as ``python3``.
        host_network: whether it shares its node's network; then ICMP depends on the node's own
            ``ping_group_range``, and the namespace must allow host networking.
        service_account: empty for the namespace's default.
        agent: what the agent answers with, where that is not ``namespace/name``.
    """
    spec: Object = {
        **pod_spec(ports, image=image, host_network=host_network, agent=agent),
        "restartPolicy": "Always",
    }
    if service_account:
        spec["serviceAccountName"] = service_account
    if node:
        term = {"key": "metadata.name", "operator": "In", "values": [node]}
        spec["affinity"] = {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchFields": [term]}]
                }
            }
        }
        spec["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels or {})},
        "spec": spec,
    }


def pod_spec(
    ports: Sequence[Port], *, image: str = IMAGE, host_network: bool = False, agent: str = ""
) -> Object:
    """What every agent's pod has in common, for use in workload templates too."""
    security: Object = {
        "runAsNonRoot": True,
        "runAsUser": GROUP,
        "runAsGroup": GROUP,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if not host_network:
        security["sysctls"] = [{"name": "net.ipv4.ping_group_range", "value": f"{GROUP} {GROUP}"}]
        if any(port.number < 1024 for port in ports):
            security["sysctls"].append({"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"})
    container: Object = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": serve_command(ports),
        "env": [
            {"name": "PYTHONPATH", "value": HOME},
            {"name": "PYTHONDONTWRITEBYTECODE", "value": "1"},
            _downward("POD_NAMESPACE", "metadata.namespace"),
            _downward("POD_NAME", "metadata.name"),
            {"name": "AGENT_NAME", "value": agent or "$(POD_NAMESPACE)/$(POD_NAME)"},
        ],
        "ports": [_container_port(port) for port in _distinct(ports)],
        "startupProbe": {
            "exec": {"command": [*RUN, "ready", "--timeout", "8"]},
            "periodSeconds": 1,
            "timeoutSeconds": 10,
            "failureThreshold": 12,
        },
        "resources": {
            "requests": {"cpu": "10m", "memory": "32Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [{"name": "agent", "mountPath": f"{HOME}/agent", "readOnly": True}],
    }
    spec: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": security,
        "containers": [container],
        "volumes": [{"name": "agent", "configMap": {"name": CONFIG_MAP}}],
    }
    if host_network:
        spec |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    return spec


def service(
    namespace: str,
    name: str,
    *,
    selector: Mapping[str, str],
    ports: Sequence[Port],
    kind: str = "ClusterIP",
    headless: bool = False,
    session_affinity: bool = False,
    ip_family_policy: str = "",
    ip_families: Sequence[str] = (),
    external_traffic_policy: str = "",
    target_ports: Mapping[int, int | str] | None = None,
) -> Object:
    """A Service over agents.

    Args:
        namespace: where it and its pods live.
        name: its name.
        selector: the labels of its backends.
        ports: what it offers.
        kind: ``ClusterIP``, ``NodePort`` or ``LoadBalancer``.
        headless: without a ClusterIP; its name leads straight to the pods.
        session_affinity: whether a client stays with one backend.
        ip_family_policy: ``PreferDualStack`` ...; empty for the cluster's default.
        ip_families: ``IPv4``, ``IPv6``, the first one first; empty for the cluster's default.
        external_traffic_policy: ``Local`` or ``Cluster``, for what comes from outside; empty for the default.
        target_ports: Service port to backend port (number or name), where they differ.
    """
    targets = target_ports or {}
    spec: Object = {
        "type": kind,
        "selector": dict(selector),
        "ports": [
            {
                "name": f"{port.transport.lower()}-{port.number}",
                "port": port.number,
                "protocol": port.transport,
                "targetPort": targets.get(port.number, port.number),
            }
            for port in _distinct(ports)
        ],
    }
    if headless:
        spec["clusterIP"] = "None"
    if session_affinity:
        spec["sessionAffinity"] = "ClientIP"
    if ip_family_policy:
        spec["ipFamilyPolicy"] = ip_family_policy
    if ip_families:
        spec["ipFamilies"] = list(ip_families)
    if external_traffic_policy:
        spec["externalTrafficPolicy"] = external_traffic_policy
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(MANAGED_BY)},
        "spec": spec,
    }


def _distinct(ports: Sequence[Port]) -> list[Port]:
    return list({(port.number, port.transport): port for port in ports}.values())


def _container_port(port: Port) -> Object:
    entry: Object = {"containerPort": port.number, "protocol": port.transport}
    return {**entry, "name": port.name} if port.name else entry


def _downward(name: str, path: str) -> Object:
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
