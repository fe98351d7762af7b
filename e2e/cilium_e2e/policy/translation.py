"""Asking about a Service: policy sees the backend and the backend's port."""

from __future__ import annotations

from dataclasses import dataclass

from cilium_e2e.model import Decision, InputError, Verdict
from cilium_e2e.policy.addresses import parse_lenient
from cilium_e2e.policy.oracle import Oracle
from cilium_e2e.policy.portnames import PROTOCOLS
from cilium_e2e.policy.world import Pod, Service, ServicePort

_BYPASS = Verdict(Decision.NONE, Decision.NONE)


@dataclass(frozen=True, slots=True)
class BackendVerdict:
    """The verdict on a flow to one backend of a Service.

    Attributes:
        backend: the pod (``namespace/name``) or peer behind it.
        port: the port it is reached on.
        verdict: what policy says; nothing is enforced where a pod reaches itself.
    """

    backend: str
    port: int
    verdict: Verdict


def _find(oracle: Oracle, key: str) -> Service:
    for service in oracle.world.services:
        if f"{service.namespace}/{service.name}" == key:
            return service
    raise InputError(f"expected a Service (namespace/name) of the world, got {key!r}", place="flow")


def _target(pod: Pod, port: ServicePort) -> int:
    """The container port behind a Service port; 0 where the pod has none of that name."""
    if isinstance(port.target, int):
        return port.target or port.port
    number, protocol = pod.named_ports.get(port.target, (0, ""))
    return number if PROTOCOLS.get(protocol.upper()) == PROTOCOLS.get(port.protocol.upper()) else 0


def _backends(oracle: Oracle, service: Service, port: ServicePort) -> list[tuple[str, int]]:
    world = oracle.world
    if service.selector:
        pods = [
            pod
            for pod in world.pods
            if pod.namespace == service.namespace
            and not pod.cluster
            and service.selector.items() <= dict(pod.labels).items()
        ]
        return [(pod.key, number) for pod in pods if (number := _target(pod, port))]
    wanted = {parse_lenient(text) for text in service.backends}
    number = port.target if isinstance(port.target, int) and port.target else port.port
    return [(p.key, number) for p in world.peers if p.address and parse_lenient(p.address) in wanted]


def service_verdicts(
    oracle: Oracle, source: str, service: str, protocol: str, port: int
) -> tuple[BackendVerdict, ...]:
    """The verdict on each backend a Service may choose; empty where it has none.

    A pod that reaches itself through its own ClusterIP bypasses policy.

    Args:
        oracle: world and policies.
        source: a pod (``namespace/name``) or peer.
        service: the Service, ``namespace/name``.
        protocol: ``TCP``, ``UDP`` or ``SCTP``.
        port: the Service's port.

    Raises:
        InputError: an unknown name or protocol, or a port the Service does not have.
    """
    found = _find(oracle, service)
    ports = [p for p in found.ports if p.port == port and p.protocol.upper() == protocol.upper()]
    if not ports:
        raise InputError(f"expected a port of the Service, got {port}/{protocol}", place=f"svc:{service}")
    return tuple(
        BackendVerdict(
            key,
            number,
            _BYPASS if key == source else oracle.verdict(source, key, protocol, number),
        )
        for key, number in _backends(oracle, found, ports[0])
    )
