"""The benchmark over an API in memory: agents that answer in virtual time, and what is made of it."""

from __future__ import annotations

import argparse
import json
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from cilium_e2e.commands import bench_probes
from cilium_e2e.commands.bench_probes import AIM
from cilium_e2e.commands.probe_costs import ALLOWED_PORT, DENIED_PORT, Cost, measure, report
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    ClusterStateError,
    EndpointProof,
    InputError,
    Outcome,
    OutcomeKind,
    Proof,
    Ref,
    StreamLost,
)
from cilium_e2e.probe.agent import VERSION
from cilium_e2e.session.registry import Record, Registry
from support.memory import FakeExec, MemoryTransport

BATCH_S, EXEC_S, SILENT_S = 0.5, 0.2, 1.0


class Bench:
    """A cluster in memory. A batch takes as long as its slowest probe; so does an exec, after its start."""

    def __init__(self):
        self.api = MemoryTransport()
        self.clock = self.api.clock
        self.kube = Kube(self.api, clock=self.clock)
        self.enforced = False
        self.batches: list[list[str]] = []
        self.commands: list[list[str]] = []
        self.open_ports: set[int] = set()  # whatever a policy says
        self.closed_ports: set[int] = set()
        self.last_words: str | None = None
        self.api.on_apply = self._controllers
        self.api.on_exec = self._exec

    def _controllers(self, obj):
        if obj["kind"] == "Namespace":
            account = {"name": "default", "namespace": obj["metadata"]["name"]}
            self.api.put({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        if obj["kind"] == "Pod":
            ready = [{"type": "Ready", "status": "True"}]
            obj["status"] = {"phase": "Running", "conditions": ready, "podIP": "10.0.0.5"}
            self.api.put(obj)
        if obj["kind"] == "CiliumNetworkPolicy":
            obj["metadata"]["uid"] = "uid-1"
            self.api.put(obj)

    def prove(self, policies, endpoints, *, gone=False, absent=(), timeout_s=30.0):
        self.enforced = bool(policies) or self.enforced
        shown = tuple(EndpointProof(name, "n1", 2, frozenset()) for name in endpoints)
        return Proof(tuple(policies), gone, shown, 0.1)

    def _kind(self, port):
        denied = self.enforced and port == DENIED_PORT and port not in self.open_ports
        return OutcomeKind.TIMEOUT if denied or port in self.closed_ports else OutcomeKind.CONNECTED

    def prober(self, source):
        self.source = source
        return self

    def run(self, batch):
        self.batches.append([probe.id for probe in batch])
        kinds = [self._kind(probe.port) for probe in batch]
        self.clock.now += SILENT_S if OutcomeKind.TIMEOUT in kinds else BATCH_S
        return [
            Outcome(p.id, kind, str(p.target) if kind is OutcomeKind.CONNECTED else "")
            for p, kind in zip(batch, kinds, strict=True)
        ]

    def _exec(self, ref, container, command):
        self.commands.append(list(command))
        *_, once, line = command
        assert once == "once"
        (probe,) = json.loads(line)["probes"]
        assert (probe["host"], probe["timeout"], probe["agent"]) == ("10.0.0.5", SILENT_S, True)
        kind = self._kind(probe["port"])
        self.clock.now += EXEC_S + (SILENT_S if kind is OutcomeKind.TIMEOUT else 0.0)
        outcome = {"kind": kind.value}
        if kind is OutcomeKind.CONNECTED:
            outcome["answered_by"] = f"{ref.namespace}/target"
        answer = {"v": VERSION, "id": 1, "agent": "source", "outcomes": [outcome]}
        return FakeExec(json.dumps(answer) if self.last_words is None else self.last_words)

    def measure(self, probes=1000, execs=30):
        return measure(self, self.kube, image="python:x", probes=probes, execs=execs)


def costs_by_name(costs):
    return {(cost.kind, cost.way): cost for cost in costs}


def test_all_four_are_measured_and_nothing_is_left():
    bench = Bench()
    found = costs_by_name(bench.measure())
    assert {key: cost.probes for key, cost in found.items()} == {
        ("allowed", "batch"): 1000,
        ("denied", "batch"): 1000,
        ("allowed", "exec"): 30,
        ("denied", "exec"): 30,
    }
    assert found["allowed", "batch"].seconds == pytest.approx(BATCH_S)
    assert found["denied", "batch"].seconds == pytest.approx(SILENT_S)
    assert found["allowed", "exec"].seconds == pytest.approx(30 * EXEC_S)
    assert found["denied", "exec"].each_s == pytest.approx(EXEC_S + SILENT_S), "it waits as long"
    assert not any(cost.wrong for cost in found.values())
    assert [len(batch) for batch in bench.batches[-2:]] == [1000, 1000]
    assert len(bench.commands) == 60
    policy = next(obj for obj in bench.api.applied if obj["kind"] == "CiliumNetworkPolicy")
    assert policy["spec"]["ingress"][0]["toPorts"][0]["ports"][0]["port"] == str(ALLOWED_PORT)
    assert bench.api.stored(Ref("v1", "Namespace", bench.source.namespace)) is None


def test_a_denied_probe_that_gets_through_is_wrong_both_ways():
    bench = Bench()
    bench.open_ports = {DENIED_PORT}
    found = costs_by_name(bench.measure(20, 2))
    assert len(found["denied", "batch"].wrong) == 20
    assert len(found["denied", "exec"].wrong) == 2
    assert (
        found["denied", "exec"]
        .wrong[0]
        .startswith(f"{DENIED_PORT} number 0: expected denied, seen connected")
    )
    assert not found["allowed", "batch"].wrong


def test_without_the_positive_control_nothing_is_measured():
    bench = Bench()
    bench.closed_ports = {DENIED_PORT}
    with pytest.raises(
        ClusterStateError, match=r"without a policy: .*expected connected by .*, seen timeout"
    ):
        bench.measure()
    assert not any(obj["kind"] == "CiliumNetworkPolicy" for obj in bench.api.applied)
    assert bench.api.stored(Ref("v1", "Namespace", bench.source.namespace)) is None


@pytest.mark.parametrize(
    "words",
    [
        "Traceback",
        json.dumps({"v": VERSION, "id": 1, "agent": "a", "error": "malformed"}),
        json.dumps({"v": VERSION, "id": 1, "agent": "a", "outcomes": []}),
        json.dumps({"v": VERSION, "hello": "a"}),
    ],
)
def test_an_exec_whose_answer_is_lost_is_an_error_and_no_denial(words):
    bench = Bench()
    bench.last_words = words
    with pytest.raises(StreamLost):
        bench.measure(1, 1)


GOOD = [
    Cost("allowed", "batch", 1000, 1.0),
    Cost("denied", "batch", 1000, 2.0),
    Cost("allowed", "exec", 30, 4.8),
    Cost("denied", "exec", 30, 36.0),
]


def test_the_report_holds_costs_and_ratios():
    assert report(GOOD, aim=100) == [
        (
            "allowed: 1,000 in one batch on an open stream 1.00 s, 1.00 ms a probe; "
            "30 by one exec each, one after the other, 4.80 s, 160.0 ms a probe: ×160"
        ),
        (
            "denied: 1,000 in one batch on an open stream 2.00 s, 2.00 ms a probe; "
            "30 by one exec each, one after the other, 36.00 s, 1200.0 ms a probe: ×600"
        ),
        "the aim of ×100 for both is reached",
    ]


def test_one_below_the_aim_is_enough_to_miss_it():
    assert report(GOOD, aim=161)[-1] == "the aim of ×161 for both is not reached"


def test_wrong_outcomes_are_told_and_the_figures_are_not_trusted():
    bad = [*GOOD[:3], Cost("denied", "exec", 30, 36.0, tuple(f"w{n}" for n in range(7)))]
    assert report(bad, aim=100)[2:] == [
        *(f"wrong, denied by exec: w{n}" for n in range(5)),
        "wrong, denied by exec: and 2 more",
        "some probes had the wrong outcome: the figures mean nothing",
    ]


# The command around it.


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    bench_probes.add_arguments(parser.add_subparsers())
    return parser.parse_args(["probes", *arguments])


@pytest.mark.parametrize(("open_ports", "code"), [(set(), 0), ({DENIED_PORT}, 1)])
def test_the_exit_code_is_whether_all_outcomes_were_right(monkeypatch, capsys, open_ports, code):
    bench = Bench()
    bench.open_ports = open_ports

    @contextmanager
    def connected(args):
        face = SimpleNamespace(api=bench.kube, clock=bench.clock, prove=bench.prove, prober=bench.prober)
        yield face, "python:y"

    monkeypatch.setattr(bench_probes, "_connected", connected)
    args = parsed("--cluster-name=x", "--probes=50", "--execs=3")
    assert args.run(args) == code
    out = capsys.readouterr().out
    assert len(re.findall(r"50 in one batch .* ms a probe; 3 by one exec each.*: ×\d+", out)) == 2
    assert (f"the aim of ×{AIM:.0f}" in out) is (code == 0)
    pods = [obj for obj in bench.api.applied if obj["kind"] == "Pod"]
    assert {pod["spec"]["containers"][0]["image"] for pod in pods} == {"python:y"}


@pytest.mark.parametrize(
    "arguments", [[], ["--cluster-name=a", "--kubeconfig=b"], ["--cluster-name=a", "--probes=0"]]
)
def test_a_wrong_command_line(arguments, capsys):
    with pytest.raises(SystemExit):
        parsed(*arguments)
    assert capsys.readouterr().err


def test_a_cluster_that_nobody_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    registry = Registry(tmp_path / "cilium-e2e")
    registry.write(Record("ready", "default", "", keep=True, handle={"x": "y"}))
    registry.write(Record("never", "default", "", keep=True, handle={}))
    for name in ("never", "unknown"):
        args = parsed(f"--cluster-name={name}")
        with pytest.raises(InputError, match=r"one of: ready\. Keep one with"):
            args.run(args)


def agent_in(namespace, name):
    meta = {"name": name, "namespace": namespace, "labels": {"k8s-app": "cilium"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta}


def test_with_a_kubeconfig_ciliums_namespace_is_looked_for(monkeypatch, tmp_path):
    found = MemoryTransport(agent_in("cilium", "a"), agent_in("cilium", "b"))
    monkeypatch.setattr("cilium_e2e.kube.live.LiveTransport", lambda file, context: found)
    with bench_probes._connected(parsed(f"--kubeconfig={tmp_path / 'k'}", "--agent-image=i")) as (
        cluster,
        image,
    ):
        assert cluster.info.cilium_namespace == "cilium"
        assert image == "i"
        with pytest.raises(InputError):
            cluster.publish()
    assert found.closed


@pytest.mark.parametrize("namespaces", [(), ("cilium", "kube-system")])
def test_no_cilium_or_two(monkeypatch, tmp_path, namespaces):
    found = MemoryTransport(*(agent_in(namespace, "a") for namespace in namespaces))
    monkeypatch.setattr("cilium_e2e.kube.live.LiveTransport", lambda file, context: found)
    args = parsed(f"--kubeconfig={tmp_path / 'k'}")
    with pytest.raises(ClusterStateError, match="expected Cilium's agents"):
        args.run(args)
    assert found.closed
