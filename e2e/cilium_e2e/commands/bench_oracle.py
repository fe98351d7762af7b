"""``cilium-e2e bench oracle``: what a whole matrix costs, as ratios measured in one run."""

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cilium_e2e.commands.bench_worlds import Case, hard_case, plain_case
from cilium_e2e.policy import matrix
from cilium_e2e.policy.naive import naive_verdict

if TYPE_CHECKING:
    # The action's class is private, and generic for type checkers only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

ENGINE_S = 4.9
"""Seconds Cilium's own Go engine took for the plain mix, measured elsewhere; 0.13 s of it to distill."""

DESCRIPTION = """\
Compute whole matrices (1,000 endpoints with 1,000 identities in 50 namespaces, 500 policies, 10 ports: 10
million cells) and compare a cell's cost with the plain evaluation of the same cells, measured in the same
run.
"""


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


def add_arguments(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("oracle", help="the policy oracle's matrices", description=DESCRIPTION)
    parser.add_argument("--endpoints", type=int, default=1000, help="pods and peers (default: 1000)")
    parser.add_argument("--policies", type=int, default=500, help="policies (default: 500)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, the best counts (default: 3)")
    parser.add_argument("--sample", type=int, default=300, help="cells evaluated plainly (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="of everything drawn (default: 1)")
    parser.set_defaults(run=run)


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


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0."""
    write = sys.stdout.write
    size = {"endpoints": args.endpoints, "policies": args.policies}
    for title, build in (("plain mix", plain_case), ("hard mix", hard_case)):
        case = build(**size, seed=args.seed)
        fast = measure(case, repeat=args.repeat)
        peak = peak_mib()
        naive_ns = measure_naive(case, sample=args.sample, seed=args.seed)
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
    half, full, double = args.endpoints // 2, args.endpoints, args.endpoints * 2
    policies = [args.policies // 4, args.policies // 2, args.policies, args.policies * 2]
    lines = _growth(
        "policies",
        [(n, plain_case(endpoints=full, policies=n, seed=args.seed)) for n in policies],
        args.repeat,
    )
    lines += _growth(
        "identities",
        [(n, plain_case(endpoints=n, policies=args.policies, seed=args.seed)) for n in (half, full, double)],
        args.repeat,
    )
    write("\n".join(lines) + "\n")
    return 0
