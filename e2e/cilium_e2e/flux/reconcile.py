"""Install Flux, hand it the deployment, wait for what it brings; failures are explained, not timed out."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Sequence

from cilium_e2e.flux import explain
from cilium_e2e.flux.deploy import TREE, Deployment
from cilium_e2e.flux.manifest import NAMESPACE, FluxManifest
from cilium_e2e.kube import Kube, condition, is_true
from cilium_e2e.model import HarnessError, Object, ReconcileError, Ref, WaitTimeout

Progress = Callable[[str], None]
"""Told the state of what is awaited, in Flux's own words, whenever it changes."""

_Until = Callable[[Sequence[Object]], bool | None]

_CRD = "apiextensions.k8s.io/v1"
_HELM = "helm.toolkit.fluxcd.io/v2"
_KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
_LAYERS = Ref(_KUSTOMIZE, "Kustomization")

# Nothing but a change of the tree cures these, so there is nothing to wait for.
_FINAL = {"BuildFailed", "InvalidChartReference", "ValuesError"}
_FINAL_WORDS = "values don't meet the specifications of the schema"  # Helm's, of values and chart
# All other failures may pass (Flux tries again, an operator registers its kinds), so they must have lasted.
_GRACE_S = 30.0
_NO_KIND = "no matches for kind"
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
    """Hand Flux everything of a deployment."""
    apply_without_release(kube, deployment)
    apply_release(kube, deployment)


def apply_without_release(kube: Kube, deployment: Deployment) -> None:
    """Hand Flux the sources, and the Kustomizations that do not bring the release.

    Those that depend on the release wait for it, the others need nothing of it.
    """
    kube.apply_all(deployment.sources)
    kube.apply_all(obj for obj in deployment.kustomizations if Ref.of(obj) != deployment.release_layer)


def apply_release(kube: Kube, deployment: Deployment) -> None:
    """Hand Flux the Kustomization that brings the release."""
    kube.apply_all(obj for obj in deployment.kustomizations if Ref.of(obj) == deployment.release_layer)


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


def wait_release(
    kube: Kube, deployment: Deployment, *, timeout_s: float, progress: Progress, again: bool = False
) -> None:
    """Wait until the HelmRelease is ready.

    Args:
        kube: the cluster's API.
        deployment: what was applied.
        timeout_s: how long, in seconds.
        progress: told what is awaited.
        again: whether the release was there before, so that what it says may be of an older tree; then the
            Kustomization that brings it must have applied the published tree first.

    Raises:
        ReconcileError: Flux cannot, or it was not in time; the message explains why in Flux's own words,
            with the state of the pods and the events of the release's namespace.
    """
    deadline = kube.clock.monotonic() + timeout_s
    if again:

        def applied(found: Sequence[Object]) -> bool | None:
            return True if _at_revision(found, {deployment.release_layer}, deployment.digest) else None

        _side_by_side(kube, deployment, _LAYERS, applied, deadline=deadline, progress=progress, again=True)
    release = deployment.release
    helm = Ref(_HELM, "HelmRelease", release.name, release.namespace)
    _side_by_side(kube, deployment, helm, _all_ready, deadline=deadline, progress=progress)


def _side_by_side(
    kube: Kube,
    deployment: Deployment,
    awaited: Ref,
    until: _Until,
    *,
    deadline: float,
    progress: Progress,
    again: bool = False,
) -> None:
    """Wait for one thing, and watch layers, release and chart for failures meanwhile.

    With ``again``, what they say of an older tree does not count.
    """
    stop = threading.Event()
    fresh = threading.Event()
    if not again:
        fresh.set()
    results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    ours = {Ref.of(obj) for obj in deployment.kustomizations}
    layers = _Judge(kube, stop, progress, only=ours)
    if again:
        layers.of_tree(deployment, fresh)
    helm = Ref(_HELM, "HelmRelease", deployment.release.name, deployment.release.namespace)
    judges = {
        _LAYERS: layers,
        helm: _Judge(kube, stop, progress, once=fresh),
        deployment.chart: _Judge(kube, stop, progress, once=fresh),
    }
    judges[awaited].until = until
    timeout_s = max(0.0, deadline - kube.clock.monotonic())
    for ref, judge in judges.items():
        if ref.kind:
            arguments = (kube, ref, judge, timeout_s, results)
            threading.Thread(target=_watch, args=arguments, daemon=True, name=f"wait {ref}").start()
    try:
        if (error := results.get()) is not None:
            raise error
    except HarnessError as error:
        raise _explained(kube, deployment, error, [judge.told for judge in judges.values()]) from error
    finally:
        stop.set()


def _watch(
    kube: Kube, ref: Ref, judge: _Judge, timeout_s: float, results: queue.SimpleQueue[Exception | None]
) -> None:
    """One thread of :func:`wait_release`; what comes of it is put into ``results``."""

    def step(found: Sequence[Object]) -> bool | None:
        judge(found)
        return judge.until(found) if judge.until else None

    try:
        kube.wait(ref, step, timeout_s=timeout_s, what=f"{ref} to be ready", describe=_states)
        results.put(None)
    except _Abandoned:
        return
    except WaitTimeout as error:
        if judge.until:  # the others are watched for their failures only
            results.put(error)
    except Exception as error:  # noqa: BLE001 - told by whoever waits, not by a dying thread
        results.put(error)


def _explained(
    kube: Kube, deployment: Deployment, error: HarnessError, told: Sequence[str]
) -> ReconcileError:
    """An error of the wait, with what else is amiss: layers and chart where time ran out, pods, events."""
    release = deployment.release
    late = isinstance(error, WaitTimeout)
    lines = [line for line in told if late and line and line not in error.message]
    for namespace in dict.fromkeys(filter(None, (release.namespace, deployment.target_namespace))):
        lines += explain.namespace(kube, namespace)
    return ReconcileError(
        error.message + ("\n" + _indented(lines) if lines else ""),
        place=error.place or str(release),
        hint=error.hint,
    )


def wait_layers(kube: Kube, deployment: Deployment, *, timeout_s: float, progress: Progress) -> None:
    """Wait until every Kustomization of the deployment is ready.

    Raises:
        ReconcileError: Flux cannot, in its own words.
        WaitTimeout: not in time; the message holds each one's state.
    """
    names = {Ref.of(obj) for obj in deployment.kustomizations}
    ours = {Ref.of(obj) for obj in deployment.kustomizations if obj["spec"]["sourceRef"].get("name") == TREE}
    judge = _Judge(kube, threading.Event(), progress, only=names)

    def done(found: Sequence[Object]) -> bool | None:
        judge(found)
        ready = {_ref(obj) for obj in found if is_true(obj, "Ready")}
        all_ready = {_named(name) for name in names} <= ready
        return True if all_ready and _at_revision(found, ours, deployment.digest) else None

    kube.wait(
        Ref(_KUSTOMIZE, "Kustomization"),
        done,
        timeout_s=timeout_s,
        what="every Kustomization to be ready",
        describe=_states,
    )


def _at_revision(found: Sequence[Object], wanted: set[Ref], digest: str) -> bool:
    """Whether all of some Kustomizations have applied a published tree, not only an older one."""
    applied = {_ref(obj): (obj.get("status") or {}).get("lastAppliedRevision", "") for obj in found}
    return all(digest in applied.get(_named(ref), "") for ref in wanted)


class _Judge:
    """Raises for what Flux cannot do, tells progress of the rest."""

    def __init__(
        self,
        kube: Kube,
        stop: threading.Event,
        progress: Progress,
        *,
        only: Collection[Ref] | None = None,
        once: threading.Event | None = None,
    ) -> None:
        self.until: _Until | None = None
        """What is awaited; None where these are watched for their failures only."""
        self._once = once
        self._tree: tuple[Deployment, threading.Event] | None = None
        self._clock = kube.clock
        self._stop = stop
        self._progress = progress
        self._only = None if only is None else {_named(ref) for ref in only}
        self._since: dict[tuple[str, str, str], tuple[str, float]] = {}
        self.told = ""
        """What is not ready, in its own words; empty where nothing is amiss."""

    def __call__(self, found: Sequence[Object]) -> None:
        if self._stop.is_set():
            raise _Abandoned
        ours = [obj for obj in found if self._only is None or _ref(obj) in self._only]
        waiting = [obj for obj in ours if not is_true(obj, "Ready")]
        told = _states(waiting) if waiting else ""
        if told and told != self.told:
            self._progress(told)
        self.told = told
        for obj in ours:
            self._check(obj)

    def of_tree(self, deployment: Deployment, fresh: threading.Event) -> None:
        """From now on layers that speak of another tree do not count.

        Args:
            deployment: whose tree does.
            fresh: set when the layer of the release has come to it.
        """
        self._tree = deployment, fresh

    def _past(self, obj: Object) -> bool:
        """Whether an object may still speak of an older tree."""
        if self._tree is not None and obj["spec"]["sourceRef"].get("name") == TREE:
            deployment, fresh = self._tree
            attempted = (obj.get("status") or {}).get("lastAttemptedRevision") or ""
            if deployment.digest not in attempted:
                return True
            if _ref(obj) == _named(deployment.release_layer):
                fresh.set()
        return self._once is not None and not self._once.is_set()

    def _check(self, obj: Object) -> None:
        if self._past(obj):
            return
        ready = condition(obj, "Ready") or {}
        reason = ready.get("reason", "")
        text = explain.state(obj)
        if ready.get("status") != "False":
            self._since.pop(_ref(obj), None)
            return
        # Kinds that an operator registers come some time after the operator's release is ready.
        to_come = _NO_KIND in ready.get("message", "")
        message = ready.get("message", "")
        final = reason in _FINAL or _FINAL_WORDS in message or explain.stalled(obj)
        if not final and not to_come and reason not in _PASSING:
            now = self._clock.monotonic()
            before, since = self._since.get(_ref(obj), ("", now))
            if before != reason:  # the message may change with each try
                since = now
            self._since[_ref(obj)] = (reason, since)
            final = now - since > _GRACE_S
        if final:
            raise ReconcileError(
                ready.get("message", "").strip(), place=text.partition(": ")[0], hint=_hint(reason)
            )


def _ref(obj: Object) -> tuple[str, str, str]:
    """Kind, namespace and name: the version an object is read in need not be the one it was written in."""
    return _named(Ref.of(obj))


def _named(ref: Ref) -> tuple[str, str, str]:
    return ref.kind, ref.namespace, ref.name


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
