"""What the kernel says about an agent: its process, its sockets, its node's packet filter.

Read inside the agent's container through the Kubernetes API. The agent is process 1 of its container and
lives in its node's network namespace, so this works on any backend, without a way into the node itself.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cilium_e2e.model import ClusterStateError

PROCESS_SCRIPT = """\
for part in cmdline environ; do echo "== $part"; tr '\\0' '\\n' < /proc/1/$part; done
echo "== status"; cat /proc/1/status
echo "== fd"; ls -l /proc/1/fd
echo "== tcp"; cat /proc/net/tcp; cat /proc/net/tcp6 2>/dev/null || true
"""

NETFILTER_SCRIPT = """\
for tool in iptables-nft-save iptables-legacy-save ip6tables-nft-save ip6tables-legacy-save; do
  if command -v $tool >/dev/null; then $tool; fi
done
if command -v nft >/dev/null; then nft list tables; fi
ls /sys/class/net
"""

CONFIG_SCRIPT = """\
cd "$0"
for file in *; do printf '%s ' "$file"; base64 -w0 "$file"; echo; done
"""
"""Takes the folder as ``$0``; a value may have lines of its own."""

HELLO_SCRIPT = """\
hello() {
  answer=$(timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1" && printf "GET /hello HTTP/1.0\\r\\n\\r\\n" >&3 &&
    head -n 1 <&3' "$1" "$2" 2>/dev/null)
  echo "$1 $answer"
}
for address in "$@"; do hello "$address" "$0" & done
wait
"""
"""Takes the port as ``$0`` and addresses; bash, because an agent's image has no HTTP client."""

CONFIG_FOLDER = "/tmp/cilium/config-map"  # noqa: S108 - Cilium's own path, in its container

_CAPABILITIES = """\
CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE
NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT
SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ
PERFMON BPF CHECKPOINT_RESTORE
"""
CAPABILITIES = tuple(_CAPABILITIES.split())
"""Names without ``CAP_``; the place is the number. Linux, include/uapi/linux/capability.h."""

_ESTABLISHED = "01"
_KUBE_PROXY_CHAIN = re.compile(r"^:(KUBE-(?:SERVICES|SVC-|SEP-|NODEPORTS|EXT-|FW-|XLB-)\S*)")
_CILIUM_CHAIN = re.compile(r"^:CILIUM_")
_KUBE_PROXY_TABLE = re.compile(r"^table \S+ (kube-proxy)$")
_IPVS_DEVICE = "kube-ipvs0"


@dataclass(frozen=True, slots=True)
class Connection:
    """An established TCP connection's far end."""

    address: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether it stays on the node."""
        return ipaddress.ip_address(self.address).is_loopback

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class AgentProcess:
    """The agent's process, as its kernel sees it.

    Attributes:
        command: its command line.
        environment: what it was started with.
        effective: capabilities it uses.
        bounding: capabilities it could ever have.
        connections: its own established TCP connections, not those of its node's other processes.
    """

    command: tuple[str, ...]
    environment: dict[str, str]
    effective: frozenset[str]
    bounding: frozenset[str]
    connections: frozenset[Connection]

    @property
    def config_folder(self) -> str:
        """Where it has its configuration from: written when its pod started, and not since."""
        flag = "--config-dir="
        return next((word.removeprefix(flag) for word in self.command if word.startswith(flag)), "")


def parse_process(text: str, *, place: str) -> AgentProcess:
    """The output of :data:`PROCESS_SCRIPT`.

    Raises:
        ClusterStateError: a part is missing, or process 1 is no Cilium agent.
    """
    parts = dict(_sections(text))
    missing = {"cmdline", "environ", "status", "fd", "tcp"} - {name for name, lines in parts.items() if lines}
    if missing:
        raise ClusterStateError(f"nothing was read of {', '.join(sorted(missing))}", place=place)
    command = tuple(parts["cmdline"])
    if not command[0].endswith("cilium-agent"):
        raise ClusterStateError(f"expected cilium-agent as process 1, got {command[0]!r}", place=place)
    sockets = {found for line in parts["fd"] for found in re.findall(r"socket:\[(\d+)\]", line)}
    fields = dict(line.split(":", 1) for line in parts["status"] if ":" in line)
    return AgentProcess(
        command=command,
        environment=dict(line.split("=", 1) for line in parts["environ"] if "=" in line),
        effective=capabilities(fields["CapEff"]),
        bounding=capabilities(fields["CapBnd"]),
        connections=frozenset(_connections(parts["tcp"], sockets)),
    )


def _sections(text: str) -> Iterable[tuple[str, list[str]]]:
    for section in re.split(r"^== ", text, flags=re.MULTILINE)[1:]:
        name, *lines = section.splitlines()
        yield name, [line for line in lines if line]


def capabilities(mask: str) -> frozenset[str]:
    """The names in a hexadecimal mask of ``/proc/PID/status``, without ``CAP_``; unknown ones by number."""
    number = int(mask.strip(), 16)
    return frozenset(
        CAPABILITIES[bit] if bit < len(CAPABILITIES) else str(bit)
        for bit in range(number.bit_length())
        if number >> bit & 1
    )


def _connections(lines: Iterable[str], inodes: set[str]) -> Iterable[Connection]:
    """Far ends of established connections whose socket is one of ``inodes``."""
    for line in lines:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _ESTABLISHED and fields[9] in inodes:
            address, port = fields[2].split(":")
            yield Connection(_address(address), int(port, 16))


def _address(text: str) -> str:
    """An address of ``/proc/net/tcp`` or ``tcp6``: 32-bit words in the (little-endian) machine's order."""
    words = [bytes.fromhex(text[at : at + 8])[::-1] for at in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@dataclass(frozen=True, slots=True)
class Netfilter:
    """A node's packet filter.

    Attributes:
        kube_proxy: chains, tables and devices that only kube-proxy makes.
        cilium_chains: how many chains are Cilium's: none at all means that another namespace was read.
    """

    kube_proxy: tuple[str, ...]
    cilium_chains: int


def parse_netfilter(text: str) -> Netfilter:
    """The output of :data:`NETFILTER_SCRIPT`.

    The kubelet makes chains of its own (``KUBE-FIREWALL``, ``KUBE-KUBELET-CANARY``); they are none of these.
    """
    lines = text.splitlines()
    found = {
        match.group(1)
        for line in lines
        for match in (_KUBE_PROXY_CHAIN.match(line), _KUBE_PROXY_TABLE.match(line))
        if match
    }
    if _IPVS_DEVICE in lines:
        found.add(_IPVS_DEVICE)
    return Netfilter(tuple(sorted(found)), sum(bool(_CILIUM_CHAIN.match(line)) for line in lines))


def parse_config(text: str, *, place: str) -> dict[str, str]:
    """The output of :data:`CONFIG_SCRIPT`: option to value, as the agent read them.

    Raises:
        ClusterStateError: it is something else, or empty.
    """
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        try:
            found[name] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError) as error:
            raise ClusterStateError(f"unreadable option {line[:100]!r}", place=place) from error
    if not found:
        raise ClusterStateError("the agent's configuration is empty", place=place)
    return found
