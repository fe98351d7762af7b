"""Stand-ins for what only SOPS could decrypt. Keys are never asked for."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from cilium_e2e.model import Difference
from cilium_e2e.repository.tree import BuiltObject

STUB = "sops-stub"
STUB_BASE64 = base64.b64encode(STUB.encode()).decode()
_MARK = "ENC[AES256_GCM,"


def stub(built: BuiltObject) -> tuple[BuiltObject, Difference | None]:
    """The object with every encrypted value replaced by ``sops-stub``, and what that must be declared as."""
    obj = built.object
    if "sops" not in obj and not _encrypted(obj):
        return built, None
    plain = {key: value for key, value in obj.items() if key != "sops"}
    plain = {
        key: _without(value, STUB_BASE64 if obj["kind"] == "Secret" and key == "data" else STUB)
        for key, value in plain.items()
    }
    where = f" of {built.file}" if built.file else ""
    return BuiltObject(plain, built.file), Difference(
        what=f"encrypted values in {built.ref}{where}",
        instead=STUB,
        reason="they are encrypted with SOPS, and tests have no keys",
        origin="SOPS",
    )


def is_stub(text: str) -> bool:
    """Whether a value stands in for an encrypted one."""
    return text == STUB


def _encrypted(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_encrypted(item) for item in value.values())
    if isinstance(value, list):
        return any(_encrypted(item) for item in value)
    return isinstance(value, str) and (_MARK in value or _MARK in _decoded(value))


def _without(value: Any, instead: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(item, instead) for key, item in value.items()}
    if isinstance(value, list):
        return [_without(item, instead) for item in value]
    return instead if isinstance(value, str) and _encrypted(value) else value


def _decoded(text: str) -> str:
    """What a Secret's ``data`` says, where a text is base64; an encrypted file may be wrapped in it."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
