"""What runs in pods: the probe agent, and the commands the harness runs in Cilium's agents."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence

from cilium_e2e.cluster.process import CONFIG_FOLDER, CONFIG_SCRIPT, HELLO_SCRIPT, PROCESS_SCRIPT
from cilium_e2e.cluster.simulated.agent import Agent
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.clock import VirtualClock
from cilium_e2e.cluster.simulated.datapath import OPEN, Datapath
from cilium_e2e.cluster.simulated.dbg import Dbg
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.output import Output
from cilium_e2e.cluster.simulated.places import HEALTH, Places, agent_name
from cilium_e2e.cluster.simulated.prober import BatchStream, Prober
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import ExecStream, KubeError, Object, Ref
from cilium_e2e.probe.workload import BATCH_COMMAND, ONCE_COMMAND, RUN

_NOT_SIMULATED = 127


class PodContainers:
    """Runs commands in pods.

    Args:
        store: the API's objects.
        clock: the cluster's.
        agents: Cilium's.
        dbg: their command line.
        prober: makes the probes of probe agents.
        datapath: how health probes get through.
        places: who has which address.
        hooks: what a fault changes.
    """

    def __init__(
        self,
        store: Store,
        clock: VirtualClock,
        agents: Agents,
        dbg: Dbg,
        prober: Prober,
        datapath: Datapath,
        places: Places,
        hooks: Hooks,
    ) -> None:
        self._store = store
        self._clock = clock
        self._agents = agents
        self._dbg = dbg
        self._prober = prober
        self._datapath = datapath
        self._places = places
        self._hooks = hooks

    def exec(self, ref: Ref, container: str, command: Sequence[str]) -> ExecStream:
        """Start a command.

        Raises:
            KubeError: the container is not there, or does not run.
        """
        pod = self._running(ref, container)
        words = tuple(command)
        if words[: len(ONCE_COMMAND)] == ONCE_COMMAND and _is_agent(pod):
            answer, took_s = self._prober.answer(words[-1], agent_name(pod), self._ips(ref))
            self._clock.sleep(took_s)
            return Output(self._clock, json.dumps(answer), before=lambda: self._hooks.line(ref))
        if words == BATCH_COMMAND and _is_agent(pod):
            return BatchStream(
                self._prober, agent_name(pod), lambda: self._ips(ref), lambda: self._hooks.line(ref)
            )
        agent = next((a for a in self._agents.agents.values() if a.pod == ref.name), None)
        if agent is not None and agent.running and ref.namespace == self._hooks.namespace:
            return self._in_agent(agent, ref, words)
        return self._missing(words)

    def logs(self, ref: Ref, container: str) -> list[str]:
        """A container's log: a probe agent says that it is ready, the others one line.

        Raises:
            KubeError: the container is not there, or does not run.
        """
        pod = self._running(ref, container)
        if _is_agent(pod):
            return [f"{ref.namespace}/{ref.name} is ready"]
        return [f'time={self._clock.stamp()} level=info msg="simulated container {container}"']

    def _running(self, ref: Ref, container: str) -> Object:
        pod = self._store.find(ref) or {"spec": {"containers": []}, "status": {}}
        if container not in {entry["name"] for entry in pod["spec"]["containers"]}:
            message = f"container {container} is not valid for pod {ref.name}"
            raise KubeError(400, "BadRequest", message, place=str(ref))
        if pod["status"].get("phase") != "Running":
            message = f'container "{container}" in pod "{ref.name}" is waiting to start: ContainerCreating'
            raise KubeError(400, "BadRequest", message, place=str(ref))
        return pod

    def _ips(self, ref: Ref) -> tuple[str, ...]:
        pod = self._store.find(ref)
        return tuple(entry["ip"] for entry in ((pod or {}).get("status") or {}).get("podIPs") or ())

    def _in_agent(self, agent: Agent, ref: Ref, words: tuple[str, ...]) -> ExecStream:
        def before() -> None:
            self._hooks.line(ref)

        script = words[2].splitlines() if words[:2] == ("sh", "-c") and len(words) == 3 else [" ".join(words)]
        asked = [tuple(line.split()) for line in script if line != "set -e"]
        if asked and all(self._dbg.knows(line) for line in asked):
            text = "\n".join(self._dbg.answer(agent, line) for line in asked)
            return Output(self._clock, text, before=before)
        scripts: Mapping[str, Callable[[], str]] = {
            PROCESS_SCRIPT: lambda: self._process(agent),
            CONFIG_SCRIPT: lambda: _config(agent),
            HELLO_SCRIPT: lambda: self._hello(agent, words[3], words[4:]),
        }
        if len(words) > 2 and words[1] == "-c" and words[2] in scripts:
            return Output(self._clock, scripts[words[2]](), before=before)
        if words[:2] == ("cilium-health", "status"):
            return Output(self._clock, "simulated", before=before)
        return self._missing(words)

    def _missing(self, words: tuple[str, ...]) -> Output:
        error = f"{words[0]}: not simulated; only a real cluster can run it"
        return Output(self._clock, "", code=_NOT_SIMULATED, error=error)

    def _process(self, agent: Agent) -> str:
        """The agent's process, as far as its pod says what it was started with."""
        pod = self._store.find(Ref("v1", "Pod", agent.pod, self._hooks.namespace)) or {
            "spec": {"containers": [{}]}
        }
        variables = {
            entry["name"]: entry.get("value", "") for entry in pod["spec"]["containers"][0].get("env") or ()
        }
        lines = ["== cmdline", "cilium-agent", f"--config-dir={CONFIG_FOLDER}", "== environ"]
        lines += [f"{name}={value}" for name, value in {"K8S_NODE_NAME": agent.node, **variables}.items()]
        lines += [
            "== status",
            "Name:\tcilium-agent",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
        ]
        return "\n".join([*lines, "== fd", "total 0", "== tcp", "sl local_address rem_address st"])

    def _hello(self, agent: Agent, port: str, addresses: Sequence[str]) -> str:
        """Cilium's health responders asked from an agent's node, each over the simulated datapath."""
        lines = []
        for address in addresses:
            source = self._places.of(next(ip for ip in agent.plan.ips if (":" in ip) is (":" in address)))
            local = self._datapath.source_port(source.ip)
            way = self._datapath.connect(source, address, "TCP", local, int(port))
            well = way.end == OPEN and way.listener is not None and way.listener.kind == HEALTH
            lines.append(f"{address} HTTP/1.0 200 OK" if well else f"{address} ")
        return "\n".join(lines)


def _is_agent(pod: Object) -> bool:
    return any(tuple((c.get("command") or ())[: len(RUN)]) == RUN for c in pod["spec"]["containers"])


def _config(agent: Agent) -> str:
    return "\n".join(
        f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in sorted(agent.config.items())
    )
