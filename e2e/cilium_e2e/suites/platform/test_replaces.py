"""README, "Complete Replacement" and "Exclusive CNI": nothing but Cilium does Services and pod networks."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from cilium_e2e.cluster.agents import AgentPod
from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.cluster.status import AgentStatus
from cilium_e2e.kube import Kube
from cilium_e2e.model import Object, Ref

pytestmark = pytest.mark.flowless

CNI_FOLDER = "/host/etc/cni/net.d"
CNI_SUFFIXES = (".conf", ".conflist", ".json")
BACKUP = ".cilium_bak"
OURS = "ce2e-"
RENAMED_WITHIN_S = 15.0

EachAgent = Callable[..., dict[str, Any]]


def _is_kube_proxy(pod: Object) -> bool:
    """A name may be anything; what runs is told by image and command."""
    containers = pod["spec"]["containers"]
    words = [c.get("image", "") for c in containers] + [
        word for c in containers for word in c.get("command") or []
    ]
    return pod["metadata"]["name"].startswith("kube-proxy") or any("kube-proxy" in word for word in words)


@pytest.mark.requires("real")
@pytest.mark.requires("kube-proxy-replacement")
def test_no_kube_proxy_runs(kube: Kube) -> None:
    """Claim "Replaces kube-proxy functionality": no DaemonSet and no pod of kube-proxy is on the cluster."""
    daemonsets = [d["metadata"]["name"] for d in kube.list_all(Ref("apps/v1", "DaemonSet"))]
    assert daemonsets, "expected DaemonSets, the agents' at least"
    assert "kube-proxy" not in daemonsets
    pods = [p["metadata"]["name"] for p in kube.list_all(Ref("v1", "Pod")) if _is_kube_proxy(p)]
    assert not pods


@pytest.mark.requires("real")
@pytest.mark.requires("kube-proxy-replacement")
def test_no_node_has_rules_of_kube_proxy(cluster: LiveCluster, each_agent: EachAgent) -> None:
    """Claim "Complete Replacement": no node has chains, tables or devices of kube-proxy."""
    for node, netfilter in each_agent(cluster.agents.netfilter).items():
        assert netfilter.cilium_chains, f"{node}: expected Cilium's own chains; is this the node's filter?"
        assert not netfilter.kube_proxy, f"{node} has {netfilter.kube_proxy} of kube-proxy"


@pytest.mark.requires("kube-proxy-replacement")
def test_agents_replace_kube_proxy(statuses: dict[str, AgentStatus]) -> None:
    """Claim "eBPF implementation": every agent says that it replaces kube-proxy, at the socket too."""
    for node, status in statuses.items():
        assert (status.kube_proxy_replacement, status.socket_lb) == ("True", True), node


@pytest.mark.requires("real")
@pytest.mark.requires("exclusive-cni")
def test_cilium_is_the_only_cni(
    cluster: LiveCluster, each_agent: EachAgent, statuses: dict[str, AgentStatus]
) -> None:
    """Claim "Exclusive CNI plugin": Cilium's is the only network configuration a node's runtime can find."""

    def listing(agent: AgentPod) -> list[str]:
        files = cluster.agents.run(agent, "ls", "-1", CNI_FOLDER).splitlines()
        return [name for name in files if not name.startswith(OURS)]

    for node, files in each_agent(listing).items():
        active = [name for name in files if name.endswith(CNI_SUFFIXES)]
        assert active == ["05-cilium.conflist"], f"{node}: {files}"
    for node, status in statuses.items():
        assert status.states["cni-file"][0] == "Ok", f"{node}: {status.states['cni-file']}"


@pytest.mark.requires("real")
@pytest.mark.requires("exclusive-cni")
@pytest.mark.usefixtures("disposable")
def test_a_foreign_cni_is_put_aside(cluster: LiveCluster, each_agent: EachAgent) -> None:
    """Claim "replacing other networking solutions": a configuration added later is renamed, not obeyed.

    Its name sorts behind Cilium's own: no pod would be given to it even if the claim were false.
    """
    name = f"{OURS}{secrets.token_hex(3)}.conf"
    path = f"{CNI_FOLDER}/{name}"
    script = """\
trap 'rm -f "$0" "$0$1"' EXIT
echo '{"cniVersion": "0.3.1", "name": "foreign", "type": "loopback"}' > "$0"
for attempt in $(seq "$2"); do
  [ -e "$0" ] || [ ! -e "$0$1" ] || { echo renamed; exit; }
  sleep 0.2
done
ls "$(dirname "$0")"
"""

    def add(agent: AgentPod) -> str:
        return cluster.agents.run(agent, "sh", "-c", script, path, BACKUP, str(int(RENAMED_WITHIN_S / 0.2)))

    answers = each_agent(add)
    assert answers == dict.fromkeys(answers, "renamed"), f"expected {path} to get the suffix {BACKUP}"
