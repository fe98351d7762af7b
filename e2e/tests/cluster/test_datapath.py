"""What an agent's datapath knows, from recordings and in the words Cilium's source has for it."""

from __future__ import annotations

import ipaddress
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.datapath import Backend, Frontend, decode_ipcache, parse_frontends, parse_ipcache
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


def entry(address: str, identity: int, *, bits: int | None = None, cluster: int = 0) -> dict[str, list[str]]:
    """An entry of the map as bpftool prints it, put together by the layout in Cilium's bpf/lib/eps.h."""
    ip = ipaddress.ip_address(address)
    key = (32 + (ip.max_prefixlen if bits is None else bits)).to_bytes(4, sys.byteorder)
    key += cluster.to_bytes(2, sys.byteorder) + b"\0" + bytes([1 if ip.version == 4 else 2])
    key += ip.packed.ljust(16, b"\0")
    value = identity.to_bytes(4, sys.byteorder) + bytes(20)
    return {"key": [f"{byte:#04x}" for byte in key], "value": [f"{byte:#04x}" for byte in value]}


def test_the_map_of_a_live_node() -> None:
    """Two entries as they were: a prefix of one bit less than an address, and a pod."""
    prefix = {
        "key": "3f 00 00 00 00 00 00 01 0a f4 00 04 00 00 00 00 00 00 00 00 00 00 00 00",
        "value": "19 00 00 01 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00",
    }
    pod = {
        "key": "40 00 00 00 00 00 00 01 0a f4 00 05 00 00 00 00 00 00 00 00 00 00 00 00",
        "value": "33 81 00 00 ac 12 00 02 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02",
    }
    entries = [
        {name: [f"0x{word}" for word in words.split()] for name, words in e.items()} for e in (prefix, pod)
    ]
    assert decode_ipcache(entries, place="x") == {"10.244.0.5": 0x8133}


@given(
    st.dictionaries(st.ip_addresses().map(str), st.integers(0, 2**32 - 1)),
    st.lists(st.tuples(st.ip_addresses().map(str), st.integers(0, 31), st.integers(0, 5))),
)
def test_single_addresses_of_this_cluster_are_found(
    known: dict[str, int], others: list[tuple[str, int, int]]
) -> None:
    entries = [entry(ip, number) for ip, number in known.items()]
    entries += [entry(ip, 7, bits=bits, cluster=cluster) for ip, bits, cluster in others]
    entries += [entry(ip, 7, cluster=1) for ip, _, _ in others]
    assert decode_ipcache(entries, place="x") == known


def test_an_entry_that_is_deleted_while_the_map_is_read_is_none() -> None:
    gone = {**entry("10.0.0.1", 7), "value": {"error": "No such file or directory"}}
    assert decode_ipcache([gone, entry("10.0.0.2", 8)], place="x") == {"10.0.0.2": 8}


@pytest.mark.parametrize(
    "wrong",
    [
        {"key": ["0x40"], "value": entry("10.0.0.1", 7)["value"]},
        {"key": entry("10.0.0.1", 7)["key"], "value": ["0x01"]},
        {"key": [*entry("10.0.0.1", 7)["key"][:7], "0x03", *entry("10.0.0.1", 7)["key"][8:]], "value": []},
        {"key": ["what"], "value": []},
        {"error": "no"},
    ],
)
def test_a_map_laid_out_in_another_way(wrong: dict[str, Any]) -> None:
    with pytest.raises(ClusterStateError, match="in x: expected entries as cilium_ipcache_v2 has them"):
        decode_ipcache([wrong], place="in x")
