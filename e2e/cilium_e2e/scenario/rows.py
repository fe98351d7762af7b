"""Explicit expectations: lists and ``*`` spread into one row for each source and destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from cilium_e2e.model import (
    Destination,
    Expectation,
    InputError,
    Protocol,
    Request,
    ScenarioError,
    Target,
    TargetKind,
)
from cilium_e2e.scenario.fields import Path as Steps
from cilium_e2e.scenario.isolation import SHARED
from cilium_e2e.scenario.model import FlowWish, Row, Workload
from cilium_e2e.scenario.source import Source
from cilium_e2e.scenario.templates import fill, stand_in

_SOURCES = {TargetKind.POD, TargetKind.NODE, TargetKind.WORLD}


def read_rows(
    entries: Sequence[Mapping[str, Any]], source: Source, path: Steps, workload: Workload
) -> tuple[Row, ...]:
    """The rows of an ``expect`` list.

    ``*`` in a pod's namespace or name stands for all pods of the workload that fit; a pair that would be a
    pod asking itself is left out then. Later rows override earlier ones with the same question, so that a
    rule and its exceptions can be written in this order.

    Raises:
        ScenarioError: a target or an outcome is none, or a pod is not in the workload.
    """
    found: dict[tuple[str, str, Request], Row] = {}
    for place, entry in enumerate(entries):
        for row in _spread(entry, source, (*path, place), workload):
            question = (row.source, row.destination, row.request)
            found.pop(question, None)
            found[question] = row
    return tuple(found.values())


def _spread(entry: Mapping[str, Any], source: Source, path: Steps, workload: Workload) -> list[Row]:
    here = source.at(path)
    try:
        outcome = Expectation.parse(entry["outcome"])
    except InputError as error:
        raise ScenarioError(error.message, place=source.at((*path, "outcome"))) from None
    answered_by = tuple(_texts(entry.get("answered_by", ())))
    for name in answered_by:
        _pod_of(name, workload, source.at((*path, "answered_by")))
    flow = FlowWish(**entry["flow"]) if "flow" in entry else None
    request = _request(entry.get("request", {}))
    rows = []
    for asking in _texts(entry["from"]):
        for asked in _texts(entry["to"]):
            pairs = [
                (one, other)
                for one in _fitting(asking, workload, source.at((*path, "from")))
                for other in _fitting(asked, workload, source.at((*path, "to")))
                if not ("*" in asking + asked and other.startswith(f"{one}:"))
            ]
            for one, other in pairs:
                destination = _check(one, other, workload, here)
                if answered_by and destination.protocol is Protocol.ICMP:
                    raise ScenarioError(
                        f"expected no answered_by with {destination}: echo replies do not say who sent them",
                        place=source.at((*path, "answered_by")),
                    )
                rows.append(Row(one, other, outcome, answered_by, flow, request, here))
    return rows


def _texts(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _request(entry: Mapping[str, Any]) -> Request:
    headers = tuple(sorted(entry.get("headers", {}).items()))
    return Request(**{**entry, "headers": headers})


def _fitting(text: str, workload: Workload, place: str) -> list[str]:
    """The pods that a pattern stands for, with its port; anything else as it is."""
    if "*" not in text:
        return [text]
    pattern, colon, port = text.partition(":")
    found = [f"{pod.key}{colon}{port}" for pod in workload.pods if fnmatchcase(pod.key, pattern)]
    if not found:
        raise ScenarioError(f"expected a pod that fits {pattern}, the workload has none", place=place)
    return found


def _check(asking: str, asked: str, workload: Workload, place: str) -> Destination:
    try:
        source = Target.parse(fill(asking, stand_in))
        destination = Destination.parse(fill(asked, stand_in))
    except InputError as error:
        raise ScenarioError(error.message, place=place) from None
    if source.kind not in _SOURCES:
        raise ScenarioError(f"expected a pod, node or world agent in from, got {source}", place=place)
    for target in (source, destination.target):
        if target.kind is TargetKind.POD and target.namespace not in SHARED:
            _pod_of(str(target), workload, place)
    target = destination.target
    known = {(service.namespace, service.name) for service in workload.services}
    ours = target.kind is TargetKind.SERVICE and target.namespace not in SHARED
    if ours and (target.namespace, target.name) not in known:
        names = ", ".join(sorted(f"svc:{namespace}/{name}" for namespace, name in known)) or "none"
        raise ScenarioError(f"expected a Service of the scenario ({names}), got {target}", place=place)
    return destination


def _pod_of(name: str, workload: Workload, place: str) -> None:
    known = [pod.key for pod in workload.pods]
    if name not in known:
        raise ScenarioError(f"expected a pod of the workload ({', '.join(known)}), got {name}", place=place)
