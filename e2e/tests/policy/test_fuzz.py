"""Objects nobody meant to write: a clean error or a verdict, never a traceback.

The normal run tries a few hundred; CILIUM_E2E_EXAMPLES=10000 asks for more.
"""

import gzip
import json
import os
from pathlib import Path

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cilium_e2e.commands.verdict_table import answer, read_scenario
from cilium_e2e.model import HarnessError
from cilium_e2e.policy import (
    CIDRGroup,
    Oracle,
    Peer,
    Pod,
    Service,
    World,
    check_schema,
    explain,
    parse_policy,
)

EXAMPLES = int(os.environ.get("CILIUM_E2E_EXAMPLES", "300"))
FUZZ = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
TABLE = Path(__file__).parents[1] / "data" / "truth" / "policy-1.18.jsonl.gz"
POLICIES = [
    policy
    for line in gzip.decompress(TABLE.read_bytes()).splitlines()[:200]
    for policy in json.loads(line)["policies"]
]
WORLD = World(
    namespaces={"alpha": {"team": "red"}},
    pods=(
        Pod(namespace="alpha", name="web", labels={"app": "web"}, named_ports={"http": (80, "TCP")}),
        Pod(namespace="alpha", name="db", labels={"app": "db"}),
    ),
    peers=(
        Peer(name="world", address="203.0.113.7/32", dns_names=("api.example.com",)),
        Peer(name="host", labels=("reserved:host",)),
    ),
    cidr_groups=(CIDRGroup(name="office", cidrs=("203.0.113.0/24", "nonsense")),),
    services=(Service(namespace="alpha", name="db", selector={"app": "db"}),),
)

FIELDS = [
    "apiVersion",
    "kind",
    "metadata",
    "name",
    "namespace",
    "spec",
    "specs",
    "endpointSelector",
    "nodeSelector",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
    "enableDefaultDeny",
    "fromEndpoints",
    "toEndpoints",
    "fromRequires",
    "toRequires",
    "fromCIDR",
    "toCIDR",
    "fromCIDRSet",
    "toCIDRSet",
    "cidr",
    "except",
    "cidrGroupRef",
    "cidrGroupSelector",
    "fromEntities",
    "toEntities",
    "fromNodes",
    "toNodes",
    "toServices",
    "k8sService",
    "serviceName",
    "k8sServiceSelector",
    "selector",
    "toFQDNs",
    "matchName",
    "matchPattern",
    "toPorts",
    "ports",
    "port",
    "endPort",
    "protocol",
    "rules",
    "http",
    "path",
    "method",
    "headers",
    "headerMatches",
    "kafka",
    "dns",
    "l7proto",
    "l7",
    "serverNames",
    "listener",
    "icmps",
    "fields",
    "family",
    "type",
    "authentication",
    "mode",
    "matchLabels",
    "matchExpressions",
    "key",
    "operator",
    "values",
    "podSelector",
    "policyTypes",
    "from",
    "to",
    "namespaceSelector",
    "ipBlock",
    "fromGroups",
    "toGroups",
]
WORDS = [
    "CiliumNetworkPolicy",
    "CiliumClusterwideNetworkPolicy",
    "NetworkPolicy",
    "alpha",
    "app",
    "web",
    "k8s:app",
    "reserved:host",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "TCP",
    "UDP",
    "ANY",
    "IPv6",
    "EchoRequest",
    "80",
    "0",
    "http",
    "65536",
    "-1",
    "0x10",
    "010",
    "203.0.113.0/24",
    "203.0.113.7",
    "0.0.0.0/0",
    "::/0",
    "2001:db8::/32",
    "1.2.3.4/33",
    "world",
    "all",
    "cluster",
    "moon",
    "*.example.com",
    "*",
    "GET",
    "/.*",
    "(",
    "[a",
    "a{99999999999}",
    "(?=a)",
    "Ingress",
    "Egress",
    "required",
    "1.2.3.4/99999",
]
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 40), 1 << 40),
    st.floats(allow_nan=False),
    st.sampled_from(WORDS),
    st.text(st.characters(codec=None), max_size=6),
)
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=4)), inner, max_size=4),
    ),
    max_leaves=25,
)


def paths(value, at=()):
    """Every place in an object."""
    yield at
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in children:
        yield from paths(item, (*at, key))


def replaced(value, path, new):
    if not path:
        return new
    copied = value.copy()
    copied[path[0]] = replaced(value[path[0]], path[1:], new)
    return copied


def survive(obj):
    """A clean error or verdicts."""
    if isinstance(obj, dict):
        for problem in check_schema(obj):
            assert problem.message
    try:
        policy = parse_policy(obj, file="fuzz.yaml", strict=False)
    except HarnessError as error:
        assert str(error).startswith("fuzz.yaml")
        return
    oracle = Oracle(WORLD, [policy])
    for refusal in oracle.refused:
        assert refusal.message
    for source, target in (("alpha/web", "alpha/db"), ("alpha/web", "world"), ("host", "alpha/web")):
        assert explain(oracle, source, target, "TCP", 80).sentence


@FUZZ
@given(trees)
def test_any_tree_survives(tree):
    survive(tree)


@FUZZ
@given(st.sampled_from(POLICIES), st.data())
def test_valid_objects_with_a_part_replaced_survive(policy, data):
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.sampled_from(sorted(paths(policy), key=str)))
        policy = replaced(policy, place, data.draw(st.one_of(leaves, trees)))
        if not isinstance(policy, dict):
            break
    survive(policy)


@FUZZ
@given(st.sampled_from(POLICIES), st.data())
def test_valid_yaml_with_characters_changed_survives(policy, data):
    text = yaml.safe_dump(policy)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 3))
        text = (
            text[:start] + data.draw(st.text(":-{}[]\"'*&! \nabc018./", max_size=3)) + text[start + length :]
        )
    try:
        obj = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    survive(obj)


@FUZZ
@given(st.one_of(st.binary(max_size=30), trees.map(lambda tree: json.dumps({"id": "x", "policies": [tree]}))))
def test_any_line_of_a_table_survives(line):
    try:
        json.dumps(answer(read_scenario(line, "table:1")))
    except HarnessError as error:
        assert str(error).startswith("table:1")
        assert error.exit_code == 4
