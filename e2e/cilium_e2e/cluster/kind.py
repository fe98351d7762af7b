"""kind clusters: pytest-kind's ``KindCluster``, with its defects cured.

What pytest-kind 22.11.1 does that cannot stand here, and what is done instead: it creates clusters without
a configuration (so the CNI stays on), downloads an unchecked amd64 binary, keeps its files under the
working directory, and takes any cluster of the same name for its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import platform
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_kind.cluster import KindCluster as _KindCluster

from cilium_e2e.cluster.engine import disk_hint
from cilium_e2e.model import BackendUnavailable, EngineError

KIND_VERSION = "v0.33.0"
_URL = "https://github.com/kubernetes-sigs/kind/releases/download/{version}/kind-{system}-{machine}"
# The sha256 sums that the release publishes beside its binaries.
_SHA256 = {
    ("linux", "amd64"): "aee6151561422756b764a4ae28e7f44cda5af5a9eead3cc9985112b1de8d8e0d",
    ("linux", "arm64"): "20022bee6cfcd5086cb7234d218e3454e6090022f2a8f55d1fa7fcf42c3867a2",
    ("darwin", "amd64"): "5a99f26f57246dc9319dd294803313197a0f34d33c525b3ea8b655db5916ece0",
    ("darwin", "arm64"): "0c8c7dbe5e23594a198b786c4bc13dacc101fa6196b0cb0b23a1ca44e61f4b4f",
}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?")
_DOWNLOAD_TIMEOUT_S = 60
# How long an interrupted kind may take to end before it is killed.
_END_S = 15.0


class KindCluster(_KindCluster):  # type: ignore[misc]  # the library ships no types
    """One kind cluster with a kubeconfig of its own.

    Args:
        name: the cluster's name, at most 40 characters, so that its nodes' names are host names.
        state: a folder for the kubeconfig and a downloaded kind.
        image: the node image; the one kind.yaml names, or kind's default, when None.
        kind_path: a kind binary; PATH is searched, then a checked download made, when None.
    """

    def __init__(
        self, name: str, *, state: Path, image: str | None = None, kind_path: Path | None = None
    ) -> None:
        # Not super().__init__(): it would make ".pytest-kind" in whatever directory this is.
        if not _NAME.fullmatch(name):
            raise BackendUnavailable(
                f"expected a cluster name of at most 40 lower-case letters, digits and '-', got {name!r}",
                place="--cluster-name",
            )
        self.name = name
        self.image = image
        # Absolute, because kind runs where its configuration lies.
        self.path = state.resolve()
        self.path.mkdir(parents=True, exist_ok=True)
        self.kubeconfig_path = self.path / f"{name}.kubeconfig"
        self.kind_path = kind_path.absolute() if kind_path is not None else None
        self.kubectl_path: Path | None = None

    @property
    def api(self) -> Any:
        """pytest-kind's pykube client, made only for those who ask."""
        import pykube  # noqa: PLC0415 - only tests written against pytest-kind want it

        return pykube.HTTPClient(pykube.KubeConfig.from_file(self.kubeconfig_path))

    def ensure_kind(self) -> None:
        """Find kind: the path given, then PATH, then a download with a checked sum.

        Raises:
            BackendUnavailable: none of these gives one.
        """
        if self.kind_path is not None:
            if not (self.kind_path.is_file() and os.access(self.kind_path, os.X_OK)):
                raise BackendUnavailable(f"{self.kind_path} is not an executable file", place="--kind-bin")
        elif found := shutil.which("kind"):
            self.kind_path = Path(found).absolute()
        else:
            self.kind_path = _download(self.path / f"kind-{KIND_VERSION}")

    def ensure_kubectl(self) -> None:
        """Find kubectl on PATH, for pytest-kind's ``kubectl()``; the harness itself needs none here."""
        found = shutil.which("kubectl")
        if found is None:
            raise BackendUnavailable("kubectl is not on PATH", place="--kind-kubectl-bin")
        self.kubectl_path = Path(found)

    def names(self) -> list[str]:
        """The names of all kind clusters of this engine."""
        return self._kind("get", "clusters", "--quiet").split()

    def create(self, config_file: str | Path | None = None) -> None:
        """Create the cluster.

        Raises:
            EngineError: kind could not, or a cluster of this name exists; the message holds kind's words.
        """
        self.ensure_kind()
        if self.name in self.names():
            raise EngineError(
                "a cluster of this name exists already",
                place=f"kind cluster {self.name}",
                hint=f"Choose another --cluster-name, or delete it: kind delete cluster --name {self.name}",
            )
        options = ["--name", self.name, "--kubeconfig", str(self.kubeconfig_path)]
        if self.image:
            options += ["--image", self.image]
        if config_file is not None:
            options += ["--config", str(Path(config_file).absolute())]
        # Created empty and private first: kind would leave it readable to others.
        self.kubeconfig_path.touch(mode=0o600)
        self.kubeconfig_path.chmod(0o600)
        # Some topologies mount files that lie beside their kind.yaml, by paths relative to it.
        where = Path(config_file).parent if config_file is not None else None
        self._kind("create", "cluster", *options, cwd=where)

    def delete(self) -> None:
        """Delete the cluster and its kubeconfig; one that does not exist is fine."""
        self.ensure_kind()
        self._kind("delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig_path))
        self.kubeconfig_path.unlink(missing_ok=True)
        self.kubeconfig_path.with_suffix(".kubeconfig.lock").unlink(missing_ok=True)

    def _kind(self, *arguments: str, cwd: Path | None = None) -> str:
        command: Sequence[str] = [str(self.kind_path), *arguments]
        try:
            # A session of its own: a Ctrl-C at the terminal reaches us, and we decide what becomes of kind.
            with subprocess.Popen(
                command,
                cwd=cwd,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                # Podman or nerdctl would make nodes that this harness cannot reach.
                env={**os.environ, "KIND_EXPERIMENTAL_PROVIDER": "docker"},
            ) as process:
                try:
                    out, err = process.communicate()
                except BaseException:
                    _end(process)
                    raise
        except OSError as error:
            raise BackendUnavailable(f"kind cannot be run: {error}", place=str(self.kind_path)) from error
        if process.returncode != 0:
            words = (err.strip() or out.strip())[-1500:]
            raise EngineError(
                f"exit code {process.returncode}: {words}",
                place=f"kind {' '.join(arguments[:2])}",
                hint=disk_hint(words),
            )
        return out


def _end(process: subprocess.Popen[str]) -> None:
    """End kind and what it started, and wait for that: only then can what it has made be deleted."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=_END_S)
            return


def _download(target: Path) -> Path:
    """The pinned kind release for this machine, checked; kept for the next run."""
    system, machine = platform.system().lower(), _MACHINES.get(platform.machine().lower(), platform.machine())
    expected = _SHA256.get((system, machine))
    hint = "Install kind (https://kind.sigs.k8s.io) on PATH, or give --kind-bin."
    if expected is None:
        raise BackendUnavailable(
            f"no kind release is known for {system} on {machine}", place="kind", hint=hint
        )
    if target.exists() and hashlib.sha256(target.read_bytes()).hexdigest() == expected:
        return target
    url = _URL.format(version=KIND_VERSION, system=system, machine=machine)
    try:
        with urllib.request.urlopen(url, timeout=_DOWNLOAD_TIMEOUT_S) as answer:  # noqa: S310 - a constant https URL
            content = answer.read()
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise BackendUnavailable(
            f"kind is not on PATH and cannot be downloaded from {url}: {error}", place="kind", hint=hint
        ) from error
    if (actual := hashlib.sha256(content).hexdigest()) != expected:
        raise BackendUnavailable(
            f"expected sha256 {expected}, got {actual}", place=url, hint="The download is not used. " + hint
        )
    part = target.with_name(f"{target.name}.{os.getpid()}.part")  # others may be downloading too
    part.write_bytes(content)
    part.chmod(0o755)
    part.replace(target)
    return target
