"""Flux's install manifest: read, checked, patched."""

from __future__ import annotations

import hashlib
import http.client
import io
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.flux import manifest
from cilium_e2e.model import InputError, Object

CONTROLLERS = ("source-controller", "kustomize-controller", "helm-controller")


def deployment(name: str, **container: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "flux-system"},
        "spec": {
            "replicas": 1,
            "template": {
                "spec": {
                    "affinity": {"nodeAffinity": {}},
                    "containers": [
                        {
                            "name": "manager",
                            "image": f"registry.example/fluxcd/{name}:v1",
                            "args": [
                                "--events-addr=http://notification-controller/",
                                "--watch-all-namespaces=true",
                                "--storage-adv-addr=source-controller.$(NS).svc",
                                "--log-level=info",
                            ],
                            "env": [
                                {
                                    "name": "NS",
                                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}},
                                },
                                {"name": "KUBERNETES_SERVICE_HOST", "value": "elsewhere"},
                            ],
                            "ports": [
                                {"name": "http", "containerPort": 9090},
                                {"name": "http-prom", "containerPort": 8080},
                                {"name": "healthz", "containerPort": 9440},
                                {"name": "other", "containerPort": 7},
                            ],
                            **container,
                        }
                    ],
                }
            },
        },
    }


def other(kind: str, name: str) -> Object:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}}


def install() -> list[Object]:
    return [
        other("Namespace", "flux-system"),
        other("CustomResourceDefinition", "helmreleases.helm.toolkit.fluxcd.io"),
        other("ServiceAccount", "helm-controller"),
        other("ClusterRoleBinding", "cluster-reconciler"),
        other("NetworkPolicy", "allow-egress"),
        other("Service", "source-controller"),
        *(deployment(name) for name in (*CONTROLLERS, "notification-controller")),
    ]


def parse(documents: list[Any] | bytes) -> manifest.FluxManifest:
    content = documents if isinstance(documents, bytes) else yaml.safe_dump_all(documents).encode()
    return manifest.parse(
        content, origin="install.yaml", node="x-control-plane", api_host="localhost", api_port=7445
    )


class TestParse:
    def test_three_controllers_and_what_they_need(self) -> None:
        found = parse(install())
        assert [c["metadata"]["name"] for c in found.controllers] == [*CONTROLLERS]
        assert [d["kind"] for d in found.prerequisites] == [
            "Namespace",
            "CustomResourceDefinition",
            "ServiceAccount",
            "ClusterRoleBinding",
        ]
        assert found.images == tuple(f"registry.example/fluxcd/{name}:v1" for name in CONTROLLERS)
        assert found.origin == "install.yaml"

    def test_pod_security_admits_them_on_the_host_network(self) -> None:
        namespace = parse(install()).prerequisites[0]
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "privileged"

    def test_they_run_where_there_is_no_network_yet(self) -> None:
        for controller in parse(install()).controllers:
            pod = controller["spec"]["template"]["spec"]
            assert pod["hostNetwork"] is True
            assert pod["dnsPolicy"] == "Default"
            assert pod["nodeSelector"] == {"kubernetes.io/hostname": "x-control-plane"}
            assert pod["tolerations"] == [{"operator": "Exists"}]
            assert "affinity" not in pod
            assert controller["spec"]["strategy"] == {"type": "Recreate"}
            env = {e["name"]: e.get("value") for e in pod["containers"][0]["env"]}
            assert env["KUBERNETES_SERVICE_HOST"] == "localhost"
            assert env["KUBERNETES_SERVICE_PORT"] == "7445"
            assert "NS" in env

    def test_no_two_listen_on_one_port(self) -> None:
        ports: list[int] = []
        for controller in parse(install()).controllers:
            arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
            flags = dict(argument.partition("=")[::2] for argument in arguments)
            assert len(flags) == len(arguments)  # none is given twice
            listening = flags.keys() & {"--metrics-addr", "--health-addr", "--storage-addr"}
            ports += [int(flags[flag].removeprefix(":")) for flag in listening]
        assert len(ports) == len(set(ports)) == 7
        assert all(1024 < port < 32768 for port in ports)

    def test_probes_find_their_ports_by_name(self) -> None:
        for controller in parse(install()).controllers:
            container = controller["spec"]["template"]["spec"]["containers"][0]
            flags = dict(argument.partition("=")[::2] for argument in container["args"])
            named = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert flags["--health-addr"] == f":{named['healthz']}"
            assert flags["--metrics-addr"] == f":{named['http-prom']}"
            assert named["other"] == 7

    def test_artifacts_are_found_on_the_node_itself(self) -> None:
        source, *rest = (c["spec"]["template"]["spec"]["containers"][0] for c in parse(install()).controllers)
        storage = next(a for a in source["args"] if a.startswith("--storage-addr="))
        assert f"--storage-adv-addr=localhost{storage.partition('=')[2]}" in source["args"]
        assert not any("--storage" in argument for c in rest for argument in c["args"])

    def test_other_flags_stay_and_events_go_nowhere(self) -> None:
        for controller in parse(install()).controllers:
            arguments = controller["spec"]["template"]["spec"]["containers"][0]["args"]
            assert "--watch-all-namespaces=true" in arguments
            assert "--events-addr=" in arguments

    def test_a_controller_without_arguments(self) -> None:
        documents = [d for d in install() if d["metadata"]["name"] != "helm-controller"]
        parse([*documents, deployment("helm-controller", args=None, env=None, ports=None)])

    @pytest.mark.parametrize("missing", CONTROLLERS)
    def test_a_missing_controller_is_named(self, missing: str) -> None:
        documents = [d for d in install() if (d["kind"], d["metadata"]["name"]) != ("Deployment", missing)]
        with pytest.raises(InputError, match=f"{missing} missing") as caught:
            parse(documents)
        assert caught.value.place == "install.yaml"

    @pytest.mark.parametrize(
        "content",
        [
            b"a: [\n",
            b"\xff\xfe\x00",
            b"<html>Not Found</html>",
            b"- a\n- b\n",
            b"kind: Deployment\n",
            b"kind: [Deployment]\nmetadata: {name: x}\n",
            b"kind: Deployment\nmetadata: {}\n",
            b"",
        ],
    )
    def test_something_else(self, content: bytes) -> None:
        with pytest.raises(InputError) as caught:
            parse(content)
        assert caught.value.place == "install.yaml"
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("spec", [{}, {"template": {"spec": {"containers": []}}}, None])
    def test_a_controller_without_a_container(self, spec: Any) -> None:
        broken = {**deployment("source-controller"), "spec": spec}
        documents = [d for d in install() if d["metadata"]["name"] != "source-controller"]
        with pytest.raises(InputError, match="expected a container in the Deployments source-controller"):
            parse([*documents, broken])

    @given(st.binary(max_size=80))
    def test_any_bytes_are_an_error_of_ours(self, content: bytes) -> None:
        with pytest.raises(InputError):
            parse(content)


class TestRead:
    def answer(self, monkeypatch: pytest.MonkeyPatch, read: Callable[[], bytes]) -> list[str]:
        asked: list[str] = []

        class Answer(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return read()

        def urlopen(url: str, timeout: float) -> Answer:
            asked.append(url)
            return Answer()

        monkeypatch.setattr(manifest.urllib.request, "urlopen", urlopen)
        return asked

    def test_a_file(self, tmp_path: Path) -> None:
        path = tmp_path / "install.yaml"
        path.write_bytes(b"content")
        assert manifest.read(str(path)) == b"content"
        assert manifest.read(str(path), sha256=hashlib.sha256(b"content").hexdigest()) == b"content"

    def test_another_checksum(self, tmp_path: Path) -> None:
        path = tmp_path / "install.yaml"
        path.write_bytes(b"content")
        with pytest.raises(InputError, match="expected sha256 00, got ed7002b4") as caught:
            manifest.read(str(path), sha256="00")
        assert caught.value.place == str(path)

    @pytest.mark.parametrize("name", ["missing.yaml", ".", "nul\0byte"])
    def test_a_file_that_cannot_be_read(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(InputError, match="cannot be read") as caught:
            manifest.read(f"{tmp_path}/{name}")
        assert "--flux-manifest FILE" in caught.value.hint

    @pytest.mark.parametrize("source", ["http://example.org/install.yaml", "oci://example.org/flux"])
    def test_an_address_that_is_not_https(self, source: str) -> None:
        with pytest.raises(InputError, match="expected a file or an https:// address"):
            manifest.read(source)

    def test_an_address(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answer(monkeypatch, lambda: b"content")
        assert manifest.read("https://example.org/install.yaml") == b"content"
        assert asked == ["https://example.org/install.yaml"]

    def test_the_pinned_release_is_checked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = self.answer(monkeypatch, lambda: b"something else")
        with pytest.raises(InputError, match=f"expected sha256 {manifest.DEFAULT_SHA256}"):
            manifest.read()
        assert asked == [manifest.DEFAULT_URL]

    @pytest.mark.parametrize(
        "error",
        [
            urllib.error.URLError("no route to host"),
            TimeoutError("timed out"),
            http.client.IncompleteRead(b"half", 100),
            ValueError("malformed"),
        ],
    )
    def test_no_network_is_one_clear_error(self, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
        def fail() -> bytes:
            raise error

        self.answer(monkeypatch, fail)
        with pytest.raises(InputError, match="cannot be read") as caught:
            manifest.read()
        assert caught.value.exit_code == 4
        assert caught.value.place == manifest.DEFAULT_URL
