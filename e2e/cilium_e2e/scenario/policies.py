"""A policy put into force: stored, taken, proven; or refused, in the words of whoever refuses it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

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

# How long the first proof is waited for before the policy's own status is looked at; each next one waits
# twice as long. Realization takes about 0.25 s, and so does a refusal.
_FIRST_LOOK_S = 1.0


def enforce(
    cluster: Cluster, kube: Kube, policy: Object, endpoints: Sequence[str], timeout_s: float = 30.0
) -> tuple[PolicyRef, Proof]:
    """Apply a policy and wait until every endpoint enforces it. Removing it is the caller's, also on errors.

    Args:
        cluster: where.
        kube: its API.
        policy: the object.
        endpoints: ``namespace/pod`` of those that must enforce it.
        timeout_s: how long, in seconds.

    Raises:
        PolicyError: the API server or Cilium refuses it; the message holds their words.
        EnforcementNotProven: it was neither refused nor enforced in time.
    """
    clock = cluster.clock
    start = clock.monotonic()
    try:
        stored = kube.apply(policy)
    except KubeError as error:
        if error.status not in {400, 422}:
            raise
        raise PolicyError(
            f"the API server refuses the policy: {error.message}", place=str(Ref.of(policy))
        ) from error
    live = Ref.of(stored)
    ref = PolicyRef(live.kind, live.namespace, live.name, stored["metadata"]["uid"])
    patience_s = _FIRST_LOOK_S
    while True:
        left_s = timeout_s - (clock.monotonic() - start)
        try:
            proof = cluster.prove([ref], endpoints, timeout_s=min(patience_s, max(left_s, 0.0)))
        except EnforcementNotProven as error:
            _refused(kube, live)
            if clock.monotonic() - start >= timeout_s:
                missing = error.message.split(": ", 1)[-1]
                raise EnforcementNotProven(
                    f"not enforced within {timeout_s:g} s: {missing}", place=error.place, hint=error.hint
                ) from error
            patience_s *= 2
        else:
            return ref, dataclasses.replace(proof, realized_s=clock.monotonic() - start)


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
