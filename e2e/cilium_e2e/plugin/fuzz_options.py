"""``--fuzz N`` and ``--fuzz-out DIR``; what they do is in :mod:`cilium_e2e.plugin.fuzz`."""

from __future__ import annotations

import argparse

import pytest

MOST = 100_000
"""More cases than anybody waits for; a number above it is a slip."""


def count(text: str) -> int:
    """A number of cases."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST:
        raise argparse.ArgumentTypeError(f"expected a number of cases from 1 to {MOST}, got {text!r}")
    return number


def add(parser: pytest.Parser) -> None:
    """Register the options."""
    option = parser.getgroup("cilium-e2e").addoption
    option(
        "--fuzz",
        type=count,
        default=None,
        metavar="N",
        help="Run N random sets of policies against the oracle, and nothing else; --seed makes them anew.",
    )
    option(
        "--fuzz-out",
        default=None,
        metavar="DIR",
        help="Where --fuzz writes minimal scenario files (default: fuzz in $XDG_STATE_HOME/cilium-e2e).",
    )


def asked(config: pytest.Config) -> bool:
    """Whether random policies are to be run."""
    return config.getoption("--fuzz") is not None
