"""Which backend a run gets, and how it is reached; what only one of them needs is imported with it."""

from __future__ import annotations

import os
from typing import ClassVar, Protocol

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.model import Backend, BackendUnavailable, InputError
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import AUTO, Options
from cilium_e2e.session.timeline import Say


class Session(Protocol):
    """A cluster's life around a run.

    Attributes:
        backend: what the cluster is on.
    """

    backend: ClassVar[Backend]

    def prepare(self) -> None:
        """Find out what is wrong with what was asked for, before anything is made.

        Raises:
            InputError: it cannot be.
        """
        ...

    def start(self) -> Handle:
        """Have a cluster with the tree's Cilium ready on it; prepares, if nobody has."""
        ...

    def stop(self) -> None:
        """Let go of it."""
        ...


def session_for(options: Options, say: Say) -> Session:
    """The session of the backend asked for; ``auto`` takes kind where a container engine answers.

    Raises:
        InputError: the backend cannot start here, or an option does not go with it. With ``CI`` set,
            ``auto`` simulates nothing: whoever reads the result there expects a cluster.
    """
    if options.backend == Backend.SIMULATED.value:
        return _simulated(options, say, "asked for")
    if options.inject:
        raise InputError(
            f"faults are for a simulated cluster, asked for is {options.backend}",
            place=f"--inject {options.inject}",
            hint="Give --backend simulated.",
        )
    if options.backend == Backend.EXISTING.value:
        from cilium_e2e.session.existing import ExistingSession  # noqa: PLC0415 - only where it is used

        return ExistingSession(options, say)
    from cilium_e2e.session import start  # noqa: PLC0415 - with it comes the engine's client

    if options.backend == AUTO and not os.environ.get("CI"):
        try:
            start.choose_backend(options)[1].close()
        except BackendUnavailable:
            return _simulated(options, say, "no container engine answers")
    return start.KindSession(options, say)


def attach(handle: Handle, options: Options) -> LiveCluster:
    """The cluster of a handle, as those who run tests use it; a simulated one is made in each process."""
    if handle.info.backend is Backend.SIMULATED:
        from cilium_e2e.session import simulated  # noqa: PLC0415 - only where it is used

        return simulated.attach(handle, options)
    from cilium_e2e.session import attach as live  # noqa: PLC0415 - with it come the clients of a real cluster

    return live.attach(handle, options)


def import_clients(backend: Backend) -> None:
    """Import what :func:`attach` needs there: it takes a second, which who waits for a cluster has anyway."""
    if backend is not Backend.SIMULATED:
        from cilium_e2e.kube import live  # noqa: F401, PLC0415 - see above
        from cilium_e2e.session import attach  # noqa: F401, PLC0415 - see above


def _simulated(options: Options, say: Say, why: str) -> Session:
    from cilium_e2e.session.simulated import SimulatedSession  # noqa: PLC0415 - only where it is used

    return SimulatedSession(options, say, why)
