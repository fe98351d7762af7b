"""``*.scenario.yaml`` to scenarios; every error with the file and line it stands in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cilium_e2e.model import HarnessError, ScenarioError, Tier
from cilium_e2e.probe import Port
from cilium_e2e.repository.yamlfiles import Lines, parse, read_text, type_name
from cilium_e2e.scenario.fields import Path as Steps
from cilium_e2e.scenario.fields import WrongShape
from cilium_e2e.scenario.isolation import SHARED, isolate
from cilium_e2e.scenario.model import PodDecl, Scenario, ServiceDecl, Step, Workload, is_denial, name_of
from cilium_e2e.scenario.policyfiles import policy_declarations
from cilium_e2e.scenario.rows import read_rows
from cilium_e2e.scenario.schema import SCENARIO
from cilium_e2e.scenario.source import Source
from cilium_e2e.scenario.standard import standard_workload

SUFFIX = ".scenario.yaml"
_API_PORTS = range(1, 65536)


def load_scenarios(file: Path, *, place: str = "") -> tuple[Scenario, ...]:
    """All scenarios of a file, one a document.

    Args:
        file: the file.
        place: what it is called in messages; its path where empty.

    Raises:
        ScenarioError: it cannot be run as written; the message begins with ``file:line``.
        PolicyError: a policy in it, or in a file it names, is no object of its kind.
    """
    name = place or str(file)
    text = read_text(file, place=name, error=ScenarioError)
    documents = parse(text, place=name, error=ScenarioError, keep_empty=True)
    lines = Lines(text)
    found = [
        _scenario(document, Source(file, name, lines, number)) for number, document in enumerate(documents)
    ]
    if not found:
        raise ScenarioError("expected at least one scenario, the file is empty", place=name)
    for title, count in Counter(scenario.name for scenario in found).items():
        if count > 1:
            last = [scenario for scenario in found if scenario.name == title][-1]
            raise ScenarioError(
                f"expected a name once in a file, got {title!r} {count} times", place=last.place
            )
    return tuple(found)


def _scenario(data: Any, source: Source) -> Scenario:
    if data is None:
        raise ScenarioError("expected a scenario, the document is empty", place=source.at(()))
    if not isinstance(data, dict):
        raise ScenarioError(f"expected a mapping, got {type_name(data)}", place=source.at(()))
    try:
        SCENARIO.check(data, ())
    except WrongShape as wrong:
        where = ".".join(map(str, wrong.path))
        raise ScenarioError(
            f"{where}: {wrong.message}" if where else wrong.message, place=source.at(wrong.path)
        ) from None
    workload = _workload(data, source)
    isolated = data.get("mode", "isolated") == "isolated"
    first = _step(data, source, (), workload, name="as applied")
    steps = [
        _step(step, source, ("steps", place), workload, name=step.get("name", f"step {place + 1}"))
        for place, step in enumerate(data.get("steps", ()))
    ]
    every = (first, *steps)
    _in_order(every, [data.get("replace", ()) for data in ({}, *data.get("steps", ()))])
    if isolated:
        _confined(every, workload)
    requires = list(data.get("requires", ()))
    every_flow = data.get("flows", "wished") == "every"
    if every_flow:
        _witnessed(every, source)
    scenario = Scenario(
        name=data["name"],
        description=data.get("description", ""),
        workload=workload,
        steps=every,
        isolated=isolated,
        tier=Tier(data.get("tier", "quick")),
        tags=tuple(data.get("tags", ())),
        every_flow=every_flow,
        file=source.name,
        line=source.line(()),
    )
    if scenario.asks_for_flows:
        requires.append("hubble-relay")
    return replace(scenario, requires=tuple(dict.fromkeys(requires)))


def _witnessed(steps: tuple[Step, ...], source: Source) -> None:
    """Whether each denial gives its flow, and there is one.

    Raises:
        ScenarioError: it is not so.
    """
    denials = [row for step in steps for row in step.expect if is_denial(row.outcome)]
    if not denials:
        raise ScenarioError(
            "expected at least one denial, got none: it would pass without its policies",
            place=source.at(("flows",)),
        )
    for row in denials:
        if row.flow is None:
            raise ScenarioError(
                f"expected the flow of a denial, got none for {row.source} → {row.destination}",
                place=row.place,
                hint="Give verdict, reason and direction: a denial without its flow proves little.",
            )


def _workload(data: Mapping[str, Any], source: Source) -> Workload:
    labels: dict[str, dict[str, str]] = {name: dict(own) for name, own in data.get("namespaces", {}).items()}
    if "workload" not in data:
        standard = standard_workload()
        pods = standard.pods
        spaces = {name: {**own, **labels.get(name, {})} for name, own in standard.namespaces.items()}
    else:
        pods = tuple(_pod(entry, source, ("workload", place)) for place, entry in enumerate(data["workload"]))
        spaces = {pod.namespace: labels.get(pod.namespace, {}) for pod in pods}
    services = tuple(
        _service(entry, source, ("services", place)) for place, entry in enumerate(data.get("services", ()))
    )
    for place, service in enumerate(services):
        spaces.setdefault(service.namespace, labels.get(service.namespace, {}))
        if service.namespace not in {pod.namespace for pod in pods}:
            raise ScenarioError(
                f"expected the namespace of a pod, got {service.namespace}",
                place=source.at(("services", place, "namespace")),
            )
    for name, own in labels.items():
        spaces.setdefault(name, own)
    for key, count in Counter(pod.key for pod in pods).items():
        if count > 1:
            raise ScenarioError(
                f"expected a pod once, got {key} {count} times", place=source.at(("workload",))
            )
    return Workload(spaces, pods, services)


def _pod(entry: Mapping[str, Any], source: Source, path: Steps) -> PodDecl:
    ports = []
    for place, text in enumerate(entry.get("ports", ())):
        name, _, rest = text.rpartition("=")
        number, _, protocol = rest.partition("/")
        ports.append(Port(_number(number, source, (*path, "ports", place)), protocol, name))
    return PodDecl(
        name=entry["name"],
        namespace=entry["namespace"],
        labels=entry.get("labels", {}),
        ports=tuple(ports),
        service_account=entry.get("service_account", ""),
        node=str(entry.get("node", "")),
    )


def _service(entry: Mapping[str, Any], source: Source, path: Steps) -> ServiceDecl:
    ports, targets = [], {}
    for place, text in enumerate(entry["ports"]):
        numbers, _, protocol = text.partition("/")
        number, _, target = numbers.partition(":")
        own = _number(number, source, (*path, "ports", place))
        ports.append(Port(own, protocol))
        if target:
            targets[own] = _number(target, source, (*path, "ports", place))
    return ServiceDecl(
        entry["name"],
        entry["namespace"],
        entry["selector"],
        tuple(ports),
        targets,
        headless=entry.get("headless", False),
    )


def _number(text: str, source: Source, path: Steps) -> int:
    if int(text) not in _API_PORTS:
        raise ScenarioError(f"expected a port from 1 to 65535, got {text}", place=source.at(path))
    return int(text)


def _step(data: Mapping[str, Any], source: Source, path: Steps, workload: Workload, *, name: str) -> Step:
    key = "policies" if not path else "apply"
    applied = policy_declarations(data.get(key, ()), source, (*path, key))
    replaced = policy_declarations(data.get("replace", ()), source, (*path, "replace"))
    refused = data.get("refused", "")
    if refused and (data.get("expect") or not (applied or replaced)):
        raise ScenarioError(
            "expected policies and no expectations beside refused: what is refused does nothing",
            place=source.at((*path, "refused")),
        )
    pods = {pod.key for pod in workload.pods}
    relabel = {
        _known(entry["pod"], pods, source, (*path, "relabel", place, "pod")): entry["labels"]
        for place, entry in enumerate(data.get("relabel", ()))
    }
    spaces = {
        _known(
            entry["namespace"],
            set(workload.namespaces),
            source,
            (*path, "relabel_namespace", place, "namespace"),
        ): entry["labels"]
        for place, entry in enumerate(data.get("relabel_namespace", ()))
    }
    restart = tuple(
        _known(pod, pods, source, (*path, "restart", place))
        for place, pod in enumerate(data.get("restart", ()))
    )
    return Step(
        name=name,
        apply=(*applied, *replaced),
        delete=tuple(data.get("delete", ())),
        relabel=relabel,
        relabel_namespace=spaces,
        restart=restart,
        refused=refused,
        expect=read_rows(data.get("expect", ()), source, (*path, "expect"), workload),
        oracle=not refused and data.get("rest", "oracle") == "oracle",
        place=source.at(path),
    )


def _known(name: str, names: set[str], source: Source, path: Steps) -> str:
    if name not in names:
        raise ScenarioError(f"expected one of {', '.join(sorted(names))}, got {name}", place=source.at(path))
    return name


def _in_order(steps: tuple[Step, ...], replaced: list[Sequence[Any]]) -> None:
    """Whether what is deleted and replaced is there at that time, and what is applied is not.

    Raises:
        ScenarioError: it is not so.
    """
    in_force: set[str] = set()
    for step, replacing in zip(steps, replaced, strict=True):
        names = [name_of(policy.object) for policy in step.apply]
        new = names[: len(names) - len(replacing)]
        for name in step.delete:
            found = [known for known in in_force if name in (known, known.rpartition("/")[2])]
            if len(found) != 1:
                raise ScenarioError(
                    f"expected one of the policies in force ({', '.join(sorted(in_force)) or 'none'}), "
                    f"got {name!r}",
                    place=step.place,
                )
            in_force.discard(found[0])
        for name in names[len(new) :]:
            if name not in in_force:
                raise ScenarioError(f"expected a policy in force to replace, got {name}", place=step.place)
        if again := [name for name, count in Counter([*new, *in_force]).items() if count > 1]:
            raise ScenarioError(
                f"{', '.join(again)} is in force already", place=step.place, hint="Say replace for apply."
            )
        if not step.refused:
            in_force.update(new)


def _confined(steps: tuple[Step, ...], workload: Workload) -> None:
    """Whether every policy can be moved into a worker's namespaces.

    Raises:
        ScenarioError: one names something else; its place is the policy's.
    """
    same = {name: name for name in workload.namespaces}
    for step in steps:
        for policy in step.apply:
            try:
                isolate(policy.object, same, shared=SHARED)
            except HarnessError as error:
                raise ScenarioError(
                    f"{error.place}: {error.message}", place=policy.place, hint=error.hint
                ) from None
