"""Flux's install manifest: an input, checked, then patched to run where there is no CNI yet."""

from __future__ import annotations

import copy
import hashlib
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cilium_e2e.model import InputError, Object

# The sha256 sum is the one in the release's own checksums file.
DEFAULT_URL = "https://github.com/fluxcd/flux2/releases/download/v2.9.5/install.yaml"
DEFAULT_SHA256 = "cc3dcd743af16215838b6937e1fce83745bf24c0dcc6c59737c59df15429caaf"
NAMESPACE = "flux-system"
_DOWNLOAD_TIMEOUT_S = 60

# What a GitOps tree of HelmReleases needs; notification, image automation and source-watcher stay out.
_CONTROLLERS = ("source-controller", "kustomize-controller", "helm-controller")
# Every controller listens on the node itself, so each needs ports of its own there: storage (the
# source-controller only), metrics, health. Below the ephemeral range, clear of Cilium's and Kubernetes'.
_PORTS = {
    "source-controller": (19090, 19080, 19440),
    "kustomize-controller": (0, 19081, 19441),
    "helm-controller": (0, 19082, 19442),
}
_OWN_FLAGS = ("--storage-addr", "--storage-adv-addr", "--metrics-addr", "--health-addr", "--events-addr")
_KEPT_KINDS = {
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ResourceQuota",
    "Deployment",
}


@dataclass(frozen=True, slots=True)
class FluxManifest:
    """Flux, ready to be applied in this order.

    Attributes:
        origin: the file or URL it came from.
        prerequisites: namespace, CRDs and access rights.
        controllers: the patched Deployments.
        images: the images they run.
    """

    origin: str
    prerequisites: tuple[Object, ...]
    controllers: tuple[Object, ...]
    images: tuple[str, ...]


def read(source: str = "", *, sha256: str = "") -> bytes:
    """The install manifest's bytes.

    Args:
        source: a file or an https URL; the pinned release when empty.
        sha256: what the content must have; only the pinned release has a default.

    Raises:
        InputError: it cannot be read, or has another checksum.
    """
    where, expected = (source, sha256) if source else (DEFAULT_URL, DEFAULT_SHA256)
    hint = "Give --flux-manifest FILE: a Flux release's install.yaml, downloaded before."
    if "://" in where and not where.startswith("https://"):
        raise InputError("expected a file or an https:// address", place=where, hint=hint)
    try:
        if where.startswith("https://"):
            with urllib.request.urlopen(where, timeout=_DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 - https only
                content: bytes = answer.read()
        else:
            content = Path(where).read_bytes()
    except (OSError, urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise InputError(f"Flux's manifest cannot be read: {error}", place=where, hint=hint) from error
    if expected and (actual := hashlib.sha256(content).hexdigest()) != expected:
        raise InputError(f"expected sha256 {expected}, got {actual}", place=where, hint=hint)
    return content


def parse(content: bytes, *, origin: str, node: str, api_host: str, api_port: int) -> FluxManifest:
    """Split and patch an install manifest.

    Args:
        content: YAML documents.
        origin: where they came from, for messages.
        node: the node all controllers share; they reach each other on its loopback address.
        api_host: node-local name of the Kubernetes API.
        api_port: its port.

    Raises:
        InputError: not YAML, or a controller is missing.
    """
    try:
        documents = [doc for doc in yaml.load_all(content, Loader=_Loader) if doc]
    except yaml.YAMLError as error:
        raise InputError(f"not YAML: {' '.join(str(error).split())}", place=origin) from error
    if not all(_is_object(doc) for doc in documents):
        raise InputError("expected Kubernetes objects in every document", place=origin)
    kept = [doc for doc in documents if doc["kind"] in _KEPT_KINDS]
    deployments = {doc["metadata"]["name"]: doc for doc in kept if doc["kind"] == "Deployment"}
    if missing := [name for name in _CONTROLLERS if name not in deployments]:
        raise InputError(
            f"expected the Deployments {', '.join(_CONTROLLERS)}, {', '.join(missing)} missing",
            place=origin,
            hint="Use the install.yaml of a Flux release.",
        )
    if bare := [name for name in _CONTROLLERS if not _has_container(deployments[name])]:
        raise InputError(f"expected a container in the Deployments {', '.join(bare)}", place=origin)
    controllers = tuple(
        _patched(deployments[name], node=node, api_host=api_host, api_port=api_port) for name in _CONTROLLERS
    )
    images = tuple(_container(doc)["image"] for doc in controllers)
    rest = tuple(_admitting(doc) for doc in kept if doc["kind"] != "Deployment")
    return FluxManifest(origin, rest, controllers, images)


def _admitting(obj: Object) -> Object:
    """Flux's namespace with a Pod Security level that admits pods on the host network; others as they are.

    Where baseline is enforced by default, as on Talos, the patched controllers would be refused.
    """
    if obj["kind"] != "Namespace":
        return obj
    labelled = copy.deepcopy(obj)
    labels = labelled["metadata"].setdefault("labels", {})
    labels.update({f"pod-security.kubernetes.io/{mode}": "privileged" for mode in ("enforce", "warn")})
    return labelled


def _patched(deployment: Object, *, node: str, api_host: str, api_port: int) -> Object:
    """A controller that runs on a node without a CNI, next to the others."""
    patched = copy.deepcopy(deployment)
    name = patched["metadata"]["name"]
    storage, metrics, health = _PORTS[name]
    # Two of a kind would meet on the host's ports.
    patched["spec"]["strategy"] = {"type": "Recreate"}
    pod = patched["spec"]["template"]["spec"]
    pod["hostNetwork"] = True
    # The node's resolver: cluster DNS has no pods yet, and artifacts are named on the engine's network.
    pod["dnsPolicy"] = "Default"
    pod["nodeSelector"] = {"kubernetes.io/hostname": node}
    pod["tolerations"] = [{"operator": "Exists"}]
    pod.pop("affinity", None)
    container = _container(patched)
    flags = [flag for flag in container.get("args") or [] if flag.split("=")[0] not in _OWN_FLAGS]
    # No notification-controller: an empty address turns event delivery off.
    flags += [f"--metrics-addr=:{metrics}", f"--health-addr=:{health}", "--events-addr="]
    if storage:
        flags += [f"--storage-addr=:{storage}", f"--storage-adv-addr=localhost:{storage}"]
    if name == "kustomize-controller":
        # How often it looks again for what a Kustomization depends on; the default is 30 s.
        flags.append("--requeue-dependency=1s")
    container["args"] = flags
    numbers = {"http": storage, "http-prom": metrics, "healthz": health}
    container["ports"] = [
        {**port, "containerPort": numbers.get(port.get("name"), port["containerPort"])}
        for port in container.get("ports") or []
    ]
    own = {"KUBERNETES_SERVICE_HOST": api_host, "KUBERNETES_SERVICE_PORT": str(api_port)}
    container["env"] = [entry for entry in container.get("env") or [] if entry["name"] not in own] + [
        {"name": key, "value": value} for key, value in own.items()
    ]
    return patched


def _is_object(document: Any) -> bool:
    return (
        isinstance(document, dict)
        and isinstance(document.get("kind"), str)
        and isinstance(document.get("metadata"), dict)
        and isinstance(document["metadata"].get("name"), str)
    )


def _has_container(deployment: Object) -> bool:
    try:
        return "image" in _container(deployment)
    except (KeyError, IndexError, TypeError):
        return False


def _container(deployment: Object) -> dict[str, Any]:
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The C loader where it is built in: the manifest is 10,000 lines."""
