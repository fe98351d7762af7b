"""Laws that hold for every world and every set of policies, tried on drawn ones."""

import copy
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.model import Decision
from cilium_e2e.policy import Options, Oracle, Peer, Pod, World, dump, explain, parse_policy
from cilium_e2e.policy.matrix import PortQuery, matrix
from cilium_e2e.policy.naive import naive_verdict

LAWS = settings(
    max_examples=int(os.environ.get("CILIUM_E2E_EXAMPLES", "60")),
    deadline=None,
    database=None,
    derandomize=True,
)
NAMESPACES = ("alpha", "beta")
PORTS = (PortQuery("TCP", 80), PortQuery("TCP", 8080), PortQuery("UDP", 53), PortQuery("ICMP", 8))

labels = st.fixed_dictionaries(
    {}, optional={"app": st.sampled_from(["web", "db"]), "tier": st.sampled_from(["front", "back"])}
)
keys = st.sampled_from(
    ["app", "k8s:tier", "any:app", "io.kubernetes.pod.namespace", "k8s:io.cilium.k8s.namespace.labels.team"]
)
values = st.sampled_from(["web", "db", "front", "alpha", "beta", "red"])
expressions = st.one_of(
    st.fixed_dictionaries(
        {
            "key": keys,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(values, min_size=1, max_size=2, unique=True),
        }
    ),
    st.fixed_dictionaries({"key": keys, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(keys, values, max_size=2),
        "matchExpressions": st.lists(expressions, max_size=2),
    },
)
port = st.one_of(
    st.fixed_dictionaries(
        {"port": st.sampled_from(["80", "8080", "53", "0"])},
        optional={"protocol": st.sampled_from(["TCP", "UDP", "ANY"])},
    ),
    st.just({"port": "80", "endPort": 8080, "protocol": "TCP"}),
    st.just({"port": "http", "protocol": "TCP"}),
)
to_ports = st.lists(st.fixed_dictionaries({"ports": st.lists(port, min_size=1, max_size=2)}), max_size=2)
entities = st.sampled_from(["all", "world", "cluster", "host", "remote-node", "health", "none"])
prefixes = st.sampled_from(["203.0.113.0/24", "203.0.113.7/32", "0.0.0.0/0", "198.51.100.0/24"])
holes = st.fixed_dictionaries(
    {"cidr": st.just("203.0.113.0/24")}, optional={"except": st.just(["203.0.113.0/28"])}
)


@st.composite
def items(draw, side, *, requires=True):
    word = "from" if side == "ingress" else "to"
    item = {}
    kind = draw(st.sampled_from(["Endpoints", "CIDR", "CIDRSet", "Entities", "none"]))
    if kind == "Endpoints":
        item[f"{word}Endpoints"] = draw(st.lists(selectors, max_size=2))
    elif kind == "CIDR":
        item[f"{word}CIDR"] = draw(st.lists(prefixes, max_size=2))
    elif kind == "CIDRSet":
        item[f"{word}CIDRSet"] = draw(st.lists(holes, max_size=2))
    elif kind == "Entities":
        item[f"{word}Entities"] = draw(st.lists(entities, max_size=2))
    if requires and draw(st.integers(0, 9)) == 0:
        item[f"{word}Requires"] = [draw(selectors)]
    if draw(st.booleans()):
        item["toPorts"] = draw(to_ports)
    elif draw(st.integers(0, 4)) == 0:
        item["icmps"] = [{"fields": [{"type": draw(st.sampled_from([8, 3, "EchoReply"]))}]}]
    return item


@st.composite
def cilium(draw, name="p", *, sides=("ingress", "egress", "ingressDeny", "egressDeny"), isolate=None):
    spec = {"endpointSelector": draw(selectors)}
    for side in sides:
        if draw(st.booleans()):
            spec[side] = draw(
                st.lists(items(side.removesuffix("Deny"), requires=isolate is None), min_size=1, max_size=2)
            )
    if isolate is not None:
        spec["enableDefaultDeny"] = {"ingress": isolate, "egress": isolate}
    elif draw(st.booleans()):
        spec["enableDefaultDeny"] = draw(
            st.fixed_dictionaries({}, optional={"ingress": st.booleans(), "egress": st.booleans()})
        )
    meta = {"name": name}
    kind = draw(st.sampled_from(["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]))
    if kind == "CiliumNetworkPolicy":
        meta["namespace"] = draw(st.sampled_from(NAMESPACES))
    return {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta, "spec": spec}


@st.composite
def kubernetes(draw, name="k"):
    plain = st.fixed_dictionaries({}, optional={"matchLabels": labels})
    spaces = st.sampled_from([{}, {"matchLabels": {"team": "red"}}])
    peers = st.one_of(
        st.fixed_dictionaries({"podSelector": plain}),
        st.fixed_dictionaries({"namespaceSelector": spaces, "podSelector": plain}),
        st.fixed_dictionaries({"ipBlock": holes}),
    )
    rules = {"ports": st.lists(st.fixed_dictionaries({"port": st.sampled_from([80, "http"])}), max_size=2)}
    spec = {"podSelector": draw(plain), "policyTypes": draw(st.sampled_from([["Ingress"], ["Egress"]]))}
    for side, word in (("ingress", "from"), ("egress", "to")):
        if draw(st.booleans()):
            optional = {word: st.lists(peers, max_size=2), **rules}
            spec[side] = draw(st.lists(st.fixed_dictionaries({}, optional=optional), max_size=2))
    meta = {"name": name, "namespace": draw(st.sampled_from(NAMESPACES))}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": meta, "spec": spec}


policy_sets = st.lists(st.one_of(cilium(), cilium(), kubernetes()), max_size=4).map(
    lambda found: [
        {**one, "metadata": {**one["metadata"], "name": f"p{number}"}} for number, one in enumerate(found)
    ]
)


@st.composite
def worlds(draw):
    pods = tuple(
        Pod(
            namespace=draw(st.sampled_from(NAMESPACES)),
            name=f"pod{number}",
            labels=draw(labels),
            service_account="default",
            named_ports={"http": (draw(st.sampled_from([80, 8080])), "TCP")},
            node=draw(st.sampled_from(["n1", "n2"])),
        )
        for number in range(4)
    )
    peers = (
        Peer(name="near", address="203.0.113.7/32"),
        Peer(name="far", address="198.51.100.9/32"),
        Peer(name="host", labels=("reserved:host",), address="172.18.0.2"),
        Peer(name="n1", node="n1", address="172.18.0.3"),
        Peer(name="health", labels=("reserved:health",), enforced=True),
    )
    spaces = {name: {"kubernetes.io/metadata.name": name} for name in NAMESPACES}
    spaces["alpha"]["team"] = "red"
    options = Options(localhost_allowed=draw(st.booleans()))
    return World(namespaces=spaces, pods=pods, peers=peers, options=options)


def oracle_of(world, objects):
    return Oracle(world, [parse_policy(obj) for obj in objects])


def cells(oracle):
    """Every cell's decisions, through the matrix."""
    names = tuple(oracle.participants)
    found = matrix(oracle, names, names, PORTS)
    return {
        (source, target, query): found.decisions(s, t, p)
        for s, source in enumerate(names)
        for t, target in enumerate(names)
        for p, query in enumerate(PORTS)
    }


def passing(oracle):
    return {cell for cell, sides in cells(oracle).items() if Decision.DENIED not in sides}


@LAWS
@given(world=worlds(), base=policy_sets, more=cilium("more", sides=("ingress", "egress"), isolate=False))
def test_an_allow_rule_without_default_deny_takes_nothing_away(world, base, more):
    before, after = oracle_of(world, base), oracle_of(world, [*base, more])
    assert passing(before) <= passing(after)


@LAWS
@given(world=worlds(), base=policy_sets, more=cilium("more", sides=("ingressDeny", "egressDeny")))
def test_a_deny_rule_gives_nothing(world, base, more):
    before, after = oracle_of(world, base), oracle_of(world, [*base, more])
    if more["spec"].keys() & {"ingressDeny", "egressDeny"}:
        assert passing(after) <= passing(before)


def shuffled(data, value):
    """The same object with its rules and labels in another order; expressions and lists of peers, too."""
    if isinstance(value, dict):
        return {key: shuffled(data, value[key]) for key in data.draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(data, item) for item in data.draw(st.permutations(value))]
    return value


@LAWS
@given(world=worlds(), base=policy_sets, data=st.data())
def test_order_does_not_matter(world, base, data):
    again = [shuffled(data, obj) for obj in data.draw(st.permutations(base))]
    assert cells(oracle_of(world, base)) == cells(oracle_of(world, again))


def renamed(value, names):
    if isinstance(value, dict):
        return {key: renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


@LAWS
@given(world=worlds(), base=policy_sets)
def test_names_of_namespaces_do_not_matter(world, base):
    names = {"alpha": "omega", "beta": "psi"}
    other = World(
        namespaces={names[name]: renamed(dict(found), names) for name, found in world.namespaces.items()},
        pods=tuple(
            Pod(
                namespace=names[pod.namespace],
                name=pod.name,
                labels=pod.labels,
                service_account=pod.service_account,
                named_ports=pod.named_ports,
                node=pod.node,
            )
            for pod in world.pods
        ),
        peers=world.peers,
        options=world.options,
    )
    before = list(cells(oracle_of(world, base)).values())
    assert before == list(cells(oracle_of(other, renamed(base, names))).values())


@LAWS
@given(world=worlds(), base=policy_sets)
def test_matrix_point_query_and_naive_evaluation_agree(world, base):
    oracle = oracle_of(world, base)
    for (source, target, query), sides in cells(oracle).items():
        verdict = oracle.verdict(source, target, query.protocol, query.port)
        assert (verdict.egress, verdict.ingress) == sides
        assert naive_verdict(oracle, source, target, query.protocol, query.port) == sides


@LAWS
@given(world=worlds(), base=policy_sets)
def test_every_cell_can_be_explained(world, base):
    oracle = oracle_of(world, base)
    for source, target, query in cells(oracle):
        found = explain(oracle, source, target, query.protocol, query.port)
        assert found.verdict == oracle.verdict(source, target, query.protocol, query.port)
        assert found.sentence.count("\n") == 0
        for side in found.sides:
            assert all(rule.deny == (side.decision is Decision.DENIED) for rule in side.rules)


@LAWS
@given(base=policy_sets)
def test_dumping_undoes_parsing(base):
    for obj in base:
        kept = copy.deepcopy(obj)
        assert dump(parse_policy(obj)) == kept
        assert parse_policy(dump(parse_policy(obj))) == parse_policy(obj)


@pytest.mark.parametrize("side", ["ingress", "egress"])
def test_a_deny_rule_alone_isolates(side):
    spec = {"endpointSelector": {}, f"{side}Deny": [{}]}
    obj = {"kind": "CiliumNetworkPolicy", "metadata": {"name": "d", "namespace": "alpha"}, "spec": spec}
    pods = (Pod(namespace="alpha", name="a"), Pod(namespace="beta", name="b"))
    oracle = oracle_of(World(pods=pods), [obj])
    source, target = ("alpha/a", "beta/b") if side == "egress" else ("beta/b", "alpha/a")
    assert not oracle.verdict(source, target, "TCP", 80).passes
