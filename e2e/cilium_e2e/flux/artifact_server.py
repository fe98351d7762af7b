"""Serves a folder of OCI artifacts and charts by GET and HEAD; runs alone in a stock Python image."""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files as they are, with the headers a registry's client looks for."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer files, and /v2/, which has none."""
        if not self.version_check():
            super().do_GET()

    def do_HEAD(self) -> None:
        """The same without bodies."""
        if not self.version_check():
            super().do_HEAD()

    def version_check(self) -> bool:
        """Answer a registry client's first question, whether this speaks the API's version 2."""
        if self.path.rstrip("/") != "/v2":
            return False
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return True

    def guess_type(self, path: "str | os.PathLike[str]") -> str:
        """A manifest names its own type."""
        if "/manifests/" in str(path):
            with contextlib.suppress(OSError):  # not there: the answer will be 404
                return str(json.loads(pathlib.Path(path).read_bytes())["mediaType"])
        return "application/octet-stream"

    def end_headers(self) -> None:
        """A registry repeats the digest it was asked for."""
        name = getattr(self, "path", "").rsplit("/", 1)[-1]  # none in a request that is no HTTP
        if name.startswith("sha256:"):
            self.send_header("Docker-Content-Digest", name)
        super().end_headers()


def serve(root: str, port: int) -> http.server.ThreadingHTTPServer:
    """A server that is bound but not yet running; port 0 takes any."""
    pathlib.Path(root).mkdir(parents=True, exist_ok=True)
    return http.server.ThreadingHTTPServer(("", port), functools.partial(Handler, directory=root))


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2])).serve_forever()
