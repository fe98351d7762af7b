import pytest

from cilium_e2e.model import Decision, InputError
from cilium_e2e.policy import Oracle, Peer, Pod, Service, ServicePort, World, parse_policy, service_verdicts

PODS = (
    Pod(namespace="alpha", name="one", labels={"app": "web"}, named_ports={"http": (8080, "TCP")}),
    Pod(namespace="alpha", name="two", labels={"app": "web"}),
    Pod(namespace="beta", name="three", labels={"app": "web"}),
)
SERVICES = (
    Service(
        namespace="alpha",
        name="web",
        selector={"app": "web"},
        ports=(ServicePort(port=80, target="http"), ServicePort(port=81, target=8080), ServicePort(port=82)),
    ),
    Service(namespace="alpha", name="out", backends=("203.0.113.7",), ports=(ServicePort(port=443),)),
)
PEERS = (Peer(name="world", address="203.0.113.7/32"), Peer(name="other", address="203.0.113.8/32"))
CLOSED = {
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "p", "namespace": "alpha"},
    "spec": {"endpointSelector": {}, "ingress": [{}]},
}


@pytest.fixture
def oracle():
    return Oracle(World(pods=PODS, peers=PEERS, services=SERVICES), [parse_policy(CLOSED)])


def test_the_backends_port_counts(oracle):
    assert [(b.backend, b.port) for b in service_verdicts(oracle, "beta/three", "alpha/web", "TCP", 81)] == [
        ("alpha/one", 8080),
        ("alpha/two", 8080),
    ]
    assert [(b.backend, b.port) for b in service_verdicts(oracle, "beta/three", "alpha/web", "TCP", 80)] == [
        ("alpha/one", 8080)
    ]
    assert {b.port for b in service_verdicts(oracle, "beta/three", "alpha/web", "TCP", 82)} == {82}


def test_a_pod_reaches_itself_through_its_service(oracle):
    found = {b.backend: b.verdict for b in service_verdicts(oracle, "alpha/one", "alpha/web", "TCP", 81)}
    assert found["alpha/one"].passes
    assert (found["alpha/one"].egress, found["alpha/one"].ingress) == (Decision.NONE, Decision.NONE)
    assert not found["alpha/two"].passes


def test_an_external_service_is_its_addresses(oracle):
    assert [b.backend for b in service_verdicts(oracle, "alpha/one", "alpha/out", "TCP", 443)] == ["world"]


@pytest.mark.parametrize(("service", "port"), [("alpha/none", 80), ("alpha/web", 9)])
def test_what_cannot_be_asked(oracle, service, port):
    with pytest.raises(InputError, match="expected a"):
        service_verdicts(oracle, "alpha/one", service, "TCP", port)
