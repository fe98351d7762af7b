"""What Cilium's agents do with the API's objects: endpoints, identities, ipcache, policies; each in its time.

A policy is in an agent's repository a moment after the API has it, and at an endpoint's datapath another
moment later; a pod's new labels become an identity, which other nodes learn of last. So whoever does not
wait sees the old state, as on a real cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cilium_e2e.cluster.simulated.agent import Agent, CacheEntry, EndpointState, Snapshot
from cilium_e2e.cluster.simulated.hooks import Hooks
from cilium_e2e.cluster.simulated.identities import Identities, texts
from cilium_e2e.cluster.simulated.kinds import CILIUM
from cilium_e2e.cluster.simulated.store import Change, Store
from cilium_e2e.kube import is_true
from cilium_e2e.model import EventType, Object, PolicyError, Ref
from cilium_e2e.policy import Options, Refusal, accept, parse_policy
from cilium_e2e.policy.labels import pod_labels

_IMPORT_S, _REALIZE_S, _IDENTITY_S, _SPREAD_S, _STATUS_S = 0.05, 0.12, 0.1, 0.1, 0.15
_POLICIES = {
    "CiliumNetworkPolicy": CILIUM,
    "CiliumClusterwideNetworkPolicy": CILIUM,
    "NetworkPolicy": "networking.k8s.io/v1",
}


class Agents:
    """All agents.

    Args:
        store: the API's objects.
        agents: by node.
        identities: gives numbers.
        options: the release's, as far as policy has it.
        hooks: what a fault changes.
        selector: labels of the agents' pods.
    """

    def __init__(
        self,
        store: Store,
        agents: Mapping[str, Agent],
        identities: Identities,
        options: Options,
        hooks: Hooks,
        *,
        selector: tuple[str, str] = ("k8s-app", "cilium"),
    ) -> None:
        self._store = store
        self._clock = store.clock
        self.agents = agents
        self.identities = identities
        self.options = options
        self._hooks = hooks
        self._selector = selector
        self._ids = 100
        self.changes = 0
        """Counts what agents learn of endpoints, identities and names."""
        self.by_ip: dict[str, tuple[Agent, EndpointState]] = {}
        store.subscribers.append(self._changed)

    def _changed(self, change: Change) -> None:
        kind, meta = change.ref.kind, change.object["metadata"]
        if kind == "Pod":
            if (meta.get("labels") or {}).get(self._selector[0]) == self._selector[1]:
                self._agent_pod(change)
            elif not change.object["spec"].get("hostNetwork"):
                self._pod(change)
        elif kind in _POLICIES:
            before = change.before
            spec_changed = before is None or before["metadata"].get("generation") != meta.get("generation")
            if change.type is EventType.DELETED or spec_changed:
                self._policy(change)
        elif kind == "Namespace" and change.type is EventType.MODIFIED:
            for pod in self._store.all(Ref("v1", "Pod", namespace=meta["name"])):
                self._relabelled(pod)

    # Agents' own pods.

    def _agent_pod(self, change: Change) -> None:
        pod = change.object
        agent = self.agents.get(pod["spec"].get("nodeName", ""))
        if agent is None:
            return
        gone = change.type is EventType.DELETED or "deletionTimestamp" in pod["metadata"]
        name = pod["metadata"]["name"]
        if gone and agent.pod == name:
            agent.running, agent.pod = False, ""
        elif not gone and pod["status"].get("phase") == "Running" and agent.pod != name:
            agent.pod = name
            self._start(agent)

    def restart(self, agent: Agent) -> None:
        """The process of an agent dies, and its container is started again."""
        self._start(agent)

    def _start(self, agent: Agent) -> None:
        agent.running = True
        agent.started_s = self._clock.time()
        agent.ring.clear()
        agent.seen = 0
        config = self._store.find(Ref("v1", "ConfigMap", "cilium-config", self._hooks.namespace))
        agent.config = self._hooks.loads(dict((config or {}).get("data") or {}))
        found: dict[str, tuple[str, object]] = {}
        for kind, version in _POLICIES.items():
            for policy in self._store.all(Ref(version, kind)):
                parsed, _ = self._read(policy)
                if parsed is not None:
                    found[policy["metadata"]["uid"]] = (_version(policy), parsed)
        self.changes += 1
        agent.repository = Snapshot(2 + len(found), found)  # type: ignore[arg-type]
        for endpoint in agent.endpoints.values():
            endpoint.state = "regenerating"
            self._realize_later(agent, endpoint)
        for pod in self._store.all(Ref("v1", "Pod")):
            if pod["spec"].get("nodeName") == agent.node and not pod["spec"].get("hostNetwork"):
                self._add(pod)
        for other in self.agents.values():
            for endpoint in other.endpoints.values():
                if endpoint.identity:
                    self._spread(other, endpoint, only=agent)

    # Pods.

    def _pod(self, change: Change) -> None:
        pod, before = change.object, change.before
        key = f"{change.ref.namespace}/{change.ref.name}"
        if change.type is EventType.DELETED:
            for agent in self.agents.values():
                if (endpoint := agent.endpoints.pop(key, None)) is not None:
                    self._removed(agent, endpoint)
            return
        if pod["status"].get("podIP"):
            self._add(pod)
        if before is not None and before["metadata"].get("labels") != pod["metadata"].get("labels"):
            self._relabelled(pod)

    def _add(self, pod: Object) -> None:
        agent = self.agents.get(pod["spec"].get("nodeName", ""))
        key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        ips = tuple(entry["ip"] for entry in pod["status"].get("podIPs") or ())
        if agent is None or not agent.running or key in agent.endpoints or not ips:
            return
        self._ids += 7
        ports = {
            port["name"]: (port["containerPort"], port.get("protocol", "TCP"))
            for container in pod["spec"]["containers"]
            for port in container.get("ports") or ()
            if port.get("name")
        }
        meta = pod["metadata"]
        endpoint = EndpointState(self._ids, meta["namespace"], meta["name"], ips, ports)
        self.changes += 1
        agent.endpoints[key] = endpoint
        for ip in ips:
            self.by_ip[ip] = (agent, endpoint)
        self._clock.after(agent.delay_s(_IDENTITY_S, key), lambda: self._identify(agent, endpoint))

    def _removed(self, agent: Agent, endpoint: EndpointState) -> None:
        self.changes += 1
        for ip in endpoint.ips:
            if self.by_ip.get(ip, (None, None))[1] is endpoint:
                del self.by_ip[ip]
        ref = Ref(CILIUM, "CiliumEndpoint", endpoint.pod, endpoint.namespace)
        if self._store.find(ref) is not None:
            self._store.delete(ref)
        for other in self.agents.values():
            for ip in endpoint.ips:
                self._clock.after(other.delay_s(_SPREAD_S, ip), lambda o=other, ip=ip: self._forget(o, ip))  # type: ignore[misc]
        del agent

    def _forget(self, agent: Agent, ip: str) -> None:
        if ip not in self.by_ip and not self._hooks.keeps_mapping(agent.node, ip):
            self.changes += 1
            agent.ipcache.pop(ip, None)

    def _relabelled(self, pod: Object) -> None:
        key = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        for agent in self.agents.values():
            if (endpoint := agent.endpoints.get(key)) is not None and endpoint.identity:
                delay_s = agent.delay_s(_IDENTITY_S, key)
                self._clock.after(delay_s, lambda a=agent, e=endpoint: self._identify(a, e))  # type: ignore[misc]

    def _labels(self, endpoint: EndpointState) -> tuple[str, ...]:
        pod = self._store.find(Ref("v1", "Pod", endpoint.pod, endpoint.namespace)) or {
            "metadata": {},
            "spec": {},
        }
        namespace = self._store.find(Ref("v1", "Namespace", endpoint.namespace)) or {"metadata": {}}
        return texts(
            pod_labels(
                pod["metadata"].get("labels") or {},
                namespace=endpoint.namespace,
                namespace_labels=namespace["metadata"].get("labels") or {},
                service_account=pod["spec"].get("serviceAccountName", ""),
                cluster=self.options.cluster_name,
            )
        )

    def _identify(self, agent: Agent, endpoint: EndpointState) -> None:
        """Give an endpoint the identity of its labels now, and let all nodes know."""
        if agent.endpoints.get(endpoint.name) is not endpoint:
            return
        labels = self._hooks.identity_labels(endpoint, self._labels(endpoint))
        if labels == endpoint.labels:
            return
        self.changes += 1
        endpoint.labels, endpoint.identity = labels, self.identities.of_pod(labels)
        endpoint.state = "regenerating"
        self._realize_later(agent, endpoint)
        self._spread(agent, endpoint)

    def _spread(self, agent: Agent, endpoint: EndpointState, *, only: Agent | None = None) -> None:
        entry = CacheEntry(endpoint.identity, endpoint.labels, host=agent.plan.ips[0])
        for other in [only] if only is not None else self.agents.values():
            delay_s = 0.0 if other is agent else other.delay_s(_SPREAD_S, endpoint.name)
            self._clock.after(delay_s, lambda o=other: self._learn(o, endpoint, entry))  # type: ignore[misc]

    def _learn(self, agent: Agent, endpoint: EndpointState, entry: CacheEntry) -> None:
        for ip in endpoint.ips:
            if self.by_ip.get(ip, (None, None))[1] is not endpoint or endpoint.identity != entry.identity:
                continue
            if self._hooks.learns(agent.node, ip, ip in agent.ipcache):
                self.changes += 1
                agent.ipcache[ip] = entry

    def _publish(self, agent: Agent, endpoint: EndpointState) -> None:
        pod = self._store.find(Ref("v1", "Pod", endpoint.pod, endpoint.namespace))
        if pod is None:
            return
        addressing = {("ipv6" if ":" in ip else "ipv4"): ip for ip in endpoint.ips}
        meta = pod["metadata"]
        owner = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        self._store.write(
            {
                "apiVersion": CILIUM,
                "kind": "CiliumEndpoint",
                "metadata": {
                    "name": endpoint.pod,
                    "namespace": endpoint.namespace,
                    "labels": dict(meta.get("labels") or {}),
                    "ownerReferences": [owner],
                },
                "status": {
                    "external-identifiers": {
                        "k8s-namespace": endpoint.namespace,
                        "k8s-pod-name": endpoint.pod,
                        "pod-name": endpoint.name,
                    },
                    "id": endpoint.id,
                    "identity": {"id": endpoint.identity, "labels": list(endpoint.labels)},
                    "networking": {"addressing": [addressing], "node": agent.plan.ips[0]},
                    "state": endpoint.state,
                },
            },
            manager="cilium-agent",
        )

    # Policies.

    def _policy(self, change: Change) -> None:
        policy = change.object
        uid = policy["metadata"]["uid"]
        parsed, refusal = (None, "") if change.type is EventType.DELETED else self._read(policy)
        if change.type is not EventType.DELETED:
            self._clock.after(_STATUS_S, lambda: self._say(change.ref, uid, refusal))
        if refusal:
            return
        for agent in self.agents.values():
            delay_s = agent.delay_s(_IMPORT_S, uid)
            self._clock.after(delay_s, lambda a=agent: self._import(a, uid, _version(policy), parsed))  # type: ignore[misc]

    def _read(self, policy: Object) -> tuple[object | None, str]:
        """What the agents make of a policy: the parsed object, or why they refuse it."""
        try:
            parsed = self._hooks.policy(parse_policy(policy, strict=False))
        except PolicyError as error:
            return None, error.message
        answer = accept(parsed, self.options)
        return (None, answer.message) if isinstance(answer, Refusal) else (parsed, "")

    def _say(self, ref: Ref, uid: str, refusal: str) -> None:
        found = self._store.find(ref)
        if found is None or found["metadata"]["uid"] != uid or ref.kind == "NetworkPolicy":
            return
        message = refusal or "Policy validation succeeded"
        entry = {
            "type": "Valid",
            "status": "False" if refusal else "True",
            "message": message,
            "lastTransitionTime": self._clock.stamp(),
        }

        def change(policy: Object) -> None:
            policy.setdefault("status", {})["conditions"] = [entry]

        self._store.update(ref, change, manager="cilium-operator")

    def _import(self, agent: Agent, uid: str, version: str, parsed: object | None) -> None:
        if not agent.running:
            return
        policies = dict(agent.repository.policies)
        if parsed is None:
            if policies.pop(uid, None) is None:
                return
        elif policies.get(uid, ("", None))[0] == version:
            return
        else:
            policies[uid] = (version, parsed)  # type: ignore[assignment]
        self.changes += 1
        agent.repository = Snapshot(agent.repository.revision + 1, policies)
        for endpoint in agent.endpoints.values():
            if endpoint.identity:
                self._realize_later(agent, endpoint)

    def _realize_later(self, agent: Agent, endpoint: EndpointState) -> None:
        wanted = agent.repository

        def realize() -> None:
            if (
                endpoint.realized.revision > wanted.revision
                and agent.repository.revision >= endpoint.realized.revision
            ):
                return
            self.changes += 1
            endpoint.realized = replace(wanted)
            endpoint.state = "ready"
            self._publish(agent, endpoint)

        self._clock.after(agent.delay_s(_REALIZE_S, endpoint.name), realize)

    def learn_names(self, node: str, name: str, addresses: list[str]) -> None:
        """A node's DNS proxy has seen addresses for a name."""
        for address in addresses:
            known = self.agents[node].names.setdefault(address, set())
            if name not in known:
                self.changes += 1
                known.add(name)

    def network_is_up(self, node: str) -> bool:
        """Whether a node's agent is ready to give pods a network."""
        agent = self.agents[node]
        pod = self._store.find(Ref("v1", "Pod", agent.pod, self._hooks.namespace)) if agent.pod else None
        return agent.running and pod is not None and is_true(pod, "Ready")


def _version(policy: Object) -> str:
    return str(policy["metadata"].get("generation", 1))
