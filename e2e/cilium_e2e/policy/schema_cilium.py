"""What the CRDs of Cilium 1.18 take: CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumCIDRGroup."""

from __future__ import annotations

from typing import Final

from cilium_e2e.policy.schema import Anything, Fields, Flag, Items, Schema, Text, Whole, WholeOrText

_TEXT = Text()
_LABEL_VALUE = Text(max_length=63, pattern="^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")
_CIDR = Text(cidr=True)

LABEL_SELECTOR: Final = Fields(
    fields={
        "matchLabels": Fields(others=_LABEL_VALUE),
        "matchExpressions": Items(
            of=Fields(
                fields={
                    "key": _TEXT,
                    "operator": Text(enum=("In", "NotIn", "Exists", "DoesNotExist")),
                    "values": Items(of=_TEXT),
                },
                required=("key", "operator"),
            )
        ),
    }
)
_SELECTORS = Items(of=LABEL_SELECTOR)

_NUMBER = "6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[0-9]{1,4}"
# The alternatives are not grouped, so the anchors hold for the first and the last of them only.
_PORT_PATTERN = f"^({_NUMBER})|([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*$"
_PORTS = Items(
    of=Fields(
        fields={
            "port": Text(pattern=_PORT_PATTERN),
            "endPort": Whole(minimum=0, maximum=65535),
            "protocol": Text(enum=("TCP", "UDP", "SCTP", "ANY")),
        },
        required=("port",),
    ),
    max_items=40,
)
_DENY_PORTS = Items(of=_PORTS.of)

# The misspelt and the missing names are the CRD's.
_ICMP_NAMES = (
    "EchoReply|DestinationUnreachable|Redirect|Echo|RouterAdvertisement|RouterSelection|TimeExceeded|"
    "ParameterProblem|Timestamp|TimestampReply|Photuris|ExtendedEchoRequest|ExtendedEcho Reply|PacketTooBig|"
    "ParameterProblem|EchoRequest|MulticastListenerQuery|MulticastListenerReport|MulticastListenerDone|"
    "RouterSolicitation|RouterAdvertisement|NeighborSolicitation|NeighborAdvertisement|RedirectMessage|"
    "RouterRenumbering|ICMPNodeInformationQuery|ICMPNodeInformationResponse|"
    "InverseNeighborDiscoverySolicitation|InverseNeighborDiscoveryAdvertisement|"
    "HomeAgentAddressDiscoveryRequest|HomeAgentAddressDiscoveryReply|MobilePrefixSolicitation|"
    "MobilePrefixAdvertisement|DuplicateAddressRequestCodeSuffix|DuplicateAddressConfirmationCodeSuffix"
)
_ICMP_NUMBERS = "[0-9]|[1-9][0-9]|1[0-9]{2}|2[0-4][0-9]|25[0-5]"
_ICMPS = Items(
    of=Fields(
        fields={
            "fields": Items(
                of=Fields(
                    fields={
                        "family": Text(enum=("IPv4", "IPv6")),
                        "type": WholeOrText(pattern=f"^({_ICMP_NUMBERS}|{_ICMP_NAMES})$"),
                    },
                    required=("type",),
                ),
                max_items=40,
            )
        }
    )
)

_FQDN = Fields(
    fields={
        "matchName": Text(max_length=255, pattern="^([-a-zA-Z0-9_]+[.]?)+$"),
        "matchPattern": Text(max_length=255, pattern="^([-a-zA-Z0-9_*]+[.]?)+$"),
    },
    one_of=("matchName", "matchPattern"),
)
_SECRET = Fields(fields={"name": _TEXT, "namespace": _TEXT}, required=("name",))
_TLS = Fields(
    fields={"secret": _SECRET, "trustedCA": _TEXT, "certificate": _TEXT, "privateKey": _TEXT},
    required=("secret",),
)
_HTTP = Fields(
    fields={
        "path": _TEXT,
        "method": _TEXT,
        "host": _TEXT,
        "headers": Items(of=_TEXT),
        "headerMatches": Items(
            of=Fields(
                fields={
                    "mismatch": Text(enum=("LOG", "ADD", "DELETE", "REPLACE")),
                    "name": Text(min_length=1),
                    "secret": _SECRET,
                    "value": _TEXT,
                },
                required=("name",),
            )
        ),
    }
)
_KAFKA = Fields(
    fields={
        "apiKey": _TEXT,
        "apiVersion": _TEXT,
        "clientID": _TEXT,
        "role": Text(enum=("produce", "consume")),
        "topic": Text(max_length=255),
    }
)
_L7 = Fields(
    fields={
        "http": Items(of=_HTTP),
        "kafka": Items(of=_KAFKA),
        "dns": Items(of=_FQDN),
        "l7proto": _TEXT,
        "l7": Items(of=Fields(others=_TEXT)),
    },
    one_of=("http", "kafka", "dns", "l7proto"),
)
_LISTENER = Fields(
    fields={
        "envoyConfig": Fields(
            fields={
                "kind": Text(enum=("CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig")),
                "name": Text(min_length=1),
            },
            required=("name",),
        ),
        "name": Text(min_length=1),
        "priority": Whole(minimum=1, maximum=100),
    },
    required=("envoyConfig", "name"),
)
_SERVER_NAME = Text(max_length=255, pattern=r"^(\*?\*\.)?([-a-zA-Z0-9_]+\.?)+$")
_TO_PORTS = Items(
    of=Fields(
        fields={
            "ports": _PORTS,
            "terminatingTLS": _TLS,
            "originatingTLS": _TLS,
            "serverNames": Items(of=_SERVER_NAME, min_items=1),
            "listener": _LISTENER,
            "rules": _L7,
        }
    )
)
_TO_DENY_PORTS = Items(of=Fields(fields={"ports": _DENY_PORTS}))

_ENTITIES = Items(
    of=Text(
        enum=(
            "all",
            "world",
            "cluster",
            "host",
            "init",
            "ingress",
            "unmanaged",
            "remote-node",
            "health",
            "none",
            "kube-apiserver",
        )
    )
)
_GROUP_NAME = Text(
    max_length=253, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
)
_CIDR_SET = Items(
    of=Fields(
        fields={
            "cidr": _CIDR,
            "cidrGroupRef": _GROUP_NAME,
            "cidrGroupSelector": LABEL_SELECTOR,
            "except": Items(of=_CIDR),
        },
        one_of=("cidr", "cidrGroupRef", "cidrGroupSelector"),
    )
)
_GROUPS = Items(
    of=Fields(
        fields={
            "aws": Fields(
                fields={
                    "labels": Fields(others=_TEXT),
                    "region": _TEXT,
                    "securityGroupsIds": Items(of=_TEXT),
                    "securityGroupsNames": Items(of=_TEXT),
                }
            )
        }
    )
)
_SERVICES = Items(
    of=Fields(
        fields={
            "k8sService": Fields(fields={"namespace": _TEXT, "serviceName": _TEXT}),
            "k8sServiceSelector": Fields(
                fields={"namespace": _TEXT, "selector": LABEL_SELECTOR}, required=("selector",)
            ),
        }
    )
)
_AUTHENTICATION = Fields(
    fields={"mode": Text(enum=("disabled", "required", "test-always-fail"))}, required=("mode",)
)


def _peers(word: str) -> dict[str, Schema]:
    return {
        f"{word}Endpoints": _SELECTORS,
        f"{word}Requires": _SELECTORS,
        f"{word}CIDR": Items(of=_CIDR),
        f"{word}CIDRSet": _CIDR_SET,
        f"{word}Entities": _ENTITIES,
        f"{word}Groups": _GROUPS,
        f"{word}Nodes": _SELECTORS,
        "icmps": _ICMPS,
    }


_TO_SERVICES: dict[str, Schema] = {"toServices": _SERVICES}
_INGRESS = Fields(fields={**_peers("from"), "toPorts": _TO_PORTS, "authentication": _AUTHENTICATION})
_INGRESS_DENY = Fields(fields={**_peers("from"), "toPorts": _TO_DENY_PORTS})
_EGRESS = Fields(
    fields={
        **_peers("to"),
        **_TO_SERVICES,
        "toFQDNs": Items(of=_FQDN),
        "toPorts": _TO_PORTS,
        "authentication": _AUTHENTICATION,
    }
)
_EGRESS_DENY = Fields(fields={**_peers("to"), **_TO_SERVICES, "toPorts": _TO_DENY_PORTS})

_DIRECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")
_LABELS = Items(of=Fields(fields={"key": _TEXT, "source": _TEXT, "value": _TEXT}, required=("key",)))
_RULE = Fields(
    fields={
        "endpointSelector": LABEL_SELECTOR,
        "nodeSelector": LABEL_SELECTOR,
        "ingress": Items(of=_INGRESS),
        "ingressDeny": Items(of=_INGRESS_DENY),
        "egress": Items(of=_EGRESS),
        "egressDeny": Items(of=_EGRESS_DENY),
        "labels": _LABELS,
        "enableDefaultDeny": Fields(fields={"ingress": Flag(), "egress": Flag()}),
        "description": _TEXT,
    },
    one_of=("endpointSelector", "nodeSelector"),
    any_of=_DIRECTIONS,
)

_OBJECT: dict[str, Schema] = {"apiVersion": _TEXT, "kind": _TEXT, "metadata": Fields(others=Anything())}

POLICY: Final = Fields(
    fields={**_OBJECT, "spec": _RULE, "specs": Items(of=_RULE), "status": Anything()}, required=("metadata",)
)
"""A CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy; the two have the same schema."""

CIDR_GROUP: Final = Fields(
    fields={
        **_OBJECT,
        "spec": Fields(fields={"externalCIDRs": Items(of=_CIDR)}, required=("externalCIDRs",)),
    },
    required=("metadata", "spec"),
)
"""A CiliumCIDRGroup."""
