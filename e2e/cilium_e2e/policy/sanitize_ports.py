"""What the agent refuses in ports, ICMP types and rules for the proxy, in its own words."""

from __future__ import annotations

import re
from collections.abc import Iterable

from cilium_e2e.policy import fqdn
from cilium_e2e.policy.goregexp import regex_fault
from cilium_e2e.policy.gotext import NumberError, parse_uint16, quote
from cilium_e2e.policy.objects_ports import (
    HTTPRule,
    ICMPRule,
    KafkaRule,
    L7Rules,
    Port,
    PortDenyRule,
    PortRule,
)
from cilium_e2e.policy.portnames import is_service_name, protocol_fault

MAX_PORTS = 40
MAX_ICMP_FIELDS = 40

_KAFKA_TOPIC = re.compile(r"[a-zA-Z0-9\._\-]+")
_KAFKA_TOPIC_LENGTH = 255
_KAFKA_KEYS = frozenset(
    """
    produce fetch offsets metadata leaderandisr stopreplica updatemetadata controlledshutdown offsetcommit
    offsetfetch findcoordinator joingroup heartbeat leavegroup syncgroup describegroups listgroups
    saslhandshake apiversions createtopics deletetopics deleterecords initproducerid offsetforleaderepoch
    addpartitionstotxn addoffsetstotxn endtxn writetxnmarkers txnoffsetcommit describeacls createacls
    deleteacls describeconfigs alterconfigs
    """.split()  # noqa: SIM905 - a list of words is read as one
)
_MISMATCHES = ("LOG", "ADD", "DELETE", "REPLACE")


def _first(faults: Iterable[str]) -> str:
    """The first fault that is one."""
    return next((fault for fault in faults if fault), "")


def _http_fault(rule: HTTPRule) -> str:
    if fault := regex_fault(rule.path or "") or regex_fault(rule.method or ""):
        return fault
    for match in rule.header_matches or ():
        if not match.name:
            return "Header name missing"
        if match.mismatch and match.mismatch not in _MISMATCHES:
            return f"Invalid header action: {match.mismatch}"
        if match.secret is not None and not match.secret.name:
            return "Secret name missing"
    return ""


def _kafka_fault(rule: KafkaRule) -> str:
    if rule.api_key and rule.role:
        return f"cannot set both Role {quote(rule.role)} and APIKey {quote(rule.api_key)} together"
    if rule.api_key and rule.api_key.lower() not in _KAFKA_KEYS:
        return f"invalid Kafka APIKey {quote(rule.api_key)}"
    if rule.role and rule.role.lower() not in ("produce", "consume"):
        return f"invalid Kafka Role {quote(rule.role)}"
    if rule.api_version and not re.fullmatch(r"\+?0{0,99}[0-9]{1,5}", rule.api_version):
        return f"invalid Kafka APIVersion {quote(rule.api_version)}"
    if rule.api_version and int(rule.api_version) > 0x7FFF:
        return f"invalid Kafka APIVersion {quote(rule.api_version)}"
    if rule.topic and len(rule.topic) > _KAFKA_TOPIC_LENGTH:
        return f"kafka topic exceeds maximum len of {_KAFKA_TOPIC_LENGTH}"
    if rule.topic and not _KAFKA_TOPIC.fullmatch(rule.topic):
        return f"invalid Kafka Topic name {quote(rule.topic)}"
    return ""


def _rules_fault(rules: L7Rules, *, has_ports: bool) -> str:
    if fault := _first(_http_fault(rule) for rule in rules.http or ()):
        return fault
    if fault := _first(_kafka_fault(rule) for rule in rules.kafka or ()):
        return fault
    if rules.dns is not None:
        if not has_ports:
            return "port 53 must be specified for DNS rules"
        for rule in rules.dns:
            if fault := fqdn.fault(rule.match_name or "", rule.match_pattern or "", exclusive=False):
                return fault
    if rules.l7 is not None and not rules.l7proto:
        return "'l7' may only be specified when a 'l7proto' is also specified"
    if rules.l7proto and any(not key for rule in rules.l7 or () for key, _ in rule):
        return "Empty key not allowed"
    kinds = (rules.http is not None, rules.kafka is not None, rules.dns is not None, bool(rules.l7proto))
    if sum(kinds) > 1:
        return "multiple L7 protocol rule types specified in single rule"
    return ""


def _port_fault(port: Port, *, dns: bool) -> tuple[str, bool]:
    """The fault of one port, and whether it is the port 0."""
    text = port.port or ""
    zero = False
    if not text:
        return "Port must be specified", zero
    if not is_service_name(text):
        try:
            number = parse_uint16(text)
        except NumberError as error:
            return f"unable to parse port: {error}", zero
        zero = number == 0
        if dns and (port.end_port or 0) > number:
            return "DNS rules do not support port ranges", zero
    return protocol_fault(port.protocol or ""), zero


def deny_ports_fault(rule: PortDenyRule) -> str:
    """The fault of one ``toPorts`` entry of a deny rule."""
    if len(rule.ports or ()) > MAX_PORTS:
        return f"too many ports, the max is {MAX_PORTS}"
    return _first(_port_fault(port, dns=False)[0] for port in rule.ports or ())


def _ports_fault(rule: PortRule, *, dns: bool, has_rules: bool) -> tuple[str, bool]:
    """The first fault among the ports of an allow rule, and whether the port 0 is one of them."""
    any_zero = False
    for port in rule.ports or ():
        fault, zero = _port_fault(port, dns=dns)
        if fault:
            return fault, any_zero
        any_zero |= zero
        protocol = (port.protocol or "ANY").upper()
        if has_rules and not dns and protocol != "TCP":
            return f"L7 rules can only apply to TCP (not {protocol}) except for DNS rules", any_zero
    return "", any_zero


def allow_ports_fault(rule: PortRule, *, ingress: bool) -> str:
    """The fault of one ``toPorts`` entry of an allow rule."""
    rules = rule.rules
    has_rules = rules is not None and not rules.empty
    dns = rules is not None and bool(rules.dns)
    if ingress and dns:
        return "DNS rules are not allowed on ingress"
    if rule.server_names and has_rules and rule.terminating_tls is None:
        return "ServerNames are not allowed with L7 rules without TLS termination"
    if "" in (rule.server_names or ()):
        return "empty server name is not allowed"
    if len(rule.ports or ()) > MAX_PORTS:
        return f"too many ports, the max is {MAX_PORTS}"
    fault, zero = _ports_fault(rule, dns=dns, has_rules=has_rules)
    if fault:
        return fault
    if rule.listener is not None and ingress:
        return f"Listener is not allowed on ingress ({rule.listener.name or ''})"
    if rule.listener is not None and has_rules:
        return f"Listener is not allowed with L7 rules ({rule.listener.name or ''})"
    if rules is None or not has_rules:
        return ""
    if zero:
        return "L7 rules can not be used when a port is 0"
    return _rules_fault(rules, has_ports=bool(rule.ports))


def icmp_rule_fault(rule: ICMPRule) -> str:
    """The fault of one ``icmps`` entry."""
    if len(rule.fields or ()) > MAX_ICMP_FIELDS:
        return f"too many types, the max is {MAX_ICMP_FIELDS}"
    return _first(
        f"wrong family: {field.family}"
        for field in rule.fields or ()
        if field.family not in (None, "", "IPv4", "IPv6")
    )
