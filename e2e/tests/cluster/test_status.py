"""What a live agent said about itself, and what it would say if it were ill."""

from __future__ import annotations

import copy
import json

import pytest

from cilium_e2e.cluster.status import parse_modules, parse_status
from cilium_e2e.model import ClusterStateError
from support.recordings import FOLDER, recorded

HEALTH = (FOLDER / "cilium-dbg-health.json").read_text()


class TestStatus:
    def test_of_a_live_agent(self) -> None:
        status = parse_status(recorded("cilium-dbg-status"))
        assert {name: state for name, (state, _) in status.states.items()} == {
            "cilium": "Ok",
            "cni-file": "Ok",
            "health": "Ok",
            "hubble": "Ok",
            "kubernetes": "Ok",
        }
        assert (status.kube_proxy_replacement, status.socket_lb, status.attach_mode) == ("True", True, "tcx")
        assert (status.routing, status.tunnel_protocol, status.host_routing) == ("Tunnel", "vxlan", "Legacy")
        assert (status.masquerading, status.encryption, status.envoy) == ("iptables", "Disabled", "embedded")
        assert {"router", "health"} <= set(status.addresses.values())
        assert all(address.startswith("10.244.0.") for address in status.addresses)
        assert status.failing == ()
        assert status.hubble == "Ok"

    def test_a_failing_controller_is_named(self) -> None:
        answer = copy.deepcopy(recorded("cilium-dbg-status"))
        answer["controllers"][1]["status"] |= {
            "consecutive-failure-count": 3,
            "last-failure-msg": "connection refused",
        }
        assert parse_status(answer).failing == (f"{answer['controllers'][1]['name']}: connection refused",)

    def test_a_controller_that_has_recovered_is_not(self) -> None:
        answer = copy.deepcopy(recorded("cilium-dbg-status"))
        answer["controllers"][1]["status"] |= {"failure-count": 3, "last-failure-msg": "connection refused"}
        assert parse_status(answer).failing == ()

    @pytest.mark.parametrize("name", ["cilium", "kubernetes", "cni-file", "hubble", "cluster"])
    def test_what_is_missing_is_not_ok(self, name: str) -> None:
        answer = {key: value for key, value in recorded("cilium-dbg-status").items() if key != name}
        key = "health" if name == "cluster" else name
        assert parse_status(answer).states[key] == ("missing", "")

    def test_an_agent_that_says_nothing(self) -> None:
        status = parse_status({})
        assert not status.socket_lb
        assert status.masquerading == "Disabled"
        assert status.kube_proxy_replacement == status.envoy == status.host_routing == ""


class TestModules:
    def test_of_a_live_agent(self) -> None:
        modules = {module.name: module for module in parse_modules(HEALTH, place="agent")}
        assert modules["agent.datapath.orchestrator.job-reinitialize"].level == "OK"
        ill = [module for module in modules.values() if module.level == "Degraded"]
        assert [module.name for module in ill] == ["agent.controlplane.envoy-proxy.timer-job-version-check"]
        assert "executable file not found" in ill[0].message

    def test_one_that_is_no_component(self) -> None:
        entry = {"ID": {"Module": ["agent", "daemon"], "Component": None}, "Level": "OK", "Message": "fine"}
        (module,) = parse_modules(json.dumps(entry), place="agent")
        assert (module.name, module.message) == ("agent.daemon", "fine")

    @pytest.mark.parametrize("text", ["", "  \n", "unknown command", '{"ID": 1}', HEALTH[:-20]])
    def test_what_is_no_table(self, text: str) -> None:
        with pytest.raises(ClusterStateError, match="agent x: expected module health"):
            parse_modules(text, place="agent x")
