"""A scenario as plain data: what stands in a ``*.scenario.yaml``, checked, with files read and lists spread.

Names of namespaces are those of the file; :mod:`cilium_e2e.scenario.stage` makes them the worker's own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cilium_e2e.model import Expectation, Object, Request, Tier
from cilium_e2e.probe import Port

_DENIALS = re.compile(r"denied|timeout|http\(403\)|dns\(REFUSED\)")


@dataclass(frozen=True, slots=True)
class PodDecl:
    """A pod of the workload.

    Attributes:
        name, namespace, labels, ports, service_account: the object's.
        node: ``same`` or ``other`` (than the first pod's), the number of a node, or empty for any.
    """

    name: str
    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    service_account: str = ""
    node: str = ""

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServiceDecl:
    """A Service over pods of the workload; ``targets`` maps its ports to theirs where they differ."""

    name: str
    namespace: str
    selector: Mapping[str, str]
    ports: tuple[Port, ...]
    targets: Mapping[int, int] = field(default_factory=dict)
    headless: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """Namespaces with their labels, pods, Services; two that are equal can share what is deployed."""

    namespaces: Mapping[str, Mapping[str, str]]
    pods: tuple[PodDecl, ...]
    services: tuple[ServiceDecl, ...] = ()

    @property
    def key(self) -> str:
        """What makes it this one."""
        spaces = sorted((name, sorted(labels.items())) for name, labels in self.namespaces.items())
        return repr((spaces, self.pods, self.services))


@dataclass(frozen=True, slots=True)
class PolicyDecl:
    """A policy or CiliumCIDRGroup as written, and where: ``file:line``."""

    object: Object
    place: str


@dataclass(frozen=True, slots=True)
class FlowWish:
    """The flow Hubble must have for a row; empty fields do not matter.

    ``policy`` is ``name`` or ``namespace/name``; ``event`` is ``drop``, ``verdict`` or ``l7``.
    """

    verdict: str = ""
    reason: str = ""
    direction: str = ""
    policy: str = ""
    event: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One explicit expectation: one source, one destination.

    Attributes:
        source, destination: in the grammar of targets; templates are still in them.
        outcome: what must come of it.
        answered_by: who must answer, ``namespace/pod``; empty for the target itself.
        flow: what Hubble must have seen; None where that is not asked.
        request: what an HTTP or DNS probe asks for.
        named: whether Hubble names the policy that lets it through.
        place: ``file:line``.
    """

    source: str
    destination: str
    outcome: Expectation
    answered_by: tuple[str, ...] = ()
    flow: FlowWish | None = None
    request: Request = field(default_factory=Request)
    place: str = ""
    named: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """Changes, and what must hold after them; the first step of a scenario applies its ``policies``.

    Attributes:
        name: for messages.
        apply: policies to apply; those that ``replace`` others are among them.
        delete: ``name`` or ``namespace/name`` of policies.
        relabel: pod to all its labels.
        relabel_namespace: namespace to all its labels.
        restart: pods.
        refused: words with which what is applied must be refused; empty where it must not.
        expect: the explicit expectations.
        oracle: whether the rest of the matrix is compared with the oracle.
        asks: source and destination of further questions, as rows write them, that only the oracle answers.
        place: ``file:line``.
    """

    name: str
    apply: tuple[PolicyDecl, ...] = ()
    delete: tuple[str, ...] = ()
    relabel: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    relabel_namespace: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    restart: tuple[str, ...] = ()
    refused: str = ""
    expect: tuple[Row, ...] = ()
    oracle: bool = True
    asks: tuple[tuple[str, str], ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """One document of a scenario file.

    Attributes:
        name, description: for people.
        workload: what is deployed.
        steps: what happens, the first with the scenario's own policies.
        isolated: whether namespaces are renamed to the worker's own.
        tier: the least thorough tier that includes it.
        tags: what ``--tag`` chooses by.
        requires: features and capabilities it needs; ``hubble-relay`` is among them where it asks for flows.
        every_flow: whether each of its rows must be witnessed by Hubble.
        file: the file.
        line: the line its document begins at.
    """

    name: str
    workload: Workload
    steps: tuple[Step, ...]
    description: str = ""
    isolated: bool = True
    tier: Tier = Tier.QUICK
    tags: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    every_flow: bool = False
    file: str = ""
    line: int = 1

    @property
    def place(self) -> str:
        """``file:line``."""
        return f"{self.file}:{self.line}"

    @property
    def asks_for_flows(self) -> bool:
        """Whether it passes only with flows of its probes."""
        return self.every_flow or any(row.flow is not None for step in self.steps for row in step.expect)


def is_denial(outcome: Expectation) -> bool:
    """Whether an outcome is a policy's doing, so that it needs a positive control."""
    return _DENIALS.fullmatch(outcome.text) is not None


def name_of(policy: Object) -> str:
    """``namespace/name`` of a policy as written, just the name where it has no namespace."""
    meta = policy["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])
