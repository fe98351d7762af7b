"""The three transports under everything: the Kubernetes API, an exec stream, a flow source.

An adapter implements these and nothing else of the layers above. The live ones speak to a cluster, the
simulated ones to memory; façade, waits, batch client and flow matching run unchanged over both.
"""

from __future__ import annotations

import enum
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

from cilium_e2e.model.flow import Flow, FlowFilter, LostFlows, NodeStatus, TimeWindow

Object = dict[str, Any]
"""A Kubernetes object as decoded JSON."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Names one object, or with an empty ``name`` all objects of a kind.

    Attributes:
        api_version: ``v1``, ``apps/v1``, ``cilium.io/v2`` ...
        kind: ``Pod``, ``CiliumNetworkPolicy`` ...
        namespace: empty for cluster-scoped kinds, and in lists for all namespaces.
        name: the object's name.
    """

    api_version: str
    kind: str
    name: str = ""
    namespace: str = ""

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> Self:
        """The reference to a whole object."""
        meta = obj.get("metadata") or {}
        return cls(obj["apiVersion"], obj["kind"], meta.get("name", ""), meta.get("namespace", ""))

    def __str__(self) -> str:
        where = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {where}{self.name}".rstrip()


class EventType(enum.Enum):
    """Kinds of watch events."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One change of one object."""

    type: EventType
    object: Object


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A consistent list and the version of the collection it was read at."""

    items: list[Object]
    resource_version: str


class PatchType(enum.Enum):
    """Patch formats the API takes; the value is the media type."""

    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"


class ExecStream(Protocol):
    """A running command's standard streams, line by line.

    Every method raises :class:`~cilium_e2e.model.errors.StreamLost` when the connection goes away
    before the command ended, and never pretends that silence is an end.
    """

    def send_line(self, line: str) -> None:
        """Write one line, without its newline, to standard input."""
        ...

    def read_line(self, *, timeout_s: float) -> str | None:
        """The next line of standard output without its newline, or None once the command has ended.

        Raises:
            WaitTimeout: no line within ``timeout_s``.
        """
        ...

    @property
    def returncode(self) -> int | None:
        """The command's exit code, None while it runs."""
        ...

    def stderr(self) -> str:
        """What the command has written to standard error so far."""
        ...

    def close(self) -> None:
        """End the command; harmless when it has ended."""
        ...


class KubeTransport(Protocol):
    """The Kubernetes API on plain objects.

    Every method raises :class:`~cilium_e2e.model.errors.KubeError`, with the status code, for every
    answer other than success, and with status 0 when no answer came. Nothing is retried here.
    """

    def get(self, ref: Ref) -> Object:
        """One object."""
        ...

    def list(self, ref: Ref, *, label_selector: str = "", field_selector: str = "") -> ObjectList:
        """All objects of a kind, in one namespace or in all."""
        ...

    def watch(
        self,
        ref: Ref,
        *,
        resource_version: str,
        timeout_s: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Iterator[WatchEvent]:
        """Changes since ``resource_version``; ends after ``timeout_s`` or when the server ends it.

        Raises:
            KubeError: 410 when the version is too old.
        """
        ...

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        """Server-side apply; answers the object as stored."""
        ...

    def patch(
        self, ref: Ref, body: Object | Sequence[Object], *, patch_type: PatchType, subresource: str = ""
    ) -> Object:
        """Patch an object or one of its subresources (``status``, ``scale``)."""
        ...

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        """Ask for deletion; the object may live on until its finalizers are done."""
        ...

    def raw(self, path: str, *, timeout_s: float = 10.0) -> str:
        """GET any path of the API server (``/readyz``, ``/version``) as text."""
        ...

    def logs(self, ref: Ref, *, container: str, tail_lines: int, previous: bool = False) -> str:
        """The last lines of a container's log."""
        ...

    def exec(self, ref: Ref, *, container: str, command: Sequence[str]) -> ExecStream:
        """Start a command in a running container."""
        ...

    def connect(self, ref: Ref, *, port: int) -> socket.socket:
        """A connected byte stream to a port of a pod, through the API server."""
        ...

    def invalidate(self) -> None:
        """Forget what is known of kinds, after CRDs were installed."""
        ...

    def close(self) -> None:
        """Release connections."""
        ...


class FlowSource(Protocol):
    """Hubble flows of all nodes."""

    def start(self) -> None:
        """Open the stream; flows from now on are kept."""
        ...

    def flows(self, window: TimeWindow, filter: FlowFilter) -> list[Flow]:  # noqa: A002 - Hubble's word
        """The flows observed inside a window so far, in the order they arrived.

        Raises:
            StreamLost: the stream broke and could not be resumed without a gap in the window.
        """
        ...

    def wait_past(self, time_s: float, *, timeout_s: float) -> None:
        """Return once no flow older than ``time_s`` can still arrive.

        Raises:
            WaitTimeout: that was not so within ``timeout_s``.
        """
        ...

    def lost(self, window: TimeWindow) -> list[LostFlows]:
        """What Hubble says it lost inside a window."""
        ...

    def nodes(self) -> list[NodeStatus]:
        """The last word on each node's connection."""
        ...

    def close(self) -> None:
        """End the stream."""
        ...

    def __enter__(self) -> Self:
        """Start, for ``with``."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, for ``with``."""
        ...
