"""Single points of the semantics, each with the answer that Cilium's engine gives."""

import pytest

from cilium_e2e.model import Decision, DropReason, Endpoint, Identity, InputError
from cilium_e2e.policy import (
    CIDRGroup,
    Enforcement,
    Options,
    Oracle,
    Peer,
    Pod,
    Service,
    World,
    parse_policy,
    pod_from_endpoint,
)

WEB = {"matchLabels": {"app": "web"}}
PODS = (
    Pod(namespace="alpha", name="web", labels={"app": "web"}, named_ports={"http": (8080, "TCP")}, node="n1"),
    Pod(namespace="alpha", name="db", labels={"app": "db", "app.kubernetes.io/name": "db"}, node="n2"),
    Pod(namespace="beta", name="web", labels={"app": "web"}, named_ports={"http": (80, "TCP")}, node="n1"),
    Pod(namespace="beta", name="hosty", labels={"host": "yes"}, node="n2"),
)
PEERS = (
    Peer(name="world", address="203.0.113.7/32", dns_names=("api.example.com",)),
    Peer(name="host", labels=("reserved:host",), address="172.18.0.2"),
    Peer(name="remote", labels=("reserved:remote-node",), address="172.18.0.3"),
    Peer(name="n1", node="n1", address="172.18.0.4"),
    Peer(name="init", labels=("reserved:init",), enforced=True),
)


def cnp(namespace="alpha", **spec):
    kind = "CiliumNetworkPolicy" if namespace else "CiliumClusterwideNetworkPolicy"
    meta = {"name": "p", "namespace": namespace} if namespace else {"name": "p"}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": kind,
        "metadata": meta,
        "spec": {"endpointSelector": WEB, **spec},
    }


def oracle(*objects, services=(), groups=(), **options):
    spaces = {name: {"kubernetes.io/metadata.name": name} for name in ("alpha", "beta")}
    world = World(
        namespaces=spaces,
        pods=PODS,
        peers=PEERS,
        services=tuple(services),
        cidr_groups=tuple(groups),
        options=Options(**options),
    )
    return Oracle(world, [parse_policy(obj, strict=False) for obj in objects])


def passes(found, source, target, port=80, protocol="TCP"):
    return found.verdict(source, target, protocol, port).passes


def test_without_policies_everything_passes_and_peers_are_not_judged():
    verdict = oracle().verdict("alpha/web", "world", "TCP", 80)
    assert (verdict.egress, verdict.ingress) == (Decision.ALLOWED, Decision.NONE)
    assert verdict.drop_reason is None


def test_the_drop_reason_tells_deny_rules_from_default_deny():
    found = oracle(
        cnp(ingress=[{"fromEntities": ["world"]}], ingressDeny=[{"toPorts": [{"ports": [{"port": "81"}]}]}])
    )
    assert found.verdict("alpha/db", "alpha/web", "TCP", 80).drop_reason is DropReason.POLICY_DENIED
    assert found.verdict("world", "alpha/web", "TCP", 81).drop_reason is DropReason.POLICY_DENY
    assert [str(rule) for rule in found.verdict("world", "alpha/web", "TCP", 81).rules] == [
        "CiliumNetworkPolicy alpha/p, spec.ingressDeny[0]"
    ]


def test_a_node_is_the_host_to_its_own_pods_only():
    found = oracle(cnp(namespace="", endpointSelector={}, ingress=[{"fromEntities": ["none"]}]))
    assert passes(found, "n1", "alpha/web")
    assert not passes(found, "n1", "alpha/db")


def test_the_local_host_gets_in_unless_told_otherwise():
    closed = cnp(ingress=[{}])
    assert passes(oracle(closed), "host", "alpha/web")
    assert not passes(oracle(closed, localhost_allowed=False), "host", "alpha/web")
    assert not passes(oracle(cnp(ingressDeny=[{"fromEntities": ["host"]}])), "host", "alpha/web")


def test_a_pod_with_a_label_called_host_escapes_its_policies():
    found = oracle(cnp("beta", endpointSelector={}, ingress=[{}]))
    assert not passes(found, "alpha/db", "beta/web")
    assert passes(found, "alpha/db", "beta/hosty")


def test_modes():
    closed = cnp(ingress=[{}])
    assert passes(oracle(closed, enforcement=Enforcement.NEVER), "alpha/db", "alpha/web")
    assert not passes(oracle(enforcement=Enforcement.ALWAYS), "alpha/db", "alpha/web")


def test_the_init_identity_is_always_isolated():
    assert not passes(oracle(), "alpha/web", "init")


def test_a_named_port_is_the_subjects_own_at_ingress_and_must_be_unique_at_egress():
    named = {"toPorts": [{"ports": [{"port": "http", "protocol": "TCP"}]}]}
    assert passes(oracle(cnp(ingress=[named])), "alpha/db", "alpha/web", 8080)
    assert not passes(oracle(cnp(ingress=[named])), "alpha/db", "alpha/web", 80)
    # Two pods disagree on "http", so nothing is allowed by it.
    assert not passes(oracle(cnp(egress=[named])), "alpha/web", "beta/web", 80)


def test_the_first_filter_of_a_port_name_sets_the_end_for_all():
    ranged = {
        "fromEndpoints": [{"matchLabels": {"app": "no"}}],
        "toPorts": [{"ports": [{"port": "http", "endPort": 9000}]}],
    }
    plain = {"toPorts": [{"ports": [{"port": "http"}]}]}
    assert passes(oracle(cnp(ingress=[ranged, plain])), "alpha/db", "alpha/web", 8500)
    assert not passes(oracle(cnp(ingress=[plain, ranged])), "alpha/db", "alpha/web", 8500)


def test_port_and_type_zero_mean_all():
    zero = {"toPorts": [{"ports": [{"port": "0", "protocol": "TCP"}]}]}
    assert passes(oracle(cnp(ingress=[zero])), "alpha/db", "alpha/web", 12345)
    assert not passes(oracle(cnp(ingress=[zero])), "alpha/db", "alpha/web", 8, "ICMP")
    reply = {"icmps": [{"fields": [{"type": "EchoReply"}]}]}
    assert passes(oracle(cnp(ingress=[reply])), "alpha/db", "alpha/web", 3, "ICMP")


def test_any_protocol_is_not_icmp_but_no_ports_are():
    ports = {"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "0", "protocol": "ANY"}]}]}
    assert passes(oracle(cnp(ingress=[ports])), "alpha/db", "alpha/web", 53, "SCTP")
    assert not passes(oracle(cnp(ingress=[ports])), "alpha/db", "alpha/web", 8, "ICMP")
    assert passes(oracle(cnp(ingress=[{"fromEndpoints": [{}]}])), "alpha/db", "alpha/web", 8, "ICMP")


def test_an_octal_port_is_read_as_one():
    assert passes(
        oracle(cnp(ingress=[{"toPorts": [{"ports": [{"port": "010"}]}]}])), "alpha/db", "alpha/web", 8
    )


def test_a_prefix_never_selects_pods_and_nodes_only_on_demand():
    everything = cnp(ingress=[{"fromCIDR": ["0.0.0.0/0"]}])
    found = oracle(everything)
    assert passes(found, "world", "alpha/web")
    assert not passes(found, "alpha/db", "alpha/web")
    assert not passes(found, "remote", "alpha/web")
    assert passes(oracle(everything, cidr_matches_nodes=True), "remote", "alpha/web")


def test_the_whole_other_family_in_a_prefix_set_means_the_world():
    assert passes(oracle(cnp(ingress=[{"fromCIDRSet": [{"cidr": "::/0"}]}])), "world", "alpha/web")
    assert not passes(oracle(cnp(ingress=[{"fromCIDR": ["::/0"]}])), "world", "alpha/web")


def test_holes_of_a_prefix_and_of_a_group():
    group = CIDRGroup(name="office", labels={"zone": "eu"}, cidrs=("203.0.113.0/24",))
    by_name = {"cidrGroupRef": "office"}
    by_label = {"cidrGroupSelector": {"matchLabels": {"zone": "eu"}}}
    for peer in ({"cidr": "203.0.113.0/24"}, by_name, by_label):
        found = oracle(cnp(ingress=[{"fromCIDRSet": [peer]}]), groups=[group])
        assert passes(found, "world", "alpha/web")
        holed = oracle(
            cnp(ingress=[{"fromCIDRSet": [{**peer, "except": ["203.0.113.0/28"]}]}]), groups=[group]
        )
        assert not passes(holed, "world", "alpha/web")


def test_names_select_addresses_they_resolve_to():
    def to(**name):
        return oracle(cnp(egress=[{"toFQDNs": [name]}]))

    assert passes(to(matchName="API.example.com"), "alpha/web", "world")
    assert passes(to(matchPattern="*.example.com"), "alpha/web", "world")
    assert passes(to(matchPattern="*"), "alpha/web", "world")
    assert not passes(to(matchPattern="*.com"), "alpha/web", "world")
    assert not passes(to(matchName="example.com"), "alpha/web", "world")


def test_services_stand_for_their_pods_or_addresses():
    services = [
        Service(namespace="alpha", name="db", labels={"kind": "store"}, selector={"app": "db"}),
        Service(namespace="alpha", name="out", backends=("203.0.113.7",)),
        Service(namespace="alpha", name="dotted", selector={"app.kubernetes.io/name": "db"}),
    ]

    def to(peer, **more):
        return oracle(cnp(egress=[{"toServices": [peer], **more}]), services=services)

    def named(name):
        return {"k8sService": {"serviceName": name, "namespace": "alpha"}}

    assert passes(to(named("db")), "alpha/web", "alpha/db")
    assert not passes(to(named("db")), "alpha/web", "world")
    assert passes(to(named("out")), "alpha/web", "world")
    assert passes(
        to({"k8sServiceSelector": {"selector": {"matchLabels": {"kind": "store"}}}}), "alpha/web", "alpha/db"
    )
    # A selector key with a dot is read as source and key, and selects nothing.
    assert not passes(to(named("dotted")), "alpha/web", "alpha/db")
    # An empty selector is none.
    assert not passes(to({"k8sServiceSelector": {"selector": {}}}), "alpha/web", "alpha/db")


def test_a_service_that_is_not_there_opens_its_ports_to_everyone():
    rule = {"toServices": [{"k8sService": {"serviceName": "no"}}], "toPorts": [{"ports": [{"port": "80"}]}]}
    assert passes(oracle(cnp(egress=[rule])), "alpha/web", "world")
    assert not passes(oracle(cnp(egress=[rule])), "alpha/web", "world", 81)


def test_requirements_narrow_the_endpoints_of_all_rules():
    rules = [{"fromEndpoints": [{}]}, {"fromRequires": [{"matchLabels": {"app": "db"}}]}]
    found = oracle(cnp("beta", endpointSelector={}, ingress=rules))
    assert not passes(found, "beta/hosty", "beta/web")


def test_a_refused_policy_has_no_effect():
    found = oracle(cnp(ingress=[{"fromEntities": ["moon"]}]))
    assert [refusal.message for refusal in found.refused] == [
        "Invalid CiliumNetworkPolicy spec: unsupported entity: moon"
    ]
    assert passes(found, "alpha/db", "alpha/web")


def test_a_network_policy_isolates_by_type_and_allows_by_rule():
    meta = {"name": "k", "namespace": "alpha"}
    spec = {"podSelector": WEB, "policyTypes": ["Egress"], "ingress": [{"from": [{"podSelector": {}}]}]}
    found = oracle({"kind": "NetworkPolicy", "metadata": meta, "spec": spec})
    assert passes(found, "alpha/db", "alpha/web")
    assert not passes(found, "beta/web", "alpha/web")
    assert not passes(found, "alpha/web", "alpha/db")


def test_host_policies_need_the_host_firewall():
    policy = cnp(namespace="", ingress=[{}])
    policy["spec"] = {"nodeSelector": {}, "ingress": [{}]}
    world = World(pods=PODS, peers=(Peer(name="host", labels=("reserved:host",), enforced=True),))
    firewall = World(pods=PODS, peers=world.peers, options=Options(host_firewall=True))
    assert passes(Oracle(world, [parse_policy(policy)]), "alpha/db", "host")
    assert not passes(Oracle(firewall, [parse_policy(policy)]), "alpha/db", "host")


def test_authentication_is_marked_unverified():
    found = oracle(cnp(ingress=[{"fromEndpoints": [{}], "authentication": {"mode": "required"}}]))
    assert found.verdict("alpha/db", "alpha/web", "TCP", 80).unverified


def test_identities_may_come_from_an_agent():
    identity = Identity(number=1234, labels=("k8s:app=db", "k8s:io.kubernetes.pod.namespace=alpha"))
    live = Endpoint(id=1, namespace="alpha", pod="live", node="n1", ips=("10.0.0.9",), identity=identity)
    world = World(pods=(PODS[0], pod_from_endpoint(live)))
    policy = parse_policy(cnp(ingress=[{"fromEndpoints": [{"matchLabels": {"app": "db"}}]}]))
    assert passes(Oracle(world, [policy]), "alpha/live", "alpha/web")


@pytest.mark.parametrize(("source", "protocol"), [("alpha/nobody", "TCP"), ("alpha/db", "GRE")])
def test_what_cannot_be_asked(source, protocol):
    with pytest.raises(InputError, match="expected"):
        oracle().verdict(source, "alpha/web", protocol, 80)


def test_names_must_be_unique():
    with pytest.raises(InputError, match="name of its own"):
        Oracle(World(pods=(PODS[0], PODS[0])))


def test_rules_for_two_parsers_on_one_port_are_marked_unverified():
    http = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"http": [{}]}}]}
    kafka = {
        "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "rules": {"kafka": [{"topic": "t"}]}}]
    }
    names = {"toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}], "serverNames": ["a.com"]}]}
    other = {"fromEntities": ["world"], **kafka}
    for clash in (kafka, names):
        assert oracle(cnp(ingress=[http, clash])).verdict("alpha/db", "alpha/web", "TCP", 80).unverified
    for fine in (other, http):
        assert not oracle(cnp(ingress=[http, fine])).verdict("alpha/db", "alpha/web", "TCP", 80).unverified
