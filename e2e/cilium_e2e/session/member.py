"""One cluster of several, made and unmade by a process of its own.

A process, because it can be interrupted wherever it is, as a run with one cluster is by Ctrl-C; threads
cannot. It is told to stop over a pipe. The pipe's end means the same: whatever becomes of the run, its
clusters go.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, Protocol

from cilium_e2e.model import EXIT_INTERRUPTED, EXIT_USAGE, ClusterStateError, HarnessError, InputError
from cilium_e2e.session.handle import Handle
from cilium_e2e.session.options import Options
from cilium_e2e.session.shield import SIGNALS
from cilium_e2e.session.timeline import Say

LINE, READY, FAILED, TROUBLE = "line", "ready", "failed", "trouble"
"""What a member says: a line for the user; its cluster is up; it is not, and why; what it left behind."""

_STOP = "stop"


class Made(Protocol):
    """A cluster's life; :class:`cilium_e2e.session.choice.Session` is one."""

    def start(self) -> Handle:
        """Have a cluster."""
        ...

    def stop(self) -> None:
        """Let go of it."""
        ...


Factory = Callable[[Options, Say], Made]
"""Must be importable by its name: it is called in another process."""


@dataclass(slots=True)
class Member:
    """The run's side of a member.

    Attributes:
        topology: its topology.
        process: where its cluster is made.
        pipe: the way there; closed when the process has ended.
        handle: its cluster, once that is up.
        error: why it has none.
        troubles: what could not be deleted.
    """

    topology: str
    process: multiprocessing.process.BaseProcess
    pipe: Connection
    handle: Handle | None = None
    error: HarnessError | None = None
    troubles: list[str] = field(default_factory=list)

    @classmethod
    def begin(cls, topology: str, factory: Factory, options: Options) -> Member:
        """Start its process, which starts to make the cluster at once."""
        context = multiprocessing.get_context("spawn")  # a fork would take the run's plugins and locks along
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(factory, options, theirs), name=f"cluster {topology}")
        process.start()
        theirs.close()  # so that the end of its process is the end of the pipe
        return cls(topology, process, ours)

    @property
    def settled(self) -> bool:
        """Whether it has a cluster, or will not get one."""
        return self.handle is not None or self.error is not None

    @property
    def ended(self) -> bool:
        """Whether its process has nothing more to say."""
        return self.pipe.closed

    def stop(self) -> None:
        """Ask it to let go of its cluster, wherever it is."""
        if not self.ended:
            with suppress(OSError):  # it has ended, which the pipe will tell
                self.pipe.send(_STOP)

    def hear(self, say: Say) -> None:
        """Take what it says next.

        Args:
            say: told its lines.
        """
        try:
            kind, *said = self.pipe.recv()
        except (EOFError, OSError):
            self._end()
            return
        if kind == LINE:
            say(said[0])
        elif kind == READY:
            self.handle = Handle.from_data(said[0])
        elif kind == FAILED:
            kind_of_error = InputError if said[1] == EXIT_USAGE else ClusterStateError
            self.error = kind_of_error(said[0], place=f"topology {self.topology}")
        else:
            self.troubles.append(said[0])

    def _end(self) -> None:
        self.pipe.close()
        self.process.join()
        code = self.process.exitcode
        if self.settled and code == 0:
            return
        what = f"the process of its cluster ended by itself, with exit code {code}"
        if self.settled:
            self.troubles.append(f"topology {self.topology}: {what}")
        else:
            self.error = ClusterStateError(
                what, place=f"topology {self.topology}", hint="What it left is swept by the next run."
            )


def serve(factory: Factory, options: Options, pipe: Connection) -> None:
    """The process: make a cluster, keep it until told otherwise, unmake it.

    Args:
        factory: makes the session.
        options: what was asked for.
        pipe: the way to the run.
    """
    _Server(factory, options, pipe).run()


class _Server:
    def __init__(self, factory: Factory, options: Options, pipe: Connection) -> None:
        self._factory, self._options, self._pipe = factory, options, pipe
        self._sending = threading.Lock()
        self._deciding = threading.Lock()
        self._asked = threading.Event()
        self._starting = True
        self._interrupted = False

    def run(self) -> None:
        for number in SIGNALS:
            signal.signal(number, self._signal)
        threading.Thread(target=self._listen, daemon=True, name="stop").start()
        session = None
        try:
            session = self._factory(self._options, lambda line: self._send(LINE, line))
            try:
                handle = session.start()
            finally:
                with self._deciding:
                    self._starting = False
            self._send(READY, handle.to_data())
            self._asked.wait()
        except KeyboardInterrupt:
            self._send(FAILED, "interrupted", EXIT_INTERRUPTED)
        except HarnessError as error:
            self._send(FAILED, str(error), error.exit_code)
        except Exception as error:  # noqa: BLE001 - it must reach the run, which nobody else can tell
            self._send(LINE, traceback.format_exc())
            self._send(FAILED, f"{type(error).__name__}: {error}", EXIT_INTERRUPTED)
        finally:
            if session is not None:
                self._stop(session)

    def _stop(self, session: Made) -> None:
        try:
            session.stop()
        except HarnessError as error:
            self._send(TROUBLE, str(error))

    def _listen(self) -> None:
        """Wait for the word, or for the run's end; interrupt what is still being made."""
        with suppress(EOFError, OSError):
            self._pipe.recv()
        with self._deciding:
            self._asked.set()
            if self._starting:
                # To the main thread itself: only then whatever it waits for is broken off.
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    def _signal(self, number: int, frame: FrameType | None) -> None:
        """Signals from outside are the run's to answer, which then says stop; that one interrupts, once."""
        del number, frame
        if self._asked.is_set() and not self._interrupted:
            self._interrupted = True
            raise KeyboardInterrupt

    def _send(self, *message: Any) -> None:
        with (
            self._sending,
            suppress(OSError),
        ):  # where nobody listens any more, there is still a cluster to unmake
            self._pipe.send(message)
