"""The one exception tree of the harness.

::

    HarnessError                      something the user must know; carries an exit code
    ├── InputError            exit 4  what the user wrote or asked for is wrong
    │   ├── ManifestError             a file of the GitOps tree: unreadable, malformed, unbuildable
    │   ├── ReleaseError              no HelmRelease, several, or one of another chart
    │   ├── ValuesError               chart values that cannot be resolved or have the wrong type
    │   ├── TopologyError             an unknown or unusable topology
    │   ├── PolicyError               a policy object that the schema or the agent refuses
    │   ├── ScenarioError             a scenario file that cannot be run as written
    │   └── BackendUnavailable        the backend asked for cannot start (no engine, no kind, no access)
    └── ClusterStateError     exit 2  the input was fine, the cluster or the way to it is not
        ├── EngineError               the container engine failed or went away
        ├── KubeError                 an answer of the Kubernetes API other than success
        ├── WaitTimeout               a state was awaited and did not come
        ├── ReconcileError            Flux reports that it cannot reconcile
        ├── StreamLost                an exec, forward or flow stream ended before its answer
        ├── EnforcementNotProven      a policy is on the API but not shown to be enforced
        └── FlowsLost                 Hubble says that it lost flows inside a window

Exit codes are pytest's: 2 (interrupted) and 4 (usage error).
"""

from __future__ import annotations

from typing import ClassVar

EXIT_INTERRUPTED = 2
EXIT_USAGE = 4


class HarnessError(Exception):
    """Base of every error the harness raises on purpose.

    Args:
        message: what was expected and what was seen, one sentence.
        place: the file (``file`` or ``file:line``), flag, or object (``Kind ns/name``) at fault.
        hint: what to do about it, one sentence; empty when nothing useful can be said.
    """

    exit_code: ClassVar[int] = EXIT_INTERRUPTED

    def __init__(self, message: str, *, place: str = "", hint: str = "") -> None:
        self.message = message
        self.place = place
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        if not self.hint:
            return text
        stop = "" if text.endswith((".", "!", "?")) else "."
        return f"{text}{stop} {self.hint}"


class InputError(HarnessError):
    """What the user wrote or asked for is wrong; nothing was started."""

    exit_code = EXIT_USAGE


class ManifestError(InputError):
    """A file of the GitOps tree is unreadable, malformed, or cannot be built."""


class ReleaseError(InputError):
    """The HelmRelease under test is missing, ambiguous, or installs another chart."""


class ValuesError(InputError):
    """Chart values cannot be resolved, or a value has the wrong type."""


class TopologyError(InputError):
    """A topology is unknown, or its files cannot serve as one."""


class PolicyError(InputError):
    """A policy object that the CRD schema or the agent refuses."""


class ScenarioError(InputError):
    """A scenario file that cannot be run as written."""


class BackendUnavailable(InputError):
    """The backend asked for cannot start on this machine."""


class ClusterStateError(HarnessError):
    """The input was fine; the cluster, or the way to it, is not."""


class EngineError(ClusterStateError):
    """The container engine refused a call or went away."""


class KubeError(ClusterStateError):
    """The Kubernetes API answered with something other than success.

    Args:
        status: the HTTP status code; 0 when no answer came at all.
        reason: the ``reason`` of the API's Status object (``NotFound``, ``Conflict``, ``Expired`` ...).
    """

    def __init__(self, status: int, reason: str, message: str, *, place: str = "", hint: str = "") -> None:
        self.status = status
        self.reason = reason
        super().__init__(message, place=place, hint=hint)

    @property
    def not_found(self) -> bool:
        """Whether the object, or its kind, does not exist."""
        return self.status == 404

    @property
    def conflict(self) -> bool:
        """Whether somebody else changed or owns what was to be written."""
        return self.status == 409

    @property
    def expired(self) -> bool:
        """Whether a resourceVersion is too old, so that a list must come before the next watch."""
        return self.status == 410

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed a moment later."""
        return self.status in {0, 409, 429} or self.status >= 500


class WaitTimeout(ClusterStateError):
    """A state was awaited and did not come in time; the message holds the last state seen."""


class ReconcileError(ClusterStateError):
    """Flux reports that it cannot reconcile; the message holds its own words."""


class StreamLost(ClusterStateError):
    """An exec, forward or flow stream ended before its answer. Never a denial, never a success."""


class EnforcementNotProven(ClusterStateError):
    """A policy is stored in the API, but its enforcement at every endpoint was not seen."""


class FlowsLost(ClusterStateError):
    """Hubble lost flows inside a window, so the absence of a flow there means nothing."""
