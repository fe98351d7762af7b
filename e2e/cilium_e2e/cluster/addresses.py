"""The addresses of probes' targets, looked up together by all who ask at the same time.

The sources of a matrix ask at once, and for the same targets. Each must have an address as it is after it
asked, because a pod may be another one than a moment ago; but a look that begins after several have asked is
fresh for them all. So whoever asks while one is under way joins the next, and whoever is first waits a moment
for the others: without that moment it would look alone, and all others would wait for two looks.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from cilium_e2e.kube import Kube, at_once
from cilium_e2e.model import ClusterInfo, ClusterStateError, KubeError, Object, Ref, Target, TargetKind

# A list of a small namespace costs the API server about what one object does.
_LISTED_FROM = 2
GATHER_S = 0.015
"""What the threads of a round take to be started on a busy machine; a look takes several times as long."""


@dataclass(slots=True)
class _Look:
    """One look at the cluster: what is looked up, and what was found."""

    targets: set[Target] = field(default_factory=set)
    found: dict[Target, str | ClusterStateError] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)


class Addresses:
    """Addresses to dial; safe to use from several threads.

    A Service's is its ClusterIP, a node's its internal one, a pod's and an agent's outside their own. Of
    several it is the first, which is IPv4 where there is one.

    Args:
        kube: the cluster's API.
        info: gives nodes and agents outside.
        gather_s: how long whoever is first waits for others to join, in seconds.
    """

    def __init__(self, kube: Kube, info: ClusterInfo, *, gather_s: float = 0.0) -> None:
        self._kube = kube
        self._gather_s = gather_s
        self._fixed = {Target.node(node.name): node.ips for node in info.nodes}
        self._fixed |= {Target.world(agent.name): agent.ips for agent in info.world}
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._next: _Look | None = None

    def look_up(self, targets: Collection[Target]) -> Mapping[Target, str | ClusterStateError]:
        """The address of each target, as it was after the call began, or why there is none."""
        with self._lock:
            first = self._next is None
            look = self._next = self._next or _Look()
            look.targets.update(targets)
        if not first:
            look.done.wait()
            return look.found
        try:
            with self._turn:
                if self._gather_s:
                    time.sleep(self._gather_s)
                self._begin(look)
                look.found = self._look(look.targets)
        finally:
            # Whatever ended it, an interrupt while it waited for its turn included: others wait for it.
            self._begin(look)
            look.done.set()
        return look.found

    def _begin(self, look: _Look) -> None:
        """From now on nobody joins it any more."""
        with self._lock:
            if self._next is look:
                self._next = None
            if not look.found:
                given_up = ClusterStateError("looking up addresses was given up")
                look.found = dict.fromkeys(look.targets, given_up)

    def _look(self, targets: Iterable[Target]) -> dict[Target, str | ClusterStateError]:
        found: dict[Target, str | ClusterStateError] = {}
        asked: dict[tuple[TargetKind, str], set[Target]] = defaultdict(set)
        for target in targets:
            if target.kind in _KINDS:
                asked[target.kind, target.namespace].add(target)
            else:
                found[target] = _dialled(target, next(iter(self._fixed.get(target, ())), ""))
        for answer in at_once(lambda at: self._in_namespace(at[0], at[1], asked[at]), asked):
            found |= answer
        return found

    def _in_namespace(
        self, kind: TargetKind, namespace: str, targets: Collection[Target]
    ) -> dict[Target, str | ClusterStateError]:
        name_of_kind, read = _KINDS[kind]
        try:
            if len(targets) < _LISTED_FROM:
                (one,) = targets
                objects = [self._kube.get(Ref("v1", name_of_kind, one.name, namespace))]
            else:
                objects = self._kube.list_all(Ref("v1", name_of_kind, namespace=namespace))
        except ClusterStateError as error:
            return dict.fromkeys(targets, error)
        named = {found["metadata"]["name"]: found for found in objects}
        return {
            target: _dialled(target, read(named[target.name]))
            if target.name in named
            else KubeError(404, "NotFound", f"no such {name_of_kind}", place=str(target))
            for target in targets
        }


def _pod(obj: Object) -> str:
    return str((obj.get("status") or {}).get("podIP", ""))


def _service(obj: Object) -> str:
    return str((obj.get("spec") or {}).get("clusterIP", ""))


_KINDS: Mapping[TargetKind, tuple[str, Callable[[Object], str]]] = {
    TargetKind.POD: ("Pod", _pod),
    TargetKind.SERVICE: ("Service", _service),
}


def _dialled(target: Target, ip: str) -> str | ClusterStateError:
    if not ip or ip == "None":
        return ClusterStateError("it has no address to dial", place=str(target))
    return ip
