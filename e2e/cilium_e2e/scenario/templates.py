"""``${...}`` in policies and rows: addresses and names that are known only on the cluster.

============================  =====================================================
``${pod.x/a.ip}``, ``.cidr``  a pod's address, alone or as a prefix of full length
``${node.0.ip}``, ``.cidr``   a node's address, by the node's number (0 is the first)
``${node.0.name}``            a node's name
``${node.of.x/a.name}``       the node of a pod; also ``.ip`` and ``.cidr``
``${world.one.ip}``, ``.cidr``  the address of an agent outside the cluster
``${namespace.x}``            what a namespace is really called
============================  =====================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cilium_e2e.model import ScenarioError

_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_FORMS = (
    re.compile(r"(?P<what>pod)\.(?P<name>[^/.]+/[^/]+)\.(?P<part>ip|cidr)"),
    re.compile(r"(?P<what>node)\.(?P<name>\d+)\.(?P<part>ip|cidr|name)"),
    re.compile(r"(?P<what>node)\.of\.(?P<name>[^/.]+/[^/]+)\.(?P<part>ip|cidr|name)"),
    re.compile(r"(?P<what>world)\.(?P<name>[^.]+)\.(?P<part>ip|cidr)"),
    re.compile(r"(?P<what>namespace)\.(?P<name>[^.]+)"),
)
Resolve = Callable[[str, str, str], str]
"""From ``pod``, ``node``, ``world`` or ``namespace``, a name, and ``ip``, ``cidr``, ``name`` or ``""``."""


def fill(node: Any, resolve: Resolve) -> Any:
    """A copy of decoded YAML with every template in its strings resolved.

    Raises:
        ScenarioError: a template is of no form that is known.
    """
    if isinstance(node, str):
        return _TEMPLATE.sub(lambda match: _value(match[1], resolve), node)
    if isinstance(node, list):
        return [fill(item, resolve) for item in node]
    if isinstance(node, dict):
        return {key: fill(value, resolve) for key, value in node.items()}
    return node


def stand_in(what: str, name: str, part: str) -> str:
    """Something of the right form, to check what a template stands in before there is a cluster."""
    if part in {"ip", "cidr"}:
        return "192.0.2.1" if part == "ip" else "192.0.2.1/32"
    return name if what == "namespace" else "some-node"


def _value(text: str, resolve: Resolve) -> str:
    for form in _FORMS:
        if (match := form.fullmatch(text)) is not None:
            return resolve(match["what"], match["name"], match.groupdict().get("part") or "")
    raise ScenarioError(
        "expected pod.NS/NAME.ip, node.NUMBER.ip, node.of.NS/NAME.name, world.NAME.ip or namespace.NAME "
        f"(or .cidr instead of .ip), got {text!r}",
        place=f"template ${{{text}}}",
    )
