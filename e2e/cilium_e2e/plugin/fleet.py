"""Several topologies in one run: which worker belongs to which cluster, and what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from typing import Any

import pytest

from cilium_e2e.model import Evidence
from cilium_e2e.plugin.affinity import AffinityScheduling, Worker
from cilium_e2e.plugin.clusters import CLUSTERS, Clusters
from cilium_e2e.plugin.requirements import no_cluster
from cilium_e2e.report import properties

_HOME = "cilium_e2e_topology"
_STEALING = ("load", "worksteal")
_COUNTED = ("failed", "error", "passed", "skipped", "xfailed", "xpassed")


def check(config: pytest.Config) -> None:
    """See that xdist's options go with the number of topologies, before anything is made.

    Raises:
        pytest.UsageError: too few workers, or another way of dealing tests than by work stealing.
    """
    dist = config.getoption("dist", "no")
    if config.getoption("collectonly") or dist == "no":
        return
    topologies = config.stash[CLUSTERS].options
    if dist not in _STEALING:
        raise pytest.UsageError(
            f"--dist {dist}: with several topologies each has its own workers and tests move between those: "
            f"expected {' or '.join(_STEALING)}"
        )
    workers = _workers(config)
    if workers < len(topologies):
        raise pytest.UsageError(
            f"-n {workers}: the {len(topologies)} topologies {', '.join(topologies)} need a worker each. "
            f"Give -n {len(topologies)} or more, or -n 0 to test one after the other."
        )


class Affinity:
    """The controller's part.

    Args:
        config: pytest's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._clusters: Clusters = config.stash[CLUSTERS]
        self._scheduling: AffinityScheduling | None = None
        self._vacant: list[str] = []
        self._hired = 0

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give a worker its cluster: that of the one it replaces, or else the next in turn."""
        if self._vacant:
            node.workerinput[_HOME] = self._vacant.pop(0)
            return
        topologies = list(self._clusters.handles)
        node.workerinput[_HOME] = topologies[self._hired % len(topologies)]
        self._hired += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object | None) -> None:
        """Note whom xdist is about to replace."""
        if error:
            self._vacant.append(_home(node))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config) -> AffinityScheduling:
        """In place of xdist's own."""
        self._scheduling = AffinityScheduling(
            _workers(config),
            home=_home,
            topology_of=lambda nodeid: self._clusters.of_id(nodeid) or self._clusters.first,
            lost=self._report_lost,
            differs=self._report_difference,
        )
        return self._scheduling

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Report what has not run, unless the run was broken off."""
        result = yield
        if self._scheduling is not None:
            self._scheduling.abandon()
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say what came of each topology."""
        if not self._clusters.handles:
            return
        counts: dict[str, Counter[str]] = {topology: Counter() for topology in self._clusters.options}
        for outcome in _COUNTED:
            for report in terminalreporter.stats.get(outcome, []):
                topology = self._clusters.of_id(getattr(report, "nodeid", ""))
                if topology:
                    counts[topology][outcome] += 1
        terminalreporter.section("topologies")
        for topology, found in counts.items():
            what = ", ".join(f"{found[outcome]} {outcome}" for outcome in _COUNTED if found[outcome])
            why = self._clusters.failed.get(topology, "")
            terminalreporter.line(f"{topology}: {what or 'no tests'}")
            if why:
                terminalreporter.line(f"  {no_cluster(topology, why)}")

    def _report_lost(self, nodeid: str) -> None:
        """A test that nobody can run is an error at its set-up, with the reason."""
        topology = self._clusters.of_id(nodeid) or self._clusters.first
        if topology in self._clusters.failed:
            why = no_cluster(topology, self._clusters.failed[topology])
        else:
            why = f"not run: no worker of topology {topology} is left"
        given = properties(
            Evidence(), backend=self._clusters.options[topology].backend, topology=topology, reason=why
        )
        path, _, name = nodeid.partition("::")
        for when, outcome, text in (("setup", "failed", why), ("teardown", "passed", None)):
            report = pytest.TestReport(
                nodeid=nodeid,
                location=(path, None, name.replace("::", ".")),
                keywords={},
                outcome=outcome,  # type: ignore[arg-type]  # mypy takes the words for any strings
                longrepr=text,
                when=when,  # type: ignore[arg-type]
                user_properties=given,
            )
            self._config.hook.pytest_runtest_logreport(report=report)

    def _report_difference(self, worker: Worker, how: str) -> None:
        name = worker.gateway.id  # type: ignore[attr-defined]  # it is one of xdist's
        report = pytest.CollectReport(nodeid=name, outcome="failed", longrepr=how, result=[])
        self._config.hook.pytest_collectreport(report=report)


def _home(node: Any) -> str:
    return str(node.workerinput[_HOME])


def _workers(config: pytest.Config) -> int:
    # Not at the top: xdist may be switched off. It brings no types.
    from xdist.workermanage import parse_tx_spec_config  # type: ignore[import-untyped]  # noqa: PLC0415

    return len(parse_tx_spec_config(config))
