"""What the API server takes as a Kubernetes NetworkPolicy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from cilium_e2e.policy.addresses import Network, covers, parse_lenient
from cilium_e2e.policy.portnames import is_service_name
from cilium_e2e.policy.schema import Anything, Fields, Items, Problem, Schema, Text, Whole, WholeOrText
from cilium_e2e.policy.schema_cilium import LABEL_SELECTOR

_PEERS = Items(
    of=Fields(
        fields={
            "podSelector": LABEL_SELECTOR,
            "namespaceSelector": LABEL_SELECTOR,
            "ipBlock": Fields(
                fields={"cidr": Text(cidr=True), "except": Items(of=Text(cidr=True))}, required=("cidr",)
            ),
        }
    )
)
_PORTS = Items(
    of=Fields(
        fields={
            "protocol": Text(enum=("TCP", "UDP", "SCTP")),
            "port": WholeOrText(pattern="^.*$"),
            "endPort": Whole(minimum=1, maximum=65535),
        }
    )
)


def _rules(word: str) -> Schema:
    return Items(of=Fields(fields={word: _PEERS, "ports": _PORTS}))


NETWORK_POLICY: Final = Fields(
    fields={
        "apiVersion": Text(),
        "kind": Text(),
        "metadata": Fields(others=Anything()),
        "status": Anything(),
        "spec": Fields(
            fields={
                "podSelector": LABEL_SELECTOR,
                "policyTypes": Items(of=Text(enum=("Ingress", "Egress")), max_items=2),
                "ingress": _rules("from"),
                "egress": _rules("to"),
            }
        ),
    },
    required=("metadata",),
)
"""The types of a NetworkPolicy; what goes beyond types is in :func:`network_policy_problems`."""


def _problem(path: str, reason: str) -> Problem:
    return Problem(path, f"{path}: {reason}")


def _port_problems(port: Mapping[str, Any], path: str) -> Iterator[Problem]:
    number, end = port.get("port"), port.get("endPort")
    if isinstance(number, int) and not 1 <= number <= 65535:
        yield _problem(f"{path}.port", f"Invalid value: {number}: must be between 1 and 65535, inclusive")
    if isinstance(number, str) and not is_service_name(number):
        yield _problem(f"{path}.port", "Invalid value: must be an IANA service name or a number")
    if end is None:
        return
    if not isinstance(number, int):
        yield _problem(f"{path}.endPort", "may be specified only when port is a number")
    elif end < number:
        yield _problem(f"{path}.endPort", f"Invalid value: {end}: must be greater than or equal to `port`")


def _block_problems(block: Mapping[str, Any], path: str) -> Iterator[Problem]:
    outer = parse_lenient(block.get("cidr") or "")
    for index, text in enumerate(block.get("except") or ()):
        hole = parse_lenient(text)
        if outer is not None and hole is not None and not _strictly_inside(hole, outer):
            yield _problem(f"{path}.except[{index}]", f"must be a strict subset of `cidr`: {outer}")


def _strictly_inside(hole: Network, outer: Network) -> bool:
    return covers(outer, hole) and hole.prefixlen > outer.prefixlen


def _peer_problems(peer: Mapping[str, Any], path: str) -> Iterator[Problem]:
    chosen = {name for name in ("podSelector", "namespaceSelector", "ipBlock") if peer.get(name) is not None}
    if not chosen:
        yield _problem(path, "Required value: must specify a peer")
    if "ipBlock" in chosen:
        if len(chosen) > 1:
            yield _problem(path, "Forbidden: may not specify both ipBlock and another peer")
        yield from _block_problems(peer["ipBlock"], f"{path}.ipBlock")


def network_policy_problems(policy: Mapping[str, Any]) -> Iterator[Problem]:
    """What the API server refuses beyond types, in an object whose types are right."""
    spec = policy.get("spec") or {}
    for direction, word in (("ingress", "from"), ("egress", "to")):
        for index, rule in enumerate(spec.get(direction) or ()):
            path = f"spec.{direction}[{index}]"
            for number, port in enumerate(rule.get("ports") or ()):
                yield from _port_problems(port, f"{path}.ports[{number}]")
            for number, peer in enumerate(rule.get(word) or ()):
                yield from _peer_problems(peer, f"{path}.{word}[{number}]")
