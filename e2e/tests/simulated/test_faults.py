"""Each fault that a simulated cluster can have is caught by tests of the suites; without one they pass.

The suites run in this process, on one tree that is loaded once; the clock is virtual.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from cilium_e2e.cluster.simulated import faults
from cilium_e2e.plugin import clusters
from cilium_e2e.session import simulated

ROOT = Path(__file__).parents[3]
SUITES = Path(str(resources.files("cilium_e2e.suites")))

_SCENARIO = "policy/scenarios/witnessed-{}.scenario.yaml::{}"
_DEMO = "policy/test_demo_policy.py::test_the_policy_allows_one_identity_on_one_port"
_DROPPED = "hubble/test_demo_flows.py::test_the_dropped_flow_says_why[frontend-8081]"
_FORWARDED = "hubble/test_demo_flows.py::test_the_forwarded_flow_names_the_policy"
_PODS = "connectivity/test_pods.py::test_pods_of_a_node_reach_each_other"

CAUGHT_BY = {
    "policy-not-enforced": [_DEMO],
    "egress-ignored": [
        _SCENARIO.format("default-deny", "egress is denied by default, ingress is not touched")
    ],
    "ingress-ignored": [_DEMO],
    "policy-outlives-deletion": [
        "policy/test_demo_changes.py::test_without_the_policy_there_is_access_again"
    ],
    "cidr-as-any": [_SCENARIO.format("outside", "a prefix with an exception")],
    "stale-identity": ["policy/test_demo_changes.py::test_a_pod_gains_and_loses_access_with_its_label"],
    "stale-ipcache": ["policy/test_demo_changes.py::test_a_pod_gains_and_loses_access_with_its_label"],
    "cross-node-loss": ["connectivity/test_pods.py::test_pods_reach_each_other_between_nodes"],
    "dns-failing": ["connectivity/test_dns.py::test_the_name_server_is_a_service_itself"],
    "wrong-backend": ["connectivity/test_services.py::test_a_service_is_reached_at_its_address"],
    "one-backend": ["connectivity/test_services.py::test_every_backend_of_a_service_answers[HTTP]"],
    "relay-missing-node": ["hubble/test_demo_flows.py::test_relay_sees_every_node"],
    "flow-without-reason": [_DROPPED],
    "flow-wrong-policy": [_FORWARDED],
    "flow-missing-drops": [_DROPPED],
    "lost-events": ["hubble/test_flow_kinds.py::test_tcp_udp_and_icmp_are_forwarded_both_ways"],
    "agent-crash": [
        "connectivity/test_services.py::test_a_service_is_reached_at_its_address",
        "connectivity/test_services.py::test_a_service_is_reached_by_name",
        "platform/test_agents.py::test_nothing_has_crashed",
    ],
    "api-errors": [_PODS],
    "exec-streams-die": [_PODS],
    "helm-failing": ["platform/test_flux.py::test_the_release_is_deployed"],
    "value-not-reaching": [
        "platform/test_configuration.py::test_running_agents_have_the_newest_configuration"
    ],
    "never-ready": [_PODS],
}
"""A fault to tests of which at least one must fail; a test found to miss its fault is a finding."""


@pytest.fixture(scope="module")
def prepared():
    """The tree, read once: reading it takes longer than simulating it."""
    made = {}
    real = simulated._prepare

    def prepare(options):
        if options.repository not in made:
            made[options.repository] = real(options)
        return made[options.repository]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "_prepare", prepare)
        patch.setattr(
            clusters,
            "load",
            lambda *_, **__: next(iter(made.values())).repository,  # made by the session
        )
        yield


@pytest.fixture
def run(pytester, prepared, monkeypatch):
    """Runs tests of the suites on a simulated cluster, in this process."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.chdir(ROOT)

    def call(tests, *options):
        words = ["-c", str(SUITES / "pytest.toml"), "--rootdir", str(SUITES), "-p", "cilium_e2e.plugin"]
        words += [f"-pno:{name}" for name in ("cacheprovider", "hypothesispytest", "pytest_cov", "xdist")]
        words += [
            "--backend=simulated",
            "--tier=full",
            f"--repository={ROOT}",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        return pytester.inline_run(*words, *options, *(str(SUITES / test) for test in tests))

    return call


def test_the_table_has_every_fault():
    assert list(CAUGHT_BY) == [fault.name for fault in faults.FAULTS]


def test_without_a_fault_all_of_these_tests_pass(run):
    tests = sorted({test for some in CAUGHT_BY.values() for test in some})
    passed, skipped, failed = run(tests, "--tier=full").listoutcomes()
    assert [report.nodeid for report in failed] == []
    assert [report.nodeid for report in skipped] == []
    assert len(passed) >= len(tests)


@pytest.mark.parametrize("fault", [fault.name for fault in faults.FAULTS])
def test_a_fault_is_caught(run, fault):
    result = run(CAUGHT_BY[fault], f"--inject={fault}", "-x")
    _, skipped, failed = result.listoutcomes()
    assert skipped == []
    assert len(failed) >= 1, f"{fault} went unnoticed by {CAUGHT_BY[fault]}"
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_run_with_a_fault_has_the_full_tier_unless_told_otherwise(run):
    test = CAUGHT_BY["stale-identity"]
    given = ("--inject=stale-identity", "--collect-only")
    assert len(run(test, *given).getcalls("pytest_deselected")) == 0
    assert len(run(test, *given, "--tier=quick").getcalls("pytest_deselected")) == 1


@pytest.mark.parametrize(
    "scenarios",
    [
        "names.scenario.yaml",
        "hosts.scenario.yaml",
        "entities-and-addresses.scenario.yaml::addresses by a group",
    ],
)
def test_what_the_oracle_alone_cannot_show_runs_on_the_simulated_cluster(run, scenarios):
    """Names that proxies learn, nodes, groups: its agents and name servers have a part in these."""
    passed, skipped, failed = run([f"policy/scenarios/{scenarios}"]).listoutcomes()
    assert [report.nodeid for report in failed] == []
    # Where routing is native, which this topology's is not.
    native = "the API server may, by its entity"
    assert [report.nodeid for report in skipped if native not in report.nodeid] == []
    assert passed
