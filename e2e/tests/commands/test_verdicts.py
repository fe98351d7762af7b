import argparse
import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from cilium_e2e.commands import verdict_table, verdicts
from cilium_e2e.model import InputError

TABLE = Path(__file__).parents[1] / "data" / "truth" / "policy-1.18.jsonl.gz"
SCENARIO = {
    "id": "s",
    "namespaces": {"alpha": {}},
    "endpoints": [
        {"name": "web", "namespace": "alpha", "labels": {"app": "web"}},
        {"name": "db", "namespace": "alpha", "labels": {}},
    ],
    "policies": [
        {
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "p", "namespace": "alpha"},
            "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{}]},
        },
        {
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "bad", "namespace": "alpha"},
            "spec": {"ingress": 1},
        },
    ],
    "flows": [
        {"from": "alpha/db", "to": "alpha/web", "port": 80, "protocol": "TCP"},
        {"from": "alpha/web", "to": "alpha/db", "port": 80, "protocol": "TCP"},
    ],
}


def run(path):
    parser = argparse.ArgumentParser()
    verdicts.add_arguments(parser.add_subparsers())
    args = parser.parse_args(["verdicts", str(path)])
    return args.run(args)


def test_the_truth_table_in_one_go(capsys):
    assert run(TABLE) == 0
    truth = [json.loads(line) for line in gzip.decompress(TABLE.read_bytes()).splitlines()]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["id"] for line in lines] == [scenario["id"] for scenario in truth]
    for line, scenario in zip(lines, truth, strict=True):
        assert set(line) == {"id", "flows", "invalid"}
        assert line["flows"] == [
            {"egress": flow.get("egressAgent", flow["egress"]), "ingress": flow["ingress"]}
            for flow in scenario["flows"]
        ]
        named = [(e["kind"], e["namespace"], e["name"]) for e in line["invalid"]]
        assert sorted(named) == sorted((e["kind"], e["namespace"], e["name"]) for e in scenario["invalid"])


def test_a_plain_file_without_answers(tmp_path, capsys):
    path = tmp_path / "table.jsonl"
    path.write_text(f"{json.dumps(SCENARIO)}\n\n{json.dumps({'id': 'empty'})}")
    assert run(path) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["flows"] == [
        {"egress": "allowed", "ingress": "denied"},
        {"egress": "allowed", "ingress": "allowed"},
    ]
    assert first["invalid"] == [
        {
            "kind": "CiliumNetworkPolicy",
            "namespace": "alpha",
            "name": "bad",
            "message": "spec.ingress: expected a list, got a number",
        }
    ]
    assert second == {"id": "empty", "flows": [], "invalid": []}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_standard_input(monkeypatch, capsys, pack):
    data = pack(json.dumps(SCENARIO).encode())
    monkeypatch.setattr(
        verdict_table.sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(io.BytesIO(data)))
    )
    assert run("-") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "s"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "expected a JSON object"),
        ("[]", "expected an object, got a list"),
        ("[" * 100_000, "nests too deeply"),
        ("{}", "id: is missing"),
        ('{"id": 3}', "id: expected a string"),
        ('{"id": "x", "flows": [{"from": "a"}]}', "flows[0].to: is missing"),
        (
            '{"id": "x", "flows": [{"from": "a", "to": "b", "port": "80", "protocol": "TCP"}]}',
            "flows[0].port",
        ),
        ('{"id": "x", "flows": [{"from": "a", "to": "b", "port": 80, "protocol": "TCP"}]}', "got 'a'"),
        ('{"id": "x", "endpoints": [{"name": "a"}]}', "endpoints[0].namespace: is missing"),
        (
            '{"id": "x", "endpoints": [{"name": "a", "namespace": "b", "namedPorts": {"h": 80}}]}',
            "endpoints[0].namedPorts.h: expected [number, protocol]",
        ),
        ('{"id": "x", "config": {"enforcement": "maybe"}}', "config.enforcement"),
        ('{"id": "x", "config": {"hostFireWall": true}}', "config.hostFireWall"),
        ('{"id": "x", "namespaces": []}', "namespaces: expected an object"),
        ("\udcff", "expected a JSON object"),
    ],
)
def test_a_malformed_line_is_one_clear_error(tmp_path, capsys, line, reason):
    path = tmp_path / "table.jsonl"
    path.write_bytes(json.dumps(SCENARIO).encode() + b"\n" + line.encode(errors="surrogateescape") + b"\n")
    with pytest.raises(InputError) as caught:
        run(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert reason in str(caught.value)
    assert caught.value.exit_code == 4
    assert json.loads(capsys.readouterr().out)["id"] == "s"


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        run(tmp_path)


def test_a_torn_archive(tmp_path):
    path = tmp_path / "table.jsonl.gz"
    path.write_bytes(TABLE.read_bytes()[:3000])
    with pytest.raises(InputError, match="gzip"):
        run(path)
    path.write_bytes(b"\x1f\x8b" + bytes(20))
    with pytest.raises(InputError, match="cannot be read"):
        run(path)


def test_a_table_is_read_as_it_is_asked_for(tmp_path):
    path = tmp_path / "table.jsonl"
    path.write_text(f"{json.dumps(SCENARIO)}\nbroken\n")
    scenarios = verdict_table.read_table(str(path))
    assert next(scenarios).id == "s"
    with pytest.raises(InputError, match=r":2: "):
        next(scenarios)
