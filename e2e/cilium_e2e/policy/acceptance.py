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
    """A policy the agent refuses as a whole.

    Attributes:
        policy: the object.
        message: the agent's words.
        path: the field path of the part at fault, empty for the object itself.
    """

    policy: PolicyRef
    message: str
    path: str = ""

    def error(self, *, file: str = "") -> PolicyError:
        """The refusal as an error."""
        place = f"{file}: {self.policy}" if file else str(self.policy)
        at = f" at {self.path}" if self.path else ""
        return PolicyError(f"the agent refuses it{at}: {self.message}", place=place)


def _check_icmp_types(rules: Iterable[ApiRule]) -> None:
    """Refuse ICMP types the agent cannot even read; this comes before every other check.

    Raises:
        _Refused: there is one.
    """
    for rule in rules:
        for item in rule.items():
            for field in (field for icmp in item.icmps or () for field in icmp.fields or ()):
                if fault := icmp_fault(field.type, field.family or ""):
                    raise _Refused(fault, item.path)


def _has_groups(items: Iterable[Item]) -> bool:
    return any(item.groups for item in items)


class _Refused(Exception):
    """Ends the checks of one object."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


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
    _check_icmp_types(rule for _, rule in written)
    if any(_has_groups(rule.items()) for _, rule in written):
        # The operator writes derived policies for these; the object itself is never imported.
        return []
    found = []
    for field, rule in written:
        resolved = with_services(rule, services)
        fault, path = rule_fault(resolved, options)
        if fault:
            raise _Refused(f"Invalid {kind} {field}: {fault}", path)
        if namespace and field == "spec" and rule.node_selector is not None:
            raise _Refused(f"Invalid {kind} spec: rule cannot have NodeSelector", "spec.nodeSelector")
        scoped = scoped_rule(resolved, namespace=namespace, cluster=_policy_cluster(options))
        found.append(engine_rule(scoped, policy=ref, namespace=namespace, options=options))
    return found


def _policy_cluster(options: Options) -> str:
    return options.cluster_name if options.default_local_cluster else ""


def _kubernetes(policy: NetworkPolicy, options: Options) -> list[EngineRule]:
    rule = from_kubernetes(policy, cluster=_policy_cluster(options))
    fault, path = rule_fault(rule, options)
    if fault:
        raise _Refused(fault, path)
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
        return Refusal(policy.ref, str(refusal), refusal.path)
