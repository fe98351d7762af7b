"""What this host must have before a cluster is worth starting: each lack has one clear error."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cilium_e2e.model import BackendUnavailable, Topology
from cilium_e2e.repository import dig

# Seen on nodes with systemd, containerd, the kubelet and a dozen pods: about twenty each.
_INOTIFY_INSTANCES_PER_NODE = 24
_DISK_GIB_PER_NODE = 2
# Cilium 1.18's requirement for the features that every release of it uses.
_KERNEL = (5, 10)


@dataclass(frozen=True, slots=True)
class Host:
    """The engine's host, as far as it can be seen from here.

    Attributes:
        cgroup: 1 or 2.
        kernel: the kernel's release.
        inotify_instances: ``fs.inotify.max_user_instances``; None where the engine is on another machine.
        disk_gib: free space where the engine keeps its data; None likewise.
    """

    cgroup: int
    kernel: str
    inotify_instances: int | None
    disk_gib: float | None


def look(info: Mapping[str, Any], *, local: bool) -> Host:
    """Read the host.

    Args:
        info: the engine's own ``info``.
        local: whether the engine is on this machine, so that its files can be looked at.
    """
    root = str(info.get("DockerRootDir") or "")
    # An engine in a virtual machine answers on a socket of this machine, but its files are not here.
    here = local and bool(root) and _exists(Path(root))
    instances = Path("/proc/sys/fs/inotify/max_user_instances")
    return Host(
        cgroup=int(info.get("CgroupVersion") or 1),
        kernel=str(info.get("KernelVersion", "")),
        inotify_instances=int(instances.read_text()) if here and instances.exists() else None,
        disk_gib=shutil.disk_usage(root).free / 2**30 if here else None,
    )


def check(host: Host, topology: Topology, values: Mapping[str, Any]) -> None:
    """Refuse what cannot work, on a new cluster or a kept one.

    Args:
        host: what there is.
        topology: what is to be made.
        values: the release's effective values.

    Raises:
        BackendUnavailable: the message says what lacks and what to do.
    """
    if host.cgroup == 1 and not _mounts_cgroup2(values):
        raise BackendUnavailable(
            "this host has cgroup v1, where /sys/fs/cgroup is no cgroup2 mount: Cilium's agents would "
            "become ready without a working datapath",
            place=f"topology {topology.name}",
            hint="Use --topology cgroup-v1, or --values with cgroup.autoMount.enabled and another hostRoot.",
        )
    numbers = re.match(r"(\d+)\.(\d+)", host.kernel)
    if numbers and (int(numbers[1]), int(numbers[2])) < _KERNEL:
        raise BackendUnavailable(
            f"expected Linux {_KERNEL[0]}.{_KERNEL[1]} or newer, the engine's host has {host.kernel}",
            place="kernel",
            hint="Cilium 1.18 needs it.",
        )


def check_room(host: Host, topology: Topology) -> None:
    """Refuse a host that has no room for one more cluster; one that is up has taken its room already.

    Args:
        host: what there is.
        topology: what is to be made.

    Raises:
        BackendUnavailable: the message says what lacks and what to do.
    """
    count = len(topology.nodes)
    needed = _INOTIFY_INSTANCES_PER_NODE * count
    if host.inotify_instances is not None and host.inotify_instances < needed:
        raise BackendUnavailable(
            f"expected at least {needed} inotify instances for {count} nodes, this host allows "
            f"{host.inotify_instances}: containers would fail with 'too many open files'",
            place="fs.inotify.max_user_instances",
            hint=f"sudo sysctl fs.inotify.max_user_instances={max(512, needed)}",
        )
    wanted = _DISK_GIB_PER_NODE * count
    if host.disk_gib is not None and host.disk_gib < wanted:
        raise BackendUnavailable(
            f"expected {wanted} GiB of free disk for {count} nodes, found {host.disk_gib:.1f} GiB",
            place="the container engine's data",
            hint="Free some, for example with docker image prune.",
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder above it is not ours to look into
        return False


def _mounts_cgroup2(values: Mapping[str, Any]) -> bool:
    """Whether Cilium will find a cgroup2 mount that is not the host's own."""
    root = dig(values, "cgroup.hostRoot") or "/run/cilium/cgroupv2"
    return dig(values, "cgroup.autoMount.enabled") is not False and root != "/sys/fs/cgroup"
