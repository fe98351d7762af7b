"""Single looks at a cluster, for :mod:`~cilium_e2e.cluster.diagnosis`: each finds one kind of trouble.

They ask once, without retries: whoever is looked for after a failure must answer now.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple

from cilium_e2e.cluster.agents import AGENT_CONTAINER, AGENT_SELECTOR, AgentPod, CiliumAgents
from cilium_e2e.kube import condition, is_true
from cilium_e2e.model import KubeError, KubeTransport, Object, PolicyRef, Ref

HEALTH_PORT = 4240
"""Where every node and its health endpoint answer; source: the agent's option cluster-health-port."""
_DNS_SELECTOR = "k8s-app=kube-dns"
_FRESH_S = 12.0
"""A kubelet renews its lease every 10 s."""
_STALE_S = 15.0
_GROUPS = {"NetworkPolicy": "networking.k8s.io/v1"}
_CILIUM_GROUP = "cilium.io/v2"


class Cause(enum.Enum):
    """Kinds of causes, in words; the more likely a kind is to explain a failure, the earlier it stands."""

    API = "the API server does not answer"
    POLICY = "policy gone or changed"
    NODE = "node down"
    AGENT = "Cilium agent down"
    POD = "probe agent down"
    STREAM = "exec stream cut"
    TUNNEL = "node-to-node network broken"
    DNS = "cluster DNS down"
    RELAY = "Hubble relay down"

    @property
    def rank(self) -> int:
        """Its place among the others."""
        return list(type(self)).index(self)


class Finding(NamedTuple):
    """One thing that is not as it should be: what it means, and what was seen."""

    cause: Cause
    detail: str

    def __str__(self) -> str:
        return f"{self.cause.value}: {self.detail}"


def policies(api: KubeTransport, believed: Sequence[PolicyRef], *, refused: bool = True) -> list[Finding]:
    """Policies that are not on the API any more as they were applied.

    Args:
        api: the API.
        believed: the policies.
        refused: whether one counts that Cilium calls invalid. Its word carries no generation, so it may be
            about what stood there before; of a policy that is proven enforced it says nothing.
    """
    found = []
    for policy in believed:
        group = _GROUPS.get(policy.kind, _CILIUM_GROUP)
        live = _find(api, Ref(group, policy.kind, policy.name, policy.namespace))
        text = _unlike(api, policy, live)
        if live is not None and not text and refused:
            valid = condition(live, "Valid") or {}
            text = (
                f"is refused by Cilium: {valid.get('message', '')}" if valid.get("status") == "False" else ""
            )
        if text:
            found.append(Finding(Cause.POLICY, f"{policy} {text}"))
    return found


def nodes(api: KubeTransport, now_s: float) -> list[Finding]:
    """Nodes that are not ready, or whose kubelet has stopped renewing its lease: paused, or cut off."""
    renewed: dict[str, float] = {}
    for lease in api.list(Ref("coordination.k8s.io/v1", "Lease", namespace="kube-node-lease")).items:
        if time_s := _epoch((lease.get("spec") or {}).get("renewTime")):
            renewed[lease["metadata"]["name"]] = now_s - time_s
    # An age says something only where both clocks agree, which a fresh lease shows.
    comparable = any(-1.0 <= age <= _FRESH_S for age in renewed.values())
    found = []
    for node in api.list(Ref("v1", "Node")).items:
        name, said = node["metadata"]["name"], []
        if not is_true(node, "Ready"):
            ready = condition(node, "Ready") or {}
            words = ready.get("message") or ready.get("reason") or "it has no Ready condition"
            said.append(f"is not Ready ({words})")
        if comparable and renewed.get(name, 0.0) > _STALE_S:
            said.append(
                f"has not been heard of for {renewed[name]:.0f} s (its kubelet's lease): "
                "paused, stopped, or cut off"
            )
        if said:
            found.append(Finding(Cause.NODE, f"node {name} {' and '.join(said)}"))
    return found


def agent_pods(api: KubeTransport, namespace: str, since_s: float) -> list[Finding]:
    """Nodes without an agent, and agents that are not ready, were replaced or restarted since then."""
    listed = api.list(Ref("v1", "Pod", namespace=namespace), label_selector=AGENT_SELECTOR).items
    found = []
    for pod in listed:
        meta = pod["metadata"]
        said = list(_troubles(pod, since_s, container=AGENT_CONTAINER))
        if (_epoch(meta.get("creationTimestamp")) or 0.0) + 1.0 > since_s:
            said.append("was made anew since the test began")
        if said:
            where = (pod.get("spec") or {}).get("nodeName", "no node")
            found.append(
                Finding(Cause.AGENT, f"the agent on node {where} ({meta['name']}) {'; '.join(said)}")
            )
    with_agent = {(pod.get("spec") or {}).get("nodeName") for pod in listed}
    names = [node["metadata"]["name"] for node in api.list(Ref("v1", "Node")).items]
    return found + [
        Finding(Cause.AGENT, f"node {name} has no agent") for name in names if name not in with_agent
    ]


def workload(api: KubeTransport, pods: Collection[str], since_s: float) -> list[Finding]:
    """Pods that took part and are gone, leaving, not ready, or were restarted since then."""
    found = []
    for name in sorted(pods):
        namespace, _, pod = name.partition("/")
        live = _find(api, Ref("v1", "Pod", pod, namespace))
        said = ["does not exist"] if live is None else list(_troubles(live, since_s))
        if said:
            found.append(Finding(Cause.POD, f"pod {name} {'; '.join(said)}"))
    return found


def cluster_dns(api: KubeTransport) -> list[Finding]:
    """Cluster DNS that nobody serves; no finding where it is no Deployment under its usual label."""
    listed = api.list(Ref("apps/v1", "Deployment", namespace="kube-system"), label_selector=_DNS_SELECTOR)
    return [Finding(Cause.DNS, text) for entry in listed.items if (text := _down(entry))]


def relay(api: KubeTransport, namespace: str) -> list[Finding]:
    """A relay that does not run; no finding where the release has none."""
    live = _find(api, Ref("apps/v1", "Deployment", "hubble-relay", namespace))
    return [Finding(Cause.RELAY, text)] if live is not None and (text := _down(live)) else []


def agent_views(
    api: KubeTransport, agents: CiliumAgents, believed: Sequence[PolicyRef]
) -> dict[str, Callable[[], list[Finding]]]:
    """By node: asks its agent which of the policies it lacks, and which nodes it does not reach."""
    places: dict[str, tuple[str, str]] = {}
    for node in api.list(Ref(_CILIUM_GROUP, "CiliumNode")).items:
        spec = node.get("spec") or {}
        internal = [a["ip"] for a in spec.get("addresses") or () if a.get("type") == "InternalIP"]
        health = spec.get("health") or {}
        if internal and (own := health.get("ipv4") or health.get("ipv6")):
            places[node["metadata"]["name"]] = (internal[0], own)
    listed = api.list(Ref("v1", "Pod", namespace=agents.namespace), label_selector=AGENT_SELECTOR).items
    ready = {pod["spec"]["nodeName"] for pod in listed if is_true(pod, "Ready") and "nodeName" in pod["spec"]}

    def look(agent: AgentPod) -> list[Finding]:
        found = []
        if believed:
            held = agents.policies(agent).uids
            found += [
                Finding(Cause.POLICY, f"the agent on node {agent.node} does not hold {policy}")
                for policy in believed
                if policy.uid and policy.uid not in held
            ]
        # An agent that is not ready answers nobody, and is a finding of its own.
        others = {name: place for name, place in places.items() if name != agent.node and name in ready}
        answers = agents.reaches(agent, [ip for pair in others.values() for ip in pair], HEALTH_PORT)
        return found + [
            Finding(Cause.TUNNEL, text)
            for name, (host, own) in others.items()
            if (text := _unreached(agent.node, name, bool(answers[host]), bool(answers[own])))
        ]

    return {agent.node: partial(look, agent) for agent in agents.pods()}


def _unreached(source: str, target: str, host: bool, health: bool) -> str:  # noqa: FBT001 - two answers
    if host and not health:
        return (
            f"node {source} reaches node {target} itself but not its health endpoint: traffic of pods "
            "between them is lost (the tunnel's, with VXLAN UDP 8472, or its routes)"
        )
    return "" if host else f"node {source} does not reach node {target} at all"


def _unlike(api: KubeTransport, policy: PolicyRef, live: Object | None) -> str:
    """How a stored policy is other than it was when it was put into force; empty where it is the same."""
    if live is None:
        namespace = _find(api, Ref("v1", "Namespace", policy.namespace)) if policy.namespace else {}
        if namespace is None or "deletionTimestamp" in namespace.get("metadata", {}):
            return "was deleted behind the run's back, with its namespace"
        return "was deleted behind the run's back"
    meta = live["metadata"]
    if policy.uid and meta.get("uid") != policy.uid:
        return f"was deleted behind the run's back and made anew{_manager(meta)}"
    if "deletionTimestamp" in meta:
        return f"is being deleted{_manager(meta)}"
    if policy.generation and meta.get("generation") != policy.generation:
        return (
            f"was changed behind the run's back (generation {policy.generation} became "
            f"{meta.get('generation')}){_manager(meta)}"
        )
    return ""


def _manager(meta: Mapping[str, Any]) -> str:
    """Who wrote an object last, as far as its managedFields tell; status does not count."""
    writes = [entry for entry in meta.get("managedFields") or () if entry.get("subresource") != "status"]
    if not writes:
        return ""
    last = max(writes, key=lambda entry: entry.get("time") or "")
    how = ", ".join(str(last[key]) for key in ("operation", "time") if last.get(key))
    return f", last managed by {last.get('manager', 'nobody')} ({how})"


def _troubles(pod: Object, since_s: float, *, container: str = "") -> Iterator[str]:
    """What is wrong with a pod and its containers, one phrase each."""
    status = pod.get("status") or {}
    if "deletionTimestamp" in pod["metadata"]:
        yield "is being deleted"
    elif not is_true(pod, "Ready"):
        yield f"is not ready (phase {status.get('phase', 'unknown')})"
    for entry in status.get("containerStatuses") or ():
        if container and entry.get("name") != container:
            continue
        state, last = entry.get("state") or {}, (entry.get("lastState") or {}).get("terminated") or {}
        ended = state.get("terminated") or last
        if waiting := state.get("waiting"):
            yield f"waits: {waiting.get('reason', '')} {waiting.get('message', '')}".rstrip()
        if ended and (_epoch(ended.get("finishedAt")) or 0.0) + 1.0 > since_s:
            yield (
                f"had its container {entry.get('name')} end at {ended.get('finishedAt')} "
                f"({ended.get('reason', 'no reason')}, exit code {ended.get('exitCode')}; "
                f"{entry.get('restartCount', 0)} restarts so far)"
            )


def _down(deployment: Object) -> str:
    """Why nobody serves for a Deployment; empty where somebody does."""
    meta = deployment["metadata"]
    wanted = (deployment.get("spec") or {}).get("replicas", 1)
    ready = (deployment.get("status") or {}).get("readyReplicas", 0)
    name = f"Deployment {meta.get('namespace', '')}/{meta['name']}"
    if not wanted:
        return f"{name} is scaled to zero{_manager(meta)}"
    return "" if ready else f"{name} has no ready pod, of {wanted} wanted"


def _find(api: KubeTransport, ref: Ref) -> Object | None:
    try:
        return api.get(ref)
    except KubeError as error:
        if error.not_found:
            return None
        raise


def _epoch(time: str | None) -> float | None:
    """A time of the API's as epoch seconds."""
    if not time:
        return None
    return datetime.fromisoformat(time).astimezone(UTC).timestamp()
