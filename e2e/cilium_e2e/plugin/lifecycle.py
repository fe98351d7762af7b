"""The cluster's life around a test run: made before any test, deleted after xdist's workers have ended."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import pytest

from cilium_e2e.model import EXIT_USAGE, Backend, HarnessError
from cilium_e2e.plugin import handover, options
from cilium_e2e.plugin.clusters import CLUSTERS, Clusters
from cilium_e2e.session import Handle
from cilium_e2e.session.choice import import_clients, session_for

SIMULATED = (
    "simulated, in virtual time: API server, Flux, agents, Services, DNS, flows; the oracle judges packets",
    "only a real cluster can prove: kernels and eBPF, Cilium's own code, its images and chart, real time",
)
"""What a run on a simulated cluster says of itself."""
_INPUT = "cilium_e2e"


class Stoppable(Protocol):
    """What has made clusters, and unmakes them."""

    def stop(self) -> None:
        """Unmake them."""
        ...


def plugin_for(config: pytest.Config) -> object:
    """The controller's part, or a worker's.

    Raises:
        pytest.UsageError: an option names something that is not there.
    """
    try:
        config.stash[CLUSTERS] = Clusters(options.from_config(config))
    except HarnessError as error:
        raise pytest.UsageError(str(error)) from error
    if hasattr(config, "workerinput"):
        return Worker(config)
    return Controller(config)


class Worker:
    """An xdist worker: it takes the clusters that its controller made, or makes while the worker collects."""

    def __init__(self, config: pytest.Config) -> None:
        data: dict[str, Any] = config.workerinput[_INPUT]  # type: ignore[attr-defined]  # xdist adds it
        self._clusters = config.stash[CLUSTERS]
        self._clusters.handles = {name: Handle.from_data(handle) for name, handle in data["handles"].items()}
        self._clusters.failed = dict(data["failed"])
        self._to_come = data["to come"]
        self._backend = Backend(data["backend"])

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        """Wait for the cluster; where there will be none, run nothing."""
        if self._to_come:
            import_clients(self._backend)
            handles = handover.receive(Path(self._to_come))
            if handles is None:
                return True
            self._clusters.handles = handles
        return None


class Controller:
    """The process that owns the cluster; without xdist it runs the tests, too."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._session: Stoppable | None = None
        self._backend = Backend.SIMULATED
        self._handover: handover.Handover | None = None
        self._terminated = self._finished = False
        self._handlers: dict[signal.Signals, Any] = {}

    # Around xdist's, which starts the workers.
    @pytest.hookimpl(wrapper=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Find out what is wrong, have the workers started, and make the cluster while they collect."""
        if self._config.getoption("collectonly"):
            return (yield)
        _require_paths(self._config)
        self._listen()
        clusters = self._config.stash[CLUSTERS]
        if clusters.several:  # a worker must know which of them is its own
            with _telling():
                self._start_all(clusters)
            return (yield)
        with _telling():
            self._session = session = session_for(clusters.options[clusters.first], self._say)
            session.prepare()
        self._backend = session.backend
        self._handover = handover.Handover()
        try:
            result = yield
            with _telling():
                clusters.handles[clusters.first] = session.start()
            self._handover.give(clusters.handles)
        except BaseException:
            with suppress(OSError):  # what went wrong before is what the user must see
                self._handover.refuse()
            raise
        return result

    def _start_all(self, clusters: Clusters) -> None:
        from cilium_e2e.session.fleet import Fleet  # noqa: PLC0415 - only where it is used

        for topology in clusters.options:
            clusters.tree(topology)  # what is wrong with one is told before any cluster is made
        fleet = Fleet(clusters.options, session_for, self._say)
        self._session = fleet
        clusters.handles, errors = fleet.start()
        for error in errors.values():
            _tell(error)
        clusters.failed = {topology: error.message for topology, error in errors.items()}
        if not clusters.handles:
            pytest.exit("no cluster to test on", returncode=next(iter(errors.values())).exit_code)

    def _dismiss(self) -> None:
        """End the workers that have been started: pytest does not finish a session that has not begun."""
        self._interrupt_workers()  # one that collects would be left in peace for five seconds
        xdist = self._config.pluginmanager.get_plugin("dsession")
        if xdist is not None:
            xdist.pytest_sessionfinish()

    def _interrupt_workers(self) -> None:
        """Send SIGINT to those xdist workers that are processes of this machine."""
        xdist = self._config.pluginmanager.get_plugin("dsession")
        manager = getattr(xdist, "nodemanager", None)  # there is none before it has started
        for gateway in manager.group if manager is not None else ():
            # There is no public way to it; one that is not found ends later, that is all.
            process = getattr(getattr(gateway, "_io", None), "popen", None)
            if process is not None:
                with suppress(OSError):
                    process.send_signal(signal.SIGINT)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self) -> Generator[None, object, object]:
        """Delete the cluster, whatever the tests did; after xdist has ended its workers."""
        self._finished = True
        try:
            return (yield)
        finally:
            try:
                self._stop()
            except HarnessError as error:
                _tell(error)
                pytest.exit("the cluster could not be deleted", returncode=error.exit_code)

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """Delete the cluster where pytest never came to finish a session, because its start failed."""
        try:
            self._stop()
        except HarnessError as error:
            _tell(error)
        finally:
            if not self._finished:
                self._dismiss()
            if self._handover is not None:
                self._handover.close()
            for number, handler in self._handlers.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._handlers.clear()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hand the clusters to an xdist worker."""
        clusters = self._config.stash[CLUSTERS]
        node.workerinput[_INPUT] = {
            "handles": {topology: handle.to_data() for topology, handle in clusters.handles.items()},
            "failed": clusters.failed,
            "backend": self._backend.value,
            "to come": "" if clusters.handles or self._handover is None else str(self._handover.path),
        }

    def pytest_keyboard_interrupt(self) -> None:
        """Interrupt the workers' tests: left alone they take ten seconds, longer than CI systems wait."""
        self._interrupt_workers()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what was tested, where, how long it took, and how it differs from the repository."""
        clusters = self._config.stash[CLUSTERS]
        for topology, handle in clusters.handles.items():
            terminalreporter.section(f"cluster {topology}" if clusters.several else "cluster")
            _describe(terminalreporter, handle)

    def _stop(self) -> None:
        if self._session is not None:
            self._session.stop()

    def _listen(self) -> None:
        """Have SIGTERM and SIGHUP end the run as Ctrl-C does, and not without any teardown."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._handlers[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Turn the first signal into what Ctrl-C does; further ones must not break the teardown."""
        del number, frame
        if not self._terminated:
            self._terminated = True
            raise KeyboardInterrupt

    def _say(self, line: str) -> None:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(line)


def _require_paths(config: pytest.Config) -> None:
    """Refuse tests that are not there before anything is made; xdist's workers would find none, silently.

    Raises:
        pytest.UsageError: a file or folder does not exist.
    """
    if config.getoption("pyargs"):
        return
    for word in config.args:
        if not (config.invocation_params.dir / word.partition("::")[0]).exists():
            raise pytest.UsageError(f"file or directory not found: {word}")


@contextmanager
def _telling() -> Iterator[None]:
    """Errors of the harness as pytest's own."""
    try:
        yield
    except HarnessError as error:
        if error.exit_code == EXIT_USAGE:
            raise pytest.UsageError(str(error)) from error
        _tell(error)
        pytest.exit("no cluster to test on", returncode=error.exit_code)


def _tell(error: HarnessError) -> None:
    """An error as pytest itself writes its usage errors."""
    sys.stderr.write(f"ERROR: {error}\n")


def _describe(terminalreporter: pytest.TerminalReporter, handle: Handle) -> None:
    info = handle.info
    versions = ", ".join(f"{name} {version}" for name, version in info.versions)
    terminalreporter.line(
        f"backend {info.backend.value}, topology {info.topology}, release {info.release}: {versions}"
    )
    for line in handle.timeline:
        terminalreporter.line(f"  {line}")
    if info.backend is Backend.SIMULATED:
        for line in SIMULATED:
            terminalreporter.line(line)
    terminalreporter.line(f"{len(info.differences)} declared differences from the repository:")
    for difference in info.differences:
        terminalreporter.line(f"  {difference}")
