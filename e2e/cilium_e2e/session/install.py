"""From an empty cluster to Cilium ready: phases that wait for nothing but what they need."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cilium_e2e.cluster import images as image_loader
from cilium_e2e.cluster import node_endpoint, outside_zone
from cilium_e2e.cluster.engine import Engine
from cilium_e2e.cluster.host_agents import NAMESPACE as HOSTS_NAMESPACE
from cilium_e2e.cluster.host_agents import HostAgents
from cilium_e2e.cluster.world import WorldAgents
from cilium_e2e.flux import manifest, reconcile
from cilium_e2e.flux.server import ArtifactServer
from cilium_e2e.kube import Kube
from cilium_e2e.model import Difference, EngineError, HarnessError, Ref, WorldAgent
from cilium_e2e.probe.places import ZONE, ZONE_SERVER
from cilium_e2e.session import leftovers, ready
from cilium_e2e.session.prepare import Prepared, image_overrides, overrides
from cilium_e2e.session.publishing import publish
from cilium_e2e.session.timeline import Say, Timeline

CREATE = "create cluster"
ENDPOINT = "API endpoint on every node"
FLUX_IMAGES = "load Flux's images"
CILIUM_IMAGES = "load Cilium's images"
AGENT_IMAGE = "load the agents' image"
PUBLISH = "publish the tree"
FLUX = "install Flux"
CONTROLLERS = "Flux's controllers"
RELEASE = "reconcile the release"
NODES = "nodes and agents"
RELAY = "relay"
LAYERS = "remaining layers"
LEFTOVERS = "what earlier runs left"
WORLD = "agents outside"
OUTSIDE_ZONE = "zone outside"
DNS = "cluster DNS"
HOSTS = "agents on nodes"


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation has made.

    Attributes:
        kube: the cluster's API, still open.
        differences: what is different from the repository.
        world: the agents outside.
        host_agents: node name to the pod (``namespace/pod``) of the agent on that node's own network.
    """

    kube: Kube
    differences: list[Difference]
    world: tuple[WorldAgent, ...]
    host_agents: tuple[tuple[str, str], ...]


class Installation:
    """One installation on one kind cluster.

    Args:
        prepared: what was asked for.
        engine: where the nodes run.
        cluster: the cluster's name.
        timeline: where the phases are kept.
        say: told a line at a time what happens.
    """

    def __init__(
        self, prepared: Prepared, engine: Engine, cluster: str, timeline: Timeline, say: Say
    ) -> None:
        self._prepared = prepared
        self._engine = engine
        self._cluster = cluster
        self._timeline = timeline
        self._say = say
        self._stop = threading.Event()
        # One after the other: images share a disk, and Flux is to start while Cilium is still on its way.
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="images")
        self._aside = ThreadPoolExecutor(max_workers=1, thread_name_prefix="endpoint")
        self._loads: list[Future[None]] = []

    def run(self, kubeconfig: Path, *, again: bool) -> Installed:
        """Install, and wait until everything is ready.

        Args:
            kubeconfig: the cluster's.
            again: whether the release was installed there before.

        Raises:
            ClusterStateError: something did not come up, or an image could not be loaded.
        """
        try:
            return self._run(kubeconfig, again=again)
        except HarnessError:
            for load in self._loads:
                # What could not be loaded is the cause of what did not come up.
                if load.done() and not load.cancelled():
                    load.result()
            raise
        finally:
            # Not waited for: when this ends early, the nodes it loads into are about to go.
            self._stop.set()
            for pool in (self._loader, self._aside):
                pool.shutdown(wait=False, cancel_futures=True)

    def _run(self, kubeconfig: Path, *, again: bool) -> Installed:
        prepared, options, phase = self._prepared, self._prepared.options, self._timeline.phase
        timeout_s = options.timeout_s
        flux = self._flux()
        local, image_values, differences = image_overrides(prepared.images(), self._engine.has_image)
        flux_images = self._load(FLUX_IMAGES, list(flux.images), CREATE)
        cilium_images = self._load(CILIUM_IMAGES, local, CREATE)
        agent_image = self._load(AGENT_IMAGE, [options.agent_image], CREATE)
        endpoint = self._aside.submit(self._endpoint)
        # In this thread: they make containers, and nothing may be made any more once this has ended.
        with phase(PUBLISH, after=(CREATE,)):
            server = ArtifactServer(self._engine, self._cluster, image=options.agent_image)
            server.start()
            revision, plan = publish(prepared, server, overrides(prepared, image_values))
        if revision.untracked:
            self._say(f"  published with untracked files: {', '.join(revision.untracked)}")
        world, server_ip = self._world()
        endpoint.result()
        flux_images.result()

        from cilium_e2e.kube.live import LiveTransport  # noqa: PLC0415 - its client takes seconds to import

        kube = Kube(LiveTransport(kubeconfig))
        try:
            with phase(FLUX, after=(ENDPOINT, PUBLISH, FLUX_IMAGES)):
                reconcile.install(kube, flux, timeout_s=timeout_s)
                reconcile.apply_without_release(kube, plan)
            with phase(CONTROLLERS, after=(FLUX,)):
                reconcile.wait_controllers(kube, flux, timeout_s=timeout_s)
            # Before Cilium: CoreDNS waits for a network, and reads its configuration when it starts.
            with phase(OUTSIDE_ZONE, after=(WORLD, CONTROLLERS)):
                outside_zone.forward(kube, ZONE, server_ip)
            cilium_images.result()
            with phase(RELEASE, after=(OUTSIDE_ZONE, CILIUM_IMAGES)) as progress:
                reconcile.apply_release(kube, plan)
                reconcile.wait_release(kube, plan, timeout_s=timeout_s, progress=progress, again=again)
            with phase(NODES, after=(RELEASE,)):
                ready.nodes_and_agents(
                    kube, prepared, nodes=len(prepared.topology.nodes), timeout_s=timeout_s
                )
            hosts = self._host_agents(kube, agent_image)
            with phase(RELAY, after=(NODES,)):
                ready.relay(kube, prepared, timeout_s=timeout_s)
            with phase(LAYERS, after=(NODES,)) as progress:
                reconcile.wait_layers(kube, plan, timeout_s=timeout_s, progress=progress)
            if again:
                with phase(LEFTOVERS, after=(NODES,)):
                    leftovers.clear(kube, keep=HOSTS_NAMESPACE, say=self._say, timeout_s=timeout_s)
            with phase(DNS, after=(NODES,)):
                outside_zone.wait_dns(kube, timeout_s=timeout_s)
            agent_image.result()
            host_agents = hosts.result()
        except BaseException:
            kube.transport.close()
            raise
        zone = outside_zone.difference(ZONE, server_ip, f"world:{ZONE_SERVER}")
        differences = [*prepared.repository.differences, *differences, *plan.differences, zone]
        return Installed(kube, differences, world, host_agents)

    def _world(self) -> tuple[tuple[WorldAgent, ...], str]:
        """Start the agents outside, or find them running; with the address of the one that serves DNS."""
        prepared = self._prepared
        with self._timeline.phase(WORLD, after=(PUBLISH,)):
            world = WorldAgents(
                self._engine,
                self._cluster,
                image=prepared.options.agent_image,
                ip_family=prepared.topology.ip_family,
            ).start()
        return world, next(agent.ips[0] for agent in world if agent.name == ZONE_SERVER)

    def _host_agents(self, kube: Kube, image: Future[None]) -> Future[tuple[tuple[str, str], ...]]:
        """Start the agents on the nodes as soon as their image is there, beside all other waiting."""
        done: Future[tuple[tuple[str, str], ...]] = Future()

        def go_on() -> None:
            if self._stop.is_set():
                raise CancelledError

        def work() -> None:
            try:
                image.result()
                with self._timeline.phase(HOSTS, after=(NODES, AGENT_IMAGE)):
                    nodes = [node["metadata"]["name"] for node in kube.list_all(Ref("v1", "Node"))]
                    agents = HostAgents(kube, image=self._prepared.options.agent_image)
                    found = agents.start(nodes, timeout_s=self._prepared.options.timeout_s, check=go_on)
            except BaseException as error:  # noqa: BLE001 - it is for whoever waits for the result
                done.set_exception(error)
            else:
                done.set_result(found)

        # A daemon: when the run ends early, what it waits for never comes, and nobody waits for it.
        threading.Thread(target=work, daemon=True, name="agents on nodes").start()
        return done

    def _flux(self) -> manifest.FluxManifest:
        """Flux's install manifest, for the first control-plane node."""
        node = next((n.name for n in self._engine.nodes(self._cluster) if n.role == "control-plane"), None)
        if node is None:
            raise EngineError(
                "kind has made the cluster, but the engine has no control-plane node of it",
                place=f"cluster {self._cluster}",
                hint="Do kind and DOCKER_HOST speak of the same engine?",
            )
        return manifest.parse(
            self._prepared.flux,
            origin=self._prepared.flux_origin,
            node=node,
            api_host="localhost",
            api_port=node_endpoint.PORT,
        )

    def _endpoint(self) -> None:
        """Give every node its endpoint of the API."""
        with self._timeline.phase(ENDPOINT, after=(CREATE,)):
            node_endpoint.install(self._engine, self._cluster)

    def _load(self, name: str, images: list[str], after: str) -> Future[None]:
        """Load those of the images that the engine has, in the background."""

        def work() -> None:
            with self._timeline.phase(name, after=(after,)):
                present = [image for image in images if self._engine.has_image(image)]
                image_loader.load(self._engine, self._cluster, present, stop=self._stop)
                if self._stop.is_set():
                    raise CancelledError

        load = self._loader.submit(work)
        self._loads.append(load)
        return load
