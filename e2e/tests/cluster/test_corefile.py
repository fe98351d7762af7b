"""A zone of ours in somebody's Corefile: idempotent, and all else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.corefile import served, with_zone
from cilium_e2e.model import ClusterStateError

# As kubeadm installs it.
KUBEADM = """\
.:53 {
    errors
    health {
       lameduck 5s
    }
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
       pods insecure
       fallthrough in-addr.arpa ip6.arpa
       ttl 30
    }
    prometheus :9153
    forward . /etc/resolv.conf {
       max_concurrent 1000
    }
    cache 30
    loop
    reload
    loadbalance
}
"""
OURS = """\
# cilium-e2e: begin
e2e.test:53 {
    errors
    forward . 172.18.0.5 {
        prefer_udp
        max_fails 0
    }
}
# cilium-e2e: end
"""
ADDRESSES = st.ip_addresses().map(str)
WORDS = st.sampled_from(
    [".:53", "{", "}", "errors", "# a comment", "corp.example", "forward . 10.0.0.1", "", "e2e"]
)
FILES = st.lists(WORDS, max_size=20).map("\n".join) | st.just(KUBEADM)


def test_what_is_written() -> None:
    assert with_zone(KUBEADM, "e2e.test", "172.18.0.5") == KUBEADM + OURS
    assert served(KUBEADM + OURS) == [".", "e2e.test"]


def test_an_address_that_has_changed() -> None:
    before = with_zone(KUBEADM, "e2e.test", "172.18.0.9")
    assert with_zone(before, "e2e.test", "172.18.0.5") == KUBEADM + OURS


def test_what_others_have_added_behind_ours_stays() -> None:
    theirs = "corp.example:53 {\n    forward . 10.0.0.1\n}\n"
    assert with_zone(KUBEADM + OURS + theirs, "e2e.test", "172.18.0.5") == KUBEADM + theirs + OURS


@given(FILES, ADDRESSES, ADDRESSES)
def test_it_is_idempotent_and_keeps_everything_else(corefile: str, first: str, then: str) -> None:
    once = with_zone(corefile, "e2e.test", first)
    assert once.startswith(corefile)
    assert with_zone(once, "e2e.test", first) == once
    assert with_zone(once, "e2e.test", then) == with_zone(corefile, "e2e.test", then)
    assert once.count(f"forward . {first} {{") == 1 + corefile.count(f"forward . {first} {{")


@given(FILES, ADDRESSES)
def test_the_block_is_one_of_the_file_s(corefile: str, address: str) -> None:
    """Unless the file's own braces do not match, in which case CoreDNS would not take it anyway."""
    if corefile.split().count("{") == corefile.split().count("}") == 0 or corefile == KUBEADM:
        assert "e2e.test" in " ".join(served(with_zone(corefile, "e2e.test", address)))


@pytest.mark.parametrize(
    "head", ["e2e.test:53", "e2e.test", "dns://e2e.test.:5353", "corp.example e2e.test", "a:53,\nE2E.TEST:53"]
)
def test_a_zone_that_somebody_else_serves_is_refused(head: str) -> None:
    with pytest.raises(ClusterStateError, match=r"a server block for e2e\.test is there already") as caught:
        with_zone(f"{KUBEADM}{head} {{\n    forward . 10.0.0.1\n}}\n", "e2e.test", "172.18.0.5")
    assert caught.value.place == "Corefile of the cluster's DNS"


@pytest.mark.parametrize(
    "text",
    ["# e2e.test {\n", "x.e2e.test {\n}\n", ".:53 {\n    forward e2e.test 10.0.0.1 {\n    }\n}\n"],
)
def test_what_only_looks_like_it(text: str) -> None:
    assert "e2e.test" not in served(text)
    assert with_zone(text, "e2e.test", "172.18.0.5").endswith(OURS)


def test_a_block_of_ours_that_somebody_has_cut_is_no_longer_ours() -> None:
    with pytest.raises(ClusterStateError, match="is there already"):
        with_zone(KUBEADM + OURS.replace("# cilium-e2e: end\n", ""), "e2e.test", "172.18.0.5")
