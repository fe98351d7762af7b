import pytest

from cilium_e2e.model import Direction, InputError
from cilium_e2e.policy import (
    DNSQuery,
    HTTPRequest,
    Oracle,
    Peer,
    Pod,
    TLSHello,
    World,
    parse_policy,
    request_verdict,
)
from cilium_e2e.policy.l7 import server_name_matches

PODS = (Pod(namespace="alpha", name="web", labels={"app": "web"}), Pod(namespace="alpha", name="db"))
HOST = Peer(name="host", labels=("reserved:host",))


def ports(port, protocol="TCP", **more):
    return {"toPorts": [{"ports": [{"port": port, "protocol": protocol}], **more}]}


def ask(request, *, source="alpha/db", target="alpha/web", protocol="TCP", port=80, **spec):
    meta = {"name": "p", "namespace": "alpha"}
    body = {"endpointSelector": {"matchLabels": {"app": "web"}}, **spec}
    policy = parse_policy({"kind": "CiliumNetworkPolicy", "metadata": meta, "spec": body})
    oracle = Oracle(World(pods=PODS, peers=(HOST,)), [policy])
    return request_verdict(oracle, source, target, protocol, port, request=request)


def http(*rules):
    return ports("80", rules={"http": list(rules)})


@pytest.mark.parametrize(
    ("rule", "request_", "passes"),
    [
        ({"method": "GET"}, HTTPRequest(), True),
        ({"method": "GET"}, HTTPRequest(method="POST"), False),
        ({"method": "GET|POST"}, HTTPRequest(method="POST"), True),
        ({"path": "/a/.*"}, HTTPRequest(path="/a/b"), True),
        ({"path": "/a"}, HTTPRequest(path="/a/b"), False),
        ({"host": "x.com"}, HTTPRequest(host="x.com"), True),
        ({"headers": ["X-Token: 1"]}, HTTPRequest(headers=(("x-token", "1"),)), True),
        ({"headers": ["X-Token"]}, HTTPRequest(), False),
        ({"headerMatches": [{"name": "X", "value": "1"}]}, HTTPRequest(headers=(("X", "2"),)), False),
        ({"headerMatches": [{"name": "X", "value": "1", "mismatch": "LOG"}]}, HTTPRequest(), True),
        ({}, HTTPRequest(method="DELETE"), True),
    ],
)
def test_http(rule, request_, passes):
    found = ask(request_, ingress=[http(rule)])
    assert found.passes is passes
    assert found.unverified
    if not passes:
        assert (found.looks, found.refused_at) == ("403", Direction.INGRESS)
        assert [rule.path for rule in found.rules] == ["spec.ingress[0]"]


def test_rules_add_up_and_a_plain_allow_opens_everything():
    post = HTTPRequest(method="POST")
    assert ask(post, ingress=[http({"method": "GET"}), http({"method": "POST"})]).passes
    assert ask(post, ingress=[http({"method": "GET"}), {"fromEndpoints": [{}]}]).passes


def test_without_default_deny_every_request_passes():
    spec = {"ingress": [http({"method": "GET"})], "enableDefaultDeny": {"ingress": False}}
    assert ask(HTTPRequest(method="POST"), **spec).passes


def test_the_local_host_passes_the_proxy():
    assert ask(HTTPRequest(method="POST"), source="host", ingress=[http({"method": "GET"})]).passes


def test_a_dropped_flow_carries_no_request():
    found = ask(HTTPRequest(), ingress=[{}])
    assert not found.passes
    assert found.refused_at is None


def test_dns():
    rule = ports("53", "UDP", rules={"dns": [{"matchPattern": "*.example.com"}]})

    def query(name):
        return ask(
            DNSQuery(name), source="alpha/web", target="alpha/db", protocol="UDP", port=53, egress=[rule]
        )

    assert query("api.example.com").passes
    assert query("example.org").looks == "REFUSED"


def test_server_names():
    found = ask(TLSHello("b.com"), port=443, ingress=[ports("443", serverNames=["a.com"])])
    assert (found.passes, found.looks) == (False, "reset")
    assert ask(TLSHello("a.com"), port=443, ingress=[ports("443", serverNames=["a.com"])]).passes


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a.com", "A.com.", True),
        ("*.a.com", "x.a.com", True),
        ("*.a.com", "x.y.a.com", False),
        ("**.a.com", "x.y.a.com", True),
    ],
)
def test_server_name_patterns(pattern, name, matches):
    assert server_name_matches(pattern, name) is matches


def test_an_expression_only_go_can_read_is_an_error():
    with pytest.raises(InputError, match="expected a regular expression"):
        ask(HTTPRequest(), ingress=[http({"path": "(?<n>a)"})])
