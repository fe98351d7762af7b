"""``cilium-e2e bench oracle``: what a whole matrix costs, as ratios measured in one run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The action's class is private, and generic for type checkers only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

DESCRIPTION = """\
Compute whole matrices (1,000 endpoints with 1,000 identities in 50 namespaces, 500 policies, 10 ports: 10
million cells) and compare a cell's cost with the plain evaluation of the same cells, measured in the same
run.
"""


def add_arguments(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("oracle", help="the policy oracle's matrices", description=DESCRIPTION)
    parser.add_argument("--endpoints", type=int, default=1000, help="pods and peers (default: 1000)")
    parser.add_argument("--policies", type=int, default=500, help="policies (default: 500)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, the best counts (default: 3)")
    parser.add_argument("--sample", type=int, default=300, help="cells evaluated plainly (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="of everything drawn (default: 1)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0."""
    from cilium_e2e.commands import oracle_costs  # noqa: PLC0415 - the oracle, and with it numpy

    oracle_costs.report(
        endpoints=args.endpoints,
        policies=args.policies,
        repeat=args.repeat,
        sample=args.sample,
        seed=args.seed,
    )
    return 0
