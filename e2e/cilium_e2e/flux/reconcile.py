"""Install Flux, hand it the deployment, wait for what it brings; failures are explained, not timed out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from cilium_e2e.flux import explain
from cilium_e2e.flux.deploy import Deployment
from cilium_e2e.flux.manifest import NAMESPACE, FluxManifest
from cilium_e2e.kube import Kube, condition, is_true
from cilium_e2e.model import HarnessError, Object, ReconcileError, Ref

Progress = Callable[[str], None]
"""Told the state of what is awaited, in Flux's own words, whenever it changes."""

_CRD = "apiextensions.k8s.io/v1"
_HELM = "helm.toolkit.fluxcd.io/v2"
_KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"

# Nothing but a change of the tree cures these, so there is nothing to wait for.
_FINAL = {
    "BuildFailed",
    "HealthCheckFailed",
    "InstallFailed",
    "InvalidChartReference",
    "PruneFailed",
    "ReconciliationFailed",
    "TestFailed",
    "UninstallFailed",
    "UpgradeFailed",
    "ValuesError",
}
# These may pass (a server that is not up yet), so they must have lasted a while.
_GRACE_S = 30.0
_PASSING = {"Progressing", "DependencyNotReady", "ArtifactFailed", "SourceNotReady", "NoSourceArtifact", ""}


class _Abandoned(Exception):
    """Ends a wait that nobody is interested in any more."""


def install(kube: Kube, flux: FluxManifest, *, timeout_s: float) -> None:
    """Install Flux's controllers and wait until their kinds are served."""
    kube.apply_all(flux.prerequisites)
    crds = {
        doc["metadata"]["name"] for doc in flux.prerequisites if doc["kind"] == "CustomResourceDefinition"
    }

    def established(found: Sequence[Object]) -> bool | None:
        done = {crd["metadata"]["name"] for crd in found if is_true(crd, "Established")}
        return True if crds <= done else None

    kube.apply_all(flux.controllers)
    kube.wait(
        Ref(_CRD, "CustomResourceDefinition"),
        established,
        timeout_s=timeout_s,
        what="Flux's CRDs to be established",
    )
    kube.transport.invalidate()


def apply(kube: Kube, deployment: Deployment) -> None:
    """Hand Flux its sources and Kustomizations."""
    kube.apply_all(deployment.sources)
    kube.apply_all(deployment.kustomizations)


def wait_controllers(kube: Kube, flux: FluxManifest, *, timeout_s: float) -> None:
    """Wait until every controller of Flux is available.

    Raises:
        ReconcileError: not in time; the message says what keeps their pods.
    """
    names = {doc["metadata"]["name"] for doc in flux.controllers}

    def available(found: Sequence[Object]) -> bool | None:
        return True if names <= {d["metadata"]["name"] for d in found if is_true(d, "Available")} else None

    try:
        kube.wait(
            Ref("apps/v1", "Deployment", namespace=NAMESPACE),
            available,
            timeout_s=timeout_s,
            what="Flux's controllers to be available",
        )
    except HarnessError as error:
        raise ReconcileError(
            f"{error.message}\n{_indented(explain.namespace(kube, NAMESPACE))}", place="Flux", hint=error.hint
        ) from error


def wait_release(kube: Kube, deployment: Deployment, *, timeout_s: float, progress: Progress) -> None:
    """Wait until the HelmRelease is ready.

    Raises:
        ReconcileError: Flux cannot, or it was not in time; the message explains why in Flux's own words,
            with the state of the pods and the events of the release's namespace.
    """
    release = deployment.release
    helm = Ref(_HELM, "HelmRelease", release.name, release.namespace)
    chart = deployment.chart
    layers = Ref(_KUSTOMIZE, "Kustomization", namespace=NAMESPACE)
    stop = threading.Event()
    results: queue.SimpleQueue[HarnessError | str] = queue.SimpleQueue()

    def watch(ref: Ref, until: Callable[[Sequence[Object]], bool | None], name: str) -> None:
        judge = _Judge(kube, stop, progress)

        def step(found: Sequence[Object]) -> bool | None:
            judge(found)
            return until(found)

        try:
            kube.wait(ref, step, timeout_s=timeout_s, what=f"{ref} to be ready", describe=_states)
            results.put(name)
        except HarnessError as error:
            results.put(error)
        except _Abandoned:
            return

    def never(found: Sequence[Object]) -> None:
        """Watched only for its failures."""
        del found

    for ref, until, name in (
        (helm, _all_ready, "release"),
        (chart, never, "chart"),
        (layers, never, "layers"),
    ):
        if not ref.kind:
            continue
        threading.Thread(target=watch, args=(ref, until, name), daemon=True, name=f"wait {name}").start()
    outcome = results.get()
    stop.set()
    if isinstance(outcome, HarnessError):
        lines = explain.namespace(kube, release.namespace)
        raise ReconcileError(
            outcome.message + ("\n" + _indented(lines) if lines else ""),
            place=outcome.place or str(helm),
            hint=outcome.hint,
        ) from outcome


def wait_layers(kube: Kube, deployment: Deployment, *, timeout_s: float, progress: Progress) -> None:
    """Wait until every Kustomization of the deployment is ready.

    Raises:
        ReconcileError: Flux cannot, in its own words.
        WaitTimeout: not in time; the message holds each one's state.
    """
    names = {Ref.of(obj) for obj in deployment.kustomizations}
    judge = _Judge(kube, threading.Event(), progress)

    def done(found: Sequence[Object]) -> bool | None:
        judge(found)
        ready = {Ref.of({**obj, "apiVersion": _KUSTOMIZE}) for obj in found if is_true(obj, "Ready")}
        return True if names <= ready else None

    kube.wait(
        Ref(_KUSTOMIZE, "Kustomization"),
        done,
        timeout_s=timeout_s,
        what="every Kustomization to be ready",
        describe=_states,
    )


class _Judge:
    """Raises for what Flux cannot do, tells progress of the rest."""

    def __init__(self, kube: Kube, stop: threading.Event, progress: Progress) -> None:
        self._clock = kube.clock
        self._stop = stop
        self._progress = progress
        self._told = ""
        self._since: dict[str, float] = {}

    def __call__(self, found: Sequence[Object]) -> None:
        if self._stop.is_set():
            raise _Abandoned
        waiting = [obj for obj in found if not is_true(obj, "Ready")]
        told = _states(waiting)
        if waiting and told != self._told:
            self._told = told
            self._progress(told)
        for obj in found:
            self._check(obj)

    def _check(self, obj: Object) -> None:
        ready = condition(obj, "Ready") or {}
        reason = ready.get("reason", "")
        text = explain.state(obj)
        if ready.get("status") != "False":
            return
        final = reason in _FINAL or explain.stalled(obj)
        if not final and reason not in _PASSING:
            now = self._clock.monotonic()
            final = now - self._since.setdefault(f"{text}", now) > _GRACE_S
        if final:
            raise ReconcileError(
                ready.get("message", "").strip(), place=text.partition(": ")[0], hint=_hint(reason)
            )


def _hint(reason: str) -> str:
    return {
        "InstallFailed": "The chart refused the values, or what it installed did not become ready.",
        "InvalidChartReference": "Give a version that the chart's repository has.",
        "BuildFailed": "Try `kubectl kustomize` on the same path.",
    }.get(reason, "")


def _all_ready(found: Sequence[Object]) -> bool | None:
    return True if found and all(is_true(obj, "Ready") for obj in found) else None


def _states(found: Sequence[Object]) -> str:
    return "; ".join(explain.state(obj) for obj in found) or "not there yet"


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
