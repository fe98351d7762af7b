"""A simulated cluster as the place of a run: from its input to ready, marked as what it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cilium_e2e.cluster.simulated import Simulation
from cilium_e2e.kube import Kube
from cilium_e2e.model import (
    Backend,
    BackendUnavailable,
    InputError,
    KubeError,
    PatchType,
    Ref,
    Target,
)
from cilium_e2e.probe import Port
from cilium_e2e.scenario import PodSpec, deploy, enforce, namespace
from cilium_e2e.session import Handle, Options, choice, start
from cilium_e2e.session.choice import attach
from cilium_e2e.session.simulated import SimulatedSession

ROOT = Path(__file__).parents[3]
HELM = "helm.toolkit.fluxcd.io/v2"


@pytest.fixture(scope="module")
def made():
    said = []
    options = Options(backend="simulated", repository=ROOT)
    session = SimulatedSession(options, said.append)
    handle = session.start()
    cluster = attach(handle, options)
    yield handle, cluster, said
    cluster.close()
    session.stop()


def test_it_says_what_it_is(made):
    handle, _, said = made
    assert said[0].startswith("backend: simulated (asked for): no packet is sent")
    assert handle.info.backend is Backend.SIMULATED
    assert Handle.from_data(handle.to_data()) == handle
    assert [node.role for node in handle.info.nodes] == ["control-plane", "worker", "worker"]
    assert {agent.name for agent in handle.info.world} == {"one", "two"}
    assert dict(handle.info.host_agents).keys() == {node.name for node in handle.info.nodes}
    left_out = [one for one in handle.info.differences if one.instead == "left out"]
    assert [(one.what, one.origin) for one in left_out] == [
        ("Kustomization flux-system/gateway-api", "the simulated cluster")
    ]


@pytest.mark.parametrize(
    "topology", [file.parent.name for file in sorted(ROOT.glob("clusters/*/topology.yaml"))]
)
def test_every_topology_comes_up(topology):
    """One node alone runs everything, control plane or not, as kind has it."""
    session = SimulatedSession(
        Options(backend="simulated", repository=ROOT, topology=topology), lambda _: None
    )
    try:
        handle = session.start()
    finally:
        session.stop()
    assert handle.info.topology == topology
    assert dict(handle.info.host_agents).keys() == {node.name for node in handle.info.nodes}


def test_flux_has_installed_the_tree(made):
    _, cluster, _ = made
    release = cluster.api.get(Ref(HELM, "HelmRelease", "cilium", "cilium"))
    assert release["status"]["history"][0]["chartVersion"] == "1.18.12"
    assert cluster.api.get(Ref("cilium.io/v2", "CiliumNetworkPolicy", "demo-policy", "default"))
    assert cluster.publish().digest.startswith("sha256:")


def test_a_policy_is_enforced_only_after_a_while_and_one_that_is_wrong_never(made):
    _, cluster, _ = made
    policy = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": "p"},
        "spec": {"endpointSelector": {}, "ingress": [{}]},
    }
    with namespace(cluster.api, "own") as name:
        (pod,) = deploy(cluster, cluster.api, name, [PodSpec("a", {}, (Port(80),))], image="python:x")
        policy["metadata"]["namespace"] = name
        _, proof = enforce(cluster, cluster.api, policy, [str(pod)])
        assert 0.1 < proof.realized_s < 2
        bad = {**policy, "spec": {"endpointSelector": {}, "ingress": [{"fromCIDR": ["10.0.0.0/99"]}]}}
        with pytest.raises(KubeError, match="must be of type cidr") as caught:
            cluster.api.apply(bad)
        assert caught.value.status == 422
        with pytest.raises(InputError):
            cluster.prober(Target.parse("dns:nowhere")).run([])


def test_two_clusters_of_the_same_input_are_alike(made):
    _, cluster, _ = made
    repository = cluster._publisher.__self__.simulation.tree.repository
    states = []
    for _ in range(2):
        simulation = Simulation("same", repository, repository.topology)
        kube = Kube(simulation.transport, clock=simulation.clock)
        simulation.clock.sleep(5)
        found = kube.list_all(Ref("v1", "Pod"))
        states.append([(p["metadata"]["name"], p["metadata"]["uid"], p["status"]) for p in found])
    assert states[0] == states[1]
    assert states[0]


def test_a_release_that_cannot_be_installed_is_told_in_fluxs_words(tmp_path):
    values = tmp_path / "values.yaml"
    values.write_text("operator: {replicas: many}\n")
    with pytest.raises(InputError, match=r"operator\.replicas"):
        SimulatedSession(Options(backend="simulated", repository=ROOT, values=(values,)), print).start()


@pytest.fixture
def no_engine(monkeypatch):
    def nobody(options):
        raise BackendUnavailable("no container engine answers", place="backend kind")

    monkeypatch.setattr(start, "choose_backend", nobody)
    monkeypatch.delenv("CI", raising=False)


def test_auto_without_an_engine_is_simulated_and_says_why(no_engine):
    said = []
    session = choice.session_for(Options(backend="auto", repository=ROOT), said.append)
    assert isinstance(session, SimulatedSession)
    session.start()
    session.stop()
    assert said[0].startswith("backend: simulated (no container engine answers)")


def test_auto_in_ci_never_simulates(no_engine, monkeypatch):
    monkeypatch.setenv("CI", "true")
    session = choice.session_for(Options(backend="auto", repository=ROOT), print)
    assert isinstance(session, start.KindSession)
    with pytest.raises(BackendUnavailable) as caught:
        session.start()
    assert caught.value.exit_code == 4


def test_a_backend_that_is_named_is_never_replaced(no_engine):
    assert isinstance(choice.session_for(Options(backend="kind", repository=ROOT), print), start.KindSession)


@pytest.mark.parametrize("backend", ["auto", "kind", "existing"])
def test_faults_are_for_simulated_clusters(backend):
    with pytest.raises(InputError, match="faults are for a simulated cluster"):
        choice.session_for(Options(backend=backend, inject="dns-failing"), print)


def test_an_unknown_fault_is_told_before_anything_is_made():
    with pytest.raises(InputError, match=r"--inject sloth: expected one of policy-not-enforced, "):
        SimulatedSession(Options(backend="simulated", repository=ROOT, inject="sloth"), print).start()


def test_it_imports_no_client_of_a_real_cluster():
    program = """
import sys
from pathlib import Path
from cilium_e2e.plugin import fixtures, lifecycle, reporting, requirements, exclusive
from cilium_e2e.session import Options, choice
from cilium_e2e.session.choice import attach
options = Options(backend="simulated", repository=Path(sys.argv[1]))
session = choice.session_for(options, print)
choice.import_clients(session.backend)
cluster = attach(session.start(), options)
cluster.relay().status()
cluster.close()
session.stop()
print("imported:", sorted({"kubernetes", "docker", "grpc"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT)], capture_output=True, text=True, check=True, timeout=100
    )
    assert "imported: []" in done.stdout, done.stdout


def test_who_waits_for_a_real_cluster_imports_its_clients():
    program = """
import sys
from cilium_e2e.model import Backend
from cilium_e2e.session import choice
choice.import_clients(Backend.KIND)
before = set(sys.modules)
from cilium_e2e.kube.live import LiveTransport
from cilium_e2e.session.attach import attach
left = {name for name in set(sys.modules) - before if not name.startswith("cilium_e2e")}
print("left to import:", sorted(left))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=100
    )
    assert "left to import: []" in done.stdout, done.stdout


def test_a_label_change_is_a_new_identity_after_a_while(made):
    _, cluster, _ = made
    with namespace(cluster.api, "labels") as name:
        (pod,) = deploy(cluster, cluster.api, name, [PodSpec("a", {"app": "a"})], image="python:x")

        def identity():
            return next(e.identity for e in cluster.endpoints() if e.name == str(pod))

        before = identity()
        body = {"metadata": {"labels": {"app": "b"}}}
        cluster.kube.patch(Ref("v1", "Pod", "a", name), body, patch_type=PatchType.MERGE)
        assert identity() == before
        cluster.clock.sleep(1)
        assert identity().number != before.number
        assert "k8s:app=b" in identity().labels
