"""A node-local endpoint of the Kubernetes API, as Talos' KubePrism gives every node.

The release under test says ``k8sServiceHost: localhost``, ``k8sServicePort: 7445``. A unit that starts at
boot, before the kubelet, translates connections of the node itself to 127.0.0.1:7445 into connections to
the API server's address. A timer resolves that address afresh every few seconds, because a control-plane
that is restarted may come back with another one.
"""

from __future__ import annotations

import hashlib
import shlex
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cilium_e2e.cluster.engine import Engine
from cilium_e2e.model import EngineError

PORT = 7445
_UNIT = "cilium-e2e-api-endpoint.service"
_TIMER_UNIT = "cilium-e2e-api-endpoint.timer"

# The server line of the kubelet's own kubeconfig names the API server on every node and in every
# topology: the only control-plane, or kind's load balancer in front of several.
_SCRIPT = f"""\
#!/bin/sh
set -eu
server=$(sed -n 's#^ *server: https://##p' /etc/kubernetes/kubelet.conf | head -n 1)
host=${{server%:*}} port=${{server##*:}}
address=$(getent ahostsv4 "$host" | awk '{{print $1; exit}}')
[ -n "$address" ] || {{ echo "cannot resolve the API server's name $host" >&2; exit 1; }}
sysctl -q -w net.ipv4.conf.all.route_localnet=1
nat() {{ iptables -w -t nat "$@"; }}
to_api="-d 127.0.0.1/32 -p tcp --dport {PORT} -j DNAT --to-destination $address:$port"
# shellcheck disable=SC2086 # words are meant
if nat -C CE2E-DNAT $to_api 2>/dev/null && nat -C OUTPUT -j CE2E-DNAT 2>/dev/null; then exit 0; fi
for chain in CE2E-DNAT CE2E-SNAT; do
  iptables -w -t nat -N $chain 2>/dev/null || iptables -w -t nat -F $chain
done
# shellcheck disable=SC2086 # words are meant
nat -A CE2E-DNAT $to_api
nat -A CE2E-SNAT -s 127.0.0.1/32 -d "$address/32" -p tcp --dport "$port" -j MASQUERADE
nat -C OUTPUT -j CE2E-DNAT 2>/dev/null || nat -I OUTPUT -j CE2E-DNAT
nat -C POSTROUTING -j CE2E-SNAT 2>/dev/null || nat -I POSTROUTING -j CE2E-SNAT
"""

_SERVICE = """\
[Unit]
Description=Node-local endpoint of the Kubernetes API on 127.0.0.1:7445
ConditionPathExists=/etc/kubernetes/kubelet.conf
Before=kubelet.service

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/cilium-e2e-api-endpoint
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""

_TIMER = """\
[Unit]
Description=Looks whether the API server's address has changed

[Timer]
OnUnitInactiveSec=10s
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


_BIN, _UNITS = "/usr/local/sbin", "/etc/systemd/system"
_FILES = {
    _BIN: {"cilium-e2e-api-endpoint": _SCRIPT.encode()},
    _UNITS: {_UNIT: _SERVICE.encode(), _TIMER_UNIT: _TIMER.encode()},
}
# Proof that it leads somewhere: the API server answers /livez to anyone.
_ALIVE = [
    *("curl", "--silent", "--show-error", "--insecure", "--fail", "--max-time", "10"),
    f"https://127.0.0.1:{PORT}/livez",
]
_SUMS = "".join(
    f"{hashlib.sha256(content).hexdigest()}  {folder}/{name}\n"
    for folder, files in _FILES.items()
    for name, content in files.items()
)
# On a kept cluster all of it is there; to have systemd read its units again takes a node longer than to look.
_THERE = f"""\
sha256sum --check --status - <<'SUMS' && systemctl is-active --quiet {_TIMER_UNIT} && {shlex.join(_ALIVE)}
{_SUMS}SUMS
"""


def install(engine: Engine, cluster: str) -> None:
    """Install and start the endpoint on every node of a cluster, in parallel.

    Raises:
        EngineError: on a node it did not start, or nothing answers there; the message holds its words.
    """

    def one(node: str) -> None:
        with suppress(EngineError):  # a new node, or one of an older version
            engine.execute(node, ["sh", "-c", _THERE])
            return
        for folder, files in _FILES.items():
            engine.put(node, folder, files, mode=0o755 if folder == _BIN else 0o644)
        engine.execute(node, ["systemctl", "daemon-reload"])
        engine.execute(node, ["systemctl", "enable", "--now", _UNIT, _TIMER_UNIT])
        engine.execute(node, _ALIVE)

    nodes = [node.name for node in engine.nodes(cluster) if node.role != "external-load-balancer"]
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="endpoint") as pool:
        list(pool.map(one, nodes))
