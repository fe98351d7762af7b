"""Ports, ICMP types and rules for the proxy, as a Cilium policy writes them."""

from __future__ import annotations

from dataclasses import dataclass

from cilium_e2e.policy.codec import INT_OR_TEXT, INTEGER, TEXT, TEXT_MAP, items, struct, wire
from cilium_e2e.policy.objects_common import Pairs


@dataclass(frozen=True, slots=True)
class Port:
    """One entry of ``toPorts[].ports``; the port is a number or a name, as text."""

    port: str | None = wire("port", TEXT)
    end_port: int | None = wire("endPort", INTEGER)
    protocol: str | None = wire("protocol", TEXT)


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A Secret by name."""

    namespace: str | None = wire("namespace", TEXT)
    name: str | None = wire("name", TEXT)


@dataclass(frozen=True, slots=True)
class HeaderMatch:
    """A header condition of an HTTP rule, with what happens on a mismatch."""

    mismatch: str | None = wire("mismatch", TEXT)
    name: str | None = wire("name", TEXT)
    secret: SecretRef | None = wire("secret", struct(SecretRef))
    value: str | None = wire("value", TEXT)


@dataclass(frozen=True, slots=True)
class HTTPRule:
    """An HTTP rule: method, path and host are regular expressions over the whole value."""

    path: str | None = wire("path", TEXT)
    method: str | None = wire("method", TEXT)
    host: str | None = wire("host", TEXT)
    headers: tuple[str, ...] | None = wire("headers", items(TEXT))
    header_matches: tuple[HeaderMatch, ...] | None = wire("headerMatches", items(struct(HeaderMatch)))


@dataclass(frozen=True, slots=True)
class KafkaRule:
    """A Kafka rule."""

    role: str | None = wire("role", TEXT)
    api_key: str | None = wire("apiKey", TEXT)
    api_version: str | None = wire("apiVersion", TEXT)
    client_id: str | None = wire("clientID", TEXT)
    topic: str | None = wire("topic", TEXT)


@dataclass(frozen=True, slots=True)
class FQDN:
    """A DNS name or pattern, in ``toFQDNs`` and in DNS rules."""

    match_name: str | None = wire("matchName", TEXT)
    match_pattern: str | None = wire("matchPattern", TEXT)


@dataclass(frozen=True, slots=True)
class L7Rules:
    """Rules for the proxy, of one protocol at a time."""

    http: tuple[HTTPRule, ...] | None = wire("http", items(struct(HTTPRule)))
    kafka: tuple[KafkaRule, ...] | None = wire("kafka", items(struct(KafkaRule)))
    dns: tuple[FQDN, ...] | None = wire("dns", items(struct(FQDN)))
    l7proto: str | None = wire("l7proto", TEXT)
    l7: tuple[Pairs, ...] | None = wire("l7", items(TEXT_MAP))

    @property
    def empty(self) -> bool:
        """Whether it holds no rule; the protocol name alone does not count."""
        return not (self.http or self.kafka or self.dns or self.l7)


@dataclass(frozen=True, slots=True)
class TLSContext:
    """Keys for TLS interception."""

    secret: SecretRef | None = wire("secret", struct(SecretRef))
    trusted_ca: str | None = wire("trustedCA", TEXT)
    certificate: str | None = wire("certificate", TEXT)
    private_key: str | None = wire("privateKey", TEXT)


@dataclass(frozen=True, slots=True)
class EnvoyConfigRef:
    """A CiliumEnvoyConfig by name."""

    kind: str | None = wire("kind", TEXT)
    name: str | None = wire("name", TEXT)


@dataclass(frozen=True, slots=True)
class Listener:
    """A custom Envoy listener."""

    envoy_config: EnvoyConfigRef | None = wire("envoyConfig", struct(EnvoyConfigRef))
    name: str | None = wire("name", TEXT)
    priority: int | None = wire("priority", INTEGER)


@dataclass(frozen=True, slots=True)
class PortRule:
    """One entry of ``toPorts`` in an allow rule."""

    ports: tuple[Port, ...] | None = wire("ports", items(struct(Port)))
    terminating_tls: TLSContext | None = wire("terminatingTLS", struct(TLSContext))
    originating_tls: TLSContext | None = wire("originatingTLS", struct(TLSContext))
    server_names: tuple[str, ...] | None = wire("serverNames", items(TEXT))
    listener: Listener | None = wire("listener", struct(Listener))
    rules: L7Rules | None = wire("rules", struct(L7Rules))


@dataclass(frozen=True, slots=True)
class PortDenyRule:
    """One entry of ``toPorts`` in a deny rule."""

    ports: tuple[Port, ...] | None = wire("ports", items(struct(Port)))


@dataclass(frozen=True, slots=True)
class ICMPField:
    """An ICMP type, by number or name."""

    family: str | None = wire("family", TEXT)
    type: int | str | None = wire("type", INT_OR_TEXT)


@dataclass(frozen=True, slots=True)
class ICMPRule:
    """One entry of ``icmps``."""

    fields: tuple[ICMPField, ...] | None = wire("fields", items(struct(ICMPField)))
