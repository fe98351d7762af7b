"""The oracle against the verdicts of Cilium's own engine: every flow, refusal and redirect must agree."""

import gzip
import json
from pathlib import Path

import pytest

from cilium_e2e.commands.verdict_table import answer, read_scenario
from cilium_e2e.policy import Oracle, check_schema, parse_policy
from cilium_e2e.policy.schema import aggregate

TRUTH = Path(__file__).parents[1] / "data" / "truth"


def scenarios(name):
    return {
        json.loads(line)["id"]: line for line in gzip.decompress((TRUTH / name).read_bytes()).splitlines()
    }


TABLE = scenarios("policy-1.18.jsonl.gz")
SUPPLEMENT = scenarios("supplement-1.18.jsonl.gz")
EVERYTHING = TABLE | SUPPLEMENT


@pytest.fixture(params=sorted(EVERYTHING))
def line(request):
    return EVERYTHING[request.param]


def unordered(message):
    """A message whose pair of peers may be named in either order."""
    head, found, tail = message.partition("combining ")
    pair, _, rest = tail.partition(" is not")
    return f"{head}{found}{' and '.join(sorted(pair.split(' and ')))}{rest}"


def objects(entries):
    return {(e["kind"], e["namespace"], e["name"]): unordered(e["message"]) for e in entries}


def test_the_tables_are_whole():
    assert len(TABLE) == 522
    assert sum(len(json.loads(line)["flows"]) for line in TABLE.values()) == 104_316
    assert len(SUPPLEMENT) > 800


def test_every_flow_and_refusal_agrees(line):
    truth = json.loads(line)
    got = answer(read_scenario(line, truth["id"]))
    wrong = [
        {**want, "got": have}
        for want, have in zip(truth["flows"], got["flows"], strict=True)
        if (want.get("egressAgent", want["egress"]), want["ingress"]) != (have["egress"], have["ingress"])
    ]
    assert not wrong
    assert objects(got["invalid"]) == objects(truth["invalid"])


def test_every_redirect_agrees(line):
    truth = json.loads(line)
    scenario = read_scenario(line, truth["id"])
    readable = [entry for entry in scenario.policies if entry not in unreadable(truth)]
    oracle = Oracle(scenario.world, [parse_policy(entry, strict=False) for entry in readable])
    for want in truth["flows"]:
        sides = oracle.sides(want["from"], want["to"], want["protocol"], want["port"])
        at = [side.direction.value.lower() for side in sides if side.redirects]
        assert (at[0] if len(at) == 1 else "both" if at else None) == want.get("redirectAt"), want


def unreadable(truth):
    """The objects a scenario lists as refused; some of them cannot even be read."""
    names = {(e["kind"], e["namespace"], e["name"]) for e in truth["invalid"]}
    return [
        policy
        for policy in truth["policies"]
        if (policy["kind"], policy["metadata"].get("namespace", ""), policy["metadata"]["name"]) in names
    ]


@pytest.mark.parametrize("name", sorted(TABLE))
def test_every_schema_refusal_agrees(name):
    truth = json.loads(TABLE[name])
    got = {
        (p["kind"], p["metadata"].get("namespace", ""), p["metadata"]["name"]): aggregate(problems)
        for p in truth["policies"]
        if (problems := check_schema(p))
    }
    assert got == {(e["kind"], e["namespace"], e["name"]): e["message"] for e in truth["schemaInvalid"]}


def test_answers_do_not_depend_on_answers():
    line = next(iter(TABLE.values()))
    truth = json.loads(line)
    bare = {key: value for key, value in truth.items() if key not in ("invalid", "schemaInvalid")}
    bare["flows"] = [
        {key: flow[key] for key in ("from", "to", "port", "protocol")} for flow in truth["flows"]
    ]
    assert answer(read_scenario(json.dumps(bare), "bare")) == answer(read_scenario(line, "full"))
