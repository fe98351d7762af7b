"""The oracle asked about probes: what passes, what a denial looks like, and which flows follow."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import (
    Destination,
    Direction,
    DropReason,
    Expectation,
    InputError,
    PolicyRef,
    Probe,
    Request,
    Target,
)
from cilium_e2e.policy import Peer, Pod, Service, ServicePort, World, parse_policy
from cilium_e2e.scenario import OracleView, Saying

CONNECTED, DENIED = Expectation("connected"), Expectation("denied")
WORLD = World(
    namespaces={"x": {}, "kube-system": {}},
    pods=(
        Pod(namespace="x", name="web", labels={"app": "web"}, node="w1"),
        Pod(namespace="x", name="web-2", labels={"app": "web", "v": "2"}, node="w2"),
        Pod(namespace="x", name="client", labels={"app": "client"}, node="w2"),
        Pod(namespace="kube-system", name="dns", labels={"k8s-app": "kube-dns"}),
    ),
    peers=(
        Peer(name="node:w1", labels=("reserved:remote-node",), address="172.18.0.3", node="w1"),
        Peer(name="world:one", address="172.18.0.9", dns_names=("one.e2e.test",)),
    ),
    services=(
        Service(
            namespace="x", name="web", selector={"app": "web"}, ports=(ServicePort(port=80, target=8080),)
        ),
        Service(
            namespace="kube-system",
            name="kube-dns",
            selector={"k8s-app": "kube-dns"},
            ports=(ServicePort(port=53, protocol="UDP", target=53),),
        ),
    ),
)


def policy(**spec):
    return parse_policy(
        {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "p", "namespace": "x"},
            "spec": spec,
        }
    )


def probe(source, destination, **request):
    made = Probe.to(Target.parse(source), Destination.parse(destination))
    return dataclasses.replace(made, request=Request(**request))


WEB = {"matchLabels": {"app": "web"}}
CLIENT = {"matchLabels": {"app": "client"}}
DNS_PEER = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s-app": "kube-dns"}}
REF = PolicyRef("CiliumNetworkPolicy", "x", "p")


def says(rules, source, destination, **request):
    return OracleView(WORLD, [policy(**rules)]).says(probe(source, destination, **request))


def test_what_a_rule_allows_names_side_and_policy():
    rules = {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [CLIENT]}]}
    saying = says(rules, "x/client", "x/web:8080/TCP")
    assert saying.passes
    assert saying.words.startswith("allowed: x/client → x/web, 8080/TCP, passes")
    [side] = saying.allowed
    assert (side.direction, side.policies, side.redirected) == (Direction.INGRESS, (REF,), False)
    assert says(rules, "x/client", "x/web:ICMP").passes


def test_no_rule_and_a_deny_rule_differ():
    none = says({"endpointSelector": WEB, "ingress": [{}]}, "x/client", "x/web:8080/TCP")
    assert (none.looks, none.denied_at, none.reason) == (
        "timeout",
        Direction.INGRESS,
        DropReason.POLICY_DENIED,
    )
    assert none.denied_by == ()
    deny = says(
        {"endpointSelector": CLIENT, "egressDeny": [{"toEndpoints": [WEB]}]}, "x/client", "x/web:1/UDP"
    )
    assert (deny.denied_at, deny.reason, deny.denied_by) == (Direction.EGRESS, DropReason.POLICY_DENY, (REF,))
    assert deny.words.startswith("denied, seen as timeout: ")


def test_services_are_their_backends():
    open_port = {"endpointSelector": WEB, "ingress": [{"toPorts": [{"ports": [{"port": "8080"}]}]}]}
    assert says(open_port, "x/client", "svc:x/web:80/TCP").passes
    wrong_port = {"endpointSelector": WEB, "ingress": [{"toPorts": [{"ports": [{"port": "80"}]}]}]}
    assert not says(wrong_port, "x/client", "svc:x/web:80/TCP").passes


def test_backends_that_differ_have_no_one_answer():
    rules = {"endpointSelector": {"matchLabels": {"v": "2"}}, "ingress": [{}]}
    with pytest.raises(InputError, match="it depends on the backend"):
        says(rules, "x/client", "svc:x/web:80/TCP")


def test_a_pod_reaches_itself():
    assert (
        OracleView(WORLD, [policy(endpointSelector=CLIENT, ingress=[{}])])
        .says(probe("x/client", "x/client:80/TCP"))
        .passes
    )


DNS_RULES = {
    "endpointSelector": CLIENT,
    "egress": [
        {
            "toEndpoints": [DNS_PEER],
            "toPorts": [
                {
                    "ports": [{"port": "53", "protocol": "ANY"}],
                    "rules": {"dns": [{"matchName": "one.e2e.test"}]},
                }
            ],
        },
        {"toFQDNs": [{"matchName": "one.e2e.test"}]},
    ],
}


def test_names_are_asked_for_before_they_are_reached():
    asked = says(DNS_RULES, "x/client", "dns:one.e2e.test:53/DNS")
    assert asked.passes
    assert [side.redirected for side in asked.allowed] == [True]
    assert says(DNS_RULES, "x/client", "dns:one.e2e.test:8080/TCP").passes
    refused = says(DNS_RULES, "x/client", "dns:two.e2e.test:53/DNS")
    assert (refused.looks, refused.denied_at, refused.reason) == ("REFUSED", Direction.EGRESS, None)
    assert refused.denied_by == (REF,)
    assert says(DNS_RULES, "x/client", "dns:two.e2e.test:8080/TCP").looks == "REFUSED"


NO_DNS_RULE = {
    "endpointSelector": CLIENT,
    "egress": [
        {"toEndpoints": [DNS_PEER], "toPorts": [{"ports": [{"port": "53", "protocol": "ANY"}]}]},
        {"toFQDNs": [{"matchName": "one.e2e.test"}]},
    ],
}


@pytest.mark.parametrize(
    ("rules", "source", "asked", "learned"),
    [
        (DNS_RULES, "x/client", "dns:one.e2e.test:8080/TCP", "one.e2e.test"),
        (DNS_RULES, "x/client", "dns:one.e2e.test:53/DNS", "one.e2e.test"),
        (DNS_RULES, "x/client", "dns:two.e2e.test:8080/TCP", ""),  # refused
        (DNS_RULES, "x/web", "dns:one.e2e.test:8080/TCP", ""),  # no rule for DNS selects it
        (NO_DNS_RULE, "x/client", "dns:one.e2e.test:8080/TCP", ""),
        (DNS_RULES, "x/client", "world:one:8080/TCP", ""),
    ],
)
def test_only_what_a_proxy_sees_resolved_is_learned(rules, source, asked, learned):
    assert OracleView(WORLD, [policy(**rules)]).learns(probe(source, asked)) == learned


def test_a_name_of_the_zone_leads_out_though_nobody_has_learned_it():
    """Where it leads is the zone's word; whether a rule for the name means it is another thing."""
    peers = (dataclasses.replace(WORLD.peers[1], dns_names=()),)
    view = OracleView(dataclasses.replace(WORLD, peers=peers), [policy(**DNS_RULES)])
    saying = view.says(probe("x/client", "dns:one.e2e.test:8080/TCP"))
    assert (saying.passes, saying.looks) == (False, "timeout")


def test_a_view_of_an_oracle_is_of_that_one():
    oracle = OracleView(WORLD, [policy(**DNS_RULES)]).oracle
    assert OracleView.over(oracle).oracle is oracle


def test_a_server_may_be_asked_directly():
    assert says(DNS_RULES, "x/client", "world:one:53/DNS", name="one.e2e.test").passes
    assert says(
        {"endpointSelector": CLIENT, "egress": [{}]}, "x/client", "world:one:53/DNS", name="a"
    ).looks == ("timeout")


def test_a_name_that_leads_nowhere_is_an_error():
    with pytest.raises(InputError, match=r"nothing behind dns:three\.e2e\.test"):
        OracleView(WORLD).says(probe("x/client", "dns:three.e2e.test:80/TCP"))


def test_requests_are_judged():
    rules = {
        "endpointSelector": WEB,
        "ingress": [
            {
                "toPorts": [
                    {"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{"method": "GET"}]}}
                ]
            }
        ],
    }
    assert says(rules, "x/client", "x/web:80/HTTP").passes
    refused = says(rules, "x/client", "x/web:80/HTTP", method="POST")
    assert (refused.looks, refused.denied_at) == ("403", Direction.INGRESS)
    assert says(rules, "x/client", "x/web:80/TCP").passes, "the connection itself is allowed"


LOOKS = st.sampled_from(["timeout", "403", "REFUSED"])


@given(looks=LOOKS)
def test_denied_is_every_denial_and_connected_none(looks):
    saying = Saying(passes=False, sentence="", looks=looks)
    assert saying.agrees(DENIED)
    assert not saying.agrees(CONNECTED)


@given(
    expected=st.sampled_from(["connected", "refused", "reset", "http(404)", "dns(NXDOMAIN)"]),
    looks=LOOKS,
)
def test_what_a_peer_answers_needs_a_flow_that_passes(expected, looks):
    assert Saying(passes=True, sentence="").agrees(Expectation(expected))
    assert not Saying(passes=False, sentence="", looks=looks).agrees(Expectation(expected))


@pytest.mark.parametrize(
    ("text", "looks"), [("timeout", "timeout"), ("http(403)", "403"), ("dns(REFUSED)", "REFUSED")]
)
def test_an_exact_denial_is_that_one(text, looks):
    for kind in ("timeout", "403", "REFUSED"):
        assert Saying(passes=False, sentence="", looks=kind).agrees(Expectation(text)) == (kind == looks)
    assert not Saying(passes=True, sentence="").agrees(Expectation(text))
