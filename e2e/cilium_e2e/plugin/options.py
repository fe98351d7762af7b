"""The plugin's options. pytest-kind's own are reused under their names, never added again."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cilium_e2e.model import Backend, InputError

if TYPE_CHECKING:  # an inert plugin imports nothing of it
    from cilium_e2e.session import Options

BACKENDS = ("auto", "kind", "existing", "simulated")
AGENT_IMAGE = "docker.io/library/python:3.13-slim"
STEP_TIMEOUT_S = 600.0
TOPOLOGY = "default"
OWN_SCENARIOS = "--own-scenarios"
"""Of the command line tool: a folder whose scenario files are the tree's own, found by their text."""
_PYTEST_KIND_DEFAULT_NAME = "pytest-kind"


# Options that decide what a run tests, in the order a command names them; not those that name its reports.
_REPRODUCED = (
    *("--backend", "--topology", "--clusters", "--repository", "--path", "--release", "--values"),
    *("--chart", "--chart-repository", "--chart-version", "--flux-manifest", "--external", "--feature-gate"),
    *("--agent-image", "--kind-image", "--kind-bin", "--cluster-name", "--keep-cluster"),
    *("--kubeconfig", "--context", "--step-timeout", "--inject"),
)


def external(text: str) -> tuple[str, str]:
    """``NAMESPACE/NAME=DIR`` or ``NAMESPACE/NAME=skip``."""
    name, equals, what = text.partition("=")
    if not equals or "/" not in name or not what:
        raise argparse.ArgumentTypeError(f"expected NAMESPACE/NAME=DIR or NAMESPACE/NAME=skip, got {text!r}")
    return name, what


def feature_gate(text: str) -> tuple[str, bool]:
    """``NAME=true`` or ``NAME=false``."""
    name, _, value = text.partition("=")
    if not name.isalnum() or value not in {"true", "false"}:
        raise argparse.ArgumentTypeError(f"expected NAME=true or NAME=false, got {text!r}")
    return name, value == "true"


def add(parser: pytest.Parser) -> None:
    """Register the options; none of them does anything unless ``--backend`` is given."""
    group = parser.getgroup("cilium-e2e", "end-to-end tests for Cilium on GitOps clusters")
    option = group.addoption
    option(OWN_SCENARIOS, action="append", default=[], metavar="DIR", help=argparse.SUPPRESS)
    option("--backend", choices=BACKENDS, default=None, help="Where to run; without it the plugin is inert.")
    option(
        "--topology",
        action="append",
        default=[],
        metavar="NAME",
        help="A folder of clusters/ (default: default); repeatable, for several at once.",
    )
    option(
        "--clusters", default=None, metavar="DIR", help="Where topologies are (default: the repository's)."
    )
    option("--repository", default=".", metavar="DIR", help="The root of the GitOps tree (default: here).")
    option("--path", default=None, metavar="P", help="The folder Flux is pointed at, relative to the root.")
    option("--release", default=None, metavar="NS/NAME", help="The HelmRelease, where the tree has several.")
    option(
        "--values",
        action="append",
        default=[],
        metavar="FILE",
        help="Chart values over the release's; repeatable.",
    )
    option("--chart", default=None, metavar="FILE|DIR", help="A chart in place of the repository's.")
    option("--chart-repository", default="", metavar="URL", help="Another chart repository.")
    option("--chart-version", default="", metavar="V", help="Another version of the chart.")
    option("--flux-manifest", default="", metavar="FILE|URL", help="Flux's install.yaml (default: pinned).")
    option(
        "--external",
        action="append",
        default=[],
        type=external,
        metavar="NS/NAME=DIR|skip",
        help="A folder in place of a layer's external source; repeatable.",
    )
    option("--timeline", default=None, metavar="FILE", help="Write the timeline there, as JSON.")
    option(
        "--evidence", default=None, metavar="FILE", help="Write each test's evidence there, as JSON Lines."
    )
    option("--inject", default="", metavar="FAULT", help="A fault for the simulated cluster to have.")
    option("--context", default="", metavar="NAME", help="The kubeconfig's context, for --backend existing.")
    option(
        "--feature-gate",
        action="append",
        default=[],
        type=feature_gate,
        metavar="NAME=BOOL",
        help="A Kubernetes feature gate that this host needs; repeatable.",
    )
    option("--agent-image", default=AGENT_IMAGE, metavar="IMAGE", help="A Python image.")
    option(
        "--allow-disruption",
        action="store_true",
        help="On an existing cluster, run what disturbs others, too: restarts, cluster-wide policies.",
    )
    option(
        "--step-timeout",
        type=float,
        default=STEP_TIMEOUT_S,
        metavar="S",
        help="Longest wait for one step, in seconds.",
    )


def reproduced(config: pytest.Config, options: Options) -> dict[str, object]:
    """Flag to value as a command line has them, of what decides what a run tests; defaults are left out.

    Args:
        config: the run's.
        options: those of the topology that is to be tested again, it alone.
    """
    defaults: dict[str, object] = {
        "--topology": TOPOLOGY,
        "--repository": ".",
        "--agent-image": AGENT_IMAGE,
        "--step-timeout": STEP_TIMEOUT_S,
        "--cluster-name": "",
    }
    own = {"--topology": options.topology, "--cluster-name": options.cluster_name}
    found: dict[str, object] = {}
    fuzzed = ("--fuzz", "--seed", "--fuzz-out") if config.getoption("--fuzz", default=None) else ()
    for flag in (*_REPRODUCED, *fuzzed):
        value = own[flag] if flag in own else config.getoption(flag, default=None)
        if value == defaults.get(flag):
            continue
        if isinstance(value, list):
            value = [_pair(one) if isinstance(one, (list, tuple)) else one for one in value]
        found[flag] = value
    return found


def _pair(pair: Sequence[object]) -> str:
    name, what = pair
    return f"{name}={str(what).lower() if isinstance(what, bool) else what}"


def from_config(config: pytest.Config) -> dict[str, Options]:
    """The run's options, one a topology, in the order given.

    What names something that only one cluster can have, its name and the timeline's file, gets the topology's
    name where there are several.

    Raises:
        InputError: a file or folder that an option names does not exist, or the topologies do not go
            together.
    """
    names = config.getoption("--topology") or [TOPOLOGY]
    given = _of_one(config)
    if len(names) == 1:
        return {names[0]: replace(given, topology=names[0])}
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("expected each topology once", place=f"--topology {twice[0]}")
    if given.backend == Backend.EXISTING.value:
        raise InputError(
            f"an existing cluster is one, asked for are the topologies {', '.join(names)}",
            place="--topology",
            hint="Give one, or none.",
        )
    return {
        name: replace(
            given,
            topology=name,
            cluster_name=f"{given.cluster_name}-{name}" if given.cluster_name else "",
            timeline=given.timeline and given.timeline.with_stem(f"{given.timeline.stem}.{name}"),
        )
        for name in names
    }


def _of_one(config: pytest.Config) -> Options:
    from cilium_e2e.session import Options  # noqa: PLC0415 - only for runs that asked for it

    get = config.getoption
    name = get("--cluster-name", default="")
    repository = _existing(Path(get("--repository")), "--repository")
    kind_bin = get("--kind-bin", default=None)
    kubeconfig = get("--kubeconfig", default=None)
    return Options(
        backend=get("--backend"),
        clusters=_existing(Path(get("--clusters")), "--clusters") if get("--clusters") else None,
        repository=repository,
        release=get("--release"),
        values=tuple(_existing(Path(file), "--values") for file in get("--values")),
        chart=_existing(Path(get("--chart")), "--chart") if get("--chart") else None,
        chart_repository=get("--chart-repository"),
        chart_version=get("--chart-version"),
        flux_manifest=get("--flux-manifest"),
        external=dict(get("--external")),
        agent_image=get("--agent-image"),
        node_image=get("--kind-image", default=None),
        feature_gates=dict(get("--feature-gate")),
        kind_bin=Path(kind_bin) if kind_bin else None,
        cluster_name="" if name == _PYTEST_KIND_DEFAULT_NAME else name,
        keep=bool(get("--keep-cluster", default=False)),
        kubeconfig=_existing(Path(kubeconfig), "--kubeconfig") if kubeconfig else None,
        context=get("--context"),
        inject=get("--inject"),
        timeline=Path(get("--timeline")).resolve() if get("--timeline") else None,
        timeout_s=get("--step-timeout"),
        **({"path": get("--path")} if get("--path") else {}),
    )


def _existing(path: Path, flag: str) -> Path:
    """The path made absolute: workers may have another working directory."""
    if not path.exists():
        raise InputError("no such file or folder", place=f"{flag} {path}")
    return path.resolve()
