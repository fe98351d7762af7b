"""Several clusters for one run, one a topology: made at the same time, unmade at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from multiprocessing.connection import wait

from cilium_e2e.model import EXIT_USAGE, ClusterStateError, HarnessError
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.member import Factory, Member
from cilium_e2e.session.options import Options
from cilium_e2e.session.shield import uninterrupted
from cilium_e2e.session.timeline import Say


class Fleet:
    """The clusters of a run.

    Args:
        options: topology to what was asked for, in the order of the run.
        factory: makes one topology's session; importable by its name.
        say: told a line at a time what happens, each with its topology before it.
    """

    def __init__(self, options: Mapping[str, Options], factory: Factory, say: Say) -> None:
        self._options = options
        self._factory = factory
        self._say = say
        self._members: list[Member] = []

    def start(self) -> tuple[dict[str, Handle], dict[str, HarnessError]]:
        """Have all clusters, or as many as come up; answers them, and why others did not, by topology.

        Raises:
            InputError: what was asked for cannot be; no cluster is left.
        """
        try:
            for topology, options in self._options.items():
                self._members.append(Member.begin(topology, self._factory, options))
            self._hear(self._settled)
        except BaseException:
            try:
                self.stop()
            except HarnessError as error:
                self._say(str(error))  # what went wrong before is what the user must see
            raise
        handles = {one.topology: one.handle for one in self._members if one.handle is not None}
        errors = {one.topology: one.error for one in self._members if one.error is not None}
        return handles, errors

    def stop(self) -> None:
        """Delete them all, or keep them all, as was asked for.

        Signals do not break this off, and a second call does nothing.

        Raises:
            ClusterStateError: something could not be deleted, after all have been tried.
        """
        if not self._members:
            return
        with uninterrupted(f"deleting the clusters of {', '.join(self._options)}"):
            for member in self._members:
                member.stop()
            self._hear(lambda: all(member.ended for member in self._members))
            members, self._members = self._members, []
        if troubles := [trouble for member in members for trouble in member.troubles]:
            raise ClusterStateError("\n".join(troubles))

    def _settled(self) -> bool:
        """Whether of each cluster it is known what became of it.

        Raises:
            InputError: that one does not is the input's fault.
        """
        for member in self._members:
            if member.error is not None and member.error.exit_code == EXIT_USAGE:
                raise member.error
        return all(member.settled for member in self._members)

    def _hear(self, enough: Callable[[], bool]) -> None:
        """Take what members say until it is enough."""
        while not enough():
            speaking = {member.pipe: member for member in self._members if not member.ended}
            for pipe in wait(list(speaking)):
                member = speaking[pipe]  # type: ignore[index]  # what is waited for is what is answered
                member.hear(lambda line, topology=member.topology: self._say(f"{topology}: {line}"))  # type: ignore[misc]
