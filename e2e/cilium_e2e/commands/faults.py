"""``cilium-e2e faults``: what ``run --backend simulated --inject FAULT`` can break."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001


def add_arguments(commands: Subparsers) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "faults", allow_abbrev=False, help="list the faults a simulated cluster can have"
    )
    parser.add_argument("--describe", action="store_true", help="say what each of them is")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the names, one a line."""
    from cilium_e2e.cluster.simulated import faults  # noqa: PLC0415 - the oracle takes a moment to import

    for fault in faults.FAULTS:
        print(f"{fault.name}: {fault.description}" if given.describe else fault.name)  # noqa: T201 - its output
    return 0
