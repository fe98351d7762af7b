"""The kinds the simulated API serves: Kubernetes' own, and those that CustomResourceDefinitions bring."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cilium_e2e.model import Object

CRD = "apiextensions.k8s.io/v1"
CILIUM = "cilium.io/v2"
HELM = "helm.toolkit.fluxcd.io/v2"
KUSTOMIZE = "kustomize.toolkit.fluxcd.io/v1"
SOURCE = "source.toolkit.fluxcd.io/v1"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: its plural name and whether its objects live in namespaces."""

    plural: str
    namespaced: bool


BUILT_IN: dict[tuple[str, str], Kind] = {
    ("v1", "ConfigMap"): Kind("configmaps", namespaced=True),
    ("v1", "Endpoints"): Kind("endpoints", namespaced=True),
    ("v1", "Event"): Kind("events", namespaced=True),
    ("v1", "Namespace"): Kind("namespaces", namespaced=False),
    ("v1", "Node"): Kind("nodes", namespaced=False),
    ("v1", "Pod"): Kind("pods", namespaced=True),
    ("v1", "Secret"): Kind("secrets", namespaced=True),
    ("v1", "Service"): Kind("services", namespaced=True),
    ("v1", "ServiceAccount"): Kind("serviceaccounts", namespaced=True),
    ("apps/v1", "DaemonSet"): Kind("daemonsets", namespaced=True),
    ("apps/v1", "Deployment"): Kind("deployments", namespaced=True),
    ("discovery.k8s.io/v1", "EndpointSlice"): Kind("endpointslices", namespaced=True),
    ("networking.k8s.io/v1", "NetworkPolicy"): Kind("networkpolicies", namespaced=True),
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): Kind("clusterroles", namespaced=False),
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): Kind("clusterrolebindings", namespaced=False),
    ("rbac.authorization.k8s.io/v1", "Role"): Kind("roles", namespaced=True),
    ("rbac.authorization.k8s.io/v1", "RoleBinding"): Kind("rolebindings", namespaced=True),
    (CRD, "CustomResourceDefinition"): Kind("customresourcedefinitions", namespaced=False),
}

FLUX_KINDS = (
    (SOURCE, "GitRepository", "gitrepositories"),
    (SOURCE, "HelmChart", "helmcharts"),
    (SOURCE, "HelmRepository", "helmrepositories"),
    (SOURCE, "OCIRepository", "ocirepositories"),
    (SOURCE, "Bucket", "buckets"),
    (KUSTOMIZE, "Kustomization", "kustomizations"),
    (HELM, "HelmRelease", "helmreleases"),
)

CILIUM_KINDS = (
    ("CiliumCIDRGroup", "ciliumcidrgroups", False),
    ("CiliumClusterwideNetworkPolicy", "ciliumclusterwidenetworkpolicies", False),
    ("CiliumEndpoint", "ciliumendpoints", True),
    ("CiliumIdentity", "ciliumidentities", False),
    ("CiliumNetworkPolicy", "ciliumnetworkpolicies", True),
    ("CiliumNode", "ciliumnodes", False),
    ("CiliumNodeConfig", "ciliumnodeconfigs", True),
)


def crd(api_version: str, kind: str, plural: str, *, namespaced: bool) -> Object:
    """A CustomResourceDefinition that is established."""
    group, _, version = api_version.partition("/")
    return {
        "apiVersion": CRD,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Namespaced" if namespaced else "Cluster",
            "versions": [{"name": version, "served": True, "storage": True}],
        },
        "status": {
            "conditions": [{"type": "Established", "status": "True", "reason": "InitialNamesAccepted"}]
        },
    }


def flux_crds() -> list[Object]:
    """What installing Flux brings."""
    return [crd(version, kind, plural, namespaced=True) for version, kind, plural in FLUX_KINDS]


def cilium_crds() -> list[Object]:
    """What Cilium's operator registers when it starts."""
    return [crd(CILIUM, kind, plural, namespaced=namespaced) for kind, plural, namespaced in CILIUM_KINDS]


def find(api_version: str, kind: str, crds: Iterable[Object]) -> Kind | None:
    """A kind that is served, None where none is."""
    if (known := BUILT_IN.get((api_version, kind))) is not None:
        return known
    group, _, version = api_version.partition("/")
    for definition in crds:
        spec = definition["spec"]
        served = {entry["name"] for entry in spec.get("versions") or () if entry.get("served", True)}
        if (spec["group"], spec["names"]["kind"]) == (group, kind) and version in served:
            return Kind(spec["names"]["plural"], namespaced=spec["scope"] == "Namespaced")
    return None
