"""The standard workload: nine pods that most policies can be tried on, the same for every scenario.

Pods a, b and c in each of the namespaces x, y and z, labelled ``pod: a`` and ``ns: x`` likewise; each serves
TCP and UDP on the ports 80 and 81, as the container ports ``serve-80-tcp`` ... ``serve-81-udp``.
"""

from __future__ import annotations

from cilium_e2e.probe import Port
from cilium_e2e.scenario.model import PodDecl, Workload

NAMESPACES = ("x", "y", "z")
PODS = ("a", "b", "c")
PORTS = tuple(
    Port(number, protocol, f"serve-{number}-{protocol.lower()}")
    for protocol in ("TCP", "UDP")
    for number in (80, 81)
)


def standard_workload() -> Workload:
    """It; pods of one name are on one node, so that each namespace has pods on several."""
    return Workload(
        namespaces={name: {"ns": name} for name in NAMESPACES},
        pods=tuple(
            PodDecl(name, namespace, {"pod": name}, PORTS, node=str(place))
            for namespace in NAMESPACES
            for place, name in enumerate(PODS)
        ),
    )
