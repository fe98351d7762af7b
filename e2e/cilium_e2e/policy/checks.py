"""The two layers of validation: what the API server refuses, and what only the agent refuses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cilium_e2e.model import PolicyError
from cilium_e2e.policy.acceptance import Refusal, accept
from cilium_e2e.policy.labels import selector_key
from cilium_e2e.policy.objects import PolicyObject
from cilium_e2e.policy.options import Options
from cilium_e2e.policy.parsing import describe
from cilium_e2e.policy.schema import Fields, Problem, aggregate, check
from cilium_e2e.policy.schema_cilium import CIDR_GROUP, POLICY
from cilium_e2e.policy.schema_kubernetes import NETWORK_POLICY, network_policy_problems
from cilium_e2e.policy.world import Service

_SCHEMAS: Mapping[str, Fields] = {
    "CiliumNetworkPolicy": POLICY,
    "CiliumClusterwideNetworkPolicy": POLICY,
    "CiliumCIDRGroup": CIDR_GROUP,
    "NetworkPolicy": NETWORK_POLICY,
}


def _selects_init(rule: object) -> bool:
    selector = rule.get("endpointSelector") if isinstance(rule, Mapping) else None
    if not isinstance(selector, Mapping):
        return False
    labels, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    keys = [*labels, *(item.get("key", "") for item in expressions)]
    return any(selector_key(key) == "reserved.init" for key in keys)


def check_schema(obj: Mapping[str, Any]) -> tuple[Problem, ...]:
    """What the CRD's schema, Kubernetes' own validation or Cilium's pre-flight check refuse in an object.

    The agent may take such an object nevertheless, where it gets past the API server: with an old CRD, say.

    Args:
        obj: the decoded object: a policy of any kind, or a CiliumCIDRGroup.

    Returns:
        All problems, each with its field path and the API server's words; empty where there are none.
    """
    kind = obj.get("kind")
    schema = _SCHEMAS.get(kind) if isinstance(kind, str) else None
    if schema is None:
        return (Problem("kind", f"kind: Unsupported value: supported values: {', '.join(_SCHEMAS)}"),)
    problems = list(check(schema, obj, ""))
    if not problems and kind == "NetworkPolicy":
        problems.extend(network_policy_problems(obj))
    if not problems and kind == "CiliumNetworkPolicy":
        rules = [obj.get("spec"), *(obj.get("specs") or [])]
        if any(_selects_init(rule) for rule in rules):
            message = "CiliumNetworkPolicy incorrectly matches reserved:init label"
            problems.append(Problem("spec.endpointSelector", message))
    return tuple(problems)


def require_schema(obj: Mapping[str, Any], *, file: str = "") -> None:
    """Refuse what :func:`check_schema` finds.

    Raises:
        PolicyError: with file, object and every field path.
    """
    if problems := check_schema(obj):
        raise PolicyError(f"the API server refuses it: {aggregate(problems)}", place=describe(obj, file=file))


def check_agent(
    policy: PolicyObject, options: Options | None = None, services: Iterable[Service] = ()
) -> str:
    """Why the agent refuses a policy as a whole, in its own words; empty where it does not.

    Args:
        policy: the typed object.
        options: the release's; the agent's defaults where omitted.
        services: what ``toServices`` may refer to.
    """
    answer = accept(policy, options or Options(), services)
    return answer.message if isinstance(answer, Refusal) else ""


def require_agent(policy: PolicyObject, options: Options | None = None, *, file: str = "") -> None:
    """Refuse what :func:`check_agent` finds.

    Raises:
        PolicyError: with file, object and field path.
    """
    answer = accept(policy, options or Options())
    if isinstance(answer, Refusal):
        raise answer.error(file=file)
