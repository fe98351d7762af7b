"""What a host lacks is told before a cluster is made on it; a good host is never refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.cluster import preflight
from cilium_e2e.cluster.preflight import Host, check, check_room, look
from cilium_e2e.model import EXIT_USAGE, BackendUnavailable, Tier, Topology, TopologyNode
from cilium_e2e.repository import clusters_folder, load_topologies

OURS = clusters_folder(Path(__file__).parents[3], None)
GOOD = Host(cgroup=2, kernel="6.8.0-45-generic", inotify_instances=8192, disk_gib=100.0)
# As Talos and the README have it: the host's own mount.
README_VALUES: dict[str, Any] = {"cgroup": {"autoMount": {"enabled": False}, "hostRoot": "/sys/fs/cgroup"}}


def topology(nodes: int = 3, name: str = "default") -> Topology:
    roles = ["control-plane", *["worker"] * (nodes - 1)]
    return Topology(
        name,
        "some nodes",
        Tier.QUICK,
        frozenset(),
        tuple(TopologyNode(role) for role in roles),
        "ipv4",
        Path("kind.yaml"),
    )


def examine(host: Host, shape: Topology, values: dict[str, Any]) -> None:
    check(host, shape, values)
    check_room(host, shape)


def refused(host: Host, values: dict[str, Any] | None = None, nodes: int = 3) -> BackendUnavailable:
    with pytest.raises(BackendUnavailable) as caught:
        examine(host, topology(nodes), values or {})
    assert caught.value.exit_code == EXIT_USAGE
    assert "\n" not in str(caught.value)
    assert caught.value.hint, "it says what to do"
    return caught.value


class TestLacks:
    def test_cgroup_v1_where_the_release_takes_the_host_s_mount(self) -> None:
        error = refused(dataclasses.replace(GOOD, cgroup=1), README_VALUES)
        assert error.place == "topology default"
        assert "cgroup v1" in error.message
        assert "--topology cgroup-v1" in error.hint

    @pytest.mark.parametrize(
        "values",
        [
            {},
            {"cgroup": {"autoMount": {"enabled": True}}},
            {"cgroup": {"autoMount": {"enabled": True}, "hostRoot": "/run/cilium/cgroupv2"}},
        ],
    )
    def test_cgroup_v1_where_cilium_mounts_its_own(self, values: dict[str, Any]) -> None:
        check(dataclasses.replace(GOOD, cgroup=1), topology(), values)

    @pytest.mark.parametrize("kernel", ["5.9.16", "5.4.0-150-generic", "4.19.0", "3.10.0-1160.el7.x86_64"])
    def test_an_old_kernel(self, kernel: str) -> None:
        error = refused(dataclasses.replace(GOOD, kernel=kernel))
        assert error.message == f"expected Linux 5.10 or newer, the engine's host has {kernel}"

    def test_few_inotify_instances(self) -> None:
        error = refused(dataclasses.replace(GOOD, inotify_instances=64))
        assert error.place == "fs.inotify.max_user_instances"
        assert "72 inotify instances for 3 nodes, this host allows 64" in error.message
        assert error.hint == "sudo sysctl fs.inotify.max_user_instances=512"

    def test_many_nodes_need_more_than_the_usual_advice(self) -> None:
        error = refused(dataclasses.replace(GOOD, inotify_instances=512), nodes=24)
        assert error.hint == "sudo sysctl fs.inotify.max_user_instances=576"

    def test_a_full_disk(self) -> None:
        error = refused(dataclasses.replace(GOOD, disk_gib=1.25))
        assert str(error) == (
            "the container engine's data: expected 6 GiB of free disk for 3 nodes, found 1.2 GiB. "
            "Free some, for example with docker image prune."
        )

    def test_no_room_matters_to_new_clusters_only(self) -> None:
        check(dataclasses.replace(GOOD, inotify_instances=1, disk_gib=0.1), topology(), {})

    def test_a_smaller_topology_needs_less(self) -> None:
        small = dataclasses.replace(GOOD, inotify_instances=24, disk_gib=2.0)
        check_room(small, topology(1))
        refused(small, nodes=2)


good_hosts = st.builds(
    Host,
    cgroup=st.just(2),
    kernel=st.builds(
        "{}.{}{}".format,
        st.integers(6, 20),
        st.integers(0, 99),
        st.sampled_from(["", ".0", ".12-generic", ".0-rc1", "-microsoft-standard-WSL2", ".6-linuxkit"]),
    )
    | st.sampled_from(["5.10.0", "5.15.167.4-microsoft-standard-WSL2", "", "unknown"]),
    inotify_instances=st.none() | st.integers(24 * 9, 1 << 20),
    disk_gib=st.none() | st.floats(18, 1e5),
)
values = st.sampled_from(
    [{}, README_VALUES, {"cgroup": None}, {"cgroup": {"hostRoot": "/sys/fs/cgroup"}}, {"cgroup": {}}]
)


@given(good_hosts, st.integers(1, 9), values)
def test_a_good_host_is_never_refused(host: Host, nodes: int, given_values: dict[str, Any]) -> None:
    examine(host, topology(nodes), given_values)


@given(
    st.sampled_from([{"kernel": "4.4.0"}, {"inotify_instances": 23}, {"disk_gib": 0.5}, {"cgroup": 1}]),
    good_hosts,
    st.integers(1, 9),
)
def test_a_single_lack_is_always_told(lack: dict[str, Any], host: Host, nodes: int) -> None:
    refused(dataclasses.replace(host, **lack), README_VALUES, nodes)


@pytest.mark.parametrize("shape", load_topologies(OURS), ids=lambda t: t.name)
def test_every_topology_of_ours_fits_on_a_good_host(shape: Topology) -> None:
    examine(GOOD, shape, README_VALUES)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


class TestLook:
    @pytest.fixture(autouse=True)
    def disk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(0, 0, 7 * 2**30))

    def test_an_engine_on_this_machine(self, tmp_path: Path) -> None:
        info = {"CgroupVersion": "2", "KernelVersion": "6.8.0", "DockerRootDir": str(tmp_path)}
        host = look(info, local=True)
        assert (host.cgroup, host.kernel, host.disk_gib) == (2, "6.8.0", 7.0)
        assert host.inotify_instances is None or host.inotify_instances > 0

    @pytest.mark.parametrize("root", ["", "/nowhere/at/all", None])
    def test_one_whose_files_are_not_here(self, root: str | None) -> None:
        """A virtual machine's engine answers on a local socket; this machine's disk says nothing about it."""
        host = look({"CgroupVersion": "2", "KernelVersion": "6.8.0", "DockerRootDir": root}, local=True)
        assert (host.inotify_instances, host.disk_gib) == (None, None)

    def test_one_on_another_machine(self, tmp_path: Path) -> None:
        host = look({"CgroupVersion": "2", "DockerRootDir": str(tmp_path)}, local=False)
        assert (host.inotify_instances, host.disk_gib) == (None, None)

    def test_one_whose_folder_is_nobody_s_business(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> bool:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(Path, "exists", refuse)
        assert look({"DockerRootDir": str(tmp_path)}, local=True).disk_gib is None

    def test_one_that_says_nothing_of_cgroups_is_an_old_one(self) -> None:
        assert look({}, local=False) == Host(1, "", None, None)
