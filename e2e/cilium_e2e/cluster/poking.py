"""Silent nodes made to show a flow: the newest event of a node is only told after a newer one.

Whoever waits for a node's flows to be complete waits for a flow newer than the last one that counts. A node
where nothing happens shows none, so something is made to happen there.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cilium_e2e.cluster.agents import AGENT_CONTAINER, CiliumAgents
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    Destination,
    Probe,
    Prober,
    Protocol,
    Ref,
    Target,
)

HEALTH_PORT = 4240
"""Where Cilium's health endpoints listen, as the chart sets it."""
_TIMEOUT_S = 0.5


class Poke:
    """Makes nodes show a flow.

    A node's own agent connects to the health endpoint beside it: some milliseconds on a stream that is open
    already, and several events, of which all but the last can be read at once. Where a node has no such
    agent, one of Cilium's agents has its health probe reach every node, which takes a process of its own.

    Whether anything answers does not matter here, nor whether anybody could be asked just now: whoever waits
    tells what stays missing.

    Args:
        kube: the cluster's API.
        agents: Cilium's agents.
        host_agents: the nodes with an agent on their own network.
        prober: gives the prober of a node.
    """

    def __init__(
        self,
        kube: Kube,
        agents: CiliumAgents,
        host_agents: Sequence[str],
        prober: Callable[[Target], Prober],
    ) -> None:
        self._kube = kube
        self._agents = agents
        self._host_agents = frozenset(host_agents)
        self._prober = prober
        self._number = itertools.count()

    def __call__(self, nodes: Sequence[str]) -> None:
        """Poke nodes, as relay names them: ``node`` or ``cluster/node``."""
        names = {node.rpartition("/")[2] for node in nodes}
        with suppress(ClusterStateError):
            if names and names <= self._host_agents:
                health = self._health(names)
                if health.keys() == names:
                    self._by_host_agents(health)
                    return
            self._by_health_probe()

    def _health(self, names: set[str]) -> dict[str, str]:
        """The health endpoints' addresses by node; asked anew, because a restarted agent may take another."""
        found = {}
        for node in self._kube.list_all(Ref("cilium.io/v2", "CiliumNode")):
            health = (node.get("spec") or {}).get("health") or {}
            if node["metadata"]["name"] in names and (ip := health.get("ipv4") or health.get("ipv6")):
                found[node["metadata"]["name"]] = str(ip)
        return found

    def _by_host_agents(self, health: dict[str, str]) -> None:
        def knock(node: str) -> None:
            source = Target.node(node)
            to = Destination(Target.address(health[node]), HEALTH_PORT, Protocol.TCP)
            probe = Probe.to(source, to, timeout_s=_TIMEOUT_S, id=f"poke {next(self._number)}")
            self._prober(source).run([probe])

        with ThreadPoolExecutor(max_workers=len(health), thread_name_prefix="poke") as pool:
            list(pool.map(knock, health))

    def _by_health_probe(self) -> None:
        agent = self._agents.pods()[0]
        self._kube.run(
            agent.ref, ["cilium-health", "status", "--probe"], container=AGENT_CONTAINER, check=False
        )
