"""Which Flux source is this repository itself, and which is something else."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from cilium_e2e.model import Object
from cilium_e2e.repository.tree import BuiltObject

OWN_NAME = "flux-system"


def source_of(kustomization: Object, objects: Sequence[BuiltObject]) -> Object | None:
    """The source object a Flux Kustomization refers to, where the tree defines it."""
    ref = (kustomization.get("spec") or {}).get("sourceRef") or {}
    namespace = ref.get("namespace") or kustomization["metadata"].get("namespace", "")
    return find(objects, str(ref.get("kind")), namespace, str(ref.get("name")))


def find(objects: Sequence[BuiltObject], kind: str, namespace: str, name: str) -> Object | None:
    """The last object of that kind and name; later layers overwrite earlier ones."""
    for built in reversed(objects):
        meta = built.object.get("metadata") or {}
        if (built.object["kind"], meta.get("namespace", ""), meta.get("name")) == (kind, namespace, name):
            return built.object
    return None


def is_own(kustomization: Object, objects: Sequence[BuiltObject], root: Path) -> bool:
    """Whether a Flux Kustomization builds this repository.

    It does when its source is called ``flux-system``, as ``flux bootstrap`` calls it, when the tree does not
    define the source (it was set up beside the tree, so it is what brought the tree), or when the source's
    address is one of the repository's git remotes.
    """
    ref = (kustomization.get("spec") or {}).get("sourceRef") or {}
    source = source_of(kustomization, objects)
    if source is None or ref.get("name") == OWN_NAME:
        return True
    url = str((source.get("spec") or {}).get("url") or "")
    return bool(url) and _plain(url) in _remotes(root)


def _plain(url: str) -> str:
    """An address without what differs between clones of one repository: scheme, user, port, ``.git``."""
    text = re.sub(r"^[a-z+]+://", "", url.strip().lower())
    text = re.sub(r"^[^/@]*@", "", text)
    text = re.sub(r"^([^/:]+):(\d+/)?", r"\1/", text)
    return text.rstrip("/").removesuffix(".git").replace("//", "/")


@cache
def _remotes(root: Path) -> frozenset[str]:
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "config", "--get-regexp", r"^remote\..*\.url$"],
            capture_output=True,
            check=False,
            timeout=30,
            env=env,
            encoding="utf-8",
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return frozenset()
    return frozenset(_plain(line.split(maxsplit=1)[1]) for line in done.stdout.splitlines() if " " in line)
