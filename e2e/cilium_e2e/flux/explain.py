"""Why Flux is not done: its own conditions, the objects' events, the pods' state, in a few lines."""

from __future__ import annotations

from typing import Any

from cilium_e2e.kube import Kube, condition
from cilium_e2e.model import KubeError, Object, Ref

_EVENT_LIMIT = 5
_LOG_LINES = 3


def state(obj: Object) -> str:
    """An object's Ready condition in its own words."""
    name = f"{obj['kind']} {obj['metadata'].get('namespace', '')}/{obj['metadata']['name']}"
    ready = condition(obj, "Ready")
    if ready is None:
        return f"{name}: not yet reconciled"
    return f"{name}: Ready={ready['status']} {ready.get('reason', '')}: {ready.get('message', '').strip()}"


def stalled(obj: Object) -> bool:
    """Whether Flux itself has given up on this generation."""
    return (condition(obj, "Stalled") or {}).get("status") == "True"


def namespace(kube: Kube, name: str) -> list[str]:
    """What keeps the pods of a namespace from being ready, one line each."""
    lines: list[str] = []
    try:
        for pod in kube.list_all(Ref("v1", "Pod", namespace=name)):
            lines += _pod(kube, pod)
        lines += _warnings(kube, name)
    except KubeError as error:
        lines.append(f"namespace {name} cannot be looked at: {error}")
    return lines


def _pod(kube: Kube, pod: Object) -> list[str]:
    """The containers of a pod that are not ready, with their reason and their last words."""
    ref = Ref.of({**pod, "apiVersion": "v1", "kind": "Pod"})
    status = pod.get("status") or {}
    lines: list[str] = []
    for entry in (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or []):
        terminated = (entry.get("state") or {}).get("terminated") or {}
        if entry.get("ready") or terminated.get("exitCode") == 0:
            continue
        reason = _reason(entry)
        lines.append(f"{ref}, container {entry['name']}: {reason}")
        if entry.get("restartCount") or "running" in (entry.get("state") or {}):
            lines += _last_words(kube, ref, entry)
    if not lines and status.get("phase") == "Pending":
        unscheduled = condition(pod, "PodScheduled") or {}
        if unscheduled.get("status") == "False":
            lines.append(f"{ref}: not scheduled: {unscheduled.get('message', '')}")
    return lines


def _reason(entry: dict[str, Any]) -> str:
    state_of = entry.get("state") or {}
    for kind in ("waiting", "terminated"):
        if state_of.get(kind):
            detail = state_of[kind]
            text = f"{detail.get('reason', kind)} {detail.get('message', '')}".strip()
            return f"{text} (exit code {detail['exitCode']})" if "exitCode" in detail else text
    return f"running but not ready, {entry.get('restartCount', 0)} restarts"


def _last_words(kube: Kube, ref: Ref, entry: dict[str, Any]) -> list[str]:
    """The end of a container's log; of the run before, if it has just been restarted."""
    for previous in (bool(entry.get("restartCount")), False):
        try:
            text = kube.transport.logs(ref, container=entry["name"], tail_lines=_LOG_LINES, previous=previous)
        except KubeError:
            continue  # no such log: the container has not run, or its log is gone
        return [f"  log: {line}" for line in text.strip().splitlines()]
    return []


def _warnings(kube: Kube, name: str) -> list[str]:
    """The newest warning events of a namespace, each message once."""
    events = [e for e in kube.list_all(Ref("v1", "Event", namespace=name)) if e.get("type") == "Warning"]
    events.sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    lines: dict[str, None] = {}
    for event in events:
        about = event.get("involvedObject") or {}
        what = f"{event.get('reason', '')} on {about.get('kind', '')} {about.get('name', '')}"
        text = f"event {what}: {(event.get('message') or '').strip()}"
        lines.pop(text, None)
        lines[text] = None
    return list(lines)[-_EVENT_LIMIT:]
