"""The oracle against the verdicts of Cilium's own engine: every flow, refusal and redirect must agree."""

import gzip
import json
from pathlib import Path

import pytest

from cilium_e2e.commands.verdict_table import answer, read_scenario
from cilium_e2e.policy import Oracle, check_schema, parse_policy
from cilium_e2e.policy.schema import aggregate

TABLE = Path(__file__).parents[1] / "data" / "truth" / "policy-1.18.jsonl.gz"
SCENARIOS = {json.loads(line)["id"]: line for line in gzip.decompress(TABLE.read_bytes()).splitlines()}


@pytest.fixture(params=sorted(SCENARIOS))
def line(request):
    return SCENARIOS[request.param]


def unordered(message):
    """A message whose pair of peers may be named in either order."""
    head, found, tail = message.partition("combining ")
    pair, _, rest = tail.partition(" is not")
    return f"{head}{found}{' and '.join(sorted(pair.split(' and ')))}{rest}"


def objects(entries):
    return {(e["kind"], e["namespace"], e["name"]): unordered(e["message"]) for e in entries}


def test_the_table_is_whole():
    assert len(SCENARIOS) == 522
    assert sum(len(json.loads(line)["flows"]) for line in SCENARIOS.values()) == 104_316


def test_every_flow_agrees(line):
    truth = json.loads(line)
    got = answer(read_scenario(line, truth["id"]))
    wrong = [
        {**want, "got": have}
        for want, have in zip(truth["flows"], got["flows"], strict=True)
        if (want.get("egressAgent", want["egress"]), want["ingress"]) != (have["egress"], have["ingress"])
    ]
    assert not wrong
    assert objects(got["invalid"]) == objects(truth["invalid"])


def test_every_schema_refusal_agrees(line):
    truth = json.loads(line)
    got = {
        (p["kind"], p["metadata"].get("namespace", ""), p["metadata"]["name"]): aggregate(problems)
        for p in truth["policies"]
        if (problems := check_schema(p))
    }
    assert got == {(e["kind"], e["namespace"], e["name"]): e["message"] for e in truth["schemaInvalid"]}


def test_every_redirect_agrees(line):
    truth = json.loads(line)
    scenario = read_scenario(line, truth["id"])
    oracle = Oracle(scenario.world, [parse_policy(p, strict=False) for p in scenario.policies])
    for want in truth["flows"]:
        sides = oracle.sides(want["from"], want["to"], want["protocol"], want["port"])
        at = [side.direction.value.lower() for side in sides if side.redirects]
        assert (at[0] if len(at) == 1 else "both" if at else None) == want.get("redirectAt"), want


def test_answers_do_not_depend_on_answers():
    line = next(iter(SCENARIOS.values()))
    truth = json.loads(line)
    bare = {key: value for key, value in truth.items() if key not in ("invalid", "schemaInvalid")}
    bare["flows"] = [
        {key: flow[key] for key in ("from", "to", "port", "protocol")} for flow in truth["flows"]
    ]
    assert answer(read_scenario(json.dumps(bare), "bare")) == answer(read_scenario(line, "full"))
