"""The agents outside, and the zone that leads to them."""

from __future__ import annotations

import ipaddress

import pytest

from cilium_e2e.probe.agent.zone import Zone
from cilium_e2e.probe.places import WORLD, ZONE, zone_agents, zone_records

ADDRESSES = {"one": ["192.0.2.1"], "two": ["192.0.2.2"]}
_A = 1


def records_of(name):
    """What the zone's server answers."""
    _, found = Zone.parse(zone_records(ADDRESSES)).look_up(name, _A)
    return [str(ipaddress.ip_address(packed)) for packed in found]


@pytest.mark.parametrize(
    ("name", "agents"),
    [
        ("one", ("one",)),
        ("TWO", ("two",)),
        ("both", WORLD),
        ("some.any", ("one",)),
        ("some.deep.any", ("one",)),
    ],
)
def test_names_of_the_zone_lead_where_its_records_do(name, agents):
    assert zone_agents(f"{name}.{ZONE}.") == zone_agents(f"{name}.{ZONE}") == agents
    wanted = {address for agent in agents for address in ADDRESSES[agent]}
    assert set(records_of(f"{name}.{ZONE}".lower())) == wanted


@pytest.mark.parametrize("name", ["three.e2e.test", "a.one.e2e.test", "e2e.test", "one.e2e.test.org", "one"])
def test_other_names_lead_nowhere(name):
    assert zone_agents(name) == ()
    assert records_of(name) == []
