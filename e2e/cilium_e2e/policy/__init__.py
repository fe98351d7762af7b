"""The policy oracle: pure, no I/O; who may talk to whom under Cilium's semantics.

Typed objects come from :func:`parse_policy`; :func:`check_schema` and :func:`check_agent` say what the API
server and what the agent would refuse. An :class:`Oracle` over a :class:`World` answers flow by flow, and
:func:`explain` says why. :func:`cilium_e2e.policy.matrix.matrix` answers all at once; it stands apart because
of numpy, for which runs that do not need it would wait.
"""

from cilium_e2e.policy.acceptance import Refusal, accept
from cilium_e2e.policy.checks import check_agent, check_schema, require_agent, require_schema
from cilium_e2e.policy.explain import Cause, Explanation, SideExplanation, explain
from cilium_e2e.policy.l7 import DNSQuery, HTTPRequest, RequestVerdict, TLSHello, request_verdict
from cilium_e2e.policy.objects import CIDRGroupObject, CiliumPolicy, PolicyObject
from cilium_e2e.policy.objects_kubernetes import NetworkPolicy
from cilium_e2e.policy.options import Enforcement, Options
from cilium_e2e.policy.oracle import Oracle, Side
from cilium_e2e.policy.parsing import dump, parse_cidr_group, parse_policy
from cilium_e2e.policy.schema import Problem
from cilium_e2e.policy.translation import BackendVerdict, service_verdicts
from cilium_e2e.policy.versions import SemanticsVersion
from cilium_e2e.policy.world import CIDRGroup, Peer, Pod, Service, ServicePort, World, pod_from_endpoint

__all__ = [
    "BackendVerdict",
    "CIDRGroup",
    "CIDRGroupObject",
    "Cause",
    "CiliumPolicy",
    "DNSQuery",
    "Enforcement",
    "Explanation",
    "HTTPRequest",
    "NetworkPolicy",
    "Options",
    "Oracle",
    "Peer",
    "Pod",
    "PolicyObject",
    "Problem",
    "Refusal",
    "RequestVerdict",
    "SemanticsVersion",
    "Service",
    "ServicePort",
    "Side",
    "SideExplanation",
    "TLSHello",
    "World",
    "accept",
    "check_agent",
    "check_schema",
    "dump",
    "explain",
    "parse_cidr_group",
    "parse_policy",
    "pod_from_endpoint",
    "request_verdict",
    "require_agent",
    "require_schema",
    "service_verdicts",
]
