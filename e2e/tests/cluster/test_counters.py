"""Counters, as agents list them and as Prometheus reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.agents import CiliumAgents
from cilium_e2e.cluster.counters import DROPS, FORWARDS, Sample, parse_exposition, parse_list, total
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError
from support.memory import FakeExec, MemoryTransport, pod
from support.recordings import FOLDER, recorded


def test_the_recorded_list() -> None:
    samples = parse_list(recorded("cilium-dbg-metrics-list"))
    assert total(samples, DROPS, reason="Policy denied", direction="INGRESS") == 666
    assert total(samples, DROPS, reason="Policy denied", direction="EGRESS") == 0
    assert total(samples, DROPS) == 676
    assert total(samples, FORWARDS) == 20645 + 25633
    assert total(samples, "cilium_no_such_metric") == 0


def test_an_agent_is_asked_by_its_own_command() -> None:
    agent = pod("cilium-1", "cilium", phase="Running")
    agent["metadata"]["labels"] = {"k8s-app": "cilium"}
    agent["spec"]["nodeName"] = "n1"
    api = MemoryTransport(agent)
    asked = []

    def answer(ref, container, command):
        asked.append((ref.name, container, list(command)))
        return FakeExec(*(FOLDER / "cilium-dbg-metrics-list.json").read_text().splitlines())

    api.on_exec = answer
    agents = CiliumAgents(Kube(api, clock=api.clock), "cilium")
    assert total(agents.metrics(agents.pods()[0]), DROPS) == 676
    assert asked == [("cilium-1", "cilium-agent", ["cilium-dbg", "metrics", "list", "-o", "json"])]


EXPOSITION = """\
# HELP hubble_flows_processed_total Total number of flows processed
# TYPE hubble_flows_processed_total counter
hubble_flows_processed_total{protocol="TCP",subtype="to-endpoint",type="Trace",verdict="FORWARDED"} 12
hubble_flows_processed_total{protocol="TCP",subtype="",type="PolicyVerdict",verdict="DROPPED"} 3 1700000000000

hubble_lost_events_total{source="a \\"b\\", c\\\\d\\n}"} 1.5e+01
go_goroutines 7
a:b{} NaN
"""


def test_an_exposition() -> None:
    samples = parse_exposition(EXPOSITION, place="node n1")
    assert total(samples, "hubble_flows_processed_total") == 15
    assert total(samples, "hubble_flows_processed_total", verdict="DROPPED") == 3
    assert samples[2] == Sample("hubble_lost_events_total", {"source": 'a "b", c\\d\n}'}, 15.0)
    assert samples[3] == Sample("go_goroutines", {}, 7.0)
    assert (samples[4].name, math.isnan(samples[4].value)) == ("a:b", True)


@pytest.mark.parametrize("line", ["<html>", "a", "a b", 'a{b="c} 1', "a{b=c} 1", 'a{b="c"d="e} 1'])
def test_something_else_is_told_with_its_place(line: str) -> None:
    with pytest.raises(ClusterStateError, match="in line 2") as caught:
        parse_exposition(f"good 1\n{line}\n", place="node n1")
    assert caught.value.place == "node n1"


def written(sample: Sample) -> str:
    def escape(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    labels = ",".join(f'{key}="{escape(value)}"' for key, value in sample.labels.items())
    return f"{sample.name}{{{labels}}} {sample.value!r}"


NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
# str.splitlines() knows more line ends than the format, which has none of them in metrics of Cilium.
TEXT = st.text(st.characters(categories=("L", "N", "P", "S"), include_characters='\\"\n ,{}='), max_size=12)


@given(
    st.lists(
        st.builds(
            Sample, NAMES, st.dictionaries(NAMES, TEXT, max_size=3), st.floats(allow_nan=False, width=32)
        )
    )
)
def test_what_is_written_is_read(samples: list[Sample]) -> None:
    assert parse_exposition("\n".join(map(written, samples)), place="here") == samples
