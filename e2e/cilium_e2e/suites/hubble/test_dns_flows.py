"""DNS through Cilium's proxy: the question, the answer, and the question that is refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from cilium_e2e.cluster.live import LiveCluster
from cilium_e2e.hubble import ACCESS_LOG, POLICY_VERDICT, Wanted
from cilium_e2e.model import Direction, Flow, FlowVerdict, Protocol, Target
from cilium_e2e.scenario import Lab
from cilium_e2e.suites.hubble.scene import Scene, app, check, cilium_policy

pytestmark = pytest.mark.requires("hubble-relay", "l7-proxy")

DNS_PORT = 53
KUBE_DNS = {"matchLabels": {"k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns"}}
REFUSED_NAME = "kubernetes.default.svc.cluster.local"


def _dns(flow: Flow) -> Mapping[str, Any]:
    part = flow.l7.get("dns")
    assert isinstance(part, Mapping), f"expected a DNS flow, got {flow}"
    return part


def test_question_answer_and_refusal(lab: Lab, cluster: LiveCluster, scene: Scene) -> None:
    """A rule for one name: its question and answer are FORWARDED, another name's question is DROPPED.

    On the way to the proxy the packet's own verdict is REDIRECTED, and names the policy.
    """
    name = f"{scene.service.name}.{scene.namespace}.svc.cluster.local"
    names = {
        outcome: check(scene.client, Target.dns(asked), DNS_PORT, Protocol.DNS, outcome, timeout_s=3.0)
        for outcome, asked in (("connected", name), ("denied", REFUSED_NAME))
    }
    lab.judge(
        [
            check(scene.client, entry.probe.target, DNS_PORT, Protocol.DNS, timeout_s=3.0)
            for entry in names.values()
        ],
        hold=0,
    )
    rule = {
        "toEndpoints": [KUBE_DNS],
        "toPorts": [
            {
                "ports": [{"port": str(DNS_PORT), "protocol": "ANY"}],
                "rules": {"dns": [{"matchName": name}]},
            }
        ],
    }
    policy = cilium_policy(scene.namespace, "one-name", endpointSelector=app("client"), egress=[rule])
    with lab.in_force([policy], [str(scene.client)]) as held:
        judgement, flows = lab.witness(list(names.values()), hold=0)
    allowed, refused = (names[outcome].probe.id for outcome in ("connected", "denied"))
    assert judgement.outcome(refused).rcode == "REFUSED"

    question, answer = (
        lab.flow(
            judgement,
            allowed,
            Wanted(FlowVerdict.FORWARDED, reply=reply, event_type=ACCESS_LOG),
            flows=flows,
        )
        for reply in (False, True)
    )
    assert (question.l7["type"], _dns(question)["query"]) == ("REQUEST", f"{name}.")
    assert question.direction is Direction.EGRESS
    assert question.source.pod == scene.client.name
    assert "k8s:k8s-app=kube-dns" in question.destination.labels
    assert (answer.l7["type"], _dns(answer)["query"]) == ("RESPONSE", f"{name}.")
    assert _dns(answer)["ips"] == [cluster.address(scene.service)]

    stopped = lab.flow(
        judgement,
        refused,
        Wanted(FlowVerdict.DROPPED, Direction.EGRESS, event_type=ACCESS_LOG),
        flows=flows,
    )
    assert (stopped.l7["type"], _dns(stopped)["query"]) == ("REQUEST", f"{REFUSED_NAME}.")
    for probe in (allowed, refused):
        redirected = Wanted(
            FlowVerdict.REDIRECTED, Direction.EGRESS, policy=held.ref, event_type=POLICY_VERDICT
        )
        lab.flow(judgement, probe, redirected, flows=flows)
