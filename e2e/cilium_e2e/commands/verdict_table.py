"""Verdict tables: JSON Lines with one scenario a line, read without their answers and written as answers."""

from __future__ import annotations

import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import IO, Any, Final, cast

from cilium_e2e.model import InputError, PolicyError
from cilium_e2e.policy import (
    CIDRGroup,
    Enforcement,
    Options,
    Oracle,
    Peer,
    Pod,
    PolicyObject,
    Service,
    World,
    parse_policy,
)
from cilium_e2e.policy.codec import (
    FLAG,
    INTEGER,
    RAW,
    TEXT,
    TEXT_MAP,
    Codec,
    DecodeError,
    Reading,
    decode_struct,
    items,
    mapping,
    struct,
    wire,
)

_GZIP_MAGIC: Final = b"\x1f\x8b"
_CONFIG_KEYS: Final = frozenset(
    {
        "hostFirewall",
        "nodeSelectorLabels",
        "allowLocalhost",
        "dualStack",
        "policyCIDRMatchNodes",
        "enforcement",
        "policyDefaultLocalCluster",
    }
)


def _decode_map(codec: Codec) -> Codec:
    """An object whose values are all of one kind."""

    def decode(value: Any, path: str, reading: Reading) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise DecodeError(path, "expected an object")
        return {key: codec.decode(item, f"{path}.{key}", reading) for key, item in value.items()}

    return Codec(decode, dict)


def _decode_named_port(value: Any, path: str, _: Reading) -> tuple[int, str]:
    if isinstance(value, list) and len(value) == 2 and type(value[0]) is int and type(value[1]) is str:
        return value[0], value[1]
    raise DecodeError(path, "expected [number, protocol]")


@dataclass(frozen=True, slots=True)
class _Config:
    host_firewall: bool | None = wire("hostFirewall", FLAG)
    node_selector_labels: bool | None = wire("nodeSelectorLabels", FLAG)
    allow_localhost: str | None = wire("allowLocalhost", TEXT)
    dual_stack: bool | None = wire("dualStack", FLAG)
    cidr_matches_nodes: bool | None = wire("policyCIDRMatchNodes", FLAG)
    enforcement: str | None = wire("enforcement", TEXT)
    default_local_cluster: bool | None = wire("policyDefaultLocalCluster", FLAG)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    name: str = wire("name", TEXT)
    namespace: str = wire("namespace", TEXT)
    labels: Any = wire("labels", TEXT_MAP)
    service_account: str | None = wire("serviceAccount", TEXT)
    named_ports: Any = wire("namedPorts", _decode_map(Codec(_decode_named_port, list)))
    cluster: str | None = wire("cluster", TEXT)


@dataclass(frozen=True, slots=True)
class _Peer:
    name: str = wire("name", TEXT)
    cidr: str | None = wire("cidr", TEXT)
    ip: str | None = wire("ip", TEXT)
    labels: tuple[str, ...] | None = wire("labels", items(TEXT))
    node_labels: Any = wire("nodeLabels", TEXT_MAP)
    dns_names: tuple[str, ...] | None = wire("dnsNames", items(TEXT))
    endpoint: bool | None = wire("endpoint", FLAG)


@dataclass(frozen=True, slots=True)
class _Group:
    name: str = wire("name", TEXT)
    labels: Any = wire("labels", TEXT_MAP)
    cidrs: tuple[str, ...] | None = wire("externalCIDRs", items(TEXT))


@dataclass(frozen=True, slots=True)
class _Service:
    name: str = wire("name", TEXT)
    namespace: str = wire("namespace", TEXT)
    labels: Any = wire("labels", TEXT_MAP)
    selector: Any = wire("selector", TEXT_MAP)
    backends: tuple[str, ...] | None = wire("backends", items(TEXT))


@dataclass(frozen=True, slots=True)
class _Flow:
    source: str = wire("from", TEXT)
    target: str = wire("to", TEXT)
    port: int = wire("port", INTEGER)
    protocol: str = wire("protocol", TEXT)


@dataclass(frozen=True, slots=True)
class _Line:
    id: str = wire("id", TEXT)
    config: _Config | None = wire("config", struct(_Config))
    namespaces: Mapping[str, Any] | None = wire("namespaces", _decode_map(TEXT_MAP))
    endpoints: tuple[_Endpoint, ...] | None = wire("endpoints", items(struct(_Endpoint)))
    peers: tuple[_Peer, ...] | None = wire("peers", items(struct(_Peer)))
    groups: tuple[_Group, ...] | None = wire("cidrGroups", items(struct(_Group)))
    services: tuple[_Service, ...] | None = wire("services", items(struct(_Service)))
    policies: tuple[Any, ...] | None = wire("policies", items(RAW))
    flows: tuple[_Flow, ...] | None = wire("flows", items(struct(_Flow)))


@dataclass(frozen=True, slots=True)
class TableFlow:
    """A question: who to whom, on which destination port or ICMP type."""

    source: str
    target: str
    port: int
    protocol: str


@dataclass(frozen=True, slots=True)
class TableScenario:
    """One line of a table, without its answers.

    Attributes:
        id: the scenario's.
        place: ``file:line``, for messages.
        world: the cluster.
        policies: the objects as applied.
        flows: the questions, in their order.
    """

    id: str
    place: str
    world: World
    policies: tuple[Any, ...]
    flows: tuple[TableFlow, ...]


def _options(config: _Config) -> Options:
    modes = [mode.value for mode in Enforcement]
    if config.enforcement not in (None, *modes):
        raise DecodeError("config.enforcement", f"expected one of {', '.join(modes)}")
    if config.allow_localhost not in (None, "policy", "auto", "always"):
        raise DecodeError("config.allowLocalhost", "expected policy, auto or always")
    return Options(
        enforcement=Enforcement(config.enforcement or "default"),
        host_firewall=bool(config.host_firewall),
        node_selector_labels=bool(config.node_selector_labels),
        localhost_allowed=config.allow_localhost != "policy",
        cidr_matches_nodes=bool(config.cidr_matches_nodes),
        # The tables come from an engine without node manager: see their description.
        remote_nodes_know_own_prefix=False,
        ipv6=bool(config.dual_stack),
        default_local_cluster=bool(config.default_local_cluster),
    )


def _world(line: _Line) -> World:
    return World(
        namespaces={name: mapping(labels) for name, labels in (line.namespaces or {}).items()},
        pods=tuple(
            Pod(
                namespace=pod.namespace,
                name=pod.name,
                labels=mapping(pod.labels),
                service_account=pod.service_account or "",
                named_ports=pod.named_ports or {},
                cluster=pod.cluster or "",
            )
            for pod in line.endpoints or ()
        ),
        peers=tuple(
            Peer(
                name=peer.name,
                labels=peer.labels or (),
                address=peer.cidr or peer.ip or "",
                node_labels=mapping(peer.node_labels),
                dns_names=peer.dns_names or (),
                enforced=bool(peer.endpoint),
            )
            for peer in line.peers or ()
        ),
        cidr_groups=tuple(
            CIDRGroup(name=group.name, labels=mapping(group.labels), cidrs=group.cidrs or ())
            for group in line.groups or ()
        ),
        services=tuple(
            Service(
                namespace=service.namespace,
                name=service.name,
                labels=mapping(service.labels),
                selector=mapping(service.selector),
                backends=service.backends or (),
            )
            for service in line.services or ()
        ),
        options=_options(line.config or _Config()),
    )


def _check_options(reading: Reading) -> None:
    """Refuse unknown options: what they change in the answers is unknown, too."""
    known = f"expected one of the options {', '.join(sorted(_CONFIG_KEYS))}"
    for path in sorted(reading.unknown):
        if path.startswith("config."):
            raise DecodeError(path, known)


def _require(line: _Line) -> None:
    """Refuse what lacks a name: nothing could refer to it."""
    named: list[tuple[str, tuple[Any, ...] | None, tuple[str, ...]]] = [
        ("endpoints", line.endpoints, ("name", "namespace")),
        ("peers", line.peers, ("name",)),
        ("cidrGroups", line.groups, ("name",)),
        ("services", line.services, ("name", "namespace")),
        ("flows", line.flows, ("source", "target", "port", "protocol")),
    ]
    if line.id is None:
        raise DecodeError("id", "is missing")
    for field, entries, attributes in named:
        for position, entry in enumerate(entries or ()):
            for attribute in attributes:
                if getattr(entry, attribute) is None:
                    name = {"source": "from", "target": "to"}.get(attribute, attribute)
                    raise DecodeError(f"{field}[{position}].{name}", "is missing")


def read_scenario(text: str | bytes, place: str) -> TableScenario:
    """Read one line.

    Args:
        text: the line.
        place: ``file:line``, for messages.

    Raises:
        InputError: it is no scenario; the message names the field.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"expected a JSON object, got a line that is none: {reason}", place=place) from None
    reading = Reading()
    try:
        line = decode_struct(_Line, value, "", reading)
        _check_options(reading)
        _require(line)
        world = _world(line)
    except DecodeError as error:
        raise InputError(f"expected a scenario, but {error}", place=place) from None
    return TableScenario(
        id=line.id,
        place=place,
        world=world,
        policies=line.policies or (),
        flows=tuple(TableFlow(f.source, f.target, f.port, f.protocol) for f in line.flows or ()),
    )


@contextmanager
def _opened(path: str) -> Iterator[IO[bytes]]:
    """The bytes of a table, unpacked; ``-`` is standard input."""
    try:
        raw = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", place=path) from None
    try:
        packed = cast("BufferedReader", raw).peek(2)[:2] == _GZIP_MAGIC
        yield cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if packed else raw
    except OSError as error:
        raise InputError(f"cannot be read: {error}", place=path) from None
    finally:
        if path != "-":
            raw.close()


def read_table(path: str) -> Iterator[TableScenario]:
    """The scenarios of a table, one after the other; the table is never held as a whole.

    Args:
        path: JSON Lines, plain or gzip (told by content); ``-`` is standard input. Empty lines are skipped.

    Raises:
        InputError: the file cannot be read, or a line is no scenario; the message holds file and line.
    """
    name = "stdin" if path == "-" else path
    with _opened(path) as lines:
        try:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield read_scenario(line, f"{name}:{number}")
        except (EOFError, zlib.error) as error:
            raise InputError(f"expected a whole gzip file: {error}", place=name) from None


def _refusal(policy: Any, message: str) -> dict[str, str]:
    policy = policy if isinstance(policy, dict) else {}
    meta = policy.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    fields = {"kind": policy.get("kind"), "namespace": meta.get("namespace"), "name": meta.get("name")}
    texts = {field: value if isinstance(value, str) else "" for field, value in fields.items()}
    return {**texts, "message": message}


def answer(scenario: TableScenario) -> dict[str, Any]:
    """The answers to a scenario: both sides of every flow, and the policies the agent refuses.

    Raises:
        InputError: a flow names someone who does not exist, or an unknown protocol.
    """
    policies: list[PolicyObject] = []
    refused: list[dict[str, str]] = []
    for policy in scenario.policies:
        try:
            policies.append(parse_policy(policy, strict=False))
        except PolicyError as error:
            refused.append(_refusal(policy, error.message))
    try:
        oracle = Oracle(scenario.world, policies)
        flows = []
        for flow in scenario.flows:
            egress, ingress = oracle.sides(flow.source, flow.target, flow.protocol, flow.port)
            flows.append({"egress": egress.decision.value, "ingress": ingress.decision.value})
    except InputError as error:
        raise InputError(f"scenario {scenario.id}: {error}", place=scenario.place) from None
    refused.extend(
        {
            "kind": refusal.policy.kind,
            "namespace": refusal.policy.namespace,
            "name": refusal.policy.name,
            "message": refusal.message,
        }
        for refusal in oracle.refused
    )
    return {"id": scenario.id, "flows": flows, "invalid": refused}
