"""The live transport against an API server on the loopback address that plays what it is told."""

from __future__ import annotations

import copy
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from cilium_e2e.kube import Kube
from cilium_e2e.kube.live import LiveTransport
from cilium_e2e.model import BackendUnavailable, EventType, KubeError, PatchType, Ref
from support.memory import pod

POD = Ref("v1", "Pod", "a", "default")
PODS = Ref("v1", "Pod", namespace="default")
NODES = Ref("v1", "Node")
CNP = Ref("cilium.io/v2", "CiliumNetworkPolicy", "p", "default")

Handler = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One request; what to answer is the server's to say."""

    protocol_version = "HTTP/1.1"
    server: ApiServer

    def answer(self, body: Any, status: int = 200, *, content_type: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def stream(self, *pieces: bytes, end: bool = True) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def serve(self) -> None:
        parts = urlsplit(self.path)
        self.url, self.query = parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        self.body = json.loads(self.rfile.read(length)) if length else None
        self.server.seen.append(copy.copy(self))  # one handler serves all requests of a connection
        handler = self.server.handlers.get((self.command, self.url))
        if handler is not None:
            handler(self)
        elif self.url in self.server.discovery:
            self.answer(self.server.discovery[self.url])
        else:
            self.answer(status_object(404, "NotFound", f"no {self.url}"), 404)

    do_GET = do_PATCH = do_DELETE = do_POST = serve  # noqa: N815 - names the base class looks for

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass


def status_object(code: int, reason: str, message: str) -> dict[str, Any]:
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
    }


def resource(name: str, kind: str, *, namespaced: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "singularName": kind.lower(),
        "namespaced": namespaced,
        "kind": kind,
        "verbs": ["get", "list"],
    }


class ApiServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.handlers: dict[tuple[str, str], Handler] = {}
        self.seen: list[Request] = []
        self.discovery: dict[str, Any] = {
            "/api/v1": {
                "kind": "APIResourceList",
                "groupVersion": "v1",
                "resources": [
                    resource("pods", "Pod"),
                    resource("pods/log", "Pod"),
                    resource("nodes", "Node", namespaced=False),
                ],
            },
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def on(self, method: str, path: str, handler: Handler) -> None:
        self.handlers[method, path] = handler

    def add_cilium(self) -> None:
        self.discovery["/apis/cilium.io/v2"] = {
            "kind": "APIResourceList",
            "groupVersion": "cilium.io/v2",
            "resources": [resource("ciliumnetworkpolicies", "CiliumNetworkPolicy")],
        }

    def requests(self, path: str) -> list[Request]:
        return [request for request in self.seen if request.url == path]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    found = ApiServer()
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    found.server_close()
    thread.join()


def kubeconfig(path: Path, url: str, **user: Any) -> Path:
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "c", "cluster": {"server": url}}],
                "users": [{"name": "u", "user": user}],
                "contexts": [{"name": "main", "context": {"cluster": "c", "user": "u"}}],
                "current-context": "main",
            }
        )
    )
    return path


@pytest.fixture
def transport(server: ApiServer, tmp_path: Path) -> Iterator[LiveTransport]:
    found = LiveTransport(kubeconfig(tmp_path / "kubeconfig", server.url, token="secret"))  # noqa: S106 - no secret
    yield found
    found.close()


class TestRequests:
    def test_get(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", "/api/v1/namespaces/default/pods/a", lambda r: r.answer(pod("a", phase="Running")))
        assert transport.get(POD)["status"]["phase"] == "Running"
        request = server.requests("/api/v1/namespaces/default/pods/a")[0]
        assert request.headers["Authorization"] == "Bearer secret"

    def test_a_cluster_scoped_object(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", "/api/v1/nodes/n", lambda r: r.answer({"kind": "Node", "metadata": {"name": "n"}}))
        assert transport.get(Ref("v1", "Node", "n"))["metadata"]["name"] == "n"

    def test_list_selects_and_completes_its_items(self, server: ApiServer, transport: LiveTransport) -> None:
        body = {"kind": "PodList", "metadata": {"resourceVersion": "17"}, "items": [{"metadata": {}}]}
        server.on("GET", "/api/v1/namespaces/default/pods", lambda r: r.answer(body))
        found = transport.list(PODS, label_selector="a=b,c!=d", field_selector="metadata.name=x")
        assert found.resource_version == "17"
        assert found.items == [{"metadata": {}, "apiVersion": "v1", "kind": "Pod"}]
        assert server.seen[-1].query == {"labelSelector": "a=b,c!=d", "fieldSelector": "metadata.name=x"}

    def test_list_in_all_namespaces(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", "/api/v1/pods", lambda r: r.answer({"items": None, "metadata": {}}))
        assert transport.list(Ref("v1", "Pod")).items == []

    def test_apply_is_server_side(self, server: ApiServer, transport: LiveTransport) -> None:
        path = "/api/v1/namespaces/default/pods/a"
        server.on("PATCH", path, lambda r: r.answer({**r.body, "stored": True}))
        given = pod("a")
        given["spec"] = {"kept": None, "unknownToAnyModel": 1}
        assert transport.apply(given, field_manager="me", force=True)["stored"] is True
        request = server.requests(path)[0]
        assert request.query == {"fieldManager": "me", "force": "true"}
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        assert request.body == given

    @pytest.mark.parametrize(
        ("body", "patch_type"),
        [
            ({"spec": {"suspend": True, "gone": None}}, PatchType.MERGE),
            ([{"op": "remove", "path": "/spec"}], PatchType.JSON),
        ],
    )
    def test_patches(
        self, server: ApiServer, transport: LiveTransport, body: Any, patch_type: PatchType
    ) -> None:
        server.on("PATCH", "/api/v1/namespaces/default/pods/a", lambda r: r.answer({}))
        transport.patch(POD, body, patch_type=patch_type)
        assert server.seen[-1].body == body
        assert server.seen[-1].headers["Content-Type"] == patch_type.value

    def test_a_subresource(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("PATCH", "/api/v1/namespaces/default/pods/a/status", lambda r: r.answer({"ok": 1}))
        assert transport.patch(POD, {}, patch_type=PatchType.MERGE, subresource="status") == {"ok": 1}

    def test_delete(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("DELETE", "/api/v1/namespaces/default/pods/a", lambda r: r.answer({}))
        transport.delete(POD, grace_period_s=0)
        assert server.seen[-1].body["gracePeriodSeconds"] == 0
        assert server.seen[-1].body["propagationPolicy"] == "Background"
        transport.delete(POD)
        assert "gracePeriodSeconds" not in server.seen[-1].body

    def test_logs(self, server: ApiServer, transport: LiveTransport) -> None:
        path = "/api/v1/namespaces/default/pods/a/log"
        server.on("GET", path, lambda r: r.answer("ein Gruß\n".encode(), content_type="text/plain"))
        assert transport.logs(POD, container="main", tail_lines=5) == "ein Gruß\n"
        assert server.seen[-1].query == {"container": "main", "tailLines": "5"}
        transport.logs(POD, container="main", tail_lines=5, previous=True)
        assert server.seen[-1].query["previous"] == "true"

    def test_raw(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", "/readyz", lambda r: r.answer(b"ok", content_type="text/plain"))
        assert transport.raw("/readyz") == "ok"


class TestDiscovery:
    def test_it_is_done_once(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", "/api/v1/nodes", lambda r: r.answer({"items": []}))
        transport.list(NODES)
        transport.list(NODES)
        assert len(server.requests("/api/v1")) == 1

    def test_an_unknown_kind_is_a_404_that_says_so(self, transport: LiveTransport) -> None:
        with pytest.raises(KubeError) as caught:
            transport.get(CNP)
        assert caught.value.not_found
        assert "no kind CiliumNetworkPolicy in cilium.io/v2" in str(caught.value)

    def test_a_kind_that_was_installed_meanwhile_is_found(
        self, server: ApiServer, transport: LiveTransport
    ) -> None:
        with pytest.raises(KubeError):
            transport.get(CNP)
        server.add_cilium()
        path = "/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies/p"
        server.on("GET", path, lambda r: r.answer({"found": True}))
        transport.invalidate()
        assert transport.get(CNP) == {"found": True}

    def test_invalidating_before_anything_was_asked_is_fine(self, transport: LiveTransport) -> None:
        transport.invalidate()

    def test_a_namespaced_object_without_a_namespace_is_refused(self, transport: LiveTransport) -> None:
        with pytest.raises(KubeError, match="needs a namespace") as caught:
            transport.get(Ref("v1", "Pod", "a"))
        assert caught.value.status == 400

    @pytest.mark.parametrize("status", [401, 403, 503])
    def test_a_refused_discovery_is_typed(
        self, server: ApiServer, transport: LiveTransport, status: int
    ) -> None:
        server.on("GET", "/api/v1", lambda r: r.answer(status_object(status, "No", "not you"), status))
        with pytest.raises(KubeError, match="not you") as caught:
            transport.get(POD)
        assert caught.value.status == status

    def test_an_api_server_that_is_not_there_has_status_0(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        transport = LiveTransport(kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}"))
        with pytest.raises(KubeError) as caught:
            transport.get(POD)
        assert caught.value.status == 0
        assert caught.value.retryable
        transport.close()


class TestErrors:
    PATH = "/api/v1/namespaces/default/pods/a"

    @pytest.mark.parametrize(
        ("status", "reason"),
        [(403, "Forbidden"), (404, "NotFound"), (409, "Conflict"), (410, "Expired"), (500, "InternalError")],
    )
    def test_a_status_object(
        self, server: ApiServer, transport: LiveTransport, status: int, reason: str
    ) -> None:
        body = status_object(status, reason, 'pods "a": no')
        server.on("GET", self.PATH, lambda r: r.answer(body, status))
        with pytest.raises(KubeError) as caught:
            transport.get(POD)
        assert (caught.value.status, caught.value.reason) == (status, reason)
        assert str(caught.value) == 'Pod default/a: pods "a": no'

    @pytest.mark.parametrize("body", [b"<html>Bad Gateway</html>", b"", b"[]", b'"text"', b"\xff\xfe"])
    def test_a_proxy_s_error_is_one_too(
        self, server: ApiServer, transport: LiveTransport, body: bytes
    ) -> None:
        server.on("GET", self.PATH, lambda r: r.answer(body, 502, content_type="text/html"))
        with pytest.raises(KubeError) as caught:
            transport.get(POD)
        assert caught.value.status == 502
        assert caught.value.retryable
        assert caught.value.message

    @pytest.mark.parametrize("body", [b"<html>log in here</html>", b"", b"[]"])
    def test_a_success_that_is_no_object_is_an_error(
        self, server: ApiServer, transport: LiveTransport, body: bytes
    ) -> None:
        server.on("GET", self.PATH, lambda r: r.answer(body, 200, content_type="text/html"))
        with pytest.raises(KubeError, match="expected a JSON object") as caught:
            transport.get(POD)
        assert caught.value.status == 200
        assert not caught.value.retryable

    @pytest.mark.parametrize("call", ["get", "apply", "delete"])
    def test_no_answer_is_status_0_and_nothing_is_tried_twice(
        self, server: ApiServer, transport: LiveTransport, call: str
    ) -> None:
        server.on("GET", "/api/v1/nodes", lambda r: r.answer({"items": []}))
        transport.list(NODES)  # discovery is done
        for method in ("GET", "PATCH", "DELETE"):
            server.on(method, self.PATH, Request.hang_up)
        calls: dict[str, Callable[[], object]] = {
            "get": lambda: transport.get(POD),
            "apply": lambda: transport.apply(pod("a"), field_manager="me"),
            "delete": lambda: transport.delete(POD),
        }
        with pytest.raises(KubeError) as caught:
            calls[call]()
        assert caught.value.status == 0
        assert len(server.requests(self.PATH)) == 1

    def test_an_answer_that_breaks_off(self, server: ApiServer, transport: LiveTransport) -> None:
        def half(request: Request) -> None:
            request.send_response(200)
            request.send_header("Content-Length", "1000")
            request.end_headers()
            request.wfile.write(b'{"kind":')
            request.close_connection = True

        server.on("GET", self.PATH, half)
        with pytest.raises(KubeError) as caught:
            transport.get(POD)
        assert caught.value.status == 0


class TestWatch:
    PATH = "/api/v1/namespaces/default/pods"

    def events(self, transport: LiveTransport) -> list[Any]:
        return list(transport.watch(PODS, resource_version="5", timeout_s=30))

    def event(self, kind: str, name: str) -> bytes:
        return json.dumps({"type": kind, "object": pod(name)}).encode() + b"\n"

    def test_events_however_they_are_cut(self, server: ApiServer, transport: LiveTransport) -> None:
        body = b"".join(self.event(kind, "ä") for kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"))
        server.on("GET", self.PATH, lambda r: r.stream(body[:7], body[7:300], body[300:] + b"\n"))
        found = self.events(transport)
        assert [event.type for event in found] == list(EventType)
        assert found[0].object["metadata"]["name"] == "ä"
        assert server.seen[-1].query == {
            "watch": "true",
            "resourceVersion": "5",
            "timeoutSeconds": "30",
            "allowWatchBookmarks": "true",
        }

    def test_an_event_is_told_before_the_stream_ends(
        self, server: ApiServer, transport: LiveTransport
    ) -> None:
        told = threading.Event()

        def patient(request: Request) -> None:
            request.send_response(200)
            request.send_header("Transfer-Encoding", "chunked")
            request.end_headers()
            line = self.event("ADDED", "a")
            request.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
            request.wfile.flush()
            assert told.wait(10)
            request.close_connection = True

        server.on("GET", self.PATH, patient)
        watch = transport.watch(PODS, resource_version="5", timeout_s=30)
        assert next(watch).object["metadata"]["name"] == "a"
        told.set()
        with pytest.raises(KubeError):
            list(watch)

    def test_an_error_event_is_raised(self, server: ApiServer, transport: LiveTransport) -> None:
        expired = {"type": "ERROR", "object": status_object(410, "Expired", "too old resource version")}
        server.on(
            "GET",
            self.PATH,
            lambda r: r.stream(self.event("ADDED", "a"), json.dumps(expired).encode() + b"\n"),
        )
        with pytest.raises(KubeError, match="too old") as caught:
            self.events(transport)
        assert caught.value.expired

    def test_a_refused_watch(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", self.PATH, lambda r: r.answer(status_object(410, "Gone", "too old"), 410))
        with pytest.raises(KubeError) as caught:
            self.events(transport)
        assert caught.value.expired

    def test_a_stream_that_breaks_off_is_no_end(self, server: ApiServer, transport: LiveTransport) -> None:
        server.on("GET", self.PATH, lambda r: r.stream(self.event("ADDED", "a"), end=False))
        with pytest.raises(KubeError) as caught:
            self.events(transport)
        assert caught.value.status == 0

    @pytest.mark.parametrize(
        "line", [b"<html>log in</html>\n", b"[]\n", b'{"type":"NEWS","object":{}}\n', b'{"type":"ADDED"}\n']
    )
    def test_a_stream_of_something_else(
        self, server: ApiServer, transport: LiveTransport, line: bytes
    ) -> None:
        server.on("GET", self.PATH, lambda r: r.stream(line))
        with pytest.raises(KubeError, match="expected a watch event"):
            self.events(transport)

    def test_an_abandoned_watch_leaves_the_connection_usable(
        self, server: ApiServer, transport: LiveTransport
    ) -> None:
        server.on("GET", self.PATH, lambda r: r.stream(*[self.event("ADDED", "a")] * 50))
        server.on("GET", "/api/v1/nodes", lambda r: r.answer({"items": []}))
        watch = transport.watch(PODS, resource_version="5", timeout_s=30)
        next(watch)
        watch.close()  # type: ignore[attr-defined]  # a generator's
        assert transport.list(NODES).items == []

    def test_the_facade_waits_over_it(self, server: ApiServer, transport: LiveTransport) -> None:
        def pods(request: Request) -> None:
            if "watch" in request.query:
                request.stream(self.event("ADDED", "b"))
            else:
                request.answer({"items": [pod("a")], "metadata": {"resourceVersion": "5"}})

        server.on("GET", self.PATH, pods)
        names = Kube(transport).wait(
            PODS,
            lambda found: [p["metadata"]["name"] for p in found] if len(found) == 2 else None,
            timeout_s=10,
            what="two pods",
        )
        assert names == ["a", "b"]


class TestStreams:
    @pytest.mark.parametrize("status", [403, 404, 500])
    def test_a_refused_exec_is_typed(self, server: ApiServer, transport: LiveTransport, status: int) -> None:
        path = "/api/v1/namespaces/default/pods/a/exec"
        server.on("GET", path, lambda r: r.answer(status_object(status, "No", "not you"), status))
        with pytest.raises(KubeError) as caught:
            transport.exec(POD, container="main", command=["ls", "-l"])
        assert caught.value.status == status
        asked = server.requests(path)[0]
        query = parse_qs(urlsplit(asked.path).query)
        assert query.pop("command") == ["ls", "-l"]
        assert query == {name: ["true"] for name in ("stdin", "stdout", "stderr")} | {"container": ["main"]}
        assert asked.headers["Authorization"] == "Bearer secret"

    def test_a_refused_forward_is_typed(self, server: ApiServer, transport: LiveTransport) -> None:
        path = "/api/v1/namespaces/default/pods/a/portforward"
        server.on("GET", path, lambda r: r.answer(status_object(404, "NotFound", "no pod"), 404))
        with pytest.raises(KubeError) as caught:
            transport.connect(POD, port=4245)
        assert caught.value.status == 404
        (asked,) = server.requests(path)
        assert parse_qs(urlsplit(asked.path).query) == {"ports": ["4245"]}
        assert asked.headers["Authorization"] == "Bearer secret"

    def test_no_stream_brings_in_the_generated_api(self, tmp_path: Path) -> None:
        """It takes more than a second to import, in each worker, while everybody waits for the first exec."""
        config = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
        script = f"""
import contextlib, pathlib, sys
from cilium_e2e.kube.live import LiveTransport
from cilium_e2e.model import KubeError, Ref
transport = LiveTransport(pathlib.Path({str(config)!r}))
pod = Ref("v1", "Pod", "a", "default")
run = lambda: transport.exec(pod, container="main", command=["ls"])
forward = lambda: transport.connect(pod, port=1)
for call in (run, forward):
    with contextlib.suppress(KubeError):
        call()
print([name for name in sys.modules if name.startswith("kubernetes.client.api.")])
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "[]", done.stderr

    @pytest.mark.parametrize("call", ["exec", "connect"])
    def test_no_answer_is_status_0(self, tmp_path: Path, call: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        transport = LiveTransport(kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{port}"))
        calls: dict[str, Callable[[], object]] = {
            "exec": lambda: transport.exec(POD, container="main", command=["ls"]),
            "connect": lambda: transport.connect(POD, port=1),
        }
        with pytest.raises(KubeError) as caught:
            calls[call]()
        assert caught.value.status == 0
        transport.close()

    def test_ctrl_c_while_connecting_is_ctrl_c(
        self, transport: LiveTransport, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("kubernetes.stream.ws_client.create_websocket", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transport.exec(POD, container="main", command=["ls"])


class TestKubeconfig:
    def refuse(self, path: Path, *, context: str = "") -> str:
        with pytest.raises(BackendUnavailable) as caught:
            LiveTransport(path, context=context)
        assert caught.value.exit_code == 4
        text = str(caught.value)
        assert text.startswith(str(path))
        assert "\n" not in text
        return text

    def test_missing(self, tmp_path: Path) -> None:
        assert "no usable kubeconfig" in self.refuse(tmp_path / "nowhere")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.refuse(tmp_path)

    @pytest.mark.parametrize(
        "text",
        [
            "clusters: [\n",
            "a: b: c\n",
            "",
            "just text",
            "- a\n- list\n",
            "current-context: main\n",
            "apiVersion: v1\nkind: Config\nclusters: []\ncontexts: []\nusers: []\n",
            "current-context: main\nclusters: 1\ncontexts: 2\nusers: 3\n",
            "current-context: main\ncontexts: [{name: main, context: {cluster: c, user: u}}]\nclusters: []\n",
            "current-context: main\ncontexts: [{name: main}]\n",
            "\x00\x01",
        ],
    )
    def test_not_one(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "kubeconfig"
        path.write_text(text)
        self.refuse(path)

    def test_binary(self, tmp_path: Path) -> None:
        path = tmp_path / "kubeconfig"
        path.write_bytes(b"\xff\xfe\x80garbage")
        self.refuse(path)

    def test_an_unknown_context_is_named(self, tmp_path: Path) -> None:
        path = kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1")
        assert "nonesuch" in self.refuse(path, context="nonesuch")

    def test_a_known_context(self, tmp_path: Path) -> None:
        LiveTransport(kubeconfig(tmp_path / "kubeconfig", "http://127.0.0.1:1"), context="main").close()
