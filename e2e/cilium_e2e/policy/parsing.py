"""Policy objects from decoded JSON or YAML, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from cilium_e2e.model import PolicyError
from cilium_e2e.policy.codec import DecodeError, Reading, decode_struct, encode_struct
from cilium_e2e.policy.objects import CIDRGroupObject, CiliumPolicy, PolicyObject
from cilium_e2e.policy.objects_common import KubeObject
from cilium_e2e.policy.objects_kubernetes import NetworkPolicy

T = TypeVar("T", bound=KubeObject)

POLICY_TYPES: Mapping[str, type[CiliumPolicy | NetworkPolicy]] = {
    "CiliumNetworkPolicy": CiliumPolicy,
    "CiliumClusterwideNetworkPolicy": CiliumPolicy,
    "NetworkPolicy": NetworkPolicy,
}


def describe(obj: object, *, file: str = "") -> str:
    """Where an object is, for messages: ``file: Kind namespace/name``, as far as that is known."""
    found: list[str] = []
    if isinstance(obj, Mapping):
        meta = obj.get("metadata")
        meta = meta if isinstance(meta, Mapping) else {}
        namespace, name = meta.get("namespace"), meta.get("name")
        where = f"{namespace}/" if isinstance(namespace, str) and namespace else ""
        found = [str(part) for part in (obj.get("kind"), f"{where}{name}" if name else "") if part]
    text = " ".join(found) or "object"
    return f"{file}: {text}" if file else text


def _decode(cls: type[T], obj: object, *, file: str, strict: bool) -> T:
    place = describe(obj, file=file)
    reading = Reading()
    try:
        decoded = decode_struct(cls, obj, "", reading)
    except DecodeError as error:
        raise PolicyError(str(error), place=place) from None
    if strict and reading.unknown:
        fields = ", ".join(reading.unknown)
        raise PolicyError(
            f"unknown field{'s' if len(reading.unknown) > 1 else ''} {fields}",
            place=place,
            hint="The API server drops unknown fields, so the policy would mean less than it says.",
        )
    return decoded


def parse_policy(obj: object, *, file: str = "", strict: bool = True) -> PolicyObject:
    """Read a CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy.

    Args:
        obj: the decoded object.
        file: where it comes from, for messages.
        strict: whether unknown fields are an error; the agent ignores them.

    Raises:
        PolicyError: another kind, a value of the wrong type, or (strict) an unknown field; the message
            names the field's path.
    """
    kind = obj.get("kind") if isinstance(obj, Mapping) else None
    cls = POLICY_TYPES.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise PolicyError(
            f"expected one of the kinds {', '.join(POLICY_TYPES)}, got {kind!r}",
            place=describe(obj, file=file),
        )
    return _decode(cls, obj, file=file, strict=strict)


def parse_cidr_group(obj: object, *, file: str = "", strict: bool = True) -> CIDRGroupObject:
    """Read a CiliumCIDRGroup.

    Raises:
        PolicyError: as :func:`parse_policy`.
    """
    return _decode(CIDRGroupObject, obj, file=file, strict=strict)


def dump(obj: KubeObject) -> dict[str, Any]:
    """The object as plain data again; what was absent stays absent."""
    return encode_struct(obj)
