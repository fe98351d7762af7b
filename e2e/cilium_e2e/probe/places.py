"""Agents that are there before any test, beside those in pods: outside the cluster, and on its nodes.

Every cluster that kind makes has the two agents ``world:one`` and ``world:two`` on its network, and on each
node, on the node's own network, the agent ``node:NAME``. What they serve is the same everywhere, so that
tests and scenarios can name it.
"""

from __future__ import annotations

from cilium_e2e.probe.workload import Port

WORLD = ("one", "two")
WORLD_TCP = WORLD_UDP = 8080
WORLD_HTTP = 8081
WORLD_PORTS = (Port(WORLD_TCP, "TCP"), Port(WORLD_UDP, "UDP"), Port(WORLD_HTTP, "HTTP"))

# High, and not in the range of NodePorts: nothing of a node listens there.
HOST_TCP = HOST_UDP = 18080
HOST_HTTP = 18081
HOST_PORTS = (Port(HOST_TCP, "TCP"), Port(HOST_UDP, "UDP"), Port(HOST_HTTP, "HTTP"))

ZONE = "e2e.test"
"""A zone that exists only outside the cluster: ``world:one`` serves it, cluster DNS forwards to it.

Its names are ``one`` and ``two`` (the world agents), ``both`` (both of them), and everything below ``any``
and below ``deep.any`` (``world:one``).
"""
ZONE_SERVER = "one"
"""The world agent that serves it, on port 53, UDP."""


def container(cluster: str, name: str) -> str:
    """The container of a cluster's agent ``world:NAME``."""
    return f"{cluster}-world-{name}"


def zone_records(addresses: dict[str, list[str]]) -> list[str]:
    """The zone as an agent's ``--record`` options; ``addresses`` by name of the world agent."""
    first, second = (addresses[name] for name in WORLD)
    names = {"one": first, "two": second, "both": [*first, *second], "*.any": first, "*.deep.any": first}
    return [f"{name}.{ZONE}={address}" for name, found in names.items() for address in found]


def zone_agents(name: str) -> tuple[str, ...]:
    """The agents outside that a name of the zone leads to; none for any other name."""
    host, dot, zone = name.rstrip(".").lower().partition(f".{ZONE}")
    if not dot or zone:
        return ()
    if host == "both":
        return WORLD
    words = host.split(".")
    below = words[1:] in (["any"], ["deep", "any"])
    return (WORLD[0],) if below else tuple(agent for agent in WORLD if agent == host)
