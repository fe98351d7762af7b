"""The policy oracle: pure, no I/O; who may talk to whom under Cilium's semantics.

Typed objects come from :func:`parse_policy`; :func:`check_schema` and :func:`check_agent` say what the API
server and what the agent would refuse. An :class:`Oracle` over a :class:`World` answers flow by flow,
:func:`matrix` all at once, and :func:`explain` says why.
"""

from cilium_e2e.policy.acceptance import Refusal, accept
from cilium_e2e.policy.matrix import Matrix, PortQuery, matrix
from cilium_e2e.policy.objects import CIDRGroupObject, CiliumPolicy, PolicyObject
from cilium_e2e.policy.objects_kubernetes import NetworkPolicy
from cilium_e2e.policy.options import Enforcement, Options, SemanticsVersion
from cilium_e2e.policy.oracle import Oracle, Side
from cilium_e2e.policy.parsing import dump, parse_cidr_group, parse_policy
from cilium_e2e.policy.world import CIDRGroup, Peer, Pod, Service, ServicePort, World

__all__ = [
    "CIDRGroup",
    "CIDRGroupObject",
    "CiliumPolicy",
    "Enforcement",
    "Matrix",
    "NetworkPolicy",
    "Options",
    "Oracle",
    "Peer",
    "Pod",
    "PolicyObject",
    "PortQuery",
    "Refusal",
    "SemanticsVersion",
    "Service",
    "ServicePort",
    "Side",
    "World",
    "accept",
    "dump",
    "matrix",
    "parse_cidr_group",
    "parse_policy",
]
