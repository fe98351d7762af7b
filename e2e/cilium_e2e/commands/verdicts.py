"""``cilium-e2e verdicts FILE``: the oracle's answers to a table of scenarios."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The action's class is private, and generic for type checkers only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001

DESCRIPTION = """\
Read scenarios (JSON Lines: namespaces, endpoints, peers, policies, flows) and write one JSON line for each,
in order: the decision at the source and at the destination of every flow, as an agent of Cilium 1.18 makes
it, and the policies the agent refuses. Answers in the input are not read.
"""


def add_arguments(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("verdicts", help="answer a table of scenarios", description=DESCRIPTION)
    parser.add_argument("file", metavar="FILE", help="the table, plain or gzip; - for standard input")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the answers to standard output, each as soon as it is known; 0 when all were written.

    Raises:
        InputError: the table cannot be read, or a line of it is no scenario.
    """
    from cilium_e2e.commands.verdict_table import answer, read_table  # noqa: PLC0415 - the oracle, and numpy

    for scenario in read_table(args.file):
        sys.stdout.write(json.dumps(answer(scenario), separators=(",", ":")) + "\n")
    sys.stdout.flush()
    return 0
