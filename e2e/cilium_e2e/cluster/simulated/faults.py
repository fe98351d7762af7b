"""What can be wrong with a simulated cluster: each fault must make a run of the suites fail.

A fault comes into being when the cluster is ready, so that a run gets as far as its tests.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cilium_e2e.cluster.simulated.agent import EndpointState, Snapshot
from cilium_e2e.cluster.simulated.conditions import put
from cilium_e2e.cluster.simulated.kinds import HELM
from cilium_e2e.hubble.matching import DROP, POLICY_VERDICT
from cilium_e2e.model import (
    Direction,
    Flow,
    FlowVerdict,
    InputError,
    KubeError,
    Object,
    PolicyRef,
    Ref,
    StreamLost,
)
from cilium_e2e.policy import PolicyObject, dump, parse_policy

if TYPE_CHECKING:
    from cilium_e2e.cluster.simulated.simulation import Simulation

_ANYWHERE = {4: "0.0.0.0/0", 6: "::/0"}
_RESTART_AT = 12
_LOSE_EACH = 10
_TEST_NAMESPACES = "ce2e-"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its name, what is wrong then, and how to bring it about."""

    name: str
    description: str
    install: Callable[[Simulation], None]


def find(name: str) -> Fault:
    """A fault by name.

    Raises:
        InputError: there is none.
    """
    found = next((fault for fault in FAULTS if fault.name == name), None)
    if found is None:
        known = ", ".join(fault.name for fault in FAULTS)
        raise InputError(f"expected one of {known}, got {name!r}", place=f"--inject {name}")
    return found


def _not_enforced(simulation: Simulation) -> None:
    simulation.hooks.enforces = lambda snapshot: Snapshot(snapshot.revision, {})


def _no_egress(simulation: Simulation) -> None:
    simulation.hooks.judged = lambda direction: direction is Direction.INGRESS


def _no_ingress(simulation: Simulation) -> None:
    simulation.hooks.judged = lambda direction: direction is Direction.EGRESS


def _cidr_as_any(simulation: Simulation) -> None:
    def widened(value: Any) -> Any:
        if isinstance(value, dict):
            items: dict[str, Any] = {}
            for key, item in value.items():
                items[key] = _wide(key, item) if key in _PREFIXES else widened(item)
            return items
        return [widened(item) for item in value] if isinstance(value, list) else value

    def policy(parsed: PolicyObject) -> PolicyObject:
        written: Object = dump(parsed)
        rules: Object = {key: widened(written[key]) for key in ("spec", "specs") if key in written}
        changed: Object = {**written, **rules}
        return parse_policy(changed, strict=False)

    simulation.hooks.policy = policy


_PREFIXES = {"fromCIDR", "toCIDR", "cidr", "except"}


def _wide(key: str, value: Any) -> Any:
    """Any address in place of a prefix, and no exceptions."""
    if key == "except":
        return []
    if isinstance(value, list):
        return [_ANYWHERE[6 if ":" in text else 4] for text in value]
    return _ANYWHERE[6 if ":" in value else 4]


def _stale_identity(simulation: Simulation) -> None:
    def labels(endpoint: EndpointState, wanted: tuple[str, ...]) -> tuple[str, ...]:
        return endpoint.labels or wanted

    simulation.hooks.identity_labels = labels


def _stale_ipcache(simulation: Simulation) -> None:
    last = list(simulation.agents.agents)[-1]
    simulation.hooks.learns = lambda node, ip, known: node != last or not known  # noqa: ARG005
    simulation.hooks.keeps_mapping = lambda node, ip: node == last  # noqa: ARG005 - a hook's arguments


def _cross_node_loss(simulation: Simulation) -> None:
    first, *others = simulation.agents.agents
    broken = {first, others[0]} if others else set()
    simulation.hooks.carried = lambda source, target: {source, target} != broken


def _no_dns(simulation: Simulation) -> None:
    simulation.hooks.resolves = lambda: False


def _wrong_backend(simulation: Simulation) -> None:
    simulation.hooks.backend = lambda count, chosen: -1 if count else chosen


def _one_backend(simulation: Simulation) -> None:
    simulation.hooks.backend = lambda count, chosen: 0  # noqa: ARG005 - a hook's arguments


def _relay_without_node(simulation: Simulation) -> None:
    last = list(simulation.agents.agents)[-1]
    simulation.hooks.connected = lambda node: node != last


def _no_drop_reason(simulation: Simulation) -> None:
    simulation.hooks.flow = lambda flow: replace(flow, drop_reason="")


def _wrong_policy(simulation: Simulation) -> None:
    def flow(seen: Flow) -> Flow:
        if seen.event_type != POLICY_VERDICT or not seen.policies:
            return seen
        first = seen.policies[0]
        return replace(seen, policies=(PolicyRef(first.kind, first.namespace, f"not-{first.name}"),))

    simulation.hooks.flow = flow


def _no_drop_flows(simulation: Simulation) -> None:
    def flow(seen: Flow) -> Flow | None:
        return None if seen.event_type == DROP or seen.verdict is FlowVerdict.DROPPED else seen

    simulation.hooks.flow = flow


def _lost_events(simulation: Simulation) -> None:
    numbers = itertools.count(1)
    simulation.hooks.loses = lambda node: 3 if next(numbers) % _LOSE_EACH == 0 else 0  # noqa: ARG005


def _agent_crash(simulation: Simulation) -> None:
    def crash(number: int) -> None:
        if number != _RESTART_AT:
            return
        agent = next(iter(simulation.agents.agents.values()))
        ref = Ref("v1", "Pod", agent.pod, simulation.hooks.namespace)

        def restarted(pod: Object) -> None:
            for container in pod["status"]["containerStatuses"]:
                container["restartCount"] += 1
                ended = {"exitCode": 2, "reason": "Error", "message": "panic: injected"}
                container["lastState"] = {"terminated": ended}

        simulation.store.update(ref, restarted, manager="kubelet")
        simulation.agents.restart(agent)

    simulation.hooks.on_probes = crash


def _api_errors(simulation: Simulation) -> None:
    def call(verb: str, ref: Ref) -> None:
        if verb == "list" and ref.kind == "Pod" and ref.namespace.startswith(_TEST_NAMESPACES):
            raise KubeError(503, "ServiceUnavailable", "injected: etcdserver: leader changed", place=str(ref))

    simulation.hooks.call = call


def _dead_streams(simulation: Simulation) -> None:
    def line(pod: Ref) -> None:
        if pod.namespace.startswith(_TEST_NAMESPACES):
            raise StreamLost("injected: the connection was reset", place=str(pod))

    simulation.hooks.line = line


def _helm_failing(simulation: Simulation) -> None:
    simulation.hooks.helm = "injected: Helm upgrade failed: context deadline exceeded"
    release = simulation.tree.repository.release.ref
    message = simulation.hooks.helm
    simulation.store.update(
        Ref(HELM, "HelmRelease", release.name, release.namespace),
        lambda found: put(found, simulation.clock, "Ready", "False", "UpgradeFailed", message),
        manager="helm-controller",
    )


def _value_not_reaching(simulation: Simulation) -> None:
    """The ConfigMap has a new value, as after an upgrade of a release that does not roll its pods."""

    def changed(config: Object) -> None:
        config["data"] = {**config["data"], "monitor-aggregation": "none"}

    ref = Ref("v1", "ConfigMap", "cilium-config", simulation.hooks.namespace)
    simulation.store.update(ref, changed, manager="helm-controller")


def _never_ready(simulation: Simulation) -> None:
    simulation.hooks.becomes_ready = lambda pod: not pod["metadata"]["namespace"].startswith(_TEST_NAMESPACES)


def _policy_outlives(simulation: Simulation) -> None:
    def enforces(snapshot: Snapshot) -> Snapshot:
        kept.update(snapshot.policies)
        return dataclasses.replace(snapshot, policies=dict(kept))

    kept: dict[str, tuple[str, PolicyObject]] = {}
    simulation.hooks.enforces = enforces


FAULTS = (
    Fault(
        "policy-not-enforced",
        "agents say that policies are realized, the datapath enforces none",
        _not_enforced,
    ),
    Fault("egress-ignored", "no egress rule is enforced", _no_egress),
    Fault("ingress-ignored", "no ingress rule is enforced", _no_ingress),
    Fault("policy-outlives-deletion", "deleted policies stay in the datapath", _policy_outlives),
    Fault("cidr-as-any", "a prefix in a rule is taken for any address", _cidr_as_any),
    Fault("stale-identity", "a pod keeps its identity when its labels change", _stale_identity),
    Fault("stale-ipcache", "one node does not learn that an address has another identity", _stale_ipcache),
    Fault("cross-node-loss", "packets between two nodes are lost", _cross_node_loss),
    Fault("dns-failing", "cluster DNS answers SERVFAIL", _no_dns),
    Fault("wrong-backend", "a Service leads to a pod that is not behind it", _wrong_backend),
    Fault("one-backend", "a Service leads to the first of its backends only", _one_backend),
    Fault("relay-missing-node", "relay is not connected to one node", _relay_without_node),
    Fault("flow-without-reason", "drops have no reason", _no_drop_reason),
    Fault("flow-wrong-policy", "verdicts name another policy", _wrong_policy),
    Fault("flow-missing-drops", "drops are not told at all", _no_drop_flows),
    Fault("lost-events", "an observer's queue overflows now and then", _lost_events),
    Fault("agent-crash", "an agent crashes while probes are made", _agent_crash),
    Fault("api-errors", "the API server fails for longer than is retried", _api_errors),
    Fault("exec-streams-die", "every exec stream to a probe agent dies", _dead_streams),
    Fault("helm-failing", "the HelmRelease fails to upgrade", _helm_failing),
    Fault(
        "value-not-reaching",
        "a changed value reaches the ConfigMap and no running agent",
        _value_not_reaching,
    ),
    Fault("never-ready", "pods start and never become ready", _never_ready),
)
"""All of them, in the order they are listed."""
