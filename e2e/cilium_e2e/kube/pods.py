"""Pods in words, for messages of waits."""

from __future__ import annotations

from collections.abc import Sequence

from cilium_e2e.kube.facade import condition
from cilium_e2e.model import Object


def pod_states(found: Sequence[Object]) -> str:
    """Each pod with its phase, what its containers wait for, and why no node takes it."""
    lines = []
    for entry in found:
        status = entry.get("status") or {}
        waits = {
            c["name"]: c["state"]["waiting"]
            for c in status.get("containerStatuses") or []
            if "waiting" in (c.get("state") or {})
        }
        waiting = [f"{name} {w.get('reason')} {w.get('message', '')}".strip() for name, w in waits.items()]
        scheduled = condition(entry, "PodScheduled") or {}
        if scheduled.get("status") == "False":
            waiting.append(f"{scheduled.get('reason', '')} {scheduled.get('message', '')}".strip())
        detail = f" ({'; '.join(waiting)})" if waiting else ""
        lines.append(f"{entry['metadata']['name']} {status.get('phase', 'unknown')}{detail}")
    return ", ".join(lines) or "no pod"
