"""Each policy of ``cases/`` in force: outcomes, the oracle and Hubble's flows all say what the case says."""

import pytest

from cilium_e2e.scenario import Lab
from cilium_e2e.suites.policy.cases import Case, load
from cilium_e2e.suites.policy.run import run_case
from cilium_e2e.suites.policy.stage import Stage

CASES = [
    pytest.param(
        case, id=case.id, marks=[pytest.mark.requires(*case.requires), pytest.mark.tier(case.tier.value)]
    )
    for case in load()
]


@pytest.mark.requires("hubble-relay", "policy-enforcement-default")
@pytest.mark.parametrize("case", CASES)
def test_case(lab: Lab, stage: Stage, case: Case) -> None:
    """What is denied got through before; then outcome, oracle, verdict, drop reason and node agree."""
    run_case(lab, stage, case)
