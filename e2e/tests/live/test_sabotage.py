"""A running cluster is sabotaged, one way a test; the check fails with a message that names the cause.

Needs a cluster of ``cilium-e2e run --keep-cluster --cluster-name NAME`` with at least two nodes, on this
machine's engine, that nobody else is using::

    CILIUM_E2E_LIVE="..." CILIUM_E2E_CLUSTER=NAME pytest -n 0 e2e/tests/live/test_sabotage.py

The name is also taken from a ``--cluster-name`` in CILIUM_E2E_LIVE. Every test undoes what it did, also
when it fails, and waits until the cluster is well again before the next begins; where that wait fails it says
what is still broken.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shlex
import time
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from filelock import ReadWriteLock

from cilium_e2e.cluster.diagnosis import Suspects, diagnose
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.model import (
    ClusterStateError,
    Destination,
    EnforcementNotProven,
    Expectation,
    OutcomeKind,
    PatchType,
    Probe,
    Protocol,
    Ref,
    Target,
)
from cilium_e2e.probe import CONTAINER, Port
from cilium_e2e.scenario import Check, Lab, PodSpec, deploy, namespace
from cilium_e2e.session import Handle, Options
from cilium_e2e.session.attach import attach
from cilium_e2e.session.options import default_state
from cilium_e2e.session.registry import Registry

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif("CILIUM_E2E_LIVE" not in os.environ, reason="CILIUM_E2E_LIVE is not set"),
]

PORT = 8080
WELL_WITHIN_S = 240.0
VXLAN = ("INPUT", "-p", "udp", "--dport", "8472", "-j", "DROP")
CONNECTED, DENIED = Expectation("connected"), Expectation("denied")
# Ends every process of the container whose command line ends in "batch": those that serve exec streams.
CUT = """
import os, signal
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        words = open(f"/proc/{pid}/cmdline").read().split(chr(0))
    except OSError:
        continue
    if "batch" in words and int(pid) != os.getpid():
        os.kill(int(pid), signal.SIGKILL)
        print(pid)
"""


def cluster_name():
    words = shlex.split(os.environ.get("CILIUM_E2E_LIVE", ""))
    named = [b for a, b in itertools.pairwise(words) if a == "--cluster-name"]
    named += [word.partition("=")[2] for word in words if word.startswith("--cluster-name=")]
    return os.environ.get("CILIUM_E2E_CLUSTER") or (named[0] if named else "")


@dataclass
class Place:
    """The cluster, one agent pod on a control plane and one on a worker, and the worker's name."""

    cluster: object
    handle: Handle
    engine: Engine
    namespace: str
    near: Target
    far: Target
    worker: str

    @property
    def kube(self):
        return self.cluster.api

    def lab(self):
        return Lab(self.cluster, self.kube, image=self.handle.agent_image)

    def check(self, expected=CONNECTED, *, source=None, target=None):
        destination = Destination(target or self.far, PORT, Protocol.TCP)
        return Check(Probe.to(source or self.near, destination), expected)

    def wait_well(self):
        """Until nothing is wrong with the cluster any more, and its pods reach each other."""
        deadline = time.monotonic() + WELL_WITHIN_S
        # Restarts lie in the past of a time to come, so that only what is broken now counts.
        suspects = Suspects(time.time() + 86400, pods=frozenset({str(self.near), str(self.far)}))
        while True:
            found = diagnose(self.kube, self.cluster.agents, suspects)
            if not found.findings and not found.unanswered:
                break
            assert time.monotonic() < deadline, "\n".join(["still broken:", *found.lines()])
            self.cluster.clock.sleep(1.0)
        self.lab().judge([self.check(), self.check(source=self.far, target=self.near)], converge_s=60.0)


@pytest.fixture(scope="module")
def place():
    name = cluster_name()
    assert name, "name the cluster: CILIUM_E2E_CLUSTER=NAME"
    record = Registry(default_state()).find(name)
    assert record is not None, f"no cluster {name} in {default_state()}: run with --keep-cluster before"
    assert record.handle, f"cluster {name} never became ready"
    handle = Handle.from_data(record.handle)
    roles = {node.role: node.name for node in reversed(handle.info.nodes)}
    assert "worker" in roles, f"cluster {name} has no worker"
    with ReadWriteLock(handle.lock).write_lock():
        cluster, engine = attach(handle, Options()), Engine()
        try:
            with namespace(cluster.api, f"ce2e-sabotage-{secrets.token_hex(2)}") as own:
                ports = (Port(PORT, "TCP"),)
                near, far = deploy(
                    cluster,
                    cluster.api,
                    own,
                    [
                        PodSpec("near", {"app": "near"}, ports, roles["control-plane"]),
                        PodSpec("far", {"app": "far"}, ports, roles["worker"]),
                    ],
                    image=handle.agent_image,
                )
                yield Place(cluster, handle, engine, own, near, far, roles["worker"])
        finally:
            cluster.close()
            engine.close()


@pytest.fixture(autouse=True)
def well(place):
    """The cluster is well before each test, and again after it."""
    place.wait_well()
    yield
    place.wait_well()


@contextmanager
def scaled_to_zero(place, name, where, selector):
    """A Deployment without pods for a block; its replicas come back."""
    ref = Ref("apps/v1", "Deployment", name, where)
    before = place.kube.get(ref)["spec"].get("replicas", 1)
    assert before, f"{ref} has no replicas to begin with"

    def scale(number):
        body = {"spec": {"replicas": number}}
        place.kube.retry(lambda: place.kube.transport.patch(ref, body, patch_type=PatchType.MERGE))

    scale(0)
    try:
        place.kube.wait(
            Ref("v1", "Pod", namespace=where),
            lambda found: None if found else True,
            label_selector=selector,
            timeout_s=90.0,
            what="no pod to be left",
        )
        yield
    finally:
        scale(before)


def policy(place):
    """Nobody reaches the far pod."""
    return {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "deny", "namespace": place.namespace},
        "spec": {"endpointSelector": {"matchLabels": {"app": "far"}}, "ingress": [{}]},
    }


def failure(lab, check, *, converge_s=5.0):
    with pytest.raises(AssertionError) as caught:
        lab.judge([check], converge_s=converge_s)
    assert lab.evidence.notes["diagnosis"]
    return str(caught.value)


def test_a_policy_deleted_behind_the_runs_back(place):
    lab, deny = place.lab(), policy(place)
    deleted = f"CiliumNetworkPolicy {place.namespace}/deny was deleted behind the run's back"
    with lab.in_force([deny], [place.far]):
        lab.judge([place.check(DENIED)])
        place.kube.delete(Ref.of(deny))
        assert f"likely cause: policy gone or changed: {deleted}" in failure(lab, place.check(DENIED))
        with pytest.raises(EnforcementNotProven, match="not under the policies") as caught:
            lab.judge([place.check(CONNECTED)])
        assert deleted in str(caught.value)


def test_a_policy_changed_behind_the_runs_back(place):
    lab, deny = place.lab(), policy(place)
    with lab.in_force([deny], [place.far]):
        body = {"spec": {"ingress": [{"fromEntities": ["all"]}]}}
        place.kube.transport.patch(Ref.of(deny), body, patch_type=PatchType.MERGE)
        text = failure(lab, place.check(DENIED))
        assert f"{place.namespace}/deny was changed behind the run's back (generation 1 became 2)" in text


def test_a_node_that_is_paused(place):
    lab = place.lab()
    place.engine.pause(place.worker)
    try:
        text = failure(lab, place.check(), converge_s=16.0)
        assert any(f"{words} {place.worker}" in text for words in ("node down: node", "the agent on node")), (
            text
        )
        with (
            pytest.raises(EnforcementNotProven) as caught,
            lab.in_force([policy(place)], [place.far], timeout_s=1.0),
        ):
            pytest.fail("a frozen node cannot be shown to enforce anything")
        assert place.worker in str(caught.value)
    finally:
        place.engine.unpause(place.worker)


def test_relay_scaled_to_zero(place):
    if "hubble-relay" not in place.handle.info.features:
        pytest.skip("the release has no Hubble relay")
    lab = place.lab()
    lab.flows(lab.judge([place.check()]))
    with scaled_to_zero(place, "hubble-relay", place.handle.info.cilium_namespace, "k8s-app=hubble-relay"):
        judgement = lab.judge([place.check()])
        with pytest.raises(ClusterStateError) as caught:
            lab.flows(judgement)
        text = str(caught.value)
        assert "likely cause: Hubble relay down: Deployment" in text
        assert "is scaled to zero" in text


def test_the_tunnel_between_nodes_drops(place):
    status = place.cluster.agents.each(place.cluster.agents.status)[0]
    if (status.routing, status.tunnel_protocol) != ("Tunnel", "vxlan"):
        pytest.skip(f"routing is {status.routing} {status.tunnel_protocol}, not a VXLAN tunnel")
    place.engine.execute(place.worker, ["iptables", "-w", "-I", *VXLAN])
    try:
        text = failure(place.lab(), place.check())
        assert "node-to-node network broken: node" in text
        assert f"reaches node {place.worker} itself but not its health endpoint" in text
    finally:
        place.engine.execute(place.worker, ["iptables", "-w", "-D", *VXLAN])


def test_cluster_dns_scaled_to_zero(place):
    lab = place.lab()
    name = Destination(Target.dns("kubernetes.default.svc.cluster.local"), 443, Protocol.TCP)
    by_name = Check(Probe.to(place.near, name, timeout_s=3.0), CONNECTED)
    lab.judge([by_name])
    with scaled_to_zero(place, "coredns", "kube-system", "k8s-app=kube-dns"):
        text = failure(lab, by_name)
        assert "likely cause: cluster DNS down: Deployment kube-system/coredns is scaled to zero" in text


def test_a_cilium_agent_killed(place):
    """What is enforced stays so without an agent; what is new cannot be proven, and the agent is named."""
    lab = place.lab()
    # By its node, where its process has that name; not every node image has the runtime's command line.
    place.engine.execute(place.worker, ["pkill", "-KILL", "-x", "cilium-agent"])
    with (
        pytest.raises(EnforcementNotProven) as caught,
        lab.in_force([policy(place)], [place.far], timeout_s=1.0),
    ):
        pytest.fail("an agent that is starting cannot have shown anything")
    assert f"likely cause: Cilium agent down: the agent on node {place.worker}" in str(caught.value)
    lab.judge([place.check()])


def cut(place, pod):
    words = ["python3", "-c", CUT]
    return place.kube.run(
        Ref("v1", "Pod", pod.name, pod.namespace), words, container=CONTAINER
    ).stdout.split()


def test_an_exec_stream_cut_once_is_opened_anew_and_told(place):
    lab = place.lab()
    lab.judge([place.check()])
    before = place.cluster.prober(place.near).reopened
    assert cut(place, place.near), "there was a stream to cut"
    lab.judge([place.check()])
    assert place.cluster.prober(place.near).reopened == before + 1
    assert lab.evidence.notes["streams lost and opened anew"] == f"{place.near}: 1 times"


def test_a_probe_agent_that_is_gone_is_no_denial(place):
    lab = place.lab()
    (gone,) = deploy(
        place.cluster,
        place.kube,
        place.namespace,
        [PodSpec("gone", {"app": "gone"}, (Port(PORT, "TCP"),), place.worker)],
        image=place.handle.agent_image,
    )
    denied = place.check(DENIED, source=gone)
    ref = Ref("v1", "Pod", gone.name, gone.namespace)
    lab.judge([place.check(source=gone)])
    place.kube.delete(ref, grace_period_s=0)
    place.kube.wait(ref, lambda found: None if found else True, timeout_s=60.0, what="it to be gone")
    text = failure(lab, denied, converge_s=30.0)  # its container may outlive it by a moment
    assert f"likely cause: probe agent down: pod {gone} does not exist" in text
    assert lab.evidence.checks[-1].outcome.kind is OutcomeKind.INFRA_ERROR
