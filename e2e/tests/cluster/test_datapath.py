"""What an agent's datapath knows, from recordings and in the words Cilium's source has for it."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster.datapath import Backend, Frontend, parse_frontends, parse_ipcache
from cilium_e2e.model import ClusterStateError
from support.recordings import recorded


def test_recorded_services() -> None:
    found = {(f.ip, f.port, f.protocol): f for f in parse_frontends(recorded("cilium-dbg-service-list"))}
    assert len(found) == 6
    dns = found["10.96.0.10", 53, "TCP"]
    assert dns.kind == "ClusterIP"
    assert dns.backends == {Backend("10.244.1.67", 53, "TCP"), Backend("10.244.1.209", 53, "TCP")}
    assert found["10.96.0.10", 53, "UDP"].backends == {
        Backend("10.244.1.67", 53, "UDP"),
        Backend("10.244.1.209", 53, "UDP"),
    }


def test_backends_that_leave_get_nothing_new() -> None:
    spec = {
        "frontend-address": {"ip": "fd00:0::9", "port": 80, "protocol": "ANY"},
        "backend-addresses": [
            {"ip": "fd00::1", "port": 8080, "protocol": "ANY", "state": "active"},
            {"ip": "fd00::2", "port": 8080, "state": "terminating"},
        ],
        "flags": {"type": "ClusterIP"},
    }
    assert parse_frontends([{"spec": spec}, {"spec": {}}]) == [
        Frontend("ClusterIP", "fd00::9", 80, "", frozenset({Backend("fd00::1", 8080, "")}))
    ]
    assert str(Backend("fd00::1", 80, "")) == "[fd00::1]:80"


def test_an_ipcache() -> None:
    line = "identity={} encryptkey=0 tunnelendpoint=172.18.0.3 flags=hastunnel"
    answer = {
        "10.244.1.7/32": [line.format(15205)],
        "fd00:0:0::1/128": [line.format(4)],
        "0.0.0.0/0": [line.format(2)],
        "10.244.1.7/32@3": [line.format(99)],
    }
    assert parse_ipcache(answer, place="x") == {"10.244.1.7": 15205, "fd00::1": 4}


def test_an_ipcache_in_other_words() -> None:
    with pytest.raises(ClusterStateError, match=r"in x: expected identity=N for 10.0.0.1/32, got 'what'"):
        parse_ipcache({"10.0.0.1/32": ["what"]}, place="in x")
