"""Outcomes against expectations: converge, then hold; failures with everything that explains them.

A probe is repeated until it comes out as expected, and then has to do so again: the last of many tries
must not win by luck, and what flaps is told. An infra error is no outcome; it fails by its own name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from cilium_e2e.model import Cluster, Expectation, Outcome, OutcomeKind, Probe, ScenarioError, Target

HOLD_ROUNDS = 2
CONVERGE_S = 15.0
SILENCE_S = 0.5
"""How long silence lasts until it is a denial, in seconds, where a flow of the drop is asked for as well, or
where the same probe was answered at once without the policies.
Answers inside a cluster take milliseconds; one that is late is asked for again, or is a flow too many."""
_PAUSE_S = 0.1
_BROKEN_ROUNDS = 3
# What is wrong with a hundred probes is seldom more than three things.
_EXPLAINED = 5


@dataclass(frozen=True, slots=True)
class Check:
    """A probe and what is expected of it.

    Attributes:
        probe: what is asked.
        expected: what must come of it.
        answered_by: names who must answer, empty for anyone.
        seen_from: the addresses under which whoever answers may have seen the source, empty for any. An
            answer that does not say it, as ICMP's, is none.
        once: whether a connection at the first try is enough. Silence may be chance, and is asked for again.
    """

    probe: Probe
    expected: Expectation
    answered_by: frozenset[str] = frozenset()
    seen_from: frozenset[str] = frozenset()
    once: bool = False

    def met_by(self, outcome: Outcome) -> bool:
        """Whether an outcome is what was expected, answered by whom it was expected of."""
        if not self.expected.met_by(self.probe.protocol, outcome):
            return False
        if not outcome.connected:
            return True
        rightly_answered = not self.answered_by or outcome.answered_by in self.answered_by
        return rightly_answered and (not self.seen_from or outcome.seen_from in self.seen_from)


@dataclass(frozen=True, slots=True)
class Judged:
    """A check with its last outcome.

    Attributes:
        check: what was asked.
        outcome: the last outcome.
        met: whether it was met to the end.
        flaps: how often it was met and then not.
        converged_s: when it was met for good, in seconds from the start; None where it never was.
        lost_in: the rounds, from 1, in which it was not met any more.
        asked: how many times it was asked.
    """

    check: Check
    outcome: Outcome
    met: bool
    flaps: int
    converged_s: float | None = None
    lost_in: tuple[int, ...] = ()
    asked: int = 0

    def __str__(self) -> str:
        probe = self.check.probe
        who = f" by {' or '.join(sorted(self.check.answered_by))}" if self.check.answered_by else ""
        who += f", seen from {' or '.join(sorted(self.check.seen_from))}" if self.check.seen_from else ""
        rounds = f" (rounds {', '.join(map(str, self.lost_in))})" if self.lost_in else ""
        flaps = f"; flapped {self.flaps} times{rounds}" if self.flaps else ""
        return (
            f"{probe.source} → {probe.destination}: expected {self.check.expected}{who}, "
            f"seen {self.outcome}{flaps}"
        )


@dataclass(frozen=True, slots=True)
class Judgement:
    """All checks of one judgement.

    Attributes:
        judged: each check with its last outcome.
        converged_s: when all of them were met for good, in seconds from the start; 0 where they never were.
        started_s: when it started, epoch seconds.
        rounds: how many rounds there were.
    """

    judged: tuple[Judged, ...]
    converged_s: float
    started_s: float
    rounds: int = 0

    @property
    def failures(self) -> list[Judged]:
        """Those that were not met."""
        return [entry for entry in self.judged if not entry.met]

    def outcome(self, probe_id: str) -> Outcome:
        """The last outcome of a probe."""
        return next(entry.outcome for entry in self.judged if entry.check.probe.id == probe_id)


def judge(
    cluster: Cluster, checks: Sequence[Check], *, converge_s: float = CONVERGE_S, hold: int = HOLD_ROUNDS
) -> Judgement:
    """Probe until every check is met, then ``hold`` more rounds; sources ask in one batch each.

    What is met when the time is up still has to hold. Where all of the first round was as expected, nothing
    was tried until it came out well: then those marked ``once`` that connected are not asked again. A probe
    that could not be made is made again, because a busy machine may be the cause; where that happens in three
    rounds in a row it ends.

    Raises:
        ScenarioError: there is nothing to judge, or two checks share an id and so an outcome.
    """
    _distinct(checks)
    # All agents run before one asks, so that no answer is late only because others are being started.
    _ask(cluster, {check.probe.source: () for check in checks})
    clock = cluster.clock
    started, start = clock.time(), clock.monotonic()
    lost: dict[str, list[int]] = defaultdict(list)
    since: dict[str, float] = {}
    rounds = broken = 0
    held = 0
    converged = 0.0
    asking = checks
    outcomes: dict[str, Outcome] = {}
    asked: Counter[str] = Counter()
    while True:
        outcomes |= _round(cluster, asking)
        asked.update(check.probe.id for check in asking)
        rounds += 1
        now_s = clock.monotonic() - start
        met = {c.probe.id for c in checks if c.met_by(outcomes[c.probe.id])}
        for name in since.keys() - met:
            lost[name].append(rounds)
        since = {name: since.get(name, now_s) for name in met}
        late = now_s > converge_s
        if len(met) == len(checks):
            converged = converged if held else now_s
            held += 1
            if rounds == 1:
                asking = [c for c in checks if not (c.once and outcomes[c.probe.id].connected)]
        else:
            held = 0
            asking = checks
        broken = broken + 1 if any(o.kind is OutcomeKind.INFRA_ERROR for o in outcomes.values()) else 0
        if held > hold or not asking or broken == _BROKEN_ROUNDS or (late and not held):
            judged = tuple(
                Judged(
                    check,
                    outcomes[check.probe.id],
                    check.probe.id in met,
                    len(lost[check.probe.id]),
                    since.get(check.probe.id),
                    tuple(lost[check.probe.id]),
                    asked[check.probe.id],
                )
                for check in checks
            )
            return Judgement(judged, converged, started, rounds)
        if not held:
            clock.sleep(_PAUSE_S)


def require(
    judgement: Judgement, *, explain: Callable[[Judged], str] = lambda _: "", causes: Sequence[str] = ()
) -> None:
    """Fail with every check that was not met, each with its explanation.

    Args:
        judgement: what was judged.
        explain: what explains one failure, lines.
        causes: what explains all of them, one line each; they come first.

    Raises:
        AssertionError: at least one was not met.
    """
    failures = judgement.failures
    if not failures:
        return
    lines = [f"{len(failures)} of {len(judgement.judged)} probes came out differently:"]
    lines += [f"  {cause}" for cause in causes]
    for number, entry in enumerate(failures):
        lines.append(f"  {entry}")
        if number < _EXPLAINED:
            lines += [f"    {line}" for line in explain(entry).splitlines()]
    if len(failures) > _EXPLAINED:
        lines.append(f"  (the first {_EXPLAINED} are explained)")
    raise AssertionError("\n".join(lines))


def _distinct(checks: Sequence[Check]) -> None:
    if not checks:
        raise ScenarioError("expected at least one probe to judge, got none", place="judge")
    counts = Counter(check.probe.id for check in checks)
    if twice := sorted(name for name, count in counts.items() if count > 1):
        raise ScenarioError(
            f"expected probes with different ids, got several of {', '.join(twice)}",
            place="judge",
            hint="Give Probe.to() an id.",
        )


def _round(cluster: Cluster, checks: Sequence[Check]) -> Mapping[str, Outcome]:
    by_source: dict[Target, list[Probe]] = defaultdict(list)
    for check in checks:
        by_source[check.probe.source].append(check.probe)
    return {outcome.probe_id: outcome for outcome in _ask(cluster, by_source)}


def _ask(cluster: Cluster, batches: Mapping[Target, Sequence[Probe]]) -> list[Outcome]:
    """All sources at the same time."""
    with ThreadPoolExecutor(max_workers=min(16, len(batches)), thread_name_prefix="probe") as pool:
        answers = pool.map(lambda source: cluster.prober(source).run(batches[source]), batches)
        return [outcome for batch in answers for outcome in batch]
