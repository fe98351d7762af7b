"""Which tests run, and in which order: ``--tier``, ``--tag``, ``--seed``; tests and scenarios alike.

``@pytest.mark.tier("full")`` puts a test into the tier that runs nightly; ``@pytest.mark.tag("dns")`` names
what it is about.
"""

from __future__ import annotations

import random
from itertools import groupby

import pytest

from cilium_e2e.model import Tier

_ORDER = (Tier.QUICK.value, Tier.FULL.value)


def add(parser: pytest.Parser) -> None:
    """Register the options."""
    option = parser.getgroup("cilium-e2e").addoption
    option(
        "--tier",
        choices=_ORDER,
        default=None,
        help="How thorough: quick (default), or full (default with --inject), which includes quick.",
    )
    option(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="Only tests and scenarios with this tag; repeatable, one of them is enough.",
    )
    option("--seed", type=int, default=None, metavar="S", help="Run in an order that the number decides.")


def mark(config: pytest.Config) -> None:
    """Declare the markers."""
    config.addinivalue_line("markers", "tier(name): quick or full, the least thorough tier that includes it")
    config.addinivalue_line("markers", "tag(*names): what a test is about, for --tag")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what was not asked for, then order the rest.

    Files are shuffled, and the tests inside each, so that fixtures of a module are still set up once.

    Raises:
        pytest.UsageError: a tier that there is none of.
    """
    for item in items:
        if tier_of(item) not in _ORDER:
            raise pytest.UsageError(
                f"{item.nodeid}: expected a tier of {', '.join(_ORDER)}, got {tier_of(item)}"
            )
    chosen = [item for item in items if _is_chosen(config, item)]
    if len(chosen) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
    # With --fuzz the seed makes the cases, which keep their order.
    seed = None if config.getoption("--fuzz") else config.getoption("--seed")
    items[:] = chosen if seed is None else shuffled(chosen, seed)


def shuffled(items: list[pytest.Item], seed: int) -> list[pytest.Item]:
    """Files in another order, and the tests of each file; the same for the same seed, on every worker."""
    chance = random.Random(seed)  # noqa: S311 - an order, no secret
    files = [list(group) for _, group in groupby(items, key=lambda item: item.path)]
    chance.shuffle(files)
    for tests in files:
        chance.shuffle(tests)
    return [item for tests in files for item in tests]


def tier_of(item: pytest.Item) -> str:
    """The nearest marker's tier; quick without one."""
    found = item.get_closest_marker("tier")
    return str(found.args[0]) if found and found.args else Tier.QUICK.value


def tags_of(item: pytest.Item) -> set[str]:
    """All tags, from the function, its class and its module."""
    return {str(name) for found in item.iter_markers("tag") for name in found.args}


def _is_chosen(config: pytest.Config, item: pytest.Item) -> bool:
    wanted = config.getoption("--tag")
    # Some faults show in the full tier only, and none may go unnoticed.
    usual = Tier.FULL if config.getoption("--inject") else Tier.QUICK
    deep = _ORDER.index(config.getoption("--tier") or usual.value)
    return _ORDER.index(tier_of(item)) <= deep and (not wanted or not tags_of(item).isdisjoint(wanted))
