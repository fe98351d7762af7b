"""The format of ``*.scenario.yaml``: what each document of such a file may hold.

``scenario.schema.json`` beside this module is :func:`json_schema` as a file, for editors; write it anew with
``python -m cilium_e2e.scenario.schema``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cilium_e2e.scenario.fields import Either, Flag, ListOf, MapOf, Record, Shape, Text, Whole

FILE = Path(__file__).with_name("scenario.schema.json")
POLICY_KINDS = ("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy")
KINDS = (*POLICY_KINDS, "CiliumCIDRGroup")

_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
_NAME = Text(pattern=_LABEL, what="a name of lower-case letters, digits and hyphens")
_LABELS = MapOf(item=Text(), about="Kubernetes labels.")
_ONE_OR_MORE = Either(shapes=(Text(), ListOf(item=Text(), least=1)))
_POD = Text(pattern=r"^[^/\s]+/[^/\s]+$", what="NAMESPACE/POD")

_POLICIES = ListOf(
    item=Either(
        shapes=(
            Text(about="A file, relative to this one; all its documents."),
            Record(
                fields={
                    "apiVersion": Text(about="May be omitted: it follows from the kind."),
                    "kind": Text(choices=KINDS),
                    "metadata": Record(
                        fields={"name": Text(), "namespace": Text(), "labels": _LABELS},
                        required=("name",),
                        open=True,
                    ),
                },
                required=("kind", "metadata"),
                open=True,
            ),
        )
    ),
    about="Files, or objects in place. CiliumCIDRGroups may stand among the policies that use them.",
)

_ROW = Record(
    fields={
        "from": Either(
            shapes=_ONE_OR_MORE.shapes,
            about="Who asks: NAMESPACE/POD, world:NAME or node:NAME, one or a list. * stands for any name.",
        ),
        "to": Either(
            shapes=_ONE_OR_MORE.shapes,
            about="Whom, with port: x/a:80/TCP, svc:x/web:80/TCP, world:one:8080/TCP, x/a:ICMP; or a list.",
        ),
        "outcome": Text(
            about="connected, denied, timeout, refused, reset, unreachable, http(STATUS) or dns(RCODE)."
        ),
        "answered_by": Either(
            shapes=_ONE_OR_MORE.shapes,
            about="Who must answer, NAMESPACE/POD; the target itself where it is a pod and this is omitted.",
        ),
        "flow": Record(
            fields={
                "verdict": Text(choices=("FORWARDED", "DROPPED", "REDIRECTED", "AUDIT", "ERROR")),
                "reason": Text(about="Hubble's drop_reason_desc: POLICY_DENIED, POLICY_DENY ..."),
                "direction": Text(choices=("INGRESS", "EGRESS")),
                "policy": Text(about="The policy that the flow must name, as it is named in this file."),
                "event": Text(
                    choices=("drop", "verdict", "l7"),
                    about="Which of Cilium's events it must be: the drop, the policy verdict, a proxy's log.",
                ),
            },
            about="The flow that Hubble must have for it.",
        ),
        "request": Record(
            fields={
                "method": Text(),
                "path": Text(pattern="^/", what="a path"),
                "headers": MapOf(item=Text()),
                "name": Text(about="DNS: the name asked for."),
                "record": Text(choices=("A", "AAAA")),
            },
            about="What an HTTP or DNS probe asks for.",
        ),
        "named": Flag(
            about="false, with a comment, where Hubble is known to name no policy for what one lets through."
        ),
    },
    required=("from", "to", "outcome"),
)

_REST = Text(
    choices=("oracle", "none"),
    about="The other cells of the matrix (every pod to every port of every pod): as the policy oracle says "
    "(not judged on the simulated cluster), or not asked.",
)
_REFUSED = Text(
    about="Words with which the API server or Cilium must refuse what is applied here; nothing is probed."
)
_STEP = Record(
    fields={
        "name": Text(),
        "apply": _POLICIES,
        "replace": _POLICIES,
        "delete": ListOf(item=Text(), about="Policies by NAME or NAMESPACE/NAME."),
        "relabel": ListOf(
            item=Record(fields={"pod": _POD, "labels": _LABELS}, required=("pod", "labels")),
            about="Pods, with all the labels they have from now on.",
        ),
        "relabel_namespace": ListOf(
            item=Record(fields={"namespace": _NAME, "labels": _LABELS}, required=("namespace", "labels")),
            about="Namespaces, with all the labels they have from now on.",
        ),
        "restart": ListOf(item=_POD, about="Pods to delete and create again."),
        "refused": _REFUSED,
        "expect": ListOf(item=_ROW),
        "rest": _REST,
    },
)
_PORTS = ListOf(
    item=Text(
        pattern=r"^([a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?=)?[0-9]{1,5}/(TCP|UDP|SCTP|HTTP|DNS)$",
        what="[NAME=]PORT/PROTOCOL, such as 8080/TCP or web=80/TCP",
    ),
    about="What the pod serves: 8080/TCP, or web=8080/TCP with a name for the container port.",
)
_WORKLOAD = ListOf(
    item=Record(
        fields={
            "name": _NAME,
            "namespace": _NAME,
            "labels": _LABELS,
            "ports": _PORTS,
            "service_account": _NAME,
            "node": Either(
                shapes=(
                    Text(choices=("same", "other")),
                    Whole(minimum=0, maximum=99),
                ),
                about="same or other: as seen from the first pod; or the number of a node. Where there are "
                "fewer nodes, any.",
            ),
        },
        required=("name", "namespace"),
    ),
    about="The pods; without it the standard ones: a, b, c in namespaces x, y, z, TCP and UDP 80, 81.",
    least=1,
)
_SERVICES = ListOf(
    item=Record(
        fields={
            "name": _NAME,
            "namespace": _NAME,
            "selector": _LABELS,
            "ports": ListOf(
                item=Text(
                    pattern=r"^[0-9]{1,5}(:[0-9]{1,5})?/(TCP|UDP|SCTP|HTTP|DNS)$",
                    what="PORT[:TARGET]/PROTOCOL, such as 80:8080/TCP",
                ),
                least=1,
            ),
            "headless": Flag(),
        },
        required=("name", "namespace", "selector", "ports"),
    ),
)

SCENARIO: Shape = Record(
    about="A scenario of cilium-e2e: a workload, policies, and what they must do. A file may hold several.",
    fields={
        "name": Text(about="Unique in its file."),
        "description": Text(),
        "mode": Text(
            choices=("isolated", "verbatim"),
            about="isolated: namespaces are renamed to a worker's own. verbatim: everything as written, "
            "alone on the cluster, and on an existing cluster only with --allow-disruption.",
        ),
        "tier": Text(choices=("quick", "full")),
        "tags": ListOf(item=_NAME, about="What --tag chooses by."),
        "requires": ListOf(item=Text(), about="Features and capabilities without which it is skipped."),
        "namespaces": MapOf(item=_LABELS, about="Further namespaces, or labels of the workload's."),
        "workload": _WORKLOAD,
        "services": _SERVICES,
        "policies": _POLICIES,
        "refused": _REFUSED,
        "flows": Text(
            choices=("wished", "every"),
            about="every: each denial gives its flow, and each row is witnessed by the node that decides; "
            "what rules let through by a verdict that names a policy. wished: only flows that rows give.",
        ),
        "expect": ListOf(item=_ROW),
        "rest": _REST,
        "steps": ListOf(item=_STEP, about="What happens next, each followed by expectations of its own."),
    },
    required=("name",),
)


def json_schema() -> dict[str, Any]:
    """The format as a JSON Schema, draft 2020-12."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cilium-e2e scenario",
        **SCENARIO.json_schema(),
    }


def text() -> str:
    """The content of ``scenario.schema.json``."""
    return json.dumps(json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
