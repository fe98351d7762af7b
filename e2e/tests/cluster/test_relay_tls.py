"""Whether relay speaks TLS, and the way to one that does, end to end in this process."""

from __future__ import annotations

import base64
import copy
import socket
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
import trustme

from cilium_e2e.cluster.relay_link import RelayLink
from cilium_e2e.cluster.relay_tls import relay_tls
from cilium_e2e.kube import Kube
from cilium_e2e.model import ClusterStateError, KubeError, Object, Ref, StreamLost, SystemClock
from support.memory import MemoryTransport
from support.recordings import items
from support.relay import FakeRelay

CLIENT, SERVER = "hubble-relay-client-certs", "hubble-relay-server-certs"


def recorded_pod() -> Object:
    """Relay's pod of a live cluster; its server side speaks plain text."""
    found = next(
        item
        for item in items("cilium-workloads")
        if item["kind"] == "Pod" and item["metadata"]["name"].startswith("hubble-relay-")
    )
    return copy.deepcopy(found)


def tls_pod(secret: str = SERVER) -> Object:
    """The same pod as the chart makes it with ``hubble.relay.tls.server.enabled``."""
    pod = recorded_pod()
    served = [{"key": "tls.crt", "path": "server.crt"}, {"key": "tls.key", "path": "server.key"}]
    projected(pod).append({"secret": {"name": secret, "items": served}})
    return pod


def projected(pod: Object) -> list[dict[str, Any]]:
    found = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "tls")
    sources: list[dict[str, Any]] = found["projected"]["sources"]
    return sources


def secret(name: str, **data: bytes) -> Object:
    encoded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "cilium"},
        "data": encoded,
    }


PEM = b"-----BEGIN CERTIFICATE-----\n"


@pytest.fixture
def api() -> MemoryTransport:
    return MemoryTransport()


@pytest.fixture
def kube(api: MemoryTransport) -> Kube:
    return Kube(api, clock=api.clock)


class TestWhatTheClientNeeds:
    def test_the_recorded_relay_speaks_plain_text(self, kube: Kube, api: MemoryTransport) -> None:
        assert relay_tls(kube, recorded_pod()) is None
        assert api.calls == [], "and no Secret is read for it"

    def test_certificates_are_those_of_the_pod(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(secret(CLIENT, tls_crt=PEM + b"own", tls_key=PEM + b"key", ca_crt=PEM + b"ca"))
        api.put(secret("mine", tls_crt=PEM, tls_key=PEM, ca_crt=PEM + b"other ca"))
        tls = relay_tls(kube, tls_pod("mine"))
        assert tls is not None
        assert (tls.certificate, tls.key) == (PEM + b"own", PEM + b"key")
        assert tls.ca == PEM + b"other ca\n" + PEM + b"ca", "whoever signed relay's certificate is trusted"
        assert tls.server_name == "instance.hubble-relay.cilium.io"

    def test_a_ca_bundle_is_a_config_map(self, kube: Kube, api: MemoryTransport) -> None:
        pod = tls_pod()
        sources = projected(pod)
        sources[0]["secret"]["items"].pop()
        bundle = {"name": "bundle", "items": [{"key": "root", "path": "hubble-server-ca.crt"}]}
        sources.append({"configMap": bundle})
        api.put(secret(CLIENT, tls_crt=PEM, tls_key=PEM))
        api.put(secret(SERVER, tls_crt=PEM, tls_key=PEM))
        api.put(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": "bundle", "namespace": "cilium"},
                "data": {"root": PEM.decode()},
            }
        )
        tls = relay_tls(kube, pod)
        assert tls is not None
        assert tls.ca == PEM

    def test_without_a_client_certificate_none_is_shown(self, kube: Kube, api: MemoryTransport) -> None:
        pod = tls_pod()
        del projected(pod)[0]
        api.put(secret(SERVER, tls_crt=PEM, tls_key=PEM, ca_crt=PEM))
        tls = relay_tls(kube, pod)
        assert tls is not None
        assert (tls.certificate, tls.key) == (b"", b"")

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({"tls_crt": PEM, "tls_key": PEM}, "expected the key ca.crt, found tls.crt, tls.key"),
            ({"tls_crt": PEM, "tls_key": b"", "ca_crt": PEM}, "expected PEM under tls.key, got 0 bytes"),
        ],
    )
    def test_what_a_secret_lacks_is_named(
        self, kube: Kube, api: MemoryTransport, data: dict[str, bytes], words: str
    ) -> None:
        api.put(secret(CLIENT, **data))
        api.put(secret(SERVER))
        with pytest.raises(ClusterStateError, match=words) as caught:
            relay_tls(kube, tls_pod())
        assert caught.value.place == f"cilium/{CLIENT}"

    def test_what_is_no_base64_is_told(self, kube: Kube, api: MemoryTransport) -> None:
        api.put({**secret(CLIENT), "data": {"ca.crt": "*"}})
        api.put(secret(SERVER))
        with pytest.raises(ClusterStateError, match=r"expected base64 under ca\.crt"):
            relay_tls(kube, tls_pod())

    def test_no_authority_at_all(self, kube: Kube, api: MemoryTransport) -> None:
        pod = tls_pod()
        del projected(pod)[0]
        api.put(secret(SERVER, tls_crt=PEM, tls_key=PEM))
        with pytest.raises(ClusterStateError, match=r"expected ca\.crt in Secret cilium/hubble-relay-server"):
            relay_tls(kube, pod)

    def test_a_user_who_may_not_read_secrets(self, kube: Kube, api: MemoryTransport) -> None:
        api.put(secret(SERVER))
        api.fail("get", KubeError(403, "Forbidden", "secrets is forbidden"), kind="Secret", times=9)
        with pytest.raises(ClusterStateError) as caught:
            relay_tls(kube, tls_pod())
        assert str(caught.value) == (
            "cilium/hubble-relay-server-certs: relay's server side uses TLS, and the certificates for it "
            "cannot be read: Secret cannot be read: secrets is forbidden. "
            "The kubeconfig's user must be allowed to get the Secrets of hubble-relay."
        )


class TestEndToEnd:
    """Link, forward, TLS and stream, to a relay that serves in this process."""

    authority = trustme.CA()

    @pytest.fixture
    def relay(self, mutual: bool) -> Iterator[FakeRelay]:
        served = self.authority.issue_cert("*.hubble-relay.cilium.io")
        credentials = grpc.ssl_server_credentials(
            [(served.private_key_pem.bytes(), served.cert_chain_pems[0].bytes())],
            root_certificates=self.authority.cert_pem.bytes() if mutual else None,
            require_client_auth=mutual,
        )
        fake = FakeRelay(credentials)
        fake.up()
        yield fake
        fake.down()

    @pytest.fixture
    def live(self, api: MemoryTransport, relay: FakeRelay) -> Kube:
        """Real time, and a forward that leads to the relay of this process."""
        api.on_connect = lambda ref, port: socket.create_connection(("127.0.0.1", relay.port), timeout=5)
        api.put(tls_pod())
        own = self.authority.issue_cert("*.hubble-relay.cilium.io")
        self.put_certificates(api, own, self.authority)
        return Kube(api, clock=SystemClock())

    def put_certificates(self, api: MemoryTransport, own: trustme.LeafCert, authority: trustme.CA) -> None:
        pems = {
            "tls_crt": own.cert_chain_pems[0].bytes(),
            "tls_key": own.private_key_pem.bytes(),
            "ca_crt": authority.cert_pem.bytes(),
        }
        api.put(secret(CLIENT, **pems))
        api.put(secret(SERVER, **pems))

    @pytest.mark.parametrize("mutual", [False, True])
    def test_the_stream_opens(self, live: Kube, relay: FakeRelay) -> None:
        link = RelayLink(live, "cilium", poke=lambda nodes: None)
        try:
            assert [report.name for report in link.source.node_reports()] == ["node-1", "node-2"]
        finally:
            link.close()

    @pytest.mark.parametrize("mutual", [True])
    def test_certificates_that_change_are_read_anew(
        self, live: Kube, relay: FakeRelay, api: MemoryTransport
    ) -> None:
        link = RelayLink(live, "cilium", poke=lambda nodes: None)
        try:
            asked = len(api.calls)
            relay.cut_streams()
            end = time.monotonic() + 5
            while ("get", f"Secret cilium/{SERVER}") not in api.calls[asked:] and time.monotonic() < end:
                time.sleep(0.01)
            assert ("get", f"Secret cilium/{SERVER}") in api.calls[asked:]
        finally:
            link.close()

    @pytest.mark.parametrize("mutual", [False])
    def test_a_relay_of_another_authority_is_refused(
        self, live: Kube, relay: FakeRelay, api: MemoryTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stranger = trustme.CA()
        self.put_certificates(api, stranger.issue_cert("*.hubble-relay.cilium.io"), stranger)
        monkeypatch.setattr("cilium_e2e.hubble.relay.CALL_TIMEOUT_S", 0.5)
        with pytest.raises(StreamLost, match="Hubble relay: UNAVAILABLE"):
            RelayLink(live, "cilium", poke=lambda nodes: None)

    @pytest.mark.parametrize("mutual", [False])
    def test_missing_certificates_are_told_before_anything_is_dialled(
        self, live: Kube, relay: FakeRelay, api: MemoryTransport
    ) -> None:
        api.remove(Ref("v1", "Secret", SERVER, "cilium"))
        with pytest.raises(ClusterStateError, match="certificates for it cannot be read"):
            RelayLink(live, "cilium", poke=lambda nodes: None)
        assert relay.queries == []
