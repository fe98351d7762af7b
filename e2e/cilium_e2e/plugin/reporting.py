"""Evidence on its way into reports: properties, a failure's section, and the evidence file.

A test's evidence is made where the test runs, possibly in an xdist worker, and travels on pytest's reports
as one string of JSON: attributes of a report reach the controller as they are. The evidence file is written
by the controller alone, a line as soon as a test has ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import pytest
from _pytest.junitxml import xml_key  # the only way to a suite's properties outside of a worker's fixture

from cilium_e2e.kube import Kube
from cilium_e2e.model import EXIT_INTERRUPTED, EXIT_USAGE, ClusterInfo, Evidence, KubeError, Ref
from cilium_e2e.plugin.clusters import CLUSTERS, handle_of, options_of, plain_id
from cilium_e2e.plugin.evidence import evidence_of
from cilium_e2e.plugin.options import reproduced
from cilium_e2e.report import (
    Phase,
    TestRecord,
    clean,
    cluster_record,
    command,
    failure_lines,
    header,
    properties,
    snapshot,
    summary,
)

_CARRIED = "cilium_e2e_evidence"
_SECTION = "evidence"
_MANAGED = "app.kubernetes.io/managed-by=cilium-e2e"
_RECENT = 3


class Reporting:
    """In every process that runs tests.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        suites = Path(str(files("cilium_e2e.suites")))
        self._suites = config.rootpath.resolve() == suites.resolve()

    # Outermost, to see what other plugins (xfail, subtests) make of a report.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Complete the evidence and put it on the report; fixtures are torn down after this, not before."""
        report = yield
        evidence = evidence_of(item)
        options = options_of(item)
        evidence.reproduce = command(plain_id(item), reproduced(item.config, options), suites=self._suites)
        if report.failed:
            if report.when != "teardown":
                capture(item, evidence)
            lines = failure_lines(evidence, report.longreprtext)
            report.sections.append((_SECTION, clean("\n".join(lines))))
        if report.failed or report.when == "teardown":
            # The reason of an earlier phase is the test's: a tear-down that passes has none of its own.
            reason = _reason(report) or item.stash.get(_REASON, "")
            handle = handle_of(item)
            backend = handle.info.backend.value if handle is not None else options.backend
            topology = handle.info.topology if handle is not None else options.topology
            given = properties(evidence, backend=backend, topology=topology, reason=reason)
            report.user_properties = [*report.user_properties, *given]
            setattr(report, _CARRIED, json.dumps(evidence.to_data()))
        if reason := _reason(report):
            item.stash[_REASON] = reason
        return report


_REASON = pytest.StashKey[str]()


def capture(item: pytest.Item, evidence: Evidence) -> None:
    """Note the cluster's state, once a test: what is nearest to the failure says most.

    It never fails: a test's failure must not become another one because of its report.
    """
    if any(name.startswith("state ") for name in evidence.notes):
        return
    kube = getattr(item, "funcargs", {}).get("kube")
    if not isinstance(kube, Kube):
        return  # the test has not touched the cluster
    try:
        handle = handle_of(item)
        assert handle is not None  # noqa: S101 - there is its API
        agents = handle.info.cilium_namespace
        evidence.notes.update(snapshot(kube.transport, _namespaces(kube, evidence), agents=agents))
    # pytest's own is what a timeout raises, wherever the test is by then.
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001 - whatever it is, it is not the failure
        evidence.notes["state that could not be read"] = f"{type(error).__name__}: {error}"


def _namespaces(kube: Kube, evidence: Evidence) -> list[str]:
    """Namespaces that the evidence speaks of, and the newest of this worker's."""
    ends = [end for check in evidence.checks for end in (check.probe.source, check.probe.target)]
    named = [end.namespace for end in ends if end.namespace]
    named += [p.endpoint.split("/")[0] for proof in evidence.proofs for p in proof.endpoints]
    prefix = f"ce2e-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}-"
    try:
        found = kube.transport.list(Ref("v1", "Namespace"), label_selector=_MANAGED).items
    except KubeError:
        return named  # the snapshot meets the same error, and notes it
    own = [entry["metadata"] for entry in found if entry["metadata"]["name"].startswith(prefix)]
    own.sort(key=lambda meta: str(meta.get("creationTimestamp", "")), reverse=True)
    return [*dict.fromkeys(named), *(meta["name"] for meta in own[:_RECENT])]


class EvidenceFile:
    """In the controller: the evidence file, and what a JUnit file says of its suite.

    Args:
        config: pytest's.

    Raises:
        pytest.UsageError: the file cannot be written.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._start, self._started_s = time.monotonic(), time.time()
        self._tests: dict[tuple[str, str], TestRecord] = {}
        self._counts: Counter[str] = Counter()
        self._backend = str(config.getoption("--backend"))
        self._broken = ""
        self._file: IO[str] | None = None
        path = config.getoption("--evidence")
        if path is None or config.getoption("collectonly"):
            return
        self._path = Path(path).absolute()
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise pytest.UsageError(f"--evidence {path}: cannot be written: {error.strerror}") from error

    # Around the cluster's start and xdist's: no test runs before this has ended.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionstart(self) -> Generator[None, object, object]:
        """Write the header; and the summary too, where no cluster comes up."""
        try:
            result = yield
        except (pytest.exit.Exception, pytest.UsageError) as error:
            code = getattr(error, "returncode", None)
            self._begin()
            self._end(EXIT_USAGE if code is None else code)
            raise
        self._begin()
        return result

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Write what could not be collected."""
        if report.failed:
            self._counts["error"] += 1
            record = {"type": "collection", "nodeid": report.nodeid, "outcome": "error"}
            self._write({**record, "backend": self._backend, "longrepr": report.longreprtext})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Collect a test's reports; with the last one, write its line."""
        if hasattr(report, "context") and not report.failed:
            return  # a subtest that is no failure says nothing about the test
        worker = str(getattr(report, "worker_id", "") or _worker_of(report))
        topology = self._config.stash[CLUSTERS].of_id(report.nodeid)
        test = self._tests.setdefault(
            (worker, report.nodeid), TestRecord(report.nodeid, worker, topology=topology)
        )
        failed = report.longreprtext if report.failed else ""
        test.phases.append(
            Phase(
                str(report.when),
                report.outcome,
                report.duration,
                _reason(report),
                failed,
                hasattr(report, "wasxfail"),
            )
        )
        if carried := getattr(report, _CARRIED, ""):
            test.evidence = json.loads(carried)
        if test.ended:
            self._close(self._tests.pop((worker, report.nodeid)))

    # Around the cluster's end, whose failure changes the exit code.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Write the tests that did not come to their end, then the summary."""
        try:
            result = yield
        except pytest.exit.Exception as error:
            self._end(int(session.exitstatus if error.returncode is None else error.returncode))
            raise
        self._end(int(session.exitstatus))
        if self._broken:
            sys.stderr.write(f"ERROR: {self._broken}\n")
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = EXIT_INTERRUPTED
        return result

    def pytest_unconfigure(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            with suppress(OSError):  # each line was flushed: this can only be what was told already
                self._file.close()
            self._file = None

    def _begin(self) -> None:
        clusters = self._config.stash[CLUSTERS]
        handles = clusters.handles
        for handle in handles.values():
            self._backend = handle.info.backend.value
        alone = None if clusters.several else handles.get(clusters.first)
        self._write(
            header(
                backend=self._backend,
                harness=harness_version(),
                started_s=self._started_s,
                info=alone.info if alone is not None else None,
                timeline=alone.timeline if alone is not None else (),
            )
        )
        if alone is not None:
            self._suite(_suite_of(alone.info))
        elif handles:
            self._suite({"backend": self._backend, "topology": ", ".join(clusters.options)})
            for topology, handle in handles.items():
                pairs = _suite_of(handle.info)
                self._suite({f"{topology}: {name}": pairs[name] for name in pairs if name != "topology"})
        if clusters.several:
            for topology in clusters.options:
                up = handles.get(topology)
                self._write(
                    cluster_record(
                        topology,
                        info=up.info if up is not None else None,
                        timeline=up.timeline if up is not None else (),
                        error=clusters.failed.get(topology, ""),
                    )
                )

    def _suite(self, pairs: dict[str, str]) -> None:
        xml = self._config.stash.get(xml_key, None)
        if xml is not None:
            for name, value in pairs.items():
                xml.add_global_property(name, value)

    def _close(self, test: TestRecord) -> None:
        self._counts[test.outcome] += 1
        self._write(test.to_data(self._backend))

    def _end(self, code: int) -> None:
        for test in self._tests.values():
            self._close(test)
        self._tests.clear()
        took_s = time.monotonic() - self._start
        self._write(summary(backend=self._backend, exit_code=code, counts=self._counts, took_s=took_s))

    def _write(self, record: dict[str, Any]) -> None:
        """A line, at once: of a run that is cut off, everything up to there is on record."""
        if self._file is None or self._broken:
            return
        try:
            # Escapes keep it free of what UTF-8 cannot carry.
            self._file.write(json.dumps(record) + "\n")
            self._file.flush()
        except OSError as error:
            self._broken = f"--evidence {self._path}: the file is not complete: {error.strerror}"


def _suite_of(info: ClusterInfo) -> dict[str, str]:
    """What a suite's properties say of a cluster."""
    return {
        "backend": info.backend.value,
        "topology": info.topology,
        "release": info.release,
        **{f"version: {name}": number for name, number in info.versions},
        "differences": str(len(info.differences)),
    }


def _worker_of(report: pytest.TestReport) -> str:
    """The worker that a report of its death speaks of: xdist makes that one itself."""
    gateway = getattr(getattr(report, "node", None), "gateway", None)
    return getattr(gateway, "id", "")


def _reason(report: pytest.TestReport) -> str:
    """Why a test failed, was skipped or was expected to fail, in one line or a few."""
    if report.outcome == "skipped" and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    if hasattr(report, "wasxfail"):
        return str(report.wasxfail).removeprefix("reason: ")
    if not report.failed:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    lines = report.longreprtext.strip().splitlines()
    return lines[-1] if lines else ""


def harness_version() -> str:
    """This program's version."""
    try:
        return version("cilium-e2e")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


def on_failure(request: pytest.FixtureRequest) -> Callable[[BaseException], None]:
    """For what cleans up inside of a test's own body, before pytest hears of the failure."""
    item: pytest.Item = request.node

    def look(error: BaseException) -> None:
        if isinstance(error, (Exception, pytest.fail.Exception)):  # neither a skip nor Ctrl-C
            capture(item, evidence_of(item))

    return look
