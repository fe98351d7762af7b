import pytest

from cilium_e2e.model import Decision, Direction
from cilium_e2e.policy import Cause, Enforcement, Options, Oracle, Peer, Pod, World, explain, parse_policy

PODS = (Pod(namespace="alpha", name="web", labels={"app": "web"}), Pod(namespace="alpha", name="db"))
PEERS = (Peer(name="world", address="203.0.113.7"), Peer(name="host", labels=("reserved:host",)))


def explained(source, target, *, port=80, options=None, **spec):
    meta = {"name": "p", "namespace": "alpha"}
    body = {"endpointSelector": {"matchLabels": {"app": "web"}}, **spec}
    policies = [parse_policy({"kind": "CiliumNetworkPolicy", "metadata": meta, "spec": body})] if spec else []
    world = World(pods=PODS, peers=PEERS, options=options or Options())
    return explain(Oracle(world, policies), source, target, "TCP", port)


@pytest.mark.parametrize(
    ("source", "spec", "cause"),
    [
        ("alpha/db", {}, Cause.NO_POLICY),
        ("alpha/db", {"ingress": [{}]}, Cause.DEFAULT_DENY),
        ("alpha/db", {"ingress": [{"fromEndpoints": [{}]}]}, Cause.RULE),
        ("alpha/db", {"ingressDeny": [{"fromEndpoints": [{}]}]}, Cause.DENY_RULE),
        ("alpha/db", {"ingress": [{}], "enableDefaultDeny": {"ingress": False}}, Cause.DEFAULT_ALLOW),
        ("host", {"ingress": [{}]}, Cause.LOCALHOST),
    ],
)
def test_causes(source, spec, cause):
    ingress = explained(source, "alpha/web", **spec).sides[1]
    assert ingress.cause is cause
    assert ingress.direction is Direction.INGRESS
    assert ingress.subject == "alpha/web"


def test_a_peer_without_enforcement():
    egress = explained("world", "alpha/web").sides[0]
    assert (egress.cause, egress.decision) == (Cause.NOT_ENFORCED, Decision.NONE)


def test_sentences_name_policy_and_rule():
    passing = explained("alpha/db", "alpha/web", ingress=[{"fromEndpoints": [{}]}])
    assert passing.sentence == (
        "alpha/db → alpha/web, 80/TCP, passes: egress at alpha/db is allowed: no policy selects it in this "
        "direction; ingress at alpha/web is allowed: CiliumNetworkPolicy alpha/p, spec.ingress[0] allows it."
    )
    dropped = explained("alpha/db", "alpha/web", ingress=[{"fromEntities": ["world"]}])
    assert str(dropped) == (
        "alpha/db → alpha/web, 80/TCP, is dropped (POLICY_DENIED): ingress at alpha/web is denied: "
        "CiliumNetworkPolicy alpha/p isolates it and no rule allows this."
    )
    denied = explained(
        "alpha/db", "alpha/web", ingressDeny=[{"fromEndpoints": [{}]}, {"fromEntities": ["all"]}]
    )
    assert "(POLICY_DENY)" in denied.sentence
    assert (
        "spec.ingressDeny[0] and CiliumNetworkPolicy alpha/p, spec.ingressDeny[1] deny it" in denied.sentence
    )


def test_isolation_by_mode_is_said():
    found = explained("alpha/db", "alpha/web", options=Options(enforcement=Enforcement.ALWAYS))
    assert "the enforcement mode or its identity isolates it" in found.sentence


def test_the_proxy_is_mentioned():
    rules = {
        "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}]
    }
    assert "the proxy judges each request" in explained("alpha/db", "alpha/web", ingress=[rules]).sentence
