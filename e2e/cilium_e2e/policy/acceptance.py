"""From policy objects to the engine's rules: what the agent refuses, and what it makes of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cilium_e2e.model import PolicyError, PolicyRef
from cilium_e2e.policy.apirule import ApiRule, Item, from_cilium
from cilium_e2e.policy.engine import EngineRule, engine_rule
from cilium_e2e.policy.kubernetes import from_kubernetes
from cilium_e2e.policy.objects import CiliumPolicy, PolicyObject
from cilium_e2e.policy.objects_kubernetes import NetworkPolicy
from cilium_e2e.policy.options import Options
from cilium_e2e.policy.portnames import icmp_fault
from cilium_e2e.policy.sanitize import rule_fault
from cilium_e2e.policy.scope import scoped_rule
from cilium_e2e.policy.services import with_services
from cilium_e2e.policy.world import Service

_CNP, _CCNP = "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A policy the agent refuses as a whole, with its message."""

    policy: PolicyRef
    message: str

    def error(self, *, file: str = "") -> PolicyError:
        """The refusal as an error."""
        place = f"{file}: {self.policy}" if file else str(self.policy)
        return PolicyError(f"the agent refuses it: {self.message}", place=place)


def _icmp_faults(rules: Iterable[ApiRule]) -> str:
    """ICMP types the agent cannot even read; this comes before every other check."""
    fields = (
        field
        for rule in rules
        for item in rule.items()
        for icmp in item.icmps or ()
        for field in icmp.fields or ()
    )
    return next((fault for field in fields if (fault := icmp_fault(field.type, field.family or ""))), "")


def _has_groups(items: Iterable[Item]) -> bool:
    return any(item.groups for item in items)


class _Refused(Exception):
    """Ends the checks of one object."""


def _cilium(policy: CiliumPolicy, options: Options, services: Iterable[Service]) -> list[EngineRule]:
    """The rules of a Cilium policy.

    Raises:
        _Refused: the agent refuses it.
    """
    ref = policy.ref
    namespace = ref.namespace
    kind = _CNP if namespace else _CCNP
    if not ref.name:
        raise _Refused(f"{kind} must have name")
    if policy.spec is None and policy.specs is None:
        raise _Refused(f"Invalid {kind} spec(s): empty policy")
    written = [] if policy.spec is None else [("spec", from_cilium(policy.spec, "spec"))]
    written += [("specs", from_cilium(rule, f"specs[{i}]")) for i, rule in enumerate(policy.specs or ())]
    if fault := _icmp_faults(rule for _, rule in written):
        raise _Refused(fault)
    if any(_has_groups(rule.items()) for _, rule in written):
        # The operator writes derived policies for these; the object itself is never imported.
        return []
    found = []
    for field, rule in written:
        resolved = with_services(rule, services)
        if fault := rule_fault(resolved, options):
            raise _Refused(f"Invalid {kind} {field}: {fault}")
        if namespace and field == "spec" and rule.node_selector is not None:
            raise _Refused(f"Invalid {kind} spec: rule cannot have NodeSelector")
        scoped = scoped_rule(resolved, namespace=namespace, cluster=_policy_cluster(options))
        found.append(engine_rule(scoped, policy=ref, namespace=namespace, options=options))
    return found


def _policy_cluster(options: Options) -> str:
    return options.cluster_name if options.default_local_cluster else ""


def _kubernetes(policy: NetworkPolicy, options: Options) -> list[EngineRule]:
    rule = from_kubernetes(policy, cluster=_policy_cluster(options))
    if fault := rule_fault(rule, options):
        raise _Refused(fault)
    namespace = policy.ref.namespace or "default"
    return [engine_rule(rule, policy=policy.ref, namespace=namespace, options=options)]


def accept(
    policy: PolicyObject, options: Options, services: Iterable[Service] = ()
) -> tuple[EngineRule, ...] | Refusal:
    """What the agent makes of a policy: rules, or a refusal of the whole object.

    Only the agent's own checks count here; what the schema alone would refuse is in effect. A bad entry in
    ``specs`` refuses the whole object.

    Args:
        policy: the typed object.
        options: the release's.
        services: what ``toServices`` may refer to.
    """
    try:
        if isinstance(policy, NetworkPolicy):
            return tuple(_kubernetes(policy, options))
        return tuple(_cilium(policy, options, services))
    except _Refused as refusal:
        return Refusal(policy.ref, str(refusal))
