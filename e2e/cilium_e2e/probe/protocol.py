"""The line protocol between the batch client and an agent: one JSON object a line, version 1.

::

    agent  → {"v":1, "hello":NAME, "python":VERSION}                              once, first
    client → {"v":1, "id":N, "probes":[{"protocol":"tcp", "host":H, "port":P, "timeout":S, ...}, ...]}
    agent  → {"v":1, "id":N, "agent":NAME, "outcomes":[{"kind":K, ...}, ...]}     in the probes' order
    agent  → {"v":1, "id":N|null, "agent":NAME, "error":TEXT}                     not a batch it can run

Fields with default values are left out. A probe's ``host`` is an address, or a DNS name that the agent
resolves (``search``: below its search domains first); ``agent`` says that the peer is known to answer with
its name. In outcomes the field names are those of :class:`~cilium_e2e.model.probe.Outcome`.

What does not decode raises :class:`~cilium_e2e.model.errors.StreamLost`: after a malformed line nothing on
the stream can be trusted, and least of all may it count as a denial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cilium_e2e.model import InputError, Outcome, OutcomeKind, Probe, Protocol, StreamLost, TargetKind
from cilium_e2e.probe.agent import VERSION

_EXTRACT = 120


@dataclass(frozen=True, slots=True)
class Hello:
    """An agent's first line."""

    agent: str
    python: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An agent's answer to a batch: outcomes as decoded JSON, or what is wrong with the batch."""

    id: int | None
    agent: str
    outcomes: list[dict[str, Any]]
    error: str = ""


def encode_batch(number: int, specs: Sequence[dict[str, Any]]) -> str:
    """The line that asks for a batch."""
    return json.dumps({"v": VERSION, "id": number, "probes": list(specs)}, separators=(",", ":"))


def encode_probe(probe: Probe, *, host: str, agent: bool) -> dict[str, Any]:
    """A probe as the agent takes it.

    A DNS probe of a ``dns:`` target without a name of its own asks the agent's own resolver for the
    target; with a name it asks the server that the target names.

    Args:
        probe: what is asked.
        host: the target's address, or its DNS name.
        agent: whether the peer is known to answer with its name.

    Raises:
        InputError: a DNS probe does not say which name it asks for.
    """
    request = probe.request
    spec: dict[str, Any] = {"protocol": probe.protocol.value.lower(), "host": host, "port": probe.port}
    spec["timeout"] = probe.timeout_s
    optional: dict[str, Any] = {
        "source_port": probe.source_port,
        "agent": agent,
        "payload": request.payload_bytes,
        "search": request.search,
    }
    if probe.protocol is Protocol.HTTP:
        optional |= {"method": request.method, "path": request.path, "headers": list(request.headers)}
    if probe.protocol is Protocol.DNS:
        spec |= {"name": request.name, "record": request.record}
        if not request.name:
            if probe.target.kind is not TargetKind.DNS:
                raise InputError(
                    "a DNS probe of a server needs the name to ask for (Request.name)",
                    place=f"probe {probe.id!r}",
                )
            spec |= {"host": "", "name": probe.target.name}
    return spec | {key: value for key, value in optional.items() if value}


def decode(line: str) -> Hello | Answer:
    """Read a line of an agent.

    Raises:
        StreamLost: it is no line of this protocol, or one of another version.
    """
    try:
        message = json.loads(line)
    except ValueError:
        raise _malformed("no JSON", line) from None
    if not isinstance(message, dict) or "v" not in message:
        raise _malformed("no message of the agent's protocol", line)
    if message["v"] != VERSION:
        raise StreamLost(
            f"the agent speaks version {message['v']!r} of its protocol, this harness version {VERSION}",
            hint="Delete the agent's pod and ConfigMap: they are of another release of the harness.",
        )
    match message:
        case {"hello": str(agent)}:
            return Hello(agent, str(message.get("python", "")))
        case {"id": int() | None as number, "agent": str(agent), "error": str(error)}:
            return Answer(number, agent, [], error)
        case {"id": int(number), "agent": str(agent), "outcomes": list(outcomes)}:
            return Answer(number, agent, outcomes)
    raise _malformed("neither hello, outcomes nor error", line)


def decode_outcomes(answer: Answer, probes: Sequence[Probe]) -> list[Outcome]:
    """The outcomes of an answer, one for each probe.

    Raises:
        StreamLost: there are more or fewer, or one is malformed.
    """
    if len(answer.outcomes) != len(probes):
        raise StreamLost(f"agent {answer.agent}: {len(answer.outcomes)} outcomes for {len(probes)} probes")
    return [_outcome(probe, raw, answer.agent) for probe, raw in zip(probes, answer.outcomes, strict=True)]


def _outcome(probe: Probe, raw: Any, agent: str) -> Outcome:
    try:
        outcome = Outcome(
            probe_id=probe.id,
            kind=OutcomeKind(raw["kind"]),
            answered_by=_text(raw, "answered_by"),
            source_ip=_text(raw, "source_ip"),
            source_port=_whole(raw, "source_port"),
            destination_ip=_text(raw, "destination_ip"),
            seen_from=_text(raw, "seen_from"),
            elapsed_s=float(raw.get("elapsed_s", 0.0)),
            status=_whole(raw, "status"),
            rcode=_text(raw, "rcode"),
            detail=_text(raw, "detail"),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _malformed(f"agent {agent}: no outcome", str(raw)) from None
    if (outcome.kind is OutcomeKind.HTTP) != bool(outcome.status):
        raise _malformed(f"agent {agent}: an HTTP outcome and only it has a status", str(raw))
    if (outcome.kind is OutcomeKind.DNS) != bool(outcome.rcode):
        raise _malformed(f"agent {agent}: a DNS outcome and only it has a response code", str(raw))
    return outcome


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key, "")
    if not isinstance(value, str):
        raise TypeError(key)
    return value


def _whole(raw: dict[str, Any], key: str) -> int:
    value = raw.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(key)
    return value


def _malformed(what: str, line: str) -> StreamLost:
    extract = line if len(line) <= _EXTRACT else line[:_EXTRACT] + "…"
    return StreamLost(f"malformed line of the agent: {what}: {extract!r}")
