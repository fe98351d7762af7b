"""What whole matrices of the policy oracle cost, and cells of the plain evaluation."""

from __future__ import annotations

import random
import resource
import sys
import time
from dataclasses import dataclass

from cilium_e2e.commands.bench_worlds import Case, hard_case, plain_case
from cilium_e2e.policy.matrix import matrix
from cilium_e2e.policy.naive import naive_verdict

ENGINE_S = 4.9
"""Seconds Cilium's own Go engine took for the plain mix, measured elsewhere; 0.13 s of it to distill."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one case cost.

    Attributes:
        seconds: from parsed policies to every cell, the best of the repetitions.
        cells: how many.
        passing: the share of cells that pass.
    """

    seconds: float
    cells: int
    passing: float

    @property
    def ns_per_cell(self) -> float:
        """Nanoseconds a cell."""
        return self.seconds / self.cells * 1e9


def measure(case: Case, *, repeat: int) -> Measured:
    """Compute a case's matrix from its parsed policies, anew each time."""
    best, passing = float("inf"), 0.0
    for _ in range(repeat):
        start = time.perf_counter()
        passes = matrix(case.oracle(), case.keys, case.keys, case.ports).passes()
        best = min(best, time.perf_counter() - start)
        passing = float(passes.mean())
    return Measured(best, case.cells, passing)


def measure_naive(case: Case, *, sample: int, seed: int) -> float:
    """Nanoseconds a cell of the plain evaluation, over a sample of cells."""
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    oracle = case.oracle()
    cells = [(draw.choice(case.keys), draw.choice(case.keys), draw.choice(case.ports)) for _ in range(sample)]
    start = time.perf_counter()
    for source, target, query in cells:
        naive_verdict(oracle, source, target, query.protocol, query.port)
    return (time.perf_counter() - start) / sample * 1e9


def peak_mib() -> float:
    """The process's peak of resident memory so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _growth(title: str, cases: list[tuple[int, Case]], repeat: int) -> list[str]:
    """One line a size: time, and the ratio to the size before."""
    lines = [f"growth with {title}:"]
    before: float | None = None
    for size, case in cases:
        seconds = measure(case, repeat=repeat).seconds
        ratio = f"  ×{seconds / before:.2f}" if before else ""
        lines.append(f"  {size:>6} {title:<12} {case.cells:>12,} cells  {seconds:7.3f} s{ratio}")
        before = seconds
    return lines


def report(*, endpoints: int, policies: int, repeat: int, sample: int, seed: int) -> None:
    """Measure and print."""
    write = sys.stdout.write
    size = {"endpoints": endpoints, "policies": policies}
    for title, build in (("plain mix", plain_case), ("hard mix", hard_case)):
        case = build(**size, seed=seed)
        fast = measure(case, repeat=repeat)
        peak = peak_mib()
        naive_ns = measure_naive(case, sample=sample, seed=seed)
        write(
            f"{title}: {fast.cells:,} cells ({fast.passing:.0%} pass) in {fast.seconds:.3f} s, "
            f"{fast.ns_per_cell:.1f} ns a cell, peak {peak:.0f} MiB\n"
            f"  plain evaluation {naive_ns / 1000:.0f} µs a cell: ×{naive_ns / fast.ns_per_cell:,.0f}\n"
        )
        if build is plain_case and fast.cells == 10_000_000:
            write(
                f"  Cilium's Go engine {ENGINE_S} s for this shape (figure from elsewhere): "
                f"×{ENGINE_S / fast.seconds:.1f}\n"
            )
    half, full, double = endpoints // 2, endpoints, endpoints * 2
    numbers = [policies // 4, policies // 2, policies, policies * 2]
    lines = _growth(
        "policies",
        [(n, plain_case(endpoints=full, policies=n, seed=seed)) for n in numbers],
        repeat,
    )
    lines += _growth(
        "identities",
        [(n, plain_case(endpoints=n, policies=policies, seed=seed)) for n in (half, full, double)],
        repeat,
    )
    write("\n".join(lines) + "\n")
