"""What the API server does to an object before it stores it: refuse it, or fill it in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cilium_e2e.cluster.simulated import ownership
from cilium_e2e.cluster.simulated.addresses import Addresses
from cilium_e2e.cluster.simulated.patches import clone
from cilium_e2e.cluster.simulated.store import Store
from cilium_e2e.model import KubeError, Object, Ref
from cilium_e2e.policy import check_schema
from cilium_e2e.policy.schema import aggregate

_POLICIES = {"CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup", "NetworkPolicy"}
_POD_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations")
_IMAGES = ("containers", "initContainers")


class Admission:
    """Validation and defaults.

    Args:
        store: where the objects are.
        addresses: gives Services their addresses and node ports.
    """

    def __init__(self, store: Store, addresses: Addresses) -> None:
        self._store = store
        self._addresses = addresses
        self._steps: dict[str, Callable[[Object, Object | None], None]] = {
            "Pod": self._pod,
            "Service": self._service,
            "Namespace": self._namespace,
            "Deployment": self._replicas,
            "ServiceAccount": self._nothing,
        }

    def admit(self, obj: Object, before: Object | None) -> None:
        """Check an object and fill it in, in place.

        Raises:
            KubeError: it is refused: 404 no such namespace, 403 forbidden, 422 invalid.
        """
        ref = Ref.of(obj)
        if ref.namespace:
            self._in_namespace(ref, before)
        if ref.kind in _POLICIES:
            self._policy(obj)
        self._steps.get(ref.kind, self._nothing)(obj, before)

    def _nothing(self, obj: Object, before: Object | None) -> None:
        """Nothing to check."""

    def _in_namespace(self, ref: Ref, before: Object | None) -> None:
        namespace = self._store.find(Ref("v1", "Namespace", ref.namespace))
        if namespace is None:
            raise KubeError(404, "NotFound", f'namespaces "{ref.namespace}" not found', place=str(ref))
        if before is None and "deletionTimestamp" in namespace["metadata"]:
            raise _forbidden(
                ref,
                f"namespace {ref.namespace} is being terminated, so nothing new can be created in it",
            )

    def _policy(self, obj: Object) -> None:
        problems = check_schema(obj)
        if problems:
            group = str(obj["apiVersion"]).rpartition("/")[0]
            raise KubeError(
                422,
                "Invalid",
                f'{obj["kind"]}.{group} "{obj["metadata"]["name"]}" is invalid: {aggregate(problems)}',
                place=str(Ref.of(obj)),
            )

    def _namespace(self, obj: Object, before: Object | None) -> None:
        del before
        labels = obj["metadata"].setdefault("labels", {})
        labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
        obj.setdefault("status", {}).setdefault("phase", "Active")

    def _replicas(self, obj: Object, before: Object | None) -> None:
        del before
        obj["spec"].setdefault("replicas", 1)

    def _pod(self, obj: Object, before: Object | None) -> None:
        spec, ref = obj["spec"], Ref.of(obj)
        account = spec.setdefault("serviceAccountName", "default")
        spec.setdefault("restartPolicy", "Always")
        spec.setdefault("terminationGracePeriodSeconds", 30)
        for container in spec["containers"]:
            for port in container.get("ports") or ():
                port.setdefault("protocol", "TCP")
        obj.setdefault("status", {}).setdefault("phase", "Pending")
        if before is not None:
            if _pod_fixed(obj) != _pod_fixed(before):
                raise KubeError(
                    422,
                    "Invalid",
                    f'Pod "{ref.name}" is invalid: spec: Forbidden: pod updates may not change fields other '
                    "than `spec.containers[*].image` and a few more",
                    place=str(ref),
                )
        elif self._store.find(Ref("v1", "ServiceAccount", account, ref.namespace)) is None:
            message = f'service account {ref.namespace}/{account}: serviceaccount "{account}" not found'
            raise _forbidden(ref, message)

    def _service(self, obj: Object, before: Object | None) -> None:
        spec = obj["spec"]
        old = (before or {}).get("spec") or {}
        kind = spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        for port in spec.get("ports") or ():
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
        if kind == "ExternalName":
            return
        if spec.get("clusterIP") != "None" and not spec.get("clusterIP"):
            dual = spec.get("ipFamilyPolicy") in {"PreferDualStack", "RequireDualStack"}
            found = old.get("clusterIPs") or self._given(spec.get("ipFamilies") or (), dual=dual)
            spec["clusterIP"], spec["clusterIPs"] = found[0], list(found)
        spec.setdefault("clusterIPs", [spec["clusterIP"]])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
        if spec["clusterIP"] != "None":
            spec["ipFamilies"] = ["IPv6" if ":" in ip else "IPv4" for ip in spec["clusterIPs"]]
        elif not spec.get("ipFamilies"):
            single = spec["ipFamilyPolicy"] == "SingleStack"
            spec["ipFamilies"] = [f"IPv{family}" for family in self._addresses.families[: 1 if single else 2]]
        if kind in {"NodePort", "LoadBalancer"}:
            spec.setdefault("externalTrafficPolicy", "Cluster")
            known = {(p["port"], p["protocol"]): p.get("nodePort") for p in old.get("ports") or ()}
            for port in spec["ports"]:
                if not port.get("nodePort"):
                    port["nodePort"] = (
                        known.get((port["port"], port["protocol"])) or self._addresses.node_port()
                    )

    def _given(self, wanted: Sequence[str], *, dual: bool) -> list[str]:
        """A Service's new addresses: of the families asked for, in their order, else the cluster's own."""
        found = self._addresses.cluster_ips(dual=dual or bool(wanted))
        if not wanted:
            return found
        by_family = {"IPv6" if ":" in ip else "IPv4": ip for ip in found}
        chosen = [by_family[family] for family in wanted if family in by_family]
        rest = [ip for ip in found if ip not in chosen]
        return [*chosen, *(rest if dual else [])] or found[:1]


def _pod_fixed(obj: Object) -> Any:
    """What of a pod's spec never changes."""
    spec = {k: v for k, v in obj["spec"].items() if k not in _POD_MUTABLE and k not in {"nodeName", *_IMAGES}}
    names = [[c["name"] for c in obj["spec"].get(part) or ()] for part in _IMAGES]
    return spec, names


def _forbidden(ref: Ref, message: str) -> KubeError:
    return KubeError(
        403, "Forbidden", f'{ref.kind.lower()}s "{ref.name}" is forbidden: {message}', place=str(ref)
    )


def apply_object(
    store: Store, admission: Admission, obj: Object, *, manager: str, force: bool = False
) -> Object:
    """Server-side apply without the way to the server; answers the object as it is stored.

    Raises:
        KubeError: it is refused, or another manager owns what it sets.
    """
    ref = Ref.of(obj)
    store.kind(ref)
    before = store.find(ref)
    owners = {name: set(paths) for name, paths in store.owners(ref).items()}
    config = clone(obj)
    config["metadata"].pop("managedFields", None)
    merged = ownership.apply(before, config, owners, manager=manager, force=force)
    admission.admit(merged, before)
    return store.write(merged, manager=manager, owners=owners)
