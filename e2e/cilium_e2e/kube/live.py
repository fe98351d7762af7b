"""The Kubernetes API of a live cluster: :class:`KubeTransport` over the official client.

The client library is used for what is hard to get right (kubeconfig, TLS, websockets). Its typed models
are not used at all, because version 37 refuses fields it does not know, nor is its discovery, which waits
without a time limit.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException
from kubernetes.stream import ws_client
from websocket import WebSocketBadStatusException

from cilium_e2e.kube import forward_stream
from cilium_e2e.kube.exec_stream import WebSocketExec
from cilium_e2e.model import (
    BackendUnavailable,
    EventType,
    ExecStream,
    KubeError,
    Object,
    ObjectList,
    PatchType,
    Ref,
    WatchEvent,
)

forward_stream.install()

_CONNECT_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 30.0


class LiveTransport:
    """The API server that a kubeconfig names.

    Args:
        kubeconfig: a kubeconfig file.
        context: the context to use, the current one when empty.

    Raises:
        BackendUnavailable: the kubeconfig cannot be read or has no such context.
    """

    def __init__(self, kubeconfig: Path, *, context: str = "") -> None:
        # Untyped in the library; Any keeps that from spreading.
        load: Any = config.new_client_from_config
        settings: Any = client.Configuration

        def new_client() -> Any:
            own = settings()
            own.retries = False  # urllib3 would try three times more, without a pause
            return load(config_file=str(kubeconfig), context=context or None, client_configuration=own)

        try:
            self._client = new_client()
        except (
            ConfigException,
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            yaml.YAMLError,
        ) as error:
            raise BackendUnavailable(
                f"no usable kubeconfig: {' '.join(str(error).split()) or type(error).__name__}",
                place=str(kubeconfig),
                hint="Give a readable kubeconfig and a context that is in it.",
            ) from error
        # Plural name and whether it is namespaced, by apiVersion and kind.
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    def get(self, ref: Ref) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        return self._json("GET", self._path(ref), place=str(ref))

    def list(self, ref: Ref, *, label_selector: str = "", field_selector: str = "") -> ObjectList:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        answer = self._json(
            "GET", self._path(ref), _selectors(label_selector, field_selector), place=str(ref)
        )
        items = answer.get("items") or []
        for item in items:  # lists leave these out of their items
            item.setdefault("apiVersion", ref.api_version)
            item.setdefault("kind", ref.kind)
        return ObjectList(items, answer.get("metadata", {}).get("resourceVersion", ""))

    def watch(
        self,
        ref: Ref,
        *,
        resource_version: str,
        timeout_s: float,
        label_selector: str = "",
        field_selector: str = "",
    ) -> Iterator[WatchEvent]:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        query = [
            *_selectors(label_selector, field_selector),
            ("watch", "true"),
            ("resourceVersion", resource_version),
            ("timeoutSeconds", str(max(1, int(timeout_s)))),
            ("allowWatchBookmarks", "true"),
        ]
        response = self._call("GET", self._path(ref), query, place=str(ref), read_timeout_s=timeout_s + 5)
        try:
            for line in _lines(response):
                yield _event(line, place=str(ref))
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(0, "ConnectionLost", f"the watch broke: {error}", place=str(ref)) from error
        finally:
            # Not released to the pool: an unread watch would poison the next request on it.
            response.close()

    def apply(self, obj: Object, *, field_manager: str, force: bool = False) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        ref = Ref.of(obj)
        query = [("fieldManager", field_manager), ("force", "true" if force else "false")]
        return self._json(
            "PATCH",
            self._path(ref),
            query,
            place=str(ref),
            body=obj,
            content_type="application/apply-patch+yaml",
        )

    def patch(
        self, ref: Ref, body: Object | Sequence[Object], *, patch_type: PatchType, subresource: str = ""
    ) -> Object:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        path = self._path(ref) + (f"/{subresource}" if subresource else "")
        return self._json("PATCH", path, place=str(ref), body=body, content_type=patch_type.value)

    def delete(self, ref: Ref, *, grace_period_s: int | None = None) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        options: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_period_s is not None:
            options["gracePeriodSeconds"] = grace_period_s
        self._json("DELETE", self._path(ref), place=str(ref), body=options)

    def raw(self, path: str, *, timeout_s: float = 10.0) -> str:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        response = self._call("GET", path, place=path, read_timeout_s=timeout_s)
        return _body(response, place=path)

    def logs(self, ref: Ref, *, container: str, tail_lines: int, previous: bool = False) -> str:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        query = [("container", container), ("tailLines", str(tail_lines))]
        if previous:
            query.append(("previous", "true"))
        path = f"/api/v1/namespaces/{ref.namespace}/pods/{ref.name}/log"
        return _body(self._call("GET", path, query, place=str(ref)), place=str(ref))

    def exec(self, ref: Ref, *, container: str, command: Sequence[str]) -> ExecStream:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        query = [("container", container), *(("command", word) for word in command)]
        query += [(name, "true") for name in ("stdin", "stdout", "stderr")]
        try:
            websocket = self._upgrade(ws_client.websocket_call, ref, "exec", query, binary=True)
        except ApiException as error:
            _raise_refused(error, "exec", place=str(ref))
        return WebSocketExec(websocket, place=f"exec {' '.join(command[:2])} in {ref}")

    def connect(self, ref: Ref, *, port: int) -> socket.socket:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        try:
            query = [("ports", str(port))]
            forward = self._upgrade(ws_client.portforward_call, ref, "portforward", query)
            wrapped = forward.socket(port)
        except ApiException as error:
            _raise_refused(error, "forward", place=str(ref))
        # The library wraps its end of a socketpair only to swallow TCP_NODELAY; a plain socket does too.
        return socket.socket(fileno=wrapped.detach())

    def _upgrade(self, call: Any, ref: Ref, what: str, query: Sequence[tuple[str, str]], **more: Any) -> Any:
        """A websocket to a pod, by the library's own call for it.

        Its generated API would do the same, and takes more than a second of the processor to be imported.
        """
        path = f"/api/v1/namespaces/{ref.namespace}/pods/{ref.name}/{what}"
        method, url, headers, *_ = self._client.param_serialize(
            "GET", path, query_params=list(query), header_params={}, auth_settings=["BearerToken"]
        )
        return call(self._client.configuration, method, url, headers=headers, _preload_content=False, **more)

    def invalidate(self) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        self._kinds.clear()

    def close(self) -> None:
        """See :class:`~cilium_e2e.model.KubeTransport`."""
        self._client.close()

    def _path(self, ref: Ref) -> str:
        """The API path of a reference."""
        plural, namespaced = self._resource(ref)
        if namespaced and ref.name and not ref.namespace:
            raise KubeError(400, "BadRequest", "a namespaced object needs a namespace", place=str(ref))
        parts = [_group_path(ref.api_version)]
        if namespaced and ref.namespace:
            parts += ["namespaces", quote(ref.namespace)]
        parts.append(plural)
        if ref.name:
            parts.append(quote(ref.name, safe=":"))
        return "/".join(parts)

    def _resource(self, ref: Ref) -> tuple[str, bool]:
        """Plural name of a kind and whether it is namespaced; what is found is kept."""
        key = ref.api_version, ref.kind
        if key not in self._kinds:
            try:
                answer = self._json("GET", _group_path(ref.api_version), place=str(ref))
            except KubeError as error:
                if not error.not_found:
                    raise
                answer = {}
            for entry in answer.get("resources") or []:
                if "/" not in entry["name"]:  # else a subresource
                    self._kinds[ref.api_version, entry["kind"]] = (entry["name"], entry["namespaced"])
        if key not in self._kinds:
            raise KubeError(
                404,
                "NotFound",
                f"the API server has no kind {ref.kind} in {ref.api_version}",
                place=str(ref),
                hint="The CustomResourceDefinition is not installed.",
            )
        return self._kinds[key]

    def _json(
        self, method: str, path: str, query: Sequence[tuple[str, str]] = (), *, place: str, **more: Any
    ) -> Object:
        text = _body(self._call(method, path, query, place=place, **more), place=place)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KubeError(
                200,
                "BadAnswer",
                f"expected a JSON object, got {text[:200]!r}",
                place=place,
                hint="Is there a proxy before the API server?",
            )
        return answer

    def _call(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        place: str,
        body: Any = None,
        content_type: str = "application/json",
        read_timeout_s: float = _READ_TIMEOUT_S,
    ) -> Any:
        """One request; the answer's body is not read yet."""
        headers = {"Accept": "application/json, */*", "Content-Type": content_type}
        try:
            request = self._client.param_serialize(
                method,
                path,
                query_params=list(query),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
            )
            answer = self._client.call_api(*request, _request_timeout=(_CONNECT_TIMEOUT_S, read_timeout_s))
        except ApiException as error:
            raise _kube_error(error, place=place) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise KubeError(0, "NoAnswer", f"the API server does not answer: {error}", place=place) from error
        if not 200 <= answer.status <= 299:
            raise _status_error(
                answer.status, answer.reason, _body(answer.response, place=place), place=place
            )
        return answer.response


def _selectors(label_selector: str, field_selector: str) -> list[tuple[str, str]]:
    given = [("labelSelector", label_selector), ("fieldSelector", field_selector)]
    return [(key, value) for key, value in given if value]


def _body(response: Any, *, place: str) -> str:
    try:
        data: bytes = response.data
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise KubeError(0, "ConnectionLost", f"the answer broke off: {error}", place=place) from error
    return data.decode(errors="replace")


def _lines(response: Any) -> Iterator[bytes]:
    """The newline-separated lines of a streamed body."""
    rest = b""
    for chunk in response.stream(amt=None, decode_content=False):
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line for line in whole if line.strip())


def _group_path(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _event(line: bytes, *, place: str) -> WatchEvent:
    """One line of a watch.

    Raises:
        KubeError: the server says that the watch failed, or it is no event.
    """
    try:
        event = json.loads(line)
        obj: Object = event["object"]
        if event["type"] != "ERROR":
            return WatchEvent(EventType(event["type"]), obj)
        status = int(obj.get("code") or 500)
    except (ValueError, TypeError, KeyError):
        raise KubeError(
            200, "BadAnswer", f"expected a watch event, got {line[:200]!r}", place=place
        ) from None
    raise KubeError(status, obj.get("reason", ""), obj.get("message", "the watch failed"), place=place)


def _raise_refused(error: ApiException, what: str, *, place: str) -> NoReturn:
    """Why a stream could not be opened.

    The library turns whatever happens while it connects into an ApiException with status 0, also a refusal
    with a status of its own, and even Ctrl-C.
    """
    cause = error.__context__
    if isinstance(cause, KeyboardInterrupt | SystemExit):
        raise cause
    if isinstance(cause, WebSocketBadStatusException):
        body = (cause.resp_body or b"").decode(errors="replace")
        raise _status_error(cause.status_code, cause.status_message or "", body, place=place) from error
    raise KubeError(
        0, "NoAnswer", f"{what} could not connect: {cause or error.reason}", place=place
    ) from error


def _kube_error(error: ApiException, *, place: str) -> KubeError:
    raw: Any = error.body
    body = raw.decode(errors="replace") if isinstance(raw, bytes) else (raw or "")
    return _status_error(error.status or 0, error.reason or "", body, place=place)


def _status_error(status: int, reason: str, body: str, *, place: str) -> KubeError:
    """The typed error of an API Status object, or of whatever else a proxy may have sent."""
    try:
        answer = json.loads(body)
        message, reason = answer.get("message") or body, answer.get("reason") or reason
    except (ValueError, AttributeError):
        message = body or reason or f"HTTP status {status}"
    return KubeError(status, reason, message.strip(), place=place)
