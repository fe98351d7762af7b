"""The agents outside the cluster: containers of ours on the network that the nodes are on."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from importlib import resources

from cilium_e2e.cluster.engine import NETWORK, RUN_LABEL, Engine
from cilium_e2e.model import EngineError, Target, WorldAgent
from cilium_e2e.probe import GROUP, HOME, RUN, Port, agent_files, serve_command
from cilium_e2e.probe.places import WORLD, WORLD_PORTS, ZONE_SERVER, container, zone_records

_CONTENT_LABEL = "io.cilium-e2e.content"
_ARGUMENTS = f"{HOME}/late_arguments.py"
_PIPE = "/tmp/arguments"  # noqa: S108 - inside a container of our own
_READY_S, _READY_AGAIN_S = 30, 2
_FAMILIES = {"ipv4": {4}, "ipv6": {6}, "dual": {4, 6}}


class WorldAgents:
    """Those of one cluster; they leave with it.

    Args:
        engine: where the nodes run.
        cluster: the cluster's name.
        image: a Python image.
        ip_family: the cluster's (``ipv4``, ``ipv6`` or ``dual``); the network may have more, which is of no
            use to pods.
    """

    def __init__(self, engine: Engine, cluster: str, *, image: str, ip_family: str) -> None:
        self._engine = engine
        self._cluster = cluster
        self._image = image
        self._families = _FAMILIES[ip_family]

    def start(self) -> tuple[WorldAgent, ...]:
        """Start them, unless they run already as they should; answers when they serve.

        Raises:
            EngineError: one cannot be started, or has no address that pods can reach.
        """
        content = self._content()
        if not all(self._runs(name, content) for name in WORLD):
            # Both: the zone that one of them serves has the addresses of both.
            return self._make(content)
        return self._agents()

    def _make(self, content: str) -> tuple[WorldAgent, ...]:
        if not self._engine.has_image(self._image):
            self._engine.pull(self._image)
        for name in WORLD:
            self._engine.remove(container(self._cluster, name))
        for name in WORLD:
            self._run(name, content)
        agents = self._agents()
        records = zone_records({agent.name: list(agent.ips) for agent in agents})
        words = [word for record in records for word in ("--record", record)]
        server = container(self._cluster, ZONE_SERVER)
        self._engine.execute(server, ["python3", _ARGUMENTS, _PIPE, "give", *words])
        for name in WORLD:
            self._ready(name, _READY_S)
        return agents

    def _run(self, name: str, content: str) -> None:
        files = {f"{HOME}/agent/{file}": text.encode() for file, text in agent_files().items()}
        files[_ARGUMENTS] = resources.files("cilium_e2e.cluster").joinpath("late_arguments.py").read_bytes()

        def prepare(made: str) -> None:
            self._engine.put(made, "/", {path.lstrip("/"): text for path, text in files.items()})

        self._engine.run(
            self._image,
            _command(name),
            name=container(self._cluster, name),
            network=NETWORK,
            labels={RUN_LABEL: self._cluster, _CONTENT_LABEL: content},
            prepare=prepare,
            # As in pods: no root, and what an agent needs of the kernel is said.
            user=f"{GROUP}:{GROUP}",
            sysctls={
                "net.ipv4.ping_group_range": f"{GROUP} {GROUP}",
                "net.ipv4.ip_unprivileged_port_start": "0",
            },
            environment={
                "PYTHONPATH": HOME,
                "PYTHONDONTWRITEBYTECODE": "1",
                "AGENT_NAME": str(Target.world(name)),
            },
        )

    def _runs(self, name: str, content: str) -> bool:
        """Whether an agent runs that is just as one that would be made now, and serves."""
        made = container(self._cluster, name)
        if not self._engine.running(made) or self._engine.labels(made).get(_CONTENT_LABEL) != content:
            return False
        try:
            self._ready(name, _READY_AGAIN_S)
        except EngineError:
            return False  # a run that was killed may have left it half started
        return True

    def _ready(self, name: str, timeout_s: int) -> None:
        made = container(self._cluster, name)
        try:
            self._engine.execute(made, [*RUN, "ready", "--timeout", str(timeout_s)])
        except EngineError as error:
            raise EngineError(
                f"expected the agent to serve within {timeout_s} s, and it does not: {error.message}",
                place=f"container {made}",
                hint=f"docker logs {made} may say why. Has the image {self._image} Python 3.9 or later?",
            ) from error

    def _agents(self) -> tuple[WorldAgent, ...]:
        return tuple(WorldAgent(name, self._addresses(name)) for name in WORLD)

    def _addresses(self, name: str) -> tuple[str, ...]:
        made = container(self._cluster, name)
        found = self._engine.addresses(made, NETWORK)
        usable = tuple(ip for ip in found if ipaddress.ip_address(ip).version in self._families)
        if not usable:
            wanted = " or ".join(f"IPv{version}" for version in sorted(self._families))
            raise EngineError(
                f"expected an {wanted} address on network {NETWORK}, got {', '.join(found) or 'none'}",
                place=f"container {made}",
            )
        return usable

    def _content(self) -> str:
        """What makes them what they are, as a short digest: one that differs is made anew."""
        parts = [self._image, sorted(self._families), agent_files(), [_command(name) for name in WORLD]]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _command(name: str) -> list[str]:
    """What a container runs; the server of the zone waits for its records."""
    if name != ZONE_SERVER:
        return serve_command(WORLD_PORTS)
    return ["python3", _ARGUMENTS, _PIPE, "run", *serve_command([*WORLD_PORTS, Port(53, "DNS")])]
