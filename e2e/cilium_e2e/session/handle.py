"""What a worker needs to reach the cluster that its controller made: plain data, as xdist carries it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from cilium_e2e.model import Backend, Capability, ClusterInfo, Difference, NodeInfo, WorldAgent


@dataclasses.dataclass(frozen=True, slots=True)
class Handle:
    """A running cluster.

    Attributes:
        info: what it is.
        kubeconfig: how to reach it.
        context: the kubeconfig's context, its current one when empty.
        agent_image: the image of probe agents.
        timeline: the session's phases, one line each, for reports.
    """

    info: ClusterInfo
    kubeconfig: Path
    agent_image: str
    timeline: tuple[str, ...] = ()
    context: str = ""

    @property
    def lock(self) -> Path:
        """The file that the cluster's users meet at, to share it or to have it alone for a while."""
        return self.kubeconfig.parent / f"{self.info.name}.users.db"

    def to_data(self) -> dict[str, Any]:
        """As nested dictionaries, lists and strings."""
        info = dataclasses.asdict(self.info)
        info["backend"] = self.info.backend.value
        info["capabilities"] = sorted(c.value for c in self.info.capabilities)
        info["features"] = sorted(self.info.features)
        return {
            "info": info,
            "kubeconfig": str(self.kubeconfig),
            "agent_image": self.agent_image,
            "timeline": list(self.timeline),
            "context": self.context,
        }

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Handle:
        """The reverse of :meth:`to_data`."""
        info = dict(data["info"])
        info["backend"] = Backend(info["backend"])
        info["capabilities"] = frozenset(Capability(c) for c in info["capabilities"])
        info["features"] = frozenset(info["features"])
        info["nodes"] = tuple(NodeInfo(n["name"], n["role"], tuple(n["ips"])) for n in info["nodes"])
        info["world"] = tuple(WorldAgent(w["name"], tuple(w["ips"])) for w in info["world"])
        info["host_agents"] = tuple((node, pod) for node, pod in info["host_agents"])
        info["versions"] = tuple((name, version) for name, version in info["versions"])
        info["differences"] = tuple(Difference(**d) for d in info["differences"])
        return cls(
            ClusterInfo(**info),
            Path(data["kubeconfig"]),
            data["agent_image"],
            tuple(data["timeline"]),
            data["context"],
        )
