"""What the rest of the harness asks of a cluster's API: apply, wait, exec. Retries live here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from cilium_e2e.kube.watching import follow, key
from cilium_e2e.model import (
    Clock,
    ClusterStateError,
    KubeError,
    KubeTransport,
    Object,
    Ref,
    StreamLost,
    SystemClock,
    WaitTimeout,
)

FIELD_MANAGER = "cilium-e2e"
_BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that has ended: its exit code, standard output and standard error."""

    returncode: int
    stdout: str
    stderr: str


class Kube:
    """A façade over a transport.

    Args:
        transport: the API.
        clock: what waits measure with.
    """

    def __init__(self, transport: KubeTransport, *, clock: Clock | None = None) -> None:
        self.transport = transport
        self.clock: Clock = clock or SystemClock()

    def retry(self, call: Callable[[], T]) -> T:
        """Call, again with growing pauses while the error is one that may pass.

        Raises:
            KubeError: the last one, when it did not pass within about eight seconds.
        """
        for pause_s in _BACKOFF_S:
            try:
                return call()
            except KubeError as error:
                if not error.retryable:
                    raise
                self.clock.sleep(pause_s)
        return call()

    def get(self, ref: Ref) -> Object:
        """One object."""
        return self.retry(lambda: self.transport.get(ref))

    def find(self, ref: Ref) -> Object | None:
        """One object, None where it does not exist."""
        try:
            return self.get(ref)
        except KubeError as error:
            if error.not_found:
                return None
            raise

    def list_all(self, ref: Ref, *, label_selector: str = "") -> list[Object]:
        """All objects of a kind."""
        return self.retry(lambda: self.transport.list(ref, label_selector=label_selector)).items

    def list_known(self, ref: Ref) -> list[Object]:
        """All objects of a kind; none where the cluster does not know the kind."""
        try:
            return self.list_all(ref)
        except KubeError as error:
            if error.not_found:
                return []
            raise

    def apply(self, obj: Object) -> Object:
        """Server-side apply, taking over fields that somebody else owns."""
        return self.retry(lambda: self.transport.apply(obj, field_manager=FIELD_MANAGER, force=True))

    def apply_all(self, objects: Iterable[Object]) -> list[Object]:
        """Apply in the given order."""
        return [self.apply(obj) for obj in objects]

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        """Delete; an object that is already gone is what was asked for."""
        try:
            self.retry(lambda: self.transport.delete(ref, grace_period_s=grace_period_s))
        except KubeError as error:
            if not error.not_found:
                raise

    def wait(
        self,
        ref: Ref,
        until: Callable[[Sequence[Object]], T | None],
        *,
        timeout_s: float,
        what: str,
        label_selector: str = "",
        describe: Callable[[Sequence[Object]], str] | None = None,
        on_change: Callable[[Sequence[Object]], None] | None = None,
    ) -> T:
        """List, then watch, until ``until`` returns something other than None.

        Args:
            ref: a kind, in one namespace or all; with a name, that one object.
            until: judges all current objects; may raise to give up early with an explanation.
            timeout_s: how long, in seconds.
            what: what is awaited, for the message.
            label_selector: restricts the objects.
            describe: puts the last state into words, for the message.
            on_change: called with each new state, for progress.

        Raises:
            WaitTimeout: it did not come; the message holds the last state seen.
        """
        deadline = self.clock.monotonic() + timeout_s
        state: list[Object] = []
        failure = ""
        for state, failure in follow(
            self.transport, self.clock, ref, deadline=deadline, label_selector=label_selector
        ):
            if failure:
                continue
            if on_change is not None:
                on_change(state)
            if (result := until(state)) is not None:
                return result
        last = describe(state) if describe else _names(state)
        if failure:
            last = f"{failure}; before that: {last}"
        raise WaitTimeout(f"expected {what} within {timeout_s:g} s, last seen: {last}", place=str(ref))

    def run(
        self, ref: Ref, command: Sequence[str], *, container: str, timeout_s: float = 30.0, check: bool = True
    ) -> Completed:
        """Run a command in a container to its end.

        Raises:
            StreamLost: the connection broke before the command ended.
            ClusterStateError: with ``check``, the command failed.
        """
        stream = self.transport.exec(ref, container=container, command=command)
        deadline = self.clock.monotonic() + timeout_s
        lines: list[str] = []
        try:
            while (
                line := stream.read_line(timeout_s=max(0.0, deadline - self.clock.monotonic()))
            ) is not None:
                lines.append(line)
            returncode = stream.returncode
        finally:
            stream.close()
        place = f"{' '.join(command)} in {ref}"
        if returncode is None:
            raise StreamLost("the command's output ended without an exit code", place=place)
        done = Completed(returncode, "\n".join(lines), stream.stderr())
        if check and returncode != 0:
            raise ClusterStateError(
                f"exit code {returncode}: {(done.stderr or done.stdout).strip()[-500:]}", place=place
            )
        return done


def condition(obj: Object, kind: str) -> dict[str, Any] | None:
    """The status condition of a type, None where there is none or it speaks of an older generation."""
    generation = obj.get("metadata", {}).get("generation")
    status = obj.get("status") or {}
    for entry in status.get("conditions") or []:
        if entry.get("type") == kind:
            # Deployments and their like say it once for all conditions.
            observed = entry.get("observedGeneration", status.get("observedGeneration", generation))
            return entry if generation is None or observed == generation else None
    return None


def is_true(obj: Object, kind: str) -> bool:
    """Whether a condition of the current generation is True."""
    return (condition(obj, kind) or {}).get("status") == "True"


def _names(objects: Sequence[Object]) -> str:
    return ", ".join("/".join(filter(None, key(obj))) for obj in objects) or "nothing"
