"""What the kernel said about a live agent, and what it would say of a wrong one."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster.process import (
    CAPABILITIES,
    Connection,
    capabilities,
    parse_config,
    parse_netfilter,
    parse_process,
)
from cilium_e2e.model import ClusterStateError
from support.recordings import FOLDER

PROCESS = (FOLDER / "agent-process.txt").read_text()
NETFILTER = (FOLDER / "node-netfilter.txt").read_text()
LISTED = {
    "CHOWN",
    "KILL",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "SYS_ADMIN",
    "DAC_OVERRIDE",
    "FOWNER",
    "SETGID",
    "SETUID",
}


class TestProcess:
    def test_of_a_live_agent(self) -> None:
        process = parse_process(PROCESS, place="agent")
        assert process.config_folder == "/tmp/cilium/config-map"  # noqa: S108
        assert process.environment["KUBERNETES_SERVICE_HOST"] == "localhost"
        assert process.environment["KUBERNETES_SERVICE_PORT"] == "7445"
        # The README's list but for SYS_RESOURCE, which no process of that machine had.
        assert process.effective == process.bounding == LISTED
        assert Connection("127.0.0.1", 7445) in process.connections

    def test_connections_of_other_processes_do_not_count(self) -> None:
        whole = parse_process(PROCESS, place="agent").connections
        other = PROCESS.replace("socket:[", "pipe:[")
        assert whole
        assert parse_process(other, place="agent").connections == frozenset()

    @pytest.mark.parametrize("part", ["cmdline", "environ", "status", "fd", "tcp"])
    def test_a_missing_part(self, part: str) -> None:
        with pytest.raises(ClusterStateError, match=f"agent x: nothing was read of {part}"):
            parse_process(PROCESS.replace(f"== {part}\n", f"== not-{part}\n"), place="agent x")

    def test_another_process(self) -> None:
        with pytest.raises(ClusterStateError, match="expected cilium-agent as process 1, got 'sh'"):
            parse_process(PROCESS.replace("cilium-agent", "sh", 1), place="agent x")

    @pytest.mark.parametrize(
        ("remote", "connection", "loopback"),
        [
            ("0100007F:1D15", Connection("127.0.0.1", 7445), True),
            ("030012AC:192B", Connection("172.18.0.3", 6443), False),
            ("00000000000000000000000001000000:1D15", Connection("::1", 7445), True),
            ("0000000000000000FFFF00000100007F:1D15", Connection("127.0.0.1", 7445), True),
        ],
    )
    def test_addresses(self, remote: str, connection: Connection, *, loopback: bool) -> None:
        socket = f"  0: 0100007F:B7B4 {remote} 01 0:0 02:0 0 0 0 77 2 0"
        text = PROCESS.partition("== fd")[0] + f"== fd\n3 -> socket:[77]\n== tcp\n{socket}\n"
        assert parse_process(text, place="agent").connections == {connection}
        assert connection.loopback is loopback

    def test_listening_and_closing_sockets_do_not_count(self) -> None:
        lines = "".join(f"0: 0100007F:B7B4 0100007F:1D15 {state} 0 0 0 0 0 77\n" for state in ("0A", "06"))
        text = PROCESS.partition("== fd")[0] + f"== fd\n3 -> socket:[77]\n== tcp\n{lines}"
        assert parse_process(text, place="agent").connections == frozenset()


class TestCapabilities:
    def test_sys_module_is_seen(self) -> None:
        assert capabilities("00000000002170eb") == LISTED | {"SYS_MODULE"}

    def test_none_and_unknown(self) -> None:
        assert capabilities("0000000000000000") == frozenset()
        assert capabilities(f"{1 << 50:016x}") == {"50"}

    @given(st.sets(st.sampled_from(CAPABILITIES)))
    def test_any_set(self, names: set[str]) -> None:
        mask = sum(1 << CAPABILITIES.index(name) for name in names)
        assert capabilities(f"\t{mask:016x}\n") == names


class TestNetfilter:
    def test_of_a_live_node(self) -> None:
        found = parse_netfilter(NETFILTER)
        assert found.kube_proxy == ()
        assert found.cilium_chains > 5

    @pytest.mark.parametrize(
        ("line", "name"),
        [
            (":KUBE-SERVICES - [0:0]", "KUBE-SERVICES"),
            (":KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]", "KUBE-SVC-NPX46M4PTMTKRN6Y"),
            (":KUBE-SEP-XYZ - [0:0]", "KUBE-SEP-XYZ"),
            (":KUBE-NODEPORTS - [0:0]", "KUBE-NODEPORTS"),
            ("table ip kube-proxy", "kube-proxy"),
            ("kube-ipvs0", "kube-ipvs0"),
        ],
    )
    def test_what_kube_proxy_leaves(self, line: str, name: str) -> None:
        assert parse_netfilter(f"{NETFILTER}{line}\n").kube_proxy == (name,)

    @pytest.mark.parametrize(
        "line", [":KUBE-FIREWALL - [0:0]", ":KUBE-KUBELET-CANARY - [0:0]", "table ip nat"]
    )
    def test_what_the_kubelet_makes(self, line: str) -> None:
        assert parse_netfilter(line).kube_proxy == ()

    def test_another_namespace(self) -> None:
        assert parse_netfilter("lo\neth0\n").cilium_chains == 0


class TestConfig:
    @given(st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.text(), min_size=1))
    def test_any_values(self, options: dict[str, str]) -> None:
        lines = [f"{name} {base64.b64encode(value.encode()).decode()}" for name, value in options.items()]
        assert parse_config("\n".join(lines), place="agent") == options

    @pytest.mark.parametrize("text", ["", "ipam not*base64", "ipam /////w=="])
    def test_what_is_no_configuration(self, text: str) -> None:
        with pytest.raises(ClusterStateError, match="agent x"):
            parse_config(text, place="agent x")
