import argparse
import re

from cilium_e2e.commands import bench_oracle
from cilium_e2e.commands.bench_worlds import hard_case, plain_case
from cilium_e2e.policy.matrix import matrix
from cilium_e2e.policy.naive import naive_verdict


def test_the_report_holds_its_ratios(capsys):
    parser = argparse.ArgumentParser()
    bench_oracle.add_arguments(parser.add_subparsers())
    args = parser.parse_args(
        ["oracle", "--endpoints", "100", "--policies", "40", "--repeat", "1", "--sample", "20"]
    )
    assert args.run(args) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"plain evaluation \d+ µs a cell: ×[\d,]+", out)) == 2
    assert "growth with policies" in out
    assert "growth with identities" in out


def test_both_mixes_are_what_the_plain_evaluation_says():
    for build in (plain_case, hard_case):
        case = build(endpoints=80, policies=60, seed=7)
        oracle = case.oracle()
        assert not oracle.refused
        found = matrix(oracle, case.keys, case.keys, case.ports)
        for s in range(0, len(case.keys), 7):
            for t in range(0, len(case.keys), 11):
                query = case.ports[(s + t) % len(case.ports)]
                position = case.ports.index(query)
                want = naive_verdict(oracle, case.keys[s], case.keys[t], query.protocol, query.port)
                assert found.decisions(s, t, position) == want
