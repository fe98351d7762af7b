"""``cilium-dbg`` in a simulated agent: the same JSON as the real one prints, as far as the harness reads it.

The shapes are those of recordings of Cilium 1.18.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cilium_e2e.cluster.counters import DENIED_BY_DEFAULT, DENIED_BY_RULE, DROPS, FORWARDS
from cilium_e2e.cluster.simulated.agent import HEALTH_ID, HOST_ID, Agent, EndpointState
from cilium_e2e.cluster.simulated.agents import Agents
from cilium_e2e.cluster.simulated.recorder import Recorder
from cilium_e2e.cluster.simulated.services import Frontend, Services
from cilium_e2e.cluster.simulated.verdicts import Verdicts
from cilium_e2e.model import Direction, PolicyRef
from cilium_e2e.policy import PolicyObject, dump

_KEY = "io.cilium.k8s.policy"
REASONS = {"POLICY_DENIED": DENIED_BY_DEFAULT, "POLICY_DENY": DENIED_BY_RULE}
"""Drop reasons as Hubble names them to what the datapath counts them as."""


class Dbg:
    """The agents' command line.

    Args:
        agents: all agents.
        verdicts: who enforces what.
        services: what agents translate.
        recorder: counts what was forwarded and dropped.
    """

    def __init__(self, agents: Agents, verdicts: Verdicts, services: Services, recorder: Recorder) -> None:
        self._recorder = recorder
        self._agents = agents
        self._verdicts = verdicts
        self._services = services
        self._commands: dict[tuple[str, ...], Callable[[Agent], Any]] = {
            ("policy", "get"): self.policy,
            ("endpoint", "list"): self.endpoints,
            ("status",): self.status,
            ("config", "--all"): self.options,
            ("ip", "list"): self.ip_list,
            ("bpf", "ipcache", "list"): self.ipcache,
            ("service", "list"): self.service_list,
            ("identity", "list"): self.identity_list,
            ("metrics", "list"): self.metrics,
        }

    def knows(self, words: tuple[str, ...]) -> bool:
        """Whether a command is simulated: ``cilium-dbg QUESTION -o json``."""
        return words[:1] == ("cilium-dbg",) and words[-2:] == ("-o", "json") and words[1:-2] in self._commands

    def answer(self, agent: Agent, words: tuple[str, ...]) -> str:
        """What a command prints."""
        return json.dumps(self._commands[words[1:-2]](agent))

    def policy(self, agent: Agent) -> dict[str, Any]:
        """``policy get``: the rules as a JSON text of their own."""
        rules = [
            {**spec, "labels": _labels(policy.ref)}
            for _, policy in agent.repository.policies.values()
            for spec in _specs(policy)
        ]
        return {"policy": json.dumps(rules), "revision": agent.repository.revision}

    def endpoints(self, agent: Agent) -> list[dict[str, Any]]:
        """``endpoint list``."""
        found = [self._endpoint(agent, endpoint) for endpoint in agent.endpoints.values()]
        for number, name, identity in ((10, "host", HOST_ID), (11, "health", HEALTH_ID)):
            addressing = [{"ipv4": agent.health()}] if name == "health" else [{}]
            labels = [f"reserved:{name}"]
            found.append(
                {
                    "id": number,
                    "status": {
                        "external-identifiers": {"pod-name": "/"},
                        "identity": {"id": identity, "labels": labels},
                        "networking": {"addressing": addressing},
                        "policy": {"realized": {"policy-revision": agent.repository.revision}},
                        "state": "ready",
                    },
                }
            )
        return found

    def _endpoint(self, agent: Agent, endpoint: EndpointState) -> dict[str, Any]:
        addressing = {("ipv6" if ":" in ip else "ipv4"): ip for ip in endpoint.ips}
        realized = {
            "id": endpoint.identity,
            "l4": self._l4(agent, endpoint),
            "policy-revision": endpoint.realized.revision,
        }
        return {
            "id": endpoint.id,
            "status": {
                "external-identifiers": {
                    "k8s-namespace": endpoint.namespace,
                    "k8s-pod-name": endpoint.pod,
                    "pod-name": endpoint.name,
                },
                "identity": {"id": endpoint.identity, "labels": list(endpoint.labels)},
                "named-ports": [
                    {"name": name, "port": port, "protocol": protocol}
                    for name, (port, protocol) in endpoint.named_ports.items()
                ],
                "networking": {"addressing": [addressing]},
                "policy": {"realized": realized, "spec": realized},
                "state": endpoint.state,
            },
        }

    def _l4(self, agent: Agent, endpoint: EndpointState) -> dict[str, Any]:
        found = self._verdicts.labels_of(agent, endpoint.realized, endpoint.name)
        if found is None:
            return {"egress": [], "ingress": []}
        oracle, identity = found
        answer: dict[str, Any] = {}
        for direction in Direction:
            policy = oracle.identity_policy(identity, direction)
            refs = dict.fromkeys(entry.ref.policy for entry in policy.entries if entry.ref is not None)
            answer[direction.value.lower()] = [
                {"derived-from-rules": [[f"k8s:{x['key']}={x['value']}" for x in _labels(ref)]]}
                for ref in refs
            ]
        return answer

    def status(self, agent: Agent) -> dict[str, Any]:
        """``status``: what the options it has loaded make it do."""
        option = agent.config.get
        tunnel = option("routing-mode") == "tunnel"
        replacement = option("kube-proxy-replacement") == "true"
        legacy = option("enable-host-legacy-routing") == "true"
        bpf = option("enable-bpf-masquerade") == "true"
        allocations = {ip: e.name for e in agent.endpoints.values() for ip in e.ips if ":" not in ip}
        hubble = option("enable-hubble") == "true"
        answer: dict[str, Any] = {
            "attach-mode": "tcx",
            "cilium": {"state": "Ok", "msg": "simulated"},
            "cluster": {"ciliumHealth": {"state": "Ok"}, "self": agent.node},
            "cni-file": {"state": "Ok", "msg": "simulated"},
            "controllers": [],
            "encryption": {"mode": "Disabled"},
            "hubble": {"state": "Ok" if hubble else "Disabled"},
            "ipam": {"allocations": {agent.router(): "router", agent.health(): "health", **allocations}},
            "kube-proxy-replacement": {
                "mode": "True" if replacement else "False",
                "features": {"socketLB": {"enabled": replacement}},
            },
            "kubernetes": {"state": "Ok"},
            "masquerading": {"enabled": True, "mode": "BPF" if bpf else "iptables"},
            "routing": {
                "inter-host-routing-mode": "Tunnel" if tunnel else "Native",
                "intra-host-routing-mode": "BPF" if bpf and replacement and not legacy else "Legacy",
                "tunnel-protocol": option("tunnel-protocol", "") if tunnel else "",
            },
        }
        if option("enable-wireguard") == "true":
            answer["encryption"] = {"mode": "Wireguard"}
        elif option("enable-ipsec") == "true":
            answer["encryption"] = {"mode": "IPsec"}
        if option("enable-l7-proxy") == "true":
            external = option("external-envoy-proxy") == "true"
            answer["proxy"] = {"envoy-deployment-mode": "external" if external else "embedded"}
        return answer

    def options(self, agent: Agent) -> dict[str, Any]:
        """``config --all``: the options the process holds."""
        option = agent.config.get

        def on(name: str) -> bool:
            return option(name) == "true"

        return {
            "CGroupRoot": option("cgroup-root", ""),
            "ClusterHealthPort": 4240,
            "ClusterID": int(option("cluster-id", "0") or 0),
            "ClusterName": option("cluster-name", "default"),
            "EnableHostFirewall": on("enable-host-firewall"),
            "EnableHostLegacyRouting": on("enable-host-legacy-routing"),
            "EnableIPv4": on("enable-ipv4"),
            "EnableIPv6": on("enable-ipv6"),
            "EnableL7Proxy": on("enable-l7-proxy"),
            "EnableLocalRedirectPolicy": on("enable-local-redirect-policy"),
            "IPAM": option("ipam", ""),
            "policy-enforcement": option("enable-policy", "default"),
        }

    def ip_list(self, agent: Agent) -> list[dict[str, Any]]:
        """``ip list``: every address the agent has an identity for."""
        return [
            {
                "cidr": f"{ip}/{128 if ':' in ip else 32}",
                "encryptKey": 0,
                "hostIP": entry.host,
                "identity": entry.identity,
                "metadata": {"source": entry.source},
            }
            for ip, entry in sorted(agent.ipcache.items())
        ]

    def ipcache(self, agent: Agent) -> dict[str, list[str]]:
        """``bpf ipcache list``: the same, as the datapath has it."""
        return {
            f"{ip}/{128 if ':' in ip else 32}": [
                f"identity={entry.identity} encryptkey=0 tunnelendpoint={entry.host} flags=<none>"
            ]
            for ip, entry in sorted(agent.ipcache.items())
        }

    def service_list(self, agent: Agent) -> list[dict[str, Any]]:
        """``service list``: frontends with their backends; a node port is one of each node address."""
        entries: list[tuple[str, Frontend]] = []
        for frontend in self._services.frontends.values():
            ips = [frontend.ip] if frontend.ip else ["0.0.0.0", *agent.plan.ips]  # noqa: S104 - a table's entry
            entries += [(ip, frontend) for ip in ips]
        return [_service(number, ip, frontend) for number, (ip, frontend) in enumerate(entries, start=1)]

    def metrics(self, agent: Agent) -> list[dict[str, Any]]:
        """``metrics list``: what the datapath has forwarded and dropped since it was loaded."""
        dropped, forwarded = self._recorder.counted(agent.node)
        found: list[dict[str, Any]] = [
            {"name": DROPS, "labels": {"direction": direction, "reason": REASONS[reason]}, "value": count}
            for (reason, direction), count in dropped.items()
        ]
        found.append({"name": FORWARDS, "labels": {"direction": "INGRESS"}, "value": forwarded})
        return found

    def identity_list(self, agent: Agent) -> list[dict[str, Any]]:
        """``identity list``."""
        del agent
        known = {e.identity: e.labels for a in self._agents.agents.values() for e in a.endpoints.values()}
        return [{"id": number, "labels": list(labels)} for number, labels in sorted(known.items()) if number]


def _service(number: int, ip: str, frontend: Frontend) -> dict[str, Any]:
    spec = {
        "id": number,
        "frontend-address": {
            "ip": ip,
            "port": frontend.port,
            "protocol": frontend.protocol,
            "scope": "external",
        },
        "backend-addresses": [
            {
                "ip": backend.ip,
                "nodeName": backend.node,
                "port": backend.port,
                "preferred": True,
                "protocol": frontend.protocol,
                "state": "active",
                "weight": 100,
            }
            for backend in frontend.backends
        ],
        "flags": {
            "extTrafficPolicy": "Local" if frontend.local else "Cluster",
            "intTrafficPolicy": "Cluster",
            "name": frontend.name,
            "namespace": frontend.namespace,
            "trafficPolicy": "Local" if frontend.local else "Cluster",
            "type": frontend.kind,
        },
    }
    return {"spec": spec, "status": {"realized": spec}}


def _specs(policy: PolicyObject) -> list[dict[str, Any]]:
    written = dump(policy)
    return [spec for spec in (written.get("spec"), *(written.get("specs") or ())) if spec is not None]


def _labels(ref: PolicyRef) -> list[dict[str, str]]:
    pairs = [("derived-from", ref.kind), ("name", ref.name), ("namespace", ref.namespace), ("uid", ref.uid)]
    return [{"key": f"{_KEY}.{name}", "value": value, "source": "k8s"} for name, value in pairs if value]
