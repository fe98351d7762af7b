"""Where a fault can change what the simulated cluster does; by default nothing is changed."""

# ruff: noqa: ARG005 - a default ignores what a fault may look at

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cilium_e2e.cluster.simulated.agent import EndpointState, Snapshot
from cilium_e2e.model import Direction, Flow, Object, Ref
from cilium_e2e.policy import PolicyObject


@dataclass(slots=True)
class Hooks:
    """One function for each place; the defaults are a healthy cluster's.

    Attributes:
        namespace: where Cilium is, for the functions.
        call: told each API call's verb and object before it is answered; raises what it fails with.
        line: told the pod an exec stream leads to before each line; raises what breaks the stream.
        becomes_ready: whether a started pod becomes ready.
        loads: the options an agent has after it has read the ConfigMap's.
        helm: what Helm says to an installation; empty where it succeeds.
        identity_labels: what an endpoint's identity is made of, given the labels it should have.
        learns: whether a node (its name, an address, whether it knew it) takes over a new identity.
        keeps_mapping: whether a node keeps an address that is gone.
        policy: what agents understand a policy as.
        enforces: the policy an endpoint's datapath enforces, of the one it says it has.
        judged: whether the datapath asks a side at all.
        carried: whether packets get from a node to another.
        resolves: whether cluster DNS answers.
        backend: which backend of a Service (its number of backends, the one chosen) is taken.
        flow: a flow as Hubble tells it; None where it does not.
        connected: whether relay is connected to a node.
        loses: how many flows a node loses at each flow it sees.
        on_probes: told how many batches of probes there were, before each.
    """

    namespace: str = "cilium"
    call: Callable[[str, Ref], None] = lambda verb, ref: None
    line: Callable[[Ref], None] = lambda ref: None
    becomes_ready: Callable[[Object], bool] = lambda pod: True
    loads: Callable[[dict[str, str]], dict[str, str]] = lambda config: config
    helm: str = ""
    identity_labels: Callable[[EndpointState, tuple[str, ...]], tuple[str, ...]] = lambda endpoint, labels: (
        labels
    )
    learns: Callable[[str, str, bool], bool] = lambda node, ip, known: True
    keeps_mapping: Callable[[str, str], bool] = lambda node, ip: False
    policy: Callable[[PolicyObject], PolicyObject] = lambda policy: policy
    enforces: Callable[[Snapshot], Snapshot] = lambda snapshot: snapshot
    judged: Callable[[Direction], bool] = lambda direction: True
    carried: Callable[[str, str], bool] = lambda source, target: True
    resolves: Callable[[], bool] = lambda: True
    backend: Callable[[int, int], int] = lambda count, chosen: chosen
    flow: Callable[[Flow], Flow | None] = lambda flow: flow
    connected: Callable[[str], bool] = lambda node: True
    loses: Callable[[str], int] = lambda node: 0
    on_probes: Callable[[int], None] = field(default=lambda number: None)
