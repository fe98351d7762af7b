"""``cilium-e2e``: run the suites, list topologies."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path

from cilium_e2e.commands import bench_oracle, bench_probes, faults, verdicts
from cilium_e2e.model import EXIT_INTERRUPTED, HarnessError, InputError, Topology
from cilium_e2e.plugin import options
from cilium_e2e.repository import (
    DEFAULT_PATH,
    Repository,
    clusters_folder,
    load,
    load_topologies,
    load_topology,
    tracked_files,
)
from cilium_e2e.repository.tree import POLICY_KINDS

ACTIONS = ("list", "delete", "sweep")
_DEFAULT_WORKERS = 2
_SCENARIOS = ".scenario.yaml"
_MANIFESTS = {".yaml", ".yml", ".json"}
_POLICY = re.compile(
    rb"""(?:^(?:\xef\xbb\xbf)?[- \t{]*|[{,][ \t]*)["']?kind["']?[ \t]*:[ \t]*["']?(?:%s)\b"""
    % "|".join(sorted(POLICY_KINDS)).encode(),
    re.MULTILINE,
)
_COLLECTED = (".py", ".fuzz", _SCENARIOS)
# Options of pytest whose value may be a test; what follows them is theirs.
_TAKES_A_TEST = {"--deselect", "-k", "-m"}
_TAKES_A_FILE = {"--junit-xml", "--junitxml", "--ignore", "--ignore-glob", "-c", "--confcutdir", "--rootdir"}
# Flags of `run` that pytest knows under another name, because pytest-kind brought it.
_RENAMED = {"--node-image": "--kind-image"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; answers the process's exit code (pytest's for ``run``)."""
    parser = _parser()
    given, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    if rest and given.command != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if "run" in given:  # a command of its own module
            return int(given.run(given))
        return int(given.function(given, rest))
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; what is still buffered must not fail again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except HarnessError as error:
        print(f"cilium-e2e: {error}", file=sys.stderr)  # noqa: T201 - a command line tool talks to its user
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cilium-e2e", description="End-to-end tests for Cilium on GitOps clusters.", allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run",
        allow_abbrev=False,  # what looks like ours cut short is pytest's
        help="create a cluster, let Flux install the tree's Cilium, run the suites, delete the cluster",
        description=(
            "Runs pytest on the suites. Options that are not listed here are pytest's own "
            "(-k, -x, -n, --junit-xml, --keep-cluster, --cluster-name, --kind-bin ...)."
        ),
    )
    _shared(run)
    run.add_argument(
        "--topology", action="append", default=[], metavar="NAME", help="repeatable, for several at once"
    )
    run.add_argument("--backend", choices=options.BACKENDS, default="auto")
    run.add_argument("--list", action="store_true", help="show what would run, and run nothing")
    run.add_argument("--node-image", metavar="IMAGE", help="kind's node image")
    for flag, metavar in (
        ("--chart", "FILE|DIR"),
        ("--chart-repository", "URL"),
        ("--chart-version", "V"),
        ("--flux-manifest", "FILE|URL"),
        ("--agent-image", "IMAGE"),
        ("--step-timeout", "S"),
        ("--context", "NAME"),
        ("--inject", "FAULT"),
        ("--timeline", "FILE"),
        ("--evidence", "FILE"),
    ):
        run.add_argument(flag, metavar=metavar, default=None)
    run.add_argument("--tier", choices=("quick", "full"), default=None, help="quick by default")
    run.add_argument("--tag", action="append", default=[], metavar="TAG", help="only what has this tag")
    run.add_argument("--seed", default=None, metavar="S", help="an order that the number decides, or cases")
    run.add_argument(
        "--fuzz",
        default=None,
        metavar="N",
        help="run N random sets of policies against the oracle, and nothing else; the seed makes them",
    )
    run.add_argument("--fuzz-out", default=None, metavar="DIR", help="where --fuzz writes what it finds")
    run.add_argument(
        "--allow-disruption",
        action="store_true",
        help="on an existing cluster, run what disturbs others, too",
    )
    run.add_argument("--external", action="append", default=[], metavar="NS/NAME=DIR|skip")
    run.add_argument("--feature-gate", action="append", default=[], metavar="NAME=BOOL")
    run.set_defaults(function=_run)
    clusters = commands.add_parser(
        "clusters",
        allow_abbrev=False,
        help="show topologies; list, delete or sweep the clusters that runs have made",
        description=(
            "Without an action: the topologies, and with --topology what the release means on one. "
            "list: the clusters that runs of this user have made. delete NAME ...: delete them. "
            "sweep: delete those that dead runs left behind."
        ),
    )
    clusters.add_argument("action", nargs="?", choices=ACTIONS, default=None)
    clusters.add_argument("names", nargs="*", metavar="NAME", help="for delete")
    clusters.add_argument("--kind-bin", metavar="FILE", help="for delete and sweep; PATH by default")
    _shared(clusters)
    clusters.add_argument("--topology", default=None, metavar="NAME")
    clusters.set_defaults(function=_clusters)
    verdicts.add_arguments(commands)
    faults.add_arguments(commands)
    bench = commands.add_parser("bench", allow_abbrev=False, help="measure, in ratios taken in one run")
    benches = bench.add_subparsers(dest="bench", required=True)
    bench_oracle.add_arguments(benches)
    bench_probes.add_arguments(benches)
    return parser


def _shared(parser: argparse.ArgumentParser) -> None:
    """Options that name the tree, and where topologies are."""
    parser.add_argument("--repository", default=".", metavar="DIR")
    parser.add_argument("--path", default=None, metavar="P")
    parser.add_argument("--release", default=None, metavar="NS/NAME")
    parser.add_argument("--clusters", default=None, metavar="DIR")
    parser.add_argument("--values", action="append", default=[], metavar="FILE")


def _run(given: argparse.Namespace, rest: list[str]) -> int:
    suites = Path(str(resources.files("cilium_e2e.suites")))
    if given.list:
        _describe(given)
        rest = [*rest, "--collect-only", "-q", "-n", "0"]
    elif not any(word == "-n" or word.startswith(("-n", "--numprocesses")) for word in rest):
        # Workers cost more than a simulated cluster takes.
        workers = "0" if given.backend == "simulated" else str(max(_DEFAULT_WORKERS, len(given.topology)))
        rest = ["-n", workers, *(["--dist", "worksteal"] if workers != "0" else []), *rest]
    rest = [word for word in rest if word != "--"]
    rest, chosen = _chosen(rest, suites)
    folders = [] if chosen else _scenario_folders(given, suites)
    words = [
        *("-c", str(suites / "pytest.toml"), "--rootdir", str(suites)),
        *("-p", "cilium_e2e.plugin", "-p", "no:cacheprovider"),
        # Where it is installed, its plugin imports all of it at the end of every run.
        *("-p", "no:hypothesispytest"),
        *_as_pytest(given),
        *(f"{options.OWN_SCENARIOS}={folder}" for folder in folders),
        *rest,
        *(chosen or [*folders, str(suites)]),
    ]
    sys.stdout.flush()
    # In place of this process: pytest must import the package itself to rewrite its assertions, and signals
    # must reach it directly.
    # -P keeps the working directory off the module path: a user's tree may have a folder named kubernetes.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "pytest", *words])  # noqa: S606 - no shell is wanted


def _chosen(words: Sequence[str], suites: Path) -> tuple[list[str], list[str]]:
    """Pytest's other words, and the tests among them: files of the suites, and ids as reports have them.

    Raises:
        InputError: no suite has such a test, and it is no scenario elsewhere either.
    """
    rest: list[str] = []
    chosen: list[str] = []
    before = ""
    for word in words:
        file, mark, _ = word.partition("::")
        taken = before in (_TAKES_A_TEST if mark else _TAKES_A_TEST | _TAKES_A_FILE)
        ours = file.endswith(_COLLECTED) and not word.startswith("-") and not taken
        if ours and (suites / file).is_file() and (mark or not Path(file).is_absolute()):
            chosen.append(str(suites / word))
        elif ours and mark and file.endswith(_SCENARIOS) and Path(file).is_file():
            chosen.append(word)
        elif ours and mark:
            raise InputError("expected a test of the suites, got one that is not there", place=word)
        else:
            rest.append(word)
        before = word
    return rest, chosen


def _as_pytest(given: argparse.Namespace) -> list[str]:
    """The options of ``run`` as the plugin's."""
    words: list[str] = []
    for name, value in vars(given).items():
        if name in {"command", "function", "list"} or value in (None, [], False):
            continue
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
            continue
        flag = _RENAMED.get(flag, flag)
        words += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words


def _scenario_folders(given: argparse.Namespace, suites: Path) -> list[str]:
    """The folders of the tree's own scenario files: those in or below a folder with a policy's file in it.

    The files are looked at as text, because a build of the tree takes a while. The plugin, which has one
    anyway, leaves out scenario files of policies that the tree under test does not apply.
    """
    root = Path(given.repository)
    if not root.is_dir():
        return []  # the plugin says what is wrong with it
    tracked = [Path(name) for name in tracked_files(root).files]
    files = [name for name in tracked if name.name.endswith(_SCENARIOS)]
    outside = [name for name in files if not (root / name).resolve().is_relative_to(suites.resolve())]
    folders = {name.parent for name in outside}
    around = {place for folder in folders for place in (folder, *folder.parents)}
    kept = {
        name.parent
        for name in set(tracked) - set(files)
        if name.parent in around and name.suffix in _MANIFESTS and _holds_a_policy(root / name)
    }
    chosen = {folder for folder in folders if not kept.isdisjoint((folder, *folder.parents))}
    outermost = {folder for folder in chosen if chosen.isdisjoint(folder.parents)}
    return sorted(str((root / folder).resolve()) for folder in outermost)


def _holds_a_policy(file: Path) -> bool:
    with suppress(OSError):
        return _POLICY.search(file.read_bytes()) is not None
    return False


def _clusters(given: argparse.Namespace, rest: list[str]) -> int:
    del rest
    if given.action is not None:
        from cilium_e2e.commands import clusters  # noqa: PLC0415 - needs the engine's client, the rest does not

        if (given.action == "delete") is not bool(given.names):
            raise InputError("names are for delete, and delete needs at least one", place="clusters")
        return clusters.run(given)
    folder = clusters_folder(Path(given.repository), Path(given.clusters) if given.clusters else None)
    for topology in load_topologies(folder):
        if given.topology not in (None, topology.name):
            continue
        _shape(topology)
        for patch in topology.patches:
            _say(f"  differs: {dict(patch.values)} ({patch.reason})")
    if given.topology is not None:
        _release(_load(given, given.topology))
    return 0


def _shape(topology: Topology, indent: str = "") -> None:
    """A topology: what it is for, its nodes, what tests may rely on."""
    shape = f"{topology.control_planes} control-plane, {topology.workers} worker, {topology.ip_family}"
    capabilities = ", ".join(sorted(c.value for c in topology.capabilities)) or "none"
    _say(f"{indent}{topology.name}: {topology.description}")
    _say(f"  {shape}; tier {topology.tier.value}; capabilities: {capabilities}")


def _describe(given: argparse.Namespace) -> None:
    """Each topology, and what the release under test means on it."""
    for name in given.topology or [None]:
        repository = _load(given, name)
        if repository.topology is not None:
            _shape(repository.topology, "topology ")
        _release(repository)


def _release(repository: Repository) -> None:
    """The release under test, its features, and how it differs from the repository's."""
    release = repository.release
    _say(
        f"release {release.name}: chart {release.chart.name} {release.chart.version} from {release.chart.url}"
    )
    _say(f"layers: {' → '.join(layer.name or layer.path for layer in repository.layers)}")
    for layer in repository.external:
        _say(f"external layer {layer.name}: {layer.reason}")
    _say(f"features: {', '.join(sorted(repository.features.names))}")
    for difference in repository.differences:
        _say(f"differs: {difference}")


def _load(given: argparse.Namespace, topology: str | None) -> Repository:
    root = Path(given.repository)
    folder = clusters_folder(root, Path(given.clusters) if given.clusters else None)
    return load(
        root,
        given.path or DEFAULT_PATH,
        given.release,
        values=[Path(file) for file in given.values],
        topology=load_topology(folder, topology or options.TOPOLOGY),
    )


def _say(line: str) -> None:
    print(line)  # noqa: T201 - a command line tool talks to its user


if __name__ == "__main__":
    sys.exit(main())
