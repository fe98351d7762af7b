import numpy as np
import pytest

from cilium_e2e.model import Decision, InputError
from cilium_e2e.policy import Oracle, Peer, Pod, World, parse_policy
from cilium_e2e.policy.matrix import ALLOWED, DENIED, NONE, PortQuery, matrix

PODS = tuple(
    Pod(namespace="alpha", name=f"pod{n}", labels={"app": f"app{n % 2}"}, node="n1") for n in range(4)
)
PEERS = (Peer(name="n1", node="n1", address="172.18.0.2"), Peer(name="world", address="203.0.113.7"))
POLICY = {
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p", "namespace": "alpha"},
    "spec": {
        "endpointSelector": {"matchLabels": {"app": "app0"}},
        "ingress": [
            {"fromEndpoints": [{"matchLabels": {"app": "app1"}}], "toPorts": [{"ports": [{"port": "80"}]}]}
        ],
    },
}
KEYS = tuple(one.key for one in (*PODS, *PEERS))
PORTS = (PortQuery("TCP", 80), PortQuery("UDP", 81))


@pytest.fixture
def oracle():
    return Oracle(World(pods=PODS, peers=PEERS), [parse_policy(POLICY)])


def test_shapes_and_codes(oracle):
    found = matrix(oracle, KEYS[:3], KEYS, PORTS)
    assert found.egress.shape == (3, 2, 6)
    assert found.ingress.shape == (6, 2, 3)
    assert found.passes().shape == (3, 2, 6)
    assert set(np.unique(found.ingress)) == {NONE, ALLOWED, DENIED}


def test_any_choice_of_axes_gives_the_same_cells(oracle):
    some = KEYS[::-1][:4]
    found = matrix(oracle, some, KEYS[1:], PORTS[::-1])
    for s, source in enumerate(some):
        for t, target in enumerate(KEYS[1:]):
            for p, query in enumerate(PORTS[::-1]):
                verdict = oracle.verdict(source, target, query.protocol, query.port)
                assert found.decisions(s, t, p) == (verdict.egress, verdict.ingress)
                assert found.passes()[s, p, t] == verdict.passes


def test_a_node_is_near_or_far_in_the_matrix_too(oracle):
    found = matrix(oracle, ("n1",), ("alpha/pod0",), PORTS[:1])
    assert found.decisions(0, 0, 0) == (Decision.NONE, Decision.ALLOWED)


def test_an_empty_axis_gives_an_empty_matrix(oracle):
    assert matrix(oracle, (), KEYS, PORTS).passes().shape == (0, 2, 6)
    assert matrix(oracle, KEYS, KEYS, ()).passes().shape == (6, 0, 6)


def test_what_cannot_be_asked(oracle):
    with pytest.raises(InputError, match="expected"):
        matrix(oracle, ("nobody",), KEYS, PORTS)
    with pytest.raises(InputError, match="expected one of TCP"):
        matrix(oracle, KEYS, KEYS, (PortQuery("GRE", 1),))
