"""A seed and a number make a case: one to three policies for the standard pods, and all questions to ask.

The distribution: see :mod:`~cilium_e2e.scenario.fuzz.vocabulary` and ``kinds``, whose weights it is. One
policy in 45 % of all draws, two in 35 %, three in 20 %; 65 % of them are Cilium's. A draw whose matrix is not
mixed, because everything or nothing passes, is taken with a chance of 40 % only, and drawn anew otherwise.
A quarter of all cases speaks of agents outside the cluster, and needs a cluster that has some.

Left out: cluster-wide policies, which would reach other workers' pods; rules for proxies (HTTP, DNS, names),
because the standard pods serve plain TCP and UDP, and what a proxy makes of that is no policy; Services;
nodes as peers, which need a flag; IPv6 prefixes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from cilium_e2e.model import Object
from cilium_e2e.policy import Oracle, Peer, Pod, World, parse_policy
from cilium_e2e.policy.matrix import PortQuery, matrix
from cilium_e2e.scenario.fuzz import kinds, vocabulary
from cilium_e2e.scenario.fuzz.chance import Chance
from cilium_e2e.scenario.model import PolicyDecl, Scenario, Step
from cilium_e2e.scenario.standard import NAMESPACES, PODS, standard_workload
from cilium_e2e.scenario.templates import fill

DISTRIBUTION = 1
"""Changes when the same seed no longer makes the same cases."""

_UNMIXED = 0.4
_DRAWS = 12
_OUTSIDE = 0.25
_OUTSIDE_PORTS = ("8080/TCP", "8080/UDP")
_QUERIES = tuple(
    PortQuery(protocol, number) for protocol, number in (*product(("TCP", "UDP"), (80, 81)), ("ICMP", 8))
)


@dataclass(frozen=True, slots=True)
class Case:
    """A random case.

    Attributes:
        seed, index: what made it; the index counts from 1.
        policies: whole objects, in the standard namespaces; ``${...}`` is still in them.
    """

    seed: int
    index: int
    policies: tuple[Object, ...]

    @property
    def name(self) -> str:
        """As the test is called."""
        return name_of_case(self.seed, self.index)

    def scenario(self, policies: Sequence[Object] | None = None, *, outside: Sequence[str] = ()) -> Scenario:
        """The case as a scenario, judged by the oracle alone.

        Args:
            policies: other policies than its own.
            outside: names of agents outside the cluster that every pod asks, too.
        """
        chosen = self.policies if policies is None else policies
        pods = [pod.key for pod in standard_workload().pods]
        asks = [(one, f"{other}:ICMP") for one in pods for other in pods]
        asks += [(pod, f"world:{name}:{port}") for pod in pods for name in outside for port in _OUTSIDE_PORTS]
        step = Step(
            name="as applied",
            apply=tuple(PolicyDecl(policy, self.name) for policy in chosen),
            asks=tuple(asks),
            place=self.name,
        )
        return Scenario(name=self.name, workload=standard_workload(), steps=(step,), file=self.name)


def name_of_case(seed: int, index: int) -> str:
    """``fuzz[7-0001]``."""
    return f"fuzz[{seed}-{index:04}]"


def speaks_of_outside(seed: int, index: int) -> bool:
    """Whether a case has policies that name an agent outside the cluster; known without making it."""
    return Chance(seed, index, "outside").yes(_OUTSIDE)


def generate(seed: int, index: int) -> Case:
    """A case; the same for the same numbers."""
    chance = Chance(seed, index)
    world = speaks_of_outside(seed, index)
    drawn = _policies(chance, world=world)
    for _ in range(_DRAWS):
        if _names_outside(drawn) is world and (_mixed(drawn) or chance.yes(_UNMIXED)):
            return Case(seed, index, drawn)
        drawn = _policies(chance, world=world)
    if world and not _names_outside(drawn):
        # As often as it was drawn, nothing outside was in it: one more policy that says nothing else.
        name, space = f"p{len(drawn) + 1}", chance.one(NAMESPACES)
        drawn = (*drawn, _to_outside(chance, name, space))
    return Case(seed, index, drawn)


def bench_oracle(policies: Sequence[Object]) -> Oracle:
    """The oracle over the standard pods on paper, with two nodes and two agents outside.

    Raises:
        PolicyError: a policy cannot be read.
    """
    workload = standard_workload()
    pods = tuple(
        Pod(
            namespace=pod.namespace,
            name=pod.name,
            labels=pod.labels,
            named_ports={port.name: (port.number, port.protocol) for port in pod.ports},
            node=f"n{1 + PODS.index(pod.name) % 2}",
        )
        for pod in workload.pods
    )
    nodes = tuple(
        Peer(name=f"node:n{number}", labels=("reserved:remote-node",), address=f"172.18.0.{number}")
        for number in (1, 2)
    )
    outside = tuple(Peer(name=f"world:{name}", address=_address("world", name)) for name in vocabulary.WORLD)
    spaces = {
        name: {**labels, "kubernetes.io/metadata.name": name} for name, labels in workload.namespaces.items()
    }
    world = World(namespaces=spaces, pods=pods, peers=(*nodes, *outside))
    return Oracle(world, [parse_policy(policy) for policy in on_paper(policies)])


def on_paper(policies: Sequence[Object]) -> list[Object]:
    """The policies with addresses of the cluster on paper in place of templates."""
    return [fill(policy, _resolve) for policy in policies]


def _resolve(what: str, name: str, part: str) -> str:
    if what == "namespace":
        return name
    return f"{_address(what, name)}{'/32' if part == 'cidr' else ''}"


def _address(what: str, name: str) -> str:
    if what == "pod":
        space, _, pod = name.partition("/")
        return f"10.244.{1 + NAMESPACES.index(space)}.{1 + PODS.index(pod)}"
    if what == "node":
        return f"172.18.0.{1 + int(name)}"
    return f"172.18.0.{100 + vocabulary.WORLD.index(name)}"


def _policies(chance: Chance, *, world: bool) -> tuple[Object, ...]:
    found = []
    for number in range(chance.weighted(((45, 1), (35, 2), (20, 3)))):
        make = kinds.cilium_policy if chance.yes(0.65) else kinds.network_policy
        space = chance.one(NAMESPACES)
        found.append(make(chance, name=f"p{number + 1}", namespace=space, world=world))
    return tuple(found)


def _to_outside(chance: Chance, name: str, namespace: str) -> Object:
    item = {"toCIDR": [f"${{world.{chance.one(vocabulary.WORLD)}.cidr}}"]}
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": vocabulary.pod_selector(chance), "egress": [item]},
    }


def _names_outside(policies: Sequence[Object]) -> bool:
    return "${world." in json.dumps(policies)


def _mixed(policies: Sequence[Object]) -> bool:
    """Whether some cells between different pods pass and some do not."""
    oracle = bench_oracle(policies)
    pods = [pod.key for pod in oracle.world.pods]
    passes = matrix(oracle, pods, pods, _QUERIES).passes()
    own = len(pods) * len(_QUERIES)
    # A pod reaches itself, whatever its policies say.
    count = int(passes.sum()) - int(sum(passes[place, :, place].sum() for place in range(len(pods))))
    return 0 < count < passes.size - own
