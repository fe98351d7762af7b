"""The command line: words for pytest, listings for people, one line for every error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cilium_e2e
from cilium_e2e import cli
from cilium_e2e.commands import clusters
from cilium_e2e.model import EXIT_USAGE
from cilium_e2e.session import teardown
from cilium_e2e.session.registry import Record, Registry

ROOT = Path(__file__).parents[2]
PACKAGE = Path(cilium_e2e.__file__).parents[1]
SUITES = PACKAGE / "cilium_e2e/suites"


class Executed(BaseException):
    """In place of the process that pytest would take over."""


@pytest.fixture
def executed(monkeypatch):
    """Runs the command line and answers the words that pytest is executed with."""
    seen = []

    def execv(path, words):
        seen.append((path, words))
        raise Executed

    monkeypatch.setattr(os, "execv", execv)

    def run(*arguments: str) -> list[str]:
        with pytest.raises(Executed):
            cli.main(["run", *arguments])
        path, words = seen.pop()
        assert path == words[0] == sys.executable
        assert words[1:4] == ["-P", "-m", "pytest"]
        return words[4:]

    return run


def after(words: list[str], flag: str) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words[:-1]) if word == flag]


def test_run_is_pytest_on_the_suites_with_their_own_configuration(executed):
    words = executed()
    assert after(words, "-c") == [str(SUITES / "pytest.toml")]
    assert after(words, "--rootdir") == [str(SUITES)]
    assert after(words, "-p") == ["cilium_e2e.plugin", "no:cacheprovider", "no:hypothesispytest"]
    assert words[-1] == str(SUITES)
    assert "--backend=auto" in words
    assert "--collect-only" not in words


def test_two_workers_share_the_work_unless_told_otherwise(executed):
    words = executed()
    assert (after(words, "-n"), after(words, "--dist")) == (["2"], ["worksteal"])


@pytest.mark.parametrize(
    ("backend", "number", "workers"),
    [("kind", 2, ["2"]), ("kind", 3, ["3"]), ("simulated", 3, ["0"])],
)
def test_several_topologies_get_a_worker_each(executed, backend, number, workers):
    topologies = [f"--topology={name}" for name in ("default", "ha", "single-node")[:number]]
    words = executed(f"--backend={backend}", *topologies)
    assert after(words, "-n") == workers
    assert [word for word in words if word.startswith("--topology")] == topologies


@pytest.mark.parametrize(
    "given", [["-n", "4"], ["-n4"], ["--numprocesses=4"], ["--numprocesses", "4"], ["-n", "0"], ["-nauto"]]
)
def test_the_number_of_workers_can_be_chosen(executed, given):
    words = executed(*given)
    assert [word for word in words if word.startswith(("-n", "--numproc")) or word == given[-1]] == given
    assert "--dist" not in words


def test_options_become_the_plugins(executed):
    words = executed(
        "--backend=kind",
        "--topology",
        "ha",
        "--values",
        "a.yaml",
        "--values=b.yaml",
        "--external=a/b=skip",
        "--node-image=node:x",
        "--chart-version=1.2.3",
        "--flux-manifest=https://flux.example/i.yaml",
        "--step-timeout=5",
        "--feature-gate=A=true",
        "--context=prod",
        "--release=a/b",
        "--path=apps",
        "--clusters=shapes",
        "--repository=tree",
        "--agent-image=python:x",
        "--chart=c.tgz",
        "--chart-repository=https://c.example",
    )
    own = [word for word in words if word.startswith("--") and "=" in word]
    assert sorted(own) == sorted(
        [
            "--backend=kind",
            "--topology=ha",
            "--values=a.yaml",
            "--values=b.yaml",
            "--external=a/b=skip",
            "--kind-image=node:x",
            "--chart-version=1.2.3",
            "--flux-manifest=https://flux.example/i.yaml",
            "--step-timeout=5",
            "--feature-gate=A=true",
            "--context=prod",
            "--release=a/b",
            "--path=apps",
            "--clusters=shapes",
            "--repository=tree",
            "--agent-image=python:x",
            "--chart=c.tgz",
            "--chart-repository=https://c.example",
        ]
    )


def test_what_is_not_given_is_left_to_the_plugin(executed):
    own = [word for word in executed() if word.startswith("--") and "=" in word]
    folder = f"--own-scenarios={ROOT / 'manifests/policies'}"
    assert sorted(own) == ["--backend=auto", folder, "--repository=."]


@pytest.mark.parametrize(
    "given",
    [
        ["-k", "policy and not hubble"],
        ["-x", "--keep-cluster"],
        ["--junit-xml=out.xml"],
        ["--cluster=x"],  # not ours cut short
        ["--cluster-name", "mine"],
        ["more/tests"],
    ],
)
def test_everything_else_is_pytests_in_its_order(executed, given):
    words = executed(*given)
    start = words.index(given[0])
    assert words[start : start + len(given)] == given


def test_a_test_of_the_suites_is_run_alone_by_its_id(executed):
    """As reports name it, relative to the suites."""
    one, two = "policy/test_demo_policy.py::test_x[a b]", "platform/test_nodes.py::test_y"
    words = executed(one, "--topology=ha", two, "--evidence=e.jsonl")
    assert words[-2:] == [str(SUITES / one), str(SUITES / two)]
    assert str(SUITES) not in words[words.index("-n") :]
    assert "--evidence=e.jsonl" in words


@pytest.mark.parametrize(
    "test", ["policy/scenarios/deny.scenario.yaml::some name", "policy/random.fuzz::fuzz[7-0017]"]
)
def test_so_is_a_scenario_or_a_random_case(executed, test):
    words = executed(test, "--fuzz=17", "--seed=7")
    assert words[-1] == str(SUITES / test)
    assert str(SUITES) not in words[words.index("-n") :]
    assert {"--fuzz=17", "--seed=7"} <= set(words)


def test_a_scenario_of_a_file_elsewhere_is_run_alone(executed, tmp_path):
    file = tmp_path / "a.scenario.yaml"
    file.write_text("name: a")
    assert executed(f"{file}::a")[-1] == f"{file}::a"


@pytest.mark.parametrize(
    "before",
    [[], ["-x"], ["-n", "4"], ["-n4"], ["-xv"], ["--junit-xml=out.xml"], ["--keep-cluster"], ["--pdb"]],
)
def test_a_file_of_the_suites_is_run_alone(executed, before):
    words = executed(*before, "policy/scenarios/conflicts.scenario.yaml")
    assert words[-1] == str(SUITES / "policy/scenarios/conflicts.scenario.yaml")
    assert str(SUITES) not in words[words.index("-p") :]


@pytest.mark.parametrize(
    "given",
    [
        ["mine/test_x.py"],
        [
            str(SUITES / "policy/test_demo_policy.py")
        ],  # whoever names a file of the disk means that beside all
        ["--junit-xml", "policy/test_demo_policy.py"],
        ["no.scenario.yaml"],
    ],
)
def test_any_other_file_is_left_to_pytest_beside_the_suites(executed, given):
    words = executed(*given)
    assert words[words.index(given[0]) :][: len(given)] == given
    assert words[-1] == str(SUITES)


@pytest.mark.parametrize("flag", ["--deselect", "-k"])
def test_a_test_that_is_an_options_value_stays_there(executed, flag):
    words = executed(flag, "policy/test_demo_policy.py::test_x")
    assert after(words, flag) == ["policy/test_demo_policy.py::test_x"]
    assert words[-1] == str(SUITES)


def test_a_test_that_no_suite_has_is_exit_4(capsys):
    assert cli.main(["run", "policy/test_nothing.py::test_x"]) == EXIT_USAGE
    assert "policy/test_nothing.py::test_x: expected a test of the suites" in capsys.readouterr().err


def test_a_double_dash_is_understood(executed):
    words = executed("--topology=ha", "--", "-k", "policy")
    assert "--" not in words
    assert after(words, "-k") == ["policy"]
    assert "--topology=ha" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: command"),
        (["fly"], "invalid choice: 'fly'"),
        (["clusters", "paint"], "invalid choice: 'paint'"),
        (["clusters", "--nodes=3"], "unrecognized arguments: --nodes=3"),
        (["clusters", "--topo=ha"], "unrecognized arguments: --topo=ha"),
        (["run", "--backend=minikube"], "invalid choice: 'minikube'"),
    ],
)
def test_a_wrong_command_line_is_exit_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["clusters", "--help"]])
def test_help_is_there(capsys, command):
    with pytest.raises(SystemExit) as caught:
        cli.main(command)
    assert caught.value.code == 0
    assert "usage: cilium-e2e" in capsys.readouterr().out


def test_clusters_lists_every_topology(capsys):
    assert cli.main(["clusters", "--repository", str(ROOT)]) == 0
    out = capsys.readouterr().out
    names = [line.split(":")[0] for line in out.splitlines() if not line.startswith(" ")]
    assert names == ["cgroup-v1", "default", "dual-stack", "ha", "single-node", "talos-like"]
    lines = out.splitlines()
    after_ha = lines[lines.index(next(line for line in lines if line.startswith("ha:"))) + 1]
    assert after_ha.startswith("  3 control-plane, ")
    assert "\nrelease " not in out


def test_clusters_tells_what_the_release_means_on_one(capsys):
    assert cli.main(["clusters", "--repository", str(ROOT), "--topology", "single-node"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("single-node: one node")
    assert "capabilities: none" in out
    assert "\n  differs: {'operator': {'replicas': 1}} (the chart's two operators" in out
    assert "\nrelease cilium/cilium: chart cilium 1.18." in out
    assert "hubble-relay" in out
    assert "\ndiffers: operator.replicas = 1 (topology single-node: " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "nope"], "unknown topology 'nope', expected one of: cgroup-v1, default, "),
        (["--topology", "default", "--release", "a/b"], "a/b"),
        (
            ["--topology", "default", "--path", "nowhere"],
            "--path nowhere: the repository has no folder nowhere",
        ),
        (["--clusters", "nowhere"], "--clusters nowhere: expected a folder of topologies"),
        (["--topology", "default", "--values", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
@pytest.mark.parametrize("command", [["clusters"], ["run", "--list"]], ids=" ".join)
def test_an_error_is_one_line_and_exit_4(capsys, command, arguments, message):
    assert cli.main([*command, "--repository", str(ROOT), *arguments]) == EXIT_USAGE
    captured = capsys.readouterr()
    assert captured.err.startswith("cilium-e2e: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err


def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own; no container engine answers there."""
    (cwd / "docker.py").write_text("raise SystemExit('imported from the working directory')\n")
    return subprocess.run(
        [sys.executable, "-P", "-m", "cilium_e2e.cli", *arguments],
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": str(PACKAGE),
            "DOCKER_HOST": f"unix://{cwd}/no-engine.sock",
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(cwd / "state"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_list_needs_no_engine_and_tells_all(tmp_path):
    done = run("run", "--list", "--topology=single-node", "-n", "3", f"--repository={ROOT}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for beginning in (
        "topology single-node: ",
        "  1 control-plane, 0 worker, ipv4; tier quick; capabilities: none",
        "release cilium/cilium: chart cilium ",
        "features: ",
        "differs: operator.replicas = 1 (topology single-node: ",
        "policy/test_demo_policy.py::test_the_policy_allows_one_identity_on_one_port",
        "would be skipped: ",
        "  connectivity/test_pods.py::test_pods_reach_each_other_between_nodes: topology single-node with ",
    ):
        assert [line for line in lines if line.startswith(beginning)], (
            f"no line {beginning!r} in:\n{done.stdout}"
        )


@pytest.mark.parametrize(("backend", "ci"), [("auto", "true"), ("kind", "")])
def test_without_an_engine_a_run_is_exit_4_and_one_sentence(tmp_path, backend, ci):
    done = run("run", f"--backend={backend}", f"--repository={ROOT}", cwd=tmp_path, CI=ci)
    assert done.returncode == EXIT_USAGE
    errors = [line for line in done.stderr.splitlines() if line]
    assert len(errors) == 1, done.stderr
    assert errors[0].startswith("ERROR: backend kind: no container engine answers. Start Docker")
    assert "Traceback" not in done.stdout


class Kinds:
    """Engine and kind at once: clusters that can be deleted."""

    def __init__(self, *arguments, **options):
        self.name = str(arguments[0]) if arguments else ""
        self.path = options.get("state", Path())
        self.kind_path = options.get("kind_path")

    def ensure_kind(self):
        pass

    def ours(self, cluster):
        return []

    def nodes(self, cluster):
        return []

    def delete(self):
        deleted.append(self.name)

    def close(self):
        deleted.append("closed")


deleted: list[str] = []


@pytest.fixture
def registry(monkeypatch, tmp_path) -> Registry:
    """A user's clusters: one kept, one left behind, one on another engine."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    for module, names in ((clusters, ("Engine", "KindCluster")), (teardown, ("KindCluster",))):
        for name in names:
            monkeypatch.setattr(module, name, Kinds)
    deleted.clear()
    found = Registry(tmp_path / "cilium-e2e")
    found.write(Record("kept", "default", "", keep=True, handle={"kubeconfig": "/k/kept.kubeconfig"}))
    found.write(Record("left", "ha", "", keep=False, handle={}))
    found.write(Record("remote", "ha", "tcp://other", keep=False, handle={}))
    return found


def test_the_clusters_of_a_user_are_listed(registry, capsys):
    with registry.claim("remote"):
        assert cli.main(["clusters", "list"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "kept: topology default, kept",
        "  KUBECONFIG=/k/kept.kubeconfig",
        "left: topology ha, left behind, never ready",
        "remote: topology ha, in use, never ready, on tcp://other",
    ]


def test_no_clusters_is_told(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert cli.main(["clusters", "list"]) == 0
    assert capsys.readouterr().out == "no clusters\n"


def test_sweeping_deletes_what_dead_runs_left_on_this_engine(registry, capsys):
    assert cli.main(["clusters", "sweep"]) == 0
    assert deleted == ["left", "closed"]
    assert [record.name for record in registry.records()] == ["kept", "remote"]
    assert capsys.readouterr().out.endswith("swept: left\n")


def test_clusters_are_deleted_by_name(registry):
    assert cli.main(["clusters", "delete", "kept", "left"]) == 0
    assert deleted == ["kept", "left", "closed"]
    assert [record.name for record in registry.records()] == ["remote"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["delete"], "clusters: names are for delete, and delete needs at least one"),
        (["sweep", "left"], "clusters: names are for delete"),
        (["delete", "other"], "cluster other: no cluster of ours, expected one of: kept, left, remote"),
        (["delete", "left"], "cluster left: another run is using this cluster"),
    ],
)
def test_what_is_not_ours_to_delete_is_refused(registry, capsys, arguments, message):
    with registry.claim("left"):
        assert cli.main(["clusters", *arguments]) == EXIT_USAGE
    assert capsys.readouterr().err.startswith(f"cilium-e2e: {message}")
    assert [name for name in deleted if name != "closed"] == []


class TestScenariosOfTheTree:
    """Which of a tree's scenario files are run beside the suites."""

    POLICY = (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: demo, namespace: default}\n"
    )

    def folders(self, executed, root: Path, files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            file = root / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        words = executed("--repository", str(root))
        rest = words[[index for index, word in enumerate(words) if word.startswith("-")][-1] + 1 :]
        assert rest[-1] == str(SUITES)
        return [str(Path(word).relative_to(root.resolve())) for word in rest if word.startswith(str(root))]

    def test_those_beside_or_below_a_policy(self, executed, tmp_path):
        files = {
            "policies/demo.yaml": self.POLICY,
            "policies/demo.scenario.yaml": "name: x",
            "policies/more/other.scenario.yaml": "name: y",
            "docs/example.scenario.yaml": "name: z",
            "docs/deployment.yaml": "kind: Deployment",
        }
        assert self.folders(executed, tmp_path, files) == ["policies"], "the outermost holds the others"

    @pytest.mark.parametrize(
        "text",
        [
            "---\nkind: NetworkPolicy\n",
            '{"apiVersion": "v1",\n  "kind": "CiliumClusterwideNetworkPolicy"}',
            "kind: List\nitems:\n- apiVersion: cilium.io/v2\n  kind: CiliumNetworkPolicy\n",
            "items:\n  - kind: 'NetworkPolicy'\n",
            '{"apiVersion":"cilium.io/v2","kind":"CiliumNetworkPolicy"}',
            "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy}",
            '"kind" : "NetworkPolicy"',
            "\ufeffkind: NetworkPolicy",
        ],
    )
    def test_a_policy_however_it_is_written(self, executed, tmp_path, text):
        files = {"p/policy.yaml": text, "p/a.scenario.yaml": "name: x"}
        assert self.folders(executed, tmp_path, files) == ["p"]

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("p/about.yaml", "# kind: NetworkPolicy\nkind: ConfigMap"),
            ("p/README.md", "kind: NetworkPolicy"),
            ("p/kinds.yaml", "kind: NetworkPolicyList"),
            ("p/b.scenario.yaml", "policies:\n  - kind: NetworkPolicy"),
        ],
    )
    def test_what_is_no_policy_of_the_tree(self, executed, tmp_path, name, text):
        files = {name: text, "p/a.scenario.yaml": "name: x"}
        assert self.folders(executed, tmp_path, files) == []
