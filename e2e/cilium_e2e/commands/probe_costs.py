"""What a probe costs on a live cluster: measured by batch and by exec, allowed and denied apart."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Cluster,
    ClusterStateError,
    Destination,
    Expectation,
    Object,
    Outcome,
    Probe,
    Protocol,
    Ref,
    StreamLost,
    Target,
)
from cilium_e2e.probe import (
    CONTAINER,
    ONCE_COMMAND,
    Answer,
    Port,
    decode,
    decode_outcomes,
    encode_batch,
    encode_probe,
)
from cilium_e2e.scenario import Check, PodSpec, deploy, enforce, judge, namespace

ALLOWED_PORT, DENIED_PORT = 8080, 8081
TIMEOUT_S = 1.0
"""How long each denied probe is silent, however it is made."""

_EXEC_TIMEOUT_S = 30.0
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Cost:
    """What one kind of probes took.

    Attributes:
        kind: ``allowed`` or ``denied``.
        way: ``batch`` or ``exec``.
        probes: how many.
        seconds: for all of them.
        wrong: each probe that came out otherwise, in words.
    """

    kind: str
    way: str
    probes: int
    seconds: float
    wrong: tuple[str, ...] = ()

    @property
    def each_s(self) -> float:
        """Seconds a probe."""
        return self.seconds / self.probes


def measure(cluster: Cluster, kube: Kube, *, image: str, probes: int, execs: int) -> list[Cost]:
    """Measure all four in a namespace that is gone afterwards.

    The batch's stream is open before the clock starts, as it is for every batch of a run but the first. An
    exec starts an agent's process, has it make one probe, and ends with it; one after the other.

    Raises:
        ClusterStateError: the agents do not reach each other without a policy, or an answer is lost.
    """
    with namespace(kube, f"ce2e-bench-{secrets.token_hex(2)}") as name:
        ports = (Port(ALLOWED_PORT), Port(DENIED_PORT))
        specs = [PodSpec("source", {"app": "source"}), PodSpec("target", {"app": "target"}, ports)]
        source, target = deploy(cluster, kube, name, specs, image=image)
        kinds = {
            "allowed": (ALLOWED_PORT, Expectation("connected")),
            "denied": (DENIED_PORT, Expectation("denied")),
        }

        def checks(port: int, expected: Expectation, count: int) -> list[Check]:
            destination = Destination(target, port, Protocol.TCP)
            return [
                Check(
                    Probe.to(source, destination, timeout_s=TIMEOUT_S, id=f"{port} number {number}"),
                    expected,
                    frozenset({str(target)}),
                )
                for number in range(count)
            ]

        # The positive control; it opens the stream, too.
        control = judge(cluster, [checks(p, Expectation("connected"), 1)[0] for p, _ in kinds.values()])
        if control.failures:
            raise ClusterStateError(
                f"without a policy: {'; '.join(map(str, control.failures))}", place=f"namespace {name}"
            )
        enforce(cluster, kube, _policy(name), [str(source), str(target)])
        costs = []
        prober = cluster.prober(source)
        for kind, (port, expected) in kinds.items():
            batch = checks(port, expected, probes)
            costs.append(
                _timed(cluster, kind, "batch", batch, lambda found: prober.run([c.probe for c in found]))
            )
        address = _address(kube, target)
        for kind, (port, expected) in kinds.items():
            single = checks(port, expected, execs)
            costs.append(_timed(cluster, kind, "exec", single, lambda found: _by_exec(kube, found, address)))
        return costs


def report(costs: Sequence[Cost], *, aim: float) -> list[str]:
    """The costs in words, with the ratios, and whether both reach the aim."""
    lines: list[str] = []
    reached = True
    for kind in dict.fromkeys(cost.kind for cost in costs):
        batch = next(cost for cost in costs if (cost.kind, cost.way) == (kind, "batch"))
        single = next(cost for cost in costs if (cost.kind, cost.way) == (kind, "exec"))
        ratio = single.each_s / batch.each_s
        reached = reached and ratio >= aim
        lines.append(
            f"{kind}: {batch.probes:,} in one batch on an open stream {batch.seconds:.2f} s, "
            f"{batch.each_s * 1000:.2f} ms a probe; {single.probes:,} by one exec each, one after the other, "
            f"{single.seconds:.2f} s, {single.each_s * 1000:.1f} ms a probe: ×{ratio:,.0f}"
        )
    for cost in costs:
        lines += [f"wrong, {cost.kind} by {cost.way}: {text}" for text in cost.wrong[:_SHOWN]]
        if len(cost.wrong) > _SHOWN:
            lines.append(f"wrong, {cost.kind} by {cost.way}: and {len(cost.wrong) - _SHOWN:,} more")
    if any(cost.wrong for cost in costs):
        lines.append("some probes had the wrong outcome: the figures mean nothing")
    else:
        lines.append(f"the aim of ×{aim:,.0f} for both is {'reached' if reached else 'not reached'}")
    return lines


def _timed(
    cluster: Cluster,
    kind: str,
    way: str,
    checks: Sequence[Check],
    ask: Callable[[Sequence[Check]], list[Outcome]],
) -> Cost:
    start = cluster.clock.monotonic()
    outcomes = ask(checks)
    seconds = cluster.clock.monotonic() - start
    wrong = [
        f"{check.probe.id}: expected {check.expected}, seen {outcome}"
        for check, outcome in zip(checks, outcomes, strict=True)
        if not check.met_by(outcome)
    ]
    return Cost(kind, way, len(checks), seconds, tuple(wrong))


def _by_exec(kube: Kube, checks: Sequence[Check], address: str) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for check in checks:
        probe = check.probe
        line = encode_batch(1, [encode_probe(probe, host=address, agent=True)])
        ref = Ref("v1", "Pod", probe.source.name, probe.source.namespace)
        done = kube.run(ref, [*ONCE_COMMAND, line], container=CONTAINER, timeout_s=_EXEC_TIMEOUT_S)
        answer = decode(done.stdout)
        if not isinstance(answer, Answer) or answer.error:
            raise StreamLost(f"expected the outcome of one probe, got {answer}", place=str(ref))
        outcomes += decode_outcomes(answer, [probe])
    return outcomes


def _address(kube: Kube, target: Target) -> str:
    found = kube.get(Ref("v1", "Pod", target.name, target.namespace))
    return str(found["status"]["podIP"])


def _policy(name: str) -> Object:
    """The target takes one port from the source, and nothing else."""
    ports = [{"ports": [{"port": str(ALLOWED_PORT), "protocol": "TCP"}]}]
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "bench", "namespace": name},
        "spec": {
            "endpointSelector": {"matchLabels": {"app": "target"}},
            "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "source"}}], "toPorts": ports}],
        },
    }
