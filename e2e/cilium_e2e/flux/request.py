"""Have Flux reconcile an object now, as ``flux reconcile`` does, rather than at its next interval."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cilium_e2e.flux import explain
from cilium_e2e.kube import Kube, is_true
from cilium_e2e.model import Object, PatchType, Ref

ANNOTATION = "reconcile.fluxcd.io/requestedAt"


def reconcile(kube: Kube, ref: Ref, *, timeout_s: float) -> Object:
    """Request a reconcile and wait until it has been handled and the object is ready again.

    Raises:
        WaitTimeout: not in time; the message holds the object's last conditions.
        KubeError: there is no such object.
    """
    # Flux compares for equality only: anything that has not been there before is a request.
    token = f"{kube.clock.time():.3f}-{secrets.token_hex(4)}"
    body = {"metadata": {"annotations": {ANNOTATION: token}}}
    kube.retry(lambda: kube.transport.patch(ref, body, patch_type=PatchType.MERGE))

    def handled(found: Sequence[Object]) -> Object | None:
        return next(
            (
                obj
                for obj in found
                if (obj.get("status") or {}).get("lastHandledReconcileAt") == token and is_true(obj, "Ready")
            ),
            None,
        )

    return kube.wait(
        ref,
        handled,
        timeout_s=timeout_s,
        what=f"the requested reconcile of {ref} to succeed",
        describe=lambda found: "; ".join(map(explain.state, found)) or "it is gone",
    )
