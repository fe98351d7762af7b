import pytest

from cilium_e2e.model import PolicyError
from cilium_e2e.policy import (
    Options,
    check_agent,
    check_schema,
    dump,
    parse_cidr_group,
    parse_policy,
    require_agent,
    require_schema,
)


def cnp(**spec):
    meta = {"name": "p", "namespace": "alpha"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}


def knp(**spec):
    meta = {"name": "k", "namespace": "alpha"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


GOOD = cnp(endpointSelector={}, ingress=[{"fromEntities": ["cluster"]}])


def test_a_sound_policy_passes_both_layers():
    assert check_schema(GOOD) == ()
    assert check_agent(parse_policy(GOOD)) == ""
    require_schema(GOOD)
    require_agent(parse_policy(GOOD))


def test_an_unknown_field_is_an_error_with_file_object_and_path():
    bad = cnp(endpointSelector={}, ingress=[{"fromEndpoint": [{}]}])
    with pytest.raises(PolicyError) as caught:
        parse_policy(bad, file="policies/p.yaml")
    assert str(caught.value).startswith("policies/p.yaml: CiliumNetworkPolicy alpha/p: unknown field")
    assert "spec.ingress[0].fromEndpoint" in str(caught.value)
    assert [p.path for p in check_schema(bad)] == ["spec.ingress[0].fromEndpoint"]
    assert parse_policy(bad, strict=False)


@pytest.mark.parametrize(
    ("spec", "where"),
    [
        ({"endpointSelector": [], "ingress": [{}]}, "spec.endpointSelector: expected an object, got a list"),
        ({"endpointSelector": {}, "ingress": {}}, "spec.ingress: expected a list, got an object"),
        (
            {"endpointSelector": {}, "ingress": [{"toPorts": [{"ports": [{"port": 80}]}]}]},
            "spec.ingress[0].toPorts[0].ports[0].port: expected a string, got a number",
        ),
        (
            {"endpointSelector": {"matchLabels": {"app": 1}}, "ingress": [{}]},
            "spec.endpointSelector.matchLabels.app: expected a string, got a number",
        ),
        ({"endpointSelector": {}, "enableDefaultDeny": {"ingress": "no"}}, "spec.enableDefaultDeny.ingress"),
    ],
)
def test_a_wrong_type_is_an_error_with_its_path(spec, where):
    with pytest.raises(PolicyError, match="CiliumNetworkPolicy alpha/p: ") as caught:
        parse_policy(cnp(**spec))
    assert where in str(caught.value)
    assert check_schema(cnp(**spec))


def test_a_kind_the_oracle_does_not_know():
    with pytest.raises(PolicyError, match="expected one of the kinds"):
        parse_policy({"kind": "Pod", "metadata": {"name": "x"}})
    assert check_schema({"kind": "Pod"})[0].path == "kind"


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            {"fromEndpoints": [{}], "fromEntities": ["world"]},
            "combining FromEndpoints and FromEntities is not",
        ),
        (
            {"icmps": [{"fields": [{"type": 8}]}], "toPorts": [{}]},
            "the ICMPs block may only be present without",
        ),
        ({"icmps": [{"fields": [{"type": "Knock"}]}]}, "ICMP type Knock not found in "),
        ({"fromCIDR": ["1.2.3.4/33"]}, "unable to parse CIDR: "),
        ({"fromCIDRSet": [{}]}, "one of cidr, cidrGroupRef, or cidrGroupSelector is required"),
        ({"toPorts": [{"ports": [{"port": "70000"}]}]}, "unable to parse port: strconv.ParseUint"),
        ({"toPorts": [{"ports": [{"port": "80", "protocol": "GRE"}]}]}, 'invalid protocol "GRE"'),
        ({"fromNodes": [{}]}, "FromNodes/ToNodes rules can only be applied when"),
    ],
)
def test_what_only_the_agent_refuses(item, message):
    found = check_agent(parse_policy(cnp(endpointSelector={}, ingress=[item])))
    assert message in found
    with pytest.raises(PolicyError) as caught:
        require_agent(parse_policy(cnp(endpointSelector={}, ingress=[item])), file="p.yaml")
    place = "p.yaml: CiliumNetworkPolicy alpha/p: the agent refuses it at spec.ingress[0]: "
    assert str(caught.value).startswith(place)


def test_options_decide_what_the_agent_refuses():
    policy = parse_policy(cnp(endpointSelector={}, ingress=[{"fromNodes": [{}]}]))
    assert check_agent(policy, Options(node_selector_labels=True)) == ""


def test_a_bad_entry_of_specs_refuses_the_whole_object():
    bad = {"kind": "CiliumNetworkPolicy", "metadata": GOOD["metadata"], "specs": [GOOD["spec"], {}]}
    assert check_agent(parse_policy(bad)).startswith("Invalid CiliumNetworkPolicy specs: ")


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"podSelector": {}, "ingress": [{"ports": [{"port": 0}]}]}, "spec.ingress[0].ports[0].port"),
        (
            {"podSelector": {}, "ingress": [{"ports": [{"port": "x", "endPort": 9}]}]},
            "spec.ingress[0].ports[0].endPort",
        ),
        (
            {"podSelector": {}, "ingress": [{"ports": [{"port": 80, "endPort": 79}]}]},
            "spec.ingress[0].ports[0].endPort",
        ),
        ({"podSelector": {}, "egress": [{"to": [{}]}]}, "spec.egress[0].to[0]"),
        (
            {"podSelector": {}, "egress": [{"to": [{"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}]}]},
            "spec.egress[0].to[0]",
        ),
        (
            {
                "podSelector": {},
                "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}}]}],
            },
            "spec.egress[0].to[0].ipBlock.except[0]",
        ),
        ({"podSelector": {}, "policyTypes": ["Sideways"]}, "spec.policyTypes[0]"),
    ],
)
def test_what_the_api_server_refuses_in_a_network_policy(spec, path):
    assert [problem.path for problem in check_schema(knp(**spec))] == [path]


def test_cidr_groups_are_read_and_written():
    group = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumCIDRGroup",
        "metadata": {"name": "office", "labels": {"zone": "eu"}},
        "spec": {"externalCIDRs": ["203.0.113.0/24"]},
    }
    assert check_schema(group) == ()
    assert dump(parse_cidr_group(group)) == group
    assert check_schema({**group, "spec": {"externalCIDRs": ["moon"]}})
    with pytest.raises(PolicyError, match="externalCIDRs"):
        parse_cidr_group({**group, "spec": {"externalCIDRs": "moon"}})
