"""README, "CNI Plugin": every pod reaches every other, by TCP, UDP, HTTP and ICMP, under its own address."""

import itertools

import pytest

from cilium_e2e.scenario import Check, Lab
from cilium_e2e.suites.connectivity.reach import PODS, Grid, Pod, reach

pytestmark = pytest.mark.flowless


def _pairs(grid: Grid, *, same_node: bool) -> list[Check]:
    """All ordered pairs, and so both directions; no address is translated between pods."""
    pairs: list[tuple[Pod, Pod]] = [
        (source, target)
        for source, target in itertools.permutations(grid.pods, 2)
        if (source.node == target.node) is same_node
    ]
    return [
        check
        for source, target in pairs
        for check in reach(source.target, target.target, PODS, seen_from={source.ip})
    ]


def test_pods_of_a_node_reach_each_other(lab: Lab, grid: Grid) -> None:
    """On the same node, every pair, both directions; the right pod answers and sees the asker's address."""
    lab.judge(_pairs(grid, same_node=True))


@pytest.mark.requires("multi-node")
def test_pods_reach_each_other_between_nodes(lab: Lab, grid: Grid) -> None:
    """On different nodes, every pair, both directions; the right pod answers and sees the asker's address."""
    lab.judge(_pairs(grid, same_node=False))
