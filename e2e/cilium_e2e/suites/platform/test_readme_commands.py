"""README's ``kubectl`` commands, run as written: they work, or they are a finding and fail as it says."""

import os
import shlex
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.repository import find_kubectl
from cilium_e2e.session import Handle
from cilium_e2e.suites.demo import DEMO_POLICY, REQUIREMENT

Run = Callable[[str], subprocess.CompletedProcess[str]]
TIMEOUT_S = 30.0
LAST_LINES = 10
_CONTEXT = "CILIUM_E2E_CONTEXT"

pytestmark = [
    pytest.mark.flowless,
    pytest.mark.requires("real"),  # kubectl asks a server over the network
    pytest.mark.tier("full"),
]


@pytest.fixture(scope="module")
def namespace(cluster: LiveCluster) -> str:
    """The README's ``cilium``, or where another tree's release is."""
    return cluster.info.cilium_namespace


@pytest.fixture(scope="module")
def environment(handle: Handle) -> dict[str, str]:
    """A shell's, with the cluster's kubeconfig and nothing of the user's own."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")}
    return {**kept, "KUBECONFIG": str(handle.kubeconfig), _CONTEXT: handle.context}


@pytest.fixture(scope="module")
def run(environment: dict[str, str]) -> Run:
    """Runs a command line as somebody who copies it from the README."""
    context = environment[_CONTEXT]

    def call(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            _arguments(command, context),
            capture_output=True,
            check=False,
            env=environment,
            encoding="utf-8",
            timeout=TIMEOUT_S,
        )

    return call


def _arguments(command: str, context: str) -> list[str]:
    program, *arguments = shlex.split(command)
    assert program == "kubectl"
    return [str(find_kubectl()), *(["--context", context] if context else []), *arguments]


def _rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    """A table that kubectl prints, row by row."""
    assert done.returncode == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    return [dict(zip(header.split(), line.split(), strict=False)) for line in lines]


def _running(row: dict[str, str]) -> bool:
    ready, _, wanted = row["READY"].partition("/")
    return row["STATUS"] == "Running" and ready == wanted


def test_get_pods_shows_the_operator(run: Run, namespace: str, cluster: LiveCluster) -> None:
    """Claim "kubectl get pods -n cilium": the operator's status; it shows the agents and the rest, too."""
    rows = [
        row for row in _rows(run(f"kubectl get pods -n {namespace}")) if not row["NAME"].startswith("ce2e-")
    ]
    operators = [row for row in rows if row["NAME"].startswith("cilium-operator-")]
    assert operators
    assert len(rows) - len(operators) >= len(cluster.info.nodes)
    assert [row for row in rows if not _running(row)] == []


@pytest.mark.requires("hubble-relay")
def test_get_pods_shows_relay(run: Run, namespace: str) -> None:
    """Claim "kubectl get pods -n cilium -l k8s-app=hubble-relay": relay alone, and running."""
    rows = _rows(run(f"kubectl get pods -n {namespace} -l k8s-app=hubble-relay"))
    assert rows
    assert all(row["NAME"].startswith("hubble-relay-") and _running(row) for row in rows), rows


@pytest.mark.requires("hubble-ui")
def test_port_forward_shows_hubble_ui(environment: dict[str, str], namespace: str) -> None:
    """Claim "Access Hubble UI: kubectl port-forward -n cilium svc/hubble-ui 12000:80": a page comes."""
    with _forward(f"kubectl port-forward -n {namespace} svc/hubble-ui 12000:80", environment):
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open("http://127.0.0.1:12000/", timeout=TIMEOUT_S) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read().lower()


@pytest.mark.requires(REQUIREMENT)
def test_get_policies_lists_the_demo_policy(run: Run) -> None:
    """Claim "kubectl get ciliumnetworkpolicies -A": the tree's policy is there, and valid."""
    rows = _rows(run("kubectl get ciliumnetworkpolicies -A"))
    found = [row for row in rows if (row["NAMESPACE"], row["NAME"]) == DEMO_POLICY]
    assert [row["VALID"] for row in found] == ["True"], rows


def test_logs_shows_every_agents_log(run: Run, namespace: str, cluster: LiveCluster) -> None:
    """Claim "Check Cilium agent logs: kubectl logs -n cilium -l k8s-app=cilium".

    Finding: with a selector kubectl prints the last ten lines of each pod, and not which pod a line is from.
    """
    done = run(f"kubectl logs -n {namespace} -l k8s-app=cilium")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("level=" in line for line in lines), lines
    assert len(lines) <= LAST_LINES * len(cluster.info.nodes)


def test_there_is_no_ciliumconfig(run: Run) -> None:
    """Finding: "View Cilium configuration: kubectl get ciliumconfig -o yaml" is false, there is no such kind.

    Should Cilium ever have one, this fails, and the finding is to be taken back.
    """
    done = run("kubectl get ciliumconfig -o yaml")
    assert done.returncode != 0, done.stdout
    assert """the server doesn't have a resource type "ciliumconfig\"""" in done.stderr


def test_the_configuration_is_in_a_configmap(run: Run, namespace: str) -> None:
    """What serves in place of ``kubectl get ciliumconfig``, as docs/readme-claims.md says."""
    done = run(f"kubectl -n {namespace} get configmap cilium-config -o yaml")
    assert done.returncode == 0, done.stderr
    assert "\n  kube-proxy-replacement: " in done.stdout


@pytest.mark.parametrize("command", ["map list", "policy get"])
def test_agents_commands_run_in_the_agent(run: Run, namespace: str, command: str) -> None:
    """What serves in place of "cilium map list" and "cilium policy get": cilium-dbg, in an agent's pod."""
    done = run(f"kubectl -n {namespace} exec ds/cilium -c cilium-agent -- cilium-dbg {command}")
    assert done.returncode == 0, done.stderr
    assert {"map list": "cilium_ipcache", "policy get": "Revision: "}[command] in done.stdout


@contextmanager
def _forward(command: str, environment: dict[str, str]) -> Iterator[None]:
    """A port forward for as long as the block lasts.

    Fails when it says nothing within the time, or ends.
    """
    with subprocess.Popen(
        _arguments(command, environment[_CONTEXT]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
    ) as process:
        watchdog = threading.Timer(TIMEOUT_S, process.kill)
        watchdog.start()
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert first.startswith("Forwarding from "), f"{command}: {first}"
            yield
        finally:
            watchdog.cancel()
            process.kill()
