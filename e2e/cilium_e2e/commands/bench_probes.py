"""``cilium-e2e bench probes``: a probe in a batch against one by an exec of its own, on a live cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    ClusterInfo,
    ClusterStateError,
    InputError,
    Ref,
    Revision,
)

if TYPE_CHECKING:
    # The action's class is private, and generic for type checkers only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001
    from cilium_e2e.cluster.live import LiveCluster

DESCRIPTION = """\
Deploy two agents in a namespace of their own, put a policy into force that denies one of two ports, and
measure in one run what a probe costs: many in one batch on an open stream, against some by one exec each.
Allowed and denied probes are measured apart. Exit code 1 when a probe had the wrong outcome.
"""
AIM = 100.0
"""How many times cheaper a probe in a batch is to be."""


def add_arguments(subparsers: Subparsers) -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "probes", help="probes in a batch and by exec, on a running cluster", description=DESCRIPTION
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--cluster-name", metavar="NAME", help="a cluster that a run has kept")
    where.add_argument("--kubeconfig", metavar="FILE", help="any cluster with Cilium on it")
    parser.add_argument("--context", default="", metavar="NAME", help="the kubeconfig's context")
    parser.add_argument("--agent-image", metavar="IMAGE", help="a Python image (default: as a run has it)")
    parser.add_argument("--probes", type=_positive, default=1000, help="probes in a batch (default: 1000)")
    parser.add_argument("--execs", type=_positive, default=30, help="probes by one exec each (default: 30)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0, or 1 when a probe had the wrong outcome.

    Raises:
        InputError: there is no such cluster, or no access to it.
        ClusterStateError: the workload does not come up, or the policy is not enforced.
    """
    # They import the clients of Kubernetes and Hubble; the rest of the command line does without.
    from cilium_e2e.commands.probe_costs import measure, report  # noqa: PLC0415

    with _connected(args) as (cluster, image):
        costs = measure(cluster, cluster.api, image=image, probes=args.probes, execs=args.execs)
    sys.stdout.write("\n".join(report(costs, aim=AIM)) + "\n")
    return 1 if any(cost.wrong for cost in costs) else 0


@contextmanager
def _connected(args: argparse.Namespace) -> Iterator[tuple[LiveCluster, str]]:
    """The cluster, and the agents' image there."""
    from cilium_e2e.session import Handle, Options  # noqa: PLC0415 - see run()
    from cilium_e2e.session.attach import attach  # noqa: PLC0415 - see run()
    from cilium_e2e.session.options import default_state  # noqa: PLC0415 - see run()
    from cilium_e2e.session.registry import Registry  # noqa: PLC0415 - see run()

    if args.kubeconfig is not None:
        with closing(_existing(Path(args.kubeconfig), args.context)) as cluster:
            yield cluster, args.agent_image or Options().agent_image
        return
    registry = Registry(default_state())
    record = registry.find(args.cluster_name)
    if record is None or not record.handle:
        ready = ", ".join(found.name for found in registry.records() if found.handle) or "none"
        raise InputError(
            f"expected a cluster that a run has kept, one of: {ready}",
            place=f"--cluster-name {args.cluster_name}",
            hint="Keep one with: cilium-e2e run --keep-cluster --cluster-name NAME",
        )
    with registry.claim(record.name):
        handle = Handle.from_data(record.handle)
        with closing(attach(handle, Options())) as cluster:
            yield cluster, args.agent_image or handle.agent_image


def _existing(kubeconfig: Path, context: str) -> LiveCluster:
    """A cluster about which nothing is known but its kubeconfig."""
    from cilium_e2e.cluster.agents import AGENT_SELECTOR  # noqa: PLC0415 - see run()
    from cilium_e2e.cluster.live import LiveCluster  # noqa: PLC0415 - see run()
    from cilium_e2e.kube import Kube  # noqa: PLC0415 - see run()
    from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - see run()

    transport = LiveTransport(kubeconfig, context=context)
    agents = Kube(transport).list_all(Ref("v1", "Pod"), label_selector=AGENT_SELECTOR)
    namespaces = sorted({pod["metadata"]["namespace"] for pod in agents})
    if len(namespaces) != 1:
        transport.close()
        raise ClusterStateError(
            f"expected Cilium's agents ({AGENT_SELECTOR}) in one namespace, found them in: "
            f"{', '.join(namespaces) or 'none'}",
            place=f"--kubeconfig {kubeconfig}",
        )
    info = ClusterInfo(
        name=context or kubeconfig.name,
        backend=Backend.EXISTING,
        topology="as it is",
        nodes=(),
        release="",
        cilium_namespace=namespaces[0],
    )
    return LiveCluster(info, transport, publisher=_publishes_nothing)


def _publishes_nothing() -> Revision:
    raise BackendUnavailable("a benchmark publishes no tree", place="bench probes")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return number
