"""Small GitOps trees, written for one test each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[3]

HELMRELEASE = """\
apiVersion: helm.toolkit.fluxcd.io/v2
kind: HelmRelease
metadata:
  name: cilium
  namespace: cilium
spec:
  interval: 30m
  chart:
    spec:
      chart: cilium
      version: 1.18.4
      sourceRef:
        kind: HelmRepository
        name: cilium
  values:
    kubeProxyReplacement: true
"""

Tree = Callable[[Mapping[str, str]], Path]


@pytest.fixture
def repository_root() -> Path:
    """This repository."""
    return ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Write files, given as path to text, and answer their root."""

    def write(files: Mapping[str, str]) -> Path:
        for name, text in files.items():
            file = tmp_path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text), encoding="utf-8")
        return tmp_path

    return write


@pytest.fixture
def helmrelease() -> str:
    """A HelmRelease of Cilium."""
    return HELMRELEASE


def flux_kustomization(
    name: str, path: str, *, depends: str = "", more: str = "", source: str = "flux-system"
) -> str:
    """A Flux Kustomization as YAML; ``more`` is put below ``spec``, indented by two."""
    lines = [
        "---",
        "apiVersion: kustomize.toolkit.fluxcd.io/v1",
        "kind: Kustomization",
        "metadata:",
        f"  name: {name}",
        "  namespace: flux-system",
        "spec:",
        "  interval: 10m",
        "  prune: true",
        f"  path: {path}",
        f"  sourceRef: {{kind: GitRepository, name: {source}}}",
        *(
            [f"  dependsOn: [{', '.join(f'{{name: {each}}}' for each in depends.split())}]"]
            if depends
            else []
        ),
        *(f"  {line}" for line in dedent(more).splitlines()),
    ]
    return "\n".join(lines) + "\n"


@pytest.fixture
def layer() -> Callable[..., str]:
    """See :func:`flux_kustomization`."""
    return flux_kustomization
