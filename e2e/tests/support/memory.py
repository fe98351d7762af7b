"""A Kubernetes API in memory, with virtual time: resource versions, watches, and errors on demand."""

from __future__ import annotations

import copy
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from cilium_e2e.model import (
    EventType,
    ExecStream,
    KubeError,
    Object,
    ObjectList,
    PatchType,
    Ref,
    WaitTimeout,
    WatchEvent,
)


class VirtualClock:
    """Time that passes only when somebody sleeps, or when everybody watches."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class FakeExec:
    """A command's streams, scripted: lines, then an exit code; an exception in place of a line is raised."""

    def __init__(self, *lines: str | Exception, code: int | None = 0, stderr: str = "") -> None:
        self.lines = list(lines)
        self.code = code
        self.err = stderr
        self.sent: list[str] = []
        self.closed = False
        self.ended = False

    def send_line(self, line: str) -> None:
        self.sent.append(line)

    def read_line(self, *, timeout_s: float) -> str | None:
        if timeout_s <= 0:
            raise WaitTimeout("no line came in time", place="fake exec")
        if not self.lines:
            self.ended = True
            return None
        line = self.lines.pop(0)
        if isinstance(line, Exception):
            raise line
        return line

    @property
    def returncode(self) -> int | None:
        return self.code if self.ended else None

    def stderr(self) -> str:
        return self.err

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    event: WatchEvent


@dataclass(slots=True)
class _Failure:
    method: str
    error: KubeError
    kind: str
    times: int


@dataclass(order=True, slots=True)
class _Later:
    at_s: float
    action: Callable[[], object] = field(compare=False)


class MemoryTransport:
    """:class:`KubeTransport` over a dictionary.

    A watch that has nothing to tell lets virtual time pass: up to the next action of :meth:`later`, or to
    its own end. With several threads at it, time passes only when all that ever watched and are still
    alive do nothing else (and at least ``watchers`` of them have come).
    """

    def __init__(self, *objects: Object, clock: VirtualClock | None = None, watchers: int = 1) -> None:
        self.clock = clock or VirtualClock()
        self.version = 0
        self.oldest = 0
        self.calls: list[tuple[str, str]] = []
        self.applied: list[Object] = []
        self.patched: list[tuple[Ref, Any, PatchType, str]] = []
        self.missing_kinds: set[str] = set()
        self.invalidated = 0
        self.closed = False
        self.frozen = False
        self.log_texts: dict[tuple[str, str, bool], str] = {}
        self.on_exec: Callable[[Ref, str, Sequence[str]], ExecStream] | None = None
        self.on_connect: Callable[[Ref, int], socket.socket] | None = None
        self.on_apply: Callable[[Object], object] | None = None
        self.watch_timeouts: list[float] = []
        self._objects: dict[tuple[str, str, str, str], Object] = {}
        self._history: list[_Change] = []
        self._failures: list[_Failure] = []
        self._later: list[_Later] = []
        self._broken: tuple[int, KubeError] = (0, KubeError(0, "", ""))
        self._made = Counter[str]()
        self._changed = threading.Condition()
        self.watchers = watchers
        self._threads: set[threading.Thread] = set()
        self._idle: set[threading.Thread] = set()
        for obj in objects:
            self.put(obj)

    # What tests do to it.

    def put(self, obj: Object) -> Object:
        """Store an object as a controller or a user would, and tell watchers."""
        with self._changed:
            stored = copy.deepcopy(obj)
            key = self._key(Ref.of(obj))
            kind = EventType.MODIFIED if key in self._objects else EventType.ADDED
            self._store(key, stored, kind)
            return copy.deepcopy(stored)

    def remove(self, ref: Ref) -> None:
        """Let an object vanish, and tell watchers."""
        with self._changed:
            key = self._key(ref)
            self._store(key, self._objects[key], EventType.DELETED)
            del self._objects[key]

    def bookmark(self) -> None:
        """Tell watchers the version, and nothing else."""
        with self._changed:
            self.version += 1
            marker = {"kind": "", "apiVersion": "", "metadata": {"resourceVersion": str(self.version)}}
            self._history.append(_Change(self.version, WatchEvent(EventType.BOOKMARK, marker)))
            self._changed.notify_all()

    def fail(self, method: str, error: KubeError, *, kind: str = "", times: int = 1) -> None:
        """Let the next calls of a method fail; for a kind only, where one is given."""
        self._failures.append(_Failure(method, error, kind, times))

    def break_watches(self, error: KubeError) -> None:
        """End every open watch with an error."""
        with self._changed:
            self._broken = (self._broken[0] + 1, error)
            self._changed.notify_all()

    def compact(self) -> None:
        """Forget the past: older versions are Expired from now on."""
        self.version += 1
        self.oldest = self.version

    def later(self, after_s: float, action: Callable[[], object]) -> None:
        """Do something when so much virtual time has passed."""
        self._later.append(_Later(self.clock.now + after_s, action))
        self._later.sort()

    def last(self, after_s: float, action: Callable[[], object]) -> None:
        """Like :meth:`later`, and after it no time passes: what follows from it must follow at once."""

        def act() -> None:
            action()
            self.frozen = True

        self.later(after_s, act)

    def stored(self, ref: Ref) -> Object | None:
        """What is there."""
        return copy.deepcopy(self._objects.get(self._key(ref)))

    # KubeTransport.

    def get(self, ref: Ref) -> Object:
        self._enter("get", ref)
        with self._changed:
            if self._key(ref) not in self._objects:
                raise KubeError(404, "NotFound", f'"{ref.name}" not found', place=str(ref))
            return copy.deepcopy(self._objects[self._key(ref)])

    def list(self, ref: Ref, *, label_selector: str = "", field_selector: str = "") -> ObjectList:
        self._enter("list", ref)
        with self._changed:
            found = [
                copy.deepcopy(obj)
                for key, obj in self._objects.items()
                if self._matches(ref, key, obj, label_selector, field_selector)
            ]
            return ObjectList(found, str(self.version))

    def watch(
        self,
        ref: Ref,
        *,
        resource_version: str,
        timeout_s: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Iterator[WatchEvent]:
        self._enter("watch", ref)
        self.watch_timeouts.append(timeout_s)
        end = self.clock.now + timeout_s
        seen = int(resource_version)
        broken = self._broken[0]
        me = threading.current_thread()
        with self._changed:
            self._threads.add(me)
        while True:
            with self._changed:
                while True:
                    if self.closed:
                        raise KubeError(0, "Closed", "the transport was closed")
                    if self._broken[0] != broken:
                        raise self._broken[1]
                    if seen < self.oldest:
                        raise KubeError(410, "Expired", "too old resource version", place=str(ref))
                    new = [c for c in self._history if c.version > seen]
                    if new or self.clock.now >= end:
                        break
                    self._let_time_pass(me, end)
            if not new:
                return
            for change in new:
                seen = change.version
                obj = change.event.object
                if change.event.type is EventType.BOOKMARK or self._matches(
                    ref, self._key(Ref.of(obj)), obj, label_selector, field_selector
                ):
                    yield WatchEvent(change.event.type, copy.deepcopy(obj))

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        self._enter("apply", Ref.of(obj))
        self.applied.append(copy.deepcopy(obj))
        key = self._key(Ref.of(obj))
        before = self._objects.get(key, {})
        merged = copy.deepcopy(obj)
        merged["metadata"]["uid"] = before.get("metadata", {}).get("uid") or self._new_uid(key[-1])
        if "status" in before:
            merged["status"] = before["status"]
        changed = before.get("spec") != obj.get("spec")
        generation = before.get("metadata", {}).get("generation", 0)
        merged["metadata"]["generation"] = generation + (1 if changed or not generation else 0)
        stored = self.put(merged)
        if self.on_apply is not None:
            self.on_apply(stored)
        return stored

    def patch(
        self, ref: Ref, body: Object | Sequence[Object], *, patch_type: PatchType, subresource: str = ""
    ) -> Object:
        self._enter("patch", ref)
        self.patched.append((ref, body, patch_type, subresource))
        return self.get(ref)

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        self._enter("delete", ref)
        if self._key(ref) not in self._objects:
            raise KubeError(404, "NotFound", f'"{ref.name}" not found', place=str(ref))
        self.remove(ref)

    def raw(self, path: str, *, timeout_s: float = 10.0) -> str:
        return "ok"

    def logs(self, ref: Ref, *, container: str, tail_lines: int, previous: bool = False) -> str:
        self._enter("logs", ref)
        try:
            text = self.log_texts[ref.name, container, previous]
        except KeyError:
            raise KubeError(400, "BadRequest", "no such log", place=str(ref)) from None
        return "\n".join(text.splitlines()[-tail_lines:])

    def exec(self, ref: Ref, *, container: str, command: Sequence[str]) -> ExecStream:
        self._enter("exec", ref)
        assert self.on_exec is not None, "the test has no exec"
        return self.on_exec(ref, container, command)

    def connect(self, ref: Ref, *, port: int) -> socket.socket:
        self._enter("connect", ref)
        assert self.on_connect is not None, "the test has no connect"
        return self.on_connect(ref, port)

    def invalidate(self) -> None:
        self.invalidated += 1

    def close(self) -> None:
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    # How it works.

    def _enter(self, method: str, ref: Ref) -> None:
        with self._changed:
            self.calls.append((method, str(ref)))
            while self._later and self._later[0].at_s <= self.clock.now:
                self._later.pop(0).action()
            for failure in self._failures:
                if failure.method == method and failure.kind in {"", ref.kind} and failure.times:
                    failure.times -= 1
                    raise failure.error
            if ref.kind in self.missing_kinds:
                raise KubeError(404, "NotFound", f"the API server has no kind {ref.kind}", place=str(ref))

    def _new_uid(self, name: str) -> str:
        """``uid-NAME``, with a number from the second of that name on, of whatever kind: none twice."""
        self._made[name] += 1
        again = self._made[name] - 1
        return f"uid-{name}" + (f"-{again}" if again else "")

    def _store(self, key: tuple[str, str, str, str], obj: Object, kind: EventType) -> None:
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        if kind is not EventType.DELETED:
            self._objects[key] = obj
        self._history.append(_Change(self.version, WatchEvent(kind, copy.deepcopy(obj))))
        self._changed.notify_all()

    def _let_time_pass(self, me: threading.Thread, end: float) -> None:
        """Sleep until something happens; the last one to fall asleep turns the clock."""
        self._idle.add(me)
        try:
            self._threads = {t for t in self._threads if t.is_alive()} | {me}
            self.watchers = max(self.watchers, 1)
            if self.frozen:
                self._changed.wait()
            elif len(self._threads) >= self.watchers and self._threads <= self._idle:
                self.watchers = 1  # all have come; those that end need not be waited for
                if self._later and self._later[0].at_s <= end:
                    due = self._later.pop(0)
                    self.clock.now = max(self.clock.now, due.at_s)
                    due.action()
                else:
                    self.clock.now = max(self.clock.now, end)
                self._idle.clear()
                self._changed.notify_all()
            else:
                self._changed.wait(0.01)  # somebody may have ended meanwhile
        finally:
            self._idle.discard(me)

    @staticmethod
    def _key(ref: Ref) -> tuple[str, str, str, str]:
        return ref.api_version, ref.kind, ref.namespace, ref.name

    @staticmethod
    def _matches(
        ref: Ref, key: tuple[str, str, str, str], obj: Object, label_selector: str, field_selector: str
    ) -> bool:
        api_version, kind, namespace, name = key
        if (api_version, kind) != (ref.api_version, ref.kind) or ref.namespace not in {"", namespace}:
            return False
        labels = obj["metadata"].get("labels") or {}
        wanted = [part.split("=") for part in label_selector.split(",") if part]
        if any(labels.get(label) != value for label, value in wanted):
            return False
        return not field_selector or field_selector == f"metadata.name={name}"


def pod(name: str, namespace: str = "default", **status: Any) -> Object:
    """A pod with a status."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
        "status": status,
    }


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def obliging(api: MemoryTransport) -> MemoryTransport:
    """Have it do what controllers do: service accounts for new namespaces, pods that become ready."""

    def act(obj: Object) -> None:
        name = obj["metadata"]["name"]
        if obj["kind"] == "Namespace":
            account = {"name": "default", "namespace": name}
            api.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        if obj["kind"] == "Pod":
            api.put({**obj, "status": READY})

    api.on_apply = act
    return api
