"""A running cluster as plain data, from the controller to its workers."""

from __future__ import annotations

from pathlib import Path

import execnet
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import Backend, Capability, ClusterInfo, Difference, NodeInfo, WorldAgent
from cilium_e2e.session import Handle

text = st.text(max_size=12)
few = 3
infos = st.builds(
    ClusterInfo,
    name=text,
    backend=st.sampled_from(Backend),
    topology=text,
    nodes=st.lists(st.builds(NodeInfo, text, text, st.lists(text, max_size=2).map(tuple)), max_size=few).map(
        tuple
    ),
    release=text,
    world=st.lists(st.builds(WorldAgent, text, st.lists(text, max_size=2).map(tuple)), max_size=2).map(tuple),
    host_agents=st.lists(st.tuples(text, text), max_size=few).map(tuple),
    cilium_namespace=text,
    capabilities=st.frozensets(st.sampled_from(Capability)),
    features=st.frozensets(text, max_size=few),
    versions=st.lists(st.tuples(text, text), max_size=few).map(tuple),
    differences=st.lists(st.builds(Difference, text, text, text, text), max_size=few).map(tuple),
)
handles = st.builds(
    Handle,
    info=infos,
    kubeconfig=st.sampled_from([Path("/a/b.kubeconfig"), Path("relative")]),
    agent_image=text,
    timeline=st.lists(text, max_size=few).map(tuple),
)


@given(handles)
def test_a_handle_arrives_as_it_was_sent(handle):
    """Through the very serializer that xdist sends a worker its input with."""
    sent = execnet.dumps(handle.to_data())
    assert Handle.from_data(execnet.loads(sent)) == handle


@given(handles)
def test_equal_handles_are_equal_data(handle):
    assert Handle.from_data(handle.to_data()).to_data() == handle.to_data()
