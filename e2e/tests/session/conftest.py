"""A small tree to prepare, and everything a kind session touches, recorded instead of done."""

from __future__ import annotations

import dataclasses
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from cilium_e2e.cluster import outside_zone
from cilium_e2e.cluster.engine import NodeContainer
from cilium_e2e.model import KubeError, ObjectList, WorldAgent
from cilium_e2e.session import Options, attach, existing, install, prepare, start, teardown

FILES = {
    "manifests/flux-system/kustomization.yaml": """\
        apiVersion: kustomize.config.k8s.io/v1beta1
        kind: Kustomization
        resources: [cilium.yaml, outside.yaml]
        """,
    "manifests/flux-system/cilium.yaml": """\
        apiVersion: source.toolkit.fluxcd.io/v1
        kind: HelmRepository
        metadata: {name: cilium, namespace: cilium}
        spec: {interval: 24h, url: "https://charts.example/"}
        ---
        apiVersion: helm.toolkit.fluxcd.io/v2
        kind: HelmRelease
        metadata: {name: cilium, namespace: cilium}
        spec:
          interval: 30m
          chart:
            spec:
              chart: cilium
              version: 1.18.4
              sourceRef: {kind: HelmRepository, name: cilium}
          values:
            hubble: {relay: {enabled: true}}
        """,
    "manifests/flux-system/outside.yaml": """\
        apiVersion: source.toolkit.fluxcd.io/v1
        kind: GitRepository
        metadata: {name: outside, namespace: flux-system}
        spec: {interval: 24h, url: "https://git.example/outside"}
        ---
        apiVersion: kustomize.toolkit.fluxcd.io/v1
        kind: Kustomization
        metadata: {name: outside, namespace: flux-system}
        spec:
          interval: 24h
          prune: false
          path: ./crd
          sourceRef: {kind: GitRepository, name: outside}
        """,
    "clusters/default/topology.yaml": """\
        description: two nodes
        tier: quick
        capabilities: [multi-node]
        """,
    "clusters/default/kind.yaml": """\
        kind: Cluster
        apiVersion: kind.x-k8s.io/v1alpha4
        networking: {disableDefaultCNI: true, kubeProxyMode: none}
        nodes:
          - role: control-plane
            extraMounts: [{hostPath: ./extra.conf, containerPath: /extra.conf}]
          - role: worker
        """,
    "clusters/default/extra.conf": "",
    "chart/Chart.yaml": "{apiVersion: v2, name: cilium, version: 1.18.9, appVersion: 1.18.9}\n",
    "chart/values.yaml": "image: {repository: r.example/cilium, tag: v1.18.9, useDigest: true, digest: d}\n",
    "crds/kustomization.yaml": "{apiVersion: kustomize.config.k8s.io/v1beta1, kind: Kustomization}\n",
    "flux.yaml": "---\n".join(
        "apiVersion: apps/v1\nkind: Deployment\n"
        f"metadata: {{name: {name}, namespace: flux-system}}\n"
        f"spec: {{template: {{spec: {{containers: [{{name: m, image: 'flux.example/{name}:v1'}}]}}}}}}\n"
        for name in ("source-controller", "kustomize-controller", "helm-controller")
    ),
}


@pytest.fixture(scope="session")
def written() -> Callable[[Path], Path]:
    """Writes the tree into a folder."""
    from textwrap import dedent  # noqa: PLC0415 - beside its only use

    def write(root: Path) -> Path:
        for name, text in FILES.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text), encoding="utf-8")
        return root

    return write


@pytest.fixture
def tree(tmp_path: Path, written) -> Path:
    """The tree, for one test to spoil."""
    return written(tmp_path / "tree")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, written) -> prepare.Prepared:
    """The tree, prepared once."""
    root = written(tmp_path_factory.mktemp("session") / "tree")
    return prepare.prepare(
        Options(
            repository=root,
            flux_manifest=str(root / "flux.yaml"),
            chart=root / "chart",
            external={"flux-system/outside": str(root / "crds")},
        )
    )


LOADS = ("flux", "cilium", "agent")


@dataclass
class World:
    """What happened, in order; ``fails`` says which step raises what, ``gates`` which load waits for what.

    A load that waits gives up when it is told to stop, as the real one does.
    """

    log: list[str] = field(default_factory=list)
    fails: dict[str, BaseException | Callable[[], object]] = field(default_factory=dict)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    clusters: list[str] = field(default_factory=list)
    containers: list[str] = field(default_factory=list)
    nodes: list[NodeContainer] = field(default_factory=list)
    images: set[str] = field(default_factory=set)
    loaded: list[str] = field(default_factory=list)
    served: dict[str, bytes] = field(default_factory=dict)
    host: dict[str, object] = field(default_factory=dict)
    kind_config: str = ""
    plan: object = None
    again: bool | None = None
    release: dict | None = None
    unready: set[str] = field(default_factory=set)
    mine: str = "ce2e-test"
    engine: type | None = None
    agents: tuple = (WorldAgent("one", ("172.18.0.101",)), WorldAgent("two", ("172.18.0.102",)))
    world_of: tuple = ()
    forwarded: tuple = ()
    check: Callable[[], None] | None = None
    idle: threading.Event = field(default_factory=threading.Event)

    def step(self, name: str) -> None:
        self.log.append(name)
        failure = self.fails.get(name)
        if callable(failure):
            failure()
        elif failure is not None:
            raise failure

    def load(self, engine, cluster, images, *, stop: threading.Event) -> None:
        name = LOADS[sum(step.startswith("load ") for step in self.log) % len(LOADS)]
        try:
            self.step(f"load {name}")
            gate = self.gates.get(name)
            while gate is not None and not gate.wait(0.005):
                if stop.is_set():
                    self.log.append(f"stopped {name}")
                    return
            self.loaded += images
            self.log.append(f"loaded {name}")
        finally:
            if name == "agent" or stop.is_set():
                self.idle.set()


def _node(name: str, *labels: str) -> dict:
    return {
        "metadata": {"name": name, "labels": dict.fromkeys(labels, "")},
        "status": {
            "conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [
                {"type": "InternalIP", "address": "10.0.0.2"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1"},
        },
    }


@pytest.fixture
def world(monkeypatch, prepared) -> World:  # noqa: C901 - many small fakes
    """The names that a kind session uses, replaced by recorders."""
    made = World(
        images={"r.example/cilium:v1.18.9", "flux.example/helm-controller:v1"},
        host={"CgroupVersion": "2", "KernelVersion": "6.8.0"},
    )
    step = made.step

    class Engine:
        version = "99.1"
        local = False

        def __init__(self):
            step("engine")

        def info(self):
            step("info")
            return made.host

        def nodes(self, cluster):
            if cluster not in made.clusters:
                return list(made.nodes)
            return [
                NodeContainer(f"{cluster}-control-plane", "control-plane"),
                NodeContainer(f"{cluster}-worker", "worker"),
            ]

        def has_image(self, image):
            return image in made.images

        def ours(self, cluster):
            step("ours")
            return list(made.containers)

        def remove(self, container):
            step(f"remove {container}")

        def close(self):
            step("engine closed")

    class KindCluster:
        def __init__(self, name, *, state, image=None, kind_path=None):
            state.mkdir(parents=True, exist_ok=True)
            self.name, self.image, self.kind_path, self.path = name, image, kind_path, state
            self.kubeconfig_path = state / f"{name}.kubeconfig"

        def ensure_kind(self):
            step("ensure kind")

        def names(self):
            step("names")
            return made.clusters

        def create(self, config_file):
            made.kind_config = config_file.read_text()
            step("create")
            made.clusters.append(self.name)

        def delete(self):
            step("delete" if self.name == made.mine else f"delete {self.name}")
            if self.name in made.clusters:
                made.clusters.remove(self.name)

    class ArtifactServer:
        def __init__(self, engine, cluster, *, image):
            self.address = f"{cluster}-artifacts:8080"

        def start(self):
            step("serve")

        def put(self, files):
            step("put")
            made.served.update(files)

    class WorldAgents:
        def __init__(self, engine, cluster, *, image, ip_family):
            made.world_of = (cluster, image, ip_family)

        def start(self):
            step("world")
            return made.agents

    class HostAgents:
        def __init__(self, kube, *, image):
            self.image = image

        def start(self, nodes, *, timeout_s, check):
            made.check = check
            step("hosts")
            return tuple((node, f"ce2e-hosts/{node}") for node in nodes)

    def forward(kube, zone, address):
        made.forwarded = (zone, address)
        step("zone")

    class LiveTransport:
        def __init__(self, kubeconfig, *, context=""):
            step("connect")

        def list(self, ref, *, label_selector="", field_selector=""):
            step(f"list {ref.kind}")
            if ref.kind == "Node":
                items = [_node("b"), _node("a", "node-role.kubernetes.io/control-plane")]
                for item in items:
                    if item["metadata"]["name"] in made.unready:
                        item["status"]["conditions"][0]["status"] = "False"
            else:
                items = [_node(f"pod-{n}") for n in range(2)]
            return ObjectList(items, "1")

        def get(self, ref):
            step(f"get {ref.kind}")
            if made.release is None:
                raise KubeError(404, "NotFound", "not found", place=str(ref))
            return made.release

        def watch(self, *_, **__):
            raise KubeError(500, "InternalError", "a fake has nothing more to show")

        def close(self):
            step("disconnect")

    def planned(what):
        def call(kube, plan, **given):
            made.plan = plan
            if "again" in given:
                made.again = given["again"]
            step(what)

        return call

    reconcile = SimpleNamespace(
        install=lambda *_, **__: step("install"),
        apply=planned("apply"),
        apply_without_release=planned("apply others"),
        apply_release=planned("apply release"),
        wait_controllers=lambda *_, **__: step("controllers"),
        wait_release=planned("release"),
        wait_layers=planned("layers"),
    )

    def prepare_(options):
        step("prepare")
        return prepared if options.topology == "default" else _other(prepared, options)

    for module in (start, attach, teardown, existing):
        for name, fake in (("Engine", Engine), ("KindCluster", KindCluster), ("prepare", prepare_)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, fake)
    for module in (install, attach):
        monkeypatch.setattr(module, "ArtifactServer", ArtifactServer)
        monkeypatch.setattr(module, "reconcile", reconcile)
    monkeypatch.setattr(install, "image_loader", SimpleNamespace(load=made.load))
    endpoint = SimpleNamespace(PORT=7445, install=lambda *_: step("endpoint"))
    monkeypatch.setattr(install, "node_endpoint", endpoint)
    monkeypatch.setattr(install, "WorldAgents", WorldAgents)
    monkeypatch.setattr(install, "HostAgents", HostAgents)
    zone = SimpleNamespace(
        forward=forward, wait_dns=lambda *_, **__: step("dns"), difference=outside_zone.difference
    )
    monkeypatch.setattr(install, "outside_zone", zone)
    monkeypatch.setattr(
        install, "leftovers", SimpleNamespace(clear=lambda kube, **given: step("clear leftovers"))
    )
    # In place of the module: importing the real one takes seconds.
    monkeypatch.setitem(sys.modules, "cilium_e2e.kube.live", SimpleNamespace(LiveTransport=LiveTransport))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    made.engine = Engine
    return made


def _other(prepared, options):
    """The same input for another topology."""
    topology = dataclasses.replace(prepared.topology, name=options.topology)
    return dataclasses.replace(prepared, topology=topology)
