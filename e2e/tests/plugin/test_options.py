"""From pytest's options to a run's; what does not exist is told before anything is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from cilium_e2e.model import InputError
from cilium_e2e.plugin import options
from cilium_e2e.session import Options


@pytest.fixture
def parsed(pytester, monkeypatch):
    """The options of a command line, in an empty folder with a values file, a chart and a kind."""
    monkeypatch.setenv("XDG_STATE_HOME", str(pytester.path / "state"))
    for name in ("values.yaml", "chart.tgz", "kind", "kubeconfig"):
        (pytester.path / name).touch()
    for name in ("tree", "shapes"):
        (pytester.path / name).mkdir()

    def parse(*arguments: str) -> Options:
        (only,) = parse.all(*arguments).values()
        return only

    def parse_all(*arguments: str) -> dict[str, Options]:
        return options.from_config(pytester.parseconfig("-p", "cilium_e2e.plugin", *arguments))

    parse.all = parse_all
    return parse


def test_the_defaults(parsed, pytester):
    assert parsed("--backend=auto") == Options(backend="auto", repository=pytester.path)


def test_every_option_arrives_and_paths_are_absolute(parsed, pytester):
    here = pytester.path
    assert parsed(
        "--backend=kind",
        "--topology=ha",
        "--clusters=shapes",
        "--repository=tree",
        "--path=apps",
        "--release=a/b",
        "--values=values.yaml",
        "--values=chart.tgz",
        "--chart=chart.tgz",
        "--chart-repository=https://c.example",
        "--chart-version=1.2.3",
        "--flux-manifest=flux.yaml",
        "--external=a/b=skip",
        "--external=a/c=dir=with=equals",
        "--agent-image=python:x",
        "--kind-image=node:x",
        "--kind-bin=kind",
        "--cluster-name=mine",
        "--keep-cluster",
        "--step-timeout=2.5",
        "--feature-gate=A=true",
        "--feature-gate=B=false",
        "--kubeconfig=kind",
        "--context=prod",
    ) == Options(
        backend="kind",
        topology="ha",
        clusters=here / "shapes",
        repository=here / "tree",
        path="apps",
        release="a/b",
        values=(here / "values.yaml", here / "chart.tgz"),
        chart=here / "chart.tgz",
        chart_repository="https://c.example",
        chart_version="1.2.3",
        flux_manifest="flux.yaml",
        external={"a/b": "skip", "a/c": "dir=with=equals"},
        agent_image="python:x",
        node_image="node:x",
        kind_bin=Path("kind"),
        cluster_name="mine",
        keep=True,
        timeout_s=2.5,
        feature_gates={"A": True, "B": False},
        kubeconfig=here / "kind",
        context="prod",
    )


def test_several_topologies_differ_in_nothing_but_what_is_one_clusters_own(parsed, pytester):
    given = ("--backend=kind", "--topology=ha", "--topology=default", "--chart-version=1.2.3")
    assert parsed.all(*given) == {
        name: Options(backend="kind", repository=pytester.path, topology=name, chart_version="1.2.3")
        for name in ("ha", "default")
    }
    named = parsed.all(*given, "--cluster-name=mine", "--timeline=t/x.json", "--keep-cluster")
    assert list(named) == ["ha", "default"]
    assert [one.cluster_name for one in named.values()] == ["mine-ha", "mine-default"]
    assert [one.timeline for one in named.values()] == [
        pytester.path / "t/x.ha.json",
        pytester.path / "t/x.default.json",
    ]
    assert all(one.keep for one in named.values())


def test_one_topology_keeps_the_names_given(parsed, pytester):
    one = parsed("--backend=kind", "--topology=ha", "--cluster-name=mine", "--timeline=x.json")
    assert (one.topology, one.cluster_name, one.timeline) == ("ha", "mine", pytester.path / "x.json")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--backend=kind", "--topology=ha"), "--topology ha: expected each topology once"),
        (("--backend=existing",), "an existing cluster is one, asked for are the topologies ha, default"),
    ],
)
def test_topologies_that_do_not_go_together_are_refused(parsed, words, message):
    with pytest.raises(InputError) as refused:
        parsed.all("--topology=ha", "--topology=default", *words)
    assert message in str(refused.value)


@pytest.mark.parametrize("several", [False, True])
def test_the_command_that_runs_a_test_again_names_its_topology_alone(parsed, pytester, several):
    given = ["-p", "cilium_e2e.plugin", "--backend=kind", "--cluster-name=mine", "--topology=ha"]
    if several:
        given.append("--topology=default")
    config = pytester.parseconfig(*given)
    found = options.reproduced(config, options.from_config(config)["ha"])
    assert found["--topology"] == "ha"
    assert found["--cluster-name"] == ("mine-ha" if several else "mine")
    if several:
        assert "--topology" not in options.reproduced(config, options.from_config(config)["default"])


def test_pytest_kinds_own_name_means_none(parsed):
    assert parsed("--backend=kind", "--cluster-name=pytest-kind").cluster_name == ""


def test_it_works_without_pytest_kind(parsed):
    assert parsed("-p", "no:pytest-kind", "--backend=kind").keep is False


@pytest.mark.parametrize("flag", ["--values", "--chart", "--clusters", "--repository", "--kubeconfig"])
def test_what_does_not_exist_is_named(parsed, flag):
    with pytest.raises(InputError, match=f"^{flag} nowhere: no such file or folder$"):
        parsed("--backend=kind", f"{flag}=nowhere")


@pytest.mark.parametrize("text", ["", "a/b", "a/b=", "a=skip", "=x"])
def test_a_malformed_external_layer_is_refused(parsed, text):
    with pytest.raises(pytest.UsageError, match="expected NAMESPACE/NAME=DIR or NAMESPACE/NAME=skip"):
        parsed("--backend=kind", f"--external={text}")


@pytest.mark.parametrize("text", ["", "A", "A=yes", "=true", "a b=true"])
def test_a_malformed_feature_gate_is_refused(parsed, text):
    with pytest.raises(pytest.UsageError, match="expected NAME=true or NAME=false"):
        parsed("--backend=kind", f"--feature-gate={text}")


def test_a_missing_values_file_costs_no_cluster(nested, text_of):
    nested.tests("def test_fine():\n    pass\n")
    result = nested.run("--values=nowhere.yaml")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert text_of(result).count("--values nowhere.yaml: no such file or folder") == 1
    assert "Traceback" not in text_of(result)
    assert nested.events == []
