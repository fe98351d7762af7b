"""List, then watch, then list again: the current state of some objects, as it changes."""

from __future__ import annotations

from collections.abc import Iterator

from cilium_e2e.model import Clock, EventType, KubeError, KubeTransport, Object, Ref

# A watch is reopened this often; the API server would end it after some minutes anyway.
_WATCH_S = 60.0
_RETRY_PAUSE_S = 0.5


def key(obj: Object) -> tuple[str, str]:
    """Namespace and name of an object."""
    meta = obj["metadata"]
    return meta.get("namespace", ""), meta["name"]


def follow(
    transport: KubeTransport, clock: Clock, ref: Ref, *, deadline: float, label_selector: str = ""
) -> Iterator[tuple[list[Object], str]]:
    """All objects of a kind (with a name, that one) after each change, until ``deadline``.

    Yields:
        the objects and an empty string, or the last objects and why they cannot be read just now.

    Raises:
        KubeError: an answer that no waiting will change, such as 403.
    """
    field_selector = f"metadata.name={ref.name}" if ref.name else ""
    kind = Ref(ref.api_version, ref.kind, namespace=ref.namespace)
    seen: dict[tuple[str, str], Object] = {}
    while (left := deadline - clock.monotonic()) > 0:
        try:
            listed = transport.list(kind, label_selector=label_selector, field_selector=field_selector)
            seen = {key(obj): obj for obj in listed.items}
            yield list(seen.values()), ""
            opened = clock.monotonic()
            for event in transport.watch(
                kind,
                resource_version=listed.resource_version,
                timeout_s=min(max(left, 1.0), _WATCH_S),
                label_selector=label_selector,
                field_selector=field_selector,
            ):
                if event.type is EventType.BOOKMARK:
                    continue
                if event.type is EventType.DELETED:
                    seen.pop(key(event.object), None)
                else:
                    seen[key(event.object)] = event.object
                yield list(seen.values()), ""
            if clock.monotonic() - opened < _RETRY_PAUSE_S:
                clock.sleep(_RETRY_PAUSE_S)  # ended by a server that is busy or leaving
        except KubeError as error:
            # A kind that is not there yet, an API server that restarts, a version too old: list again.
            if not (error.retryable or error.not_found or error.expired):
                raise
            if error.not_found:
                transport.invalidate()
            yield list(seen.values()), str(error)
            clock.sleep(_RETRY_PAUSE_S)
