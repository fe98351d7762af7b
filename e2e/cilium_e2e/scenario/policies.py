"""A policy put into force: stored, taken, proven; or refused, in the words of whoever refuses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import suppress

from cilium_e2e.kube import Kube, condition
from cilium_e2e.model import (
    Cluster,
    EnforcementNotProven,
    KubeError,
    Object,
    PolicyError,
    PolicyRef,
    Proof,
    Ref,
)
from cilium_e2e.scenario.workload import remove

# How long the first proof is waited for before the policy's own status is looked at; each next one waits
# twice as long. Realization takes about 0.25 s, and so does a refusal.
_FIRST_LOOK_S = 1.0
_NOTHING_S = 1e-6
"""Less than this is no time left: sums of times are not exact."""
_GROUPS = {
    "CiliumNetworkPolicy": "cilium.io/v2",
    "CiliumClusterwideNetworkPolicy": "cilium.io/v2",
    "NetworkPolicy": "networking.k8s.io/v1",
}


def enforce(
    cluster: Cluster, kube: Kube, policy: Object, endpoints: Sequence[str], timeout_s: float = 30.0
) -> tuple[PolicyRef, Proof]:
    """Apply one policy and wait until every endpoint enforces it; see :func:`enforce_all`."""
    refs, proof = enforce_all(cluster, kube, [policy], endpoints, timeout_s)
    return refs[0], proof


def enforce_all(
    cluster: Cluster,
    kube: Kube,
    policies: Sequence[Object],
    endpoints: Sequence[str],
    timeout_s: float = 30.0,
    *,
    replaces: Sequence[PolicyRef] = (),
) -> tuple[list[PolicyRef], Proof]:
    """Apply policies and wait until every endpoint enforces them; removing them is the caller's.

    Args:
        cluster: where.
        kube: its API.
        policies: the objects.
        endpoints: ``namespace/pod`` of those that must enforce them.
        timeout_s: how long all of it may take, in seconds.
        replaces: policies that are removed once the others are stored, as Flux prunes, and proven gone.

    Raises:
        PolicyError: the API server or Cilium refuses one; the message holds their words.
        EnforcementNotProven: neither refused nor enforced in time.
    """
    start = cluster.clock.monotonic()
    # A change of a policy that exists shows in its rules only, so agents must be seen with the old ones.
    for policy in policies:
        if (old := kube.find(Ref.of(policy))) is not None:
            with suppress(PolicyError):  # what Cilium refuses is held by nobody; the new one may be taken
                _proven(cluster, kube, [reference(old)], (), start, timeout_s)
    live = [_apply(kube, policy) for policy in policies]
    for former in replaces:
        remove(kube, _ref(former))
    refs = [reference(stored) for stored in live]
    proof = _proven(cluster, kube, refs, endpoints, start, timeout_s, replaces)
    return refs, dataclasses.replace(proof, realized_s=cluster.clock.monotonic() - start)


def _proven(
    cluster: Cluster,
    kube: Kube,
    policies: Sequence[PolicyRef],
    endpoints: Sequence[str],
    start: float,
    timeout_s: float,
    absent: Sequence[PolicyRef] = (),
) -> Proof:
    """Prove policies in time, counted from ``start``; look now and then whether Cilium has refused one."""
    clock = cluster.clock
    patience_s = _FIRST_LOOK_S
    while True:
        left_s = timeout_s - (clock.monotonic() - start)
        try:
            return cluster.prove(
                policies, endpoints, absent=absent, timeout_s=min(patience_s, max(left_s, 0.0))
            )
        except EnforcementNotProven as error:
            for policy in policies:
                _refused(kube, _ref(policy))
            if timeout_s - (clock.monotonic() - start) < _NOTHING_S:
                missing = error.message.split(": ", 1)[-1]
                raise EnforcementNotProven(
                    f"not enforced within {timeout_s:g} s: {missing}", place=error.place, hint=error.hint
                ) from error
            patience_s *= 2


def reference(stored: Object) -> PolicyRef:
    """A policy as the API server has it now."""
    meta = stored["metadata"]
    return PolicyRef(
        stored["kind"], meta.get("namespace", ""), meta["name"], meta["uid"], meta.get("generation", 0)
    )


def _ref(policy: PolicyRef) -> Ref:
    return Ref(_GROUPS[policy.kind], policy.kind, policy.name, policy.namespace)


def _apply(kube: Kube, policy: Object) -> Object:
    try:
        return kube.apply(policy)
    except KubeError as error:
        if error.status not in {400, 422}:
            raise
        raise PolicyError(
            f"the API server refuses the policy: {error.message}", place=str(Ref.of(policy))
        ) from error


def _refused(kube: Kube, policy: Ref) -> None:
    """Raise when Cilium says that it does not take a policy which the API server has stored."""
    live = kube.find(policy)
    valid = condition(live, "Valid") if live is not None else None
    if valid is not None and valid["status"] == "False":
        raise PolicyError(
            f"Cilium refuses the policy: {valid.get('message', '').strip() or 'it does not say why'}",
            place=str(policy),
            hint="The API server has stored it, but no agent enforces it.",
        )
