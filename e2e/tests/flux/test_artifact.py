"""Trees and charts as artifacts, served for real on the loopback address."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import socket
import tarfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cilium_e2e.flux import artifact, artifact_server
from cilium_e2e.model import InputError

NAMES = st.from_regex(r"[a-zA-Z0-9_.äß ]{1,20}", fullmatch=True).filter(lambda name: name.strip(". "))


def layer_of(found: artifact.Artifact) -> bytes:
    manifest = json.loads(next(v for k, v in found.files.items() if "/manifests/" in k))
    return next(v for k, v in found.files.items() if k.endswith(manifest["layers"][0]["digest"]))


def unpacked(found: artifact.Artifact) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(layer_of(found))) as tar:
        return {info.name: info for info in tar}


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


class TestTree:
    FILES: Mapping[str, bytes] = {"a.yaml": b"a: 1\n", "sub/b.yaml": b"b: 2\n"}

    def test_equal_trees_have_equal_digests(self, tmp_path: Path) -> None:
        one, two = write(tmp_path / "1", self.FILES), write(tmp_path / "2", self.FILES)
        os.utime(two / "a.yaml", (1, 1))
        (two / "sub" / "b.yaml").chmod(0o600)
        first = artifact.tree(one, ["a.yaml", "sub/b.yaml"], name="tree")
        second = artifact.tree(two, iter(["sub/b.yaml", "a.yaml"]), name="tree")
        assert first == second

    def test_what_matters_changes_it(self, tmp_path: Path) -> None:
        root = write(tmp_path, self.FILES)
        digests = {artifact.tree(root, [*self.FILES], name="tree").digest}
        digests.add(artifact.tree(root, ["a.yaml"], name="tree").digest)
        (root / "a.yaml").write_bytes(b"a: 2\n")
        digests.add(artifact.tree(root, [*self.FILES], name="tree").digest)
        (root / "a.yaml").chmod(0o755)
        digests.add(artifact.tree(root, [*self.FILES], name="tree").digest)
        assert len(digests) == 4

    def test_every_digest_is_that_of_its_content(self, tmp_path: Path) -> None:
        found = artifact.tree(write(tmp_path, self.FILES), [*self.FILES], name="tree")
        for path, content in found.files.items():
            assert path.endswith(f"sha256:{hashlib.sha256(content).hexdigest()}")
        manifest = json.loads(found.files[f"v2/tree/manifests/{found.digest}"])
        for part in (manifest["config"], *manifest["layers"]):
            assert len(found.files[f"v2/tree/blobs/{part['digest']}"]) == part["size"]
        assert manifest["layers"][0]["mediaType"] == "application/vnd.cncf.flux.content.v1.tar+gzip"

    def test_modes_and_links_and_nothing_of_this_machine(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"run.sh": b"#!/bin/sh\n", "plain": b""})
        (root / "run.sh").chmod(0o700)
        (root / "link").symlink_to("plain")
        found = unpacked(artifact.tree(root, ["run.sh", "plain", "link"], name="tree"))
        assert found["run.sh"].mode == 0o755
        assert found["plain"].mode == 0o644
        assert (found["link"].issym(), found["link"].linkname) == (True, "plain")
        assert {(i.uid, i.gid, i.uname, i.gname, i.mtime) for i in found.values()} == {(0, 0, "", "", 0)}

    def test_two_hard_links_are_two_files(self, tmp_path: Path) -> None:
        root = write(tmp_path, {"a.yaml": b"content"})
        (root / "b.yaml").hardlink_to(root / "a.yaml")
        found = unpacked(artifact.tree(root, ["a.yaml", "b.yaml"], name="tree"))
        assert {name: (info.isreg(), info.size) for name, info in found.items()} == {
            "a.yaml": (True, 7),
            "b.yaml": (True, 7),
        }

    @pytest.mark.parametrize("name", ["gone.yaml", "folder"])
    def test_what_cannot_be_read_is_named(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "folder").mkdir()
        with pytest.raises(InputError, match=f"^{name}: a file of the tree cannot be read") as caught:
            artifact.tree(tmp_path, [name], name="tree")
        assert caught.value.exit_code == 4

    @settings(max_examples=40)
    @given(st.dictionaries(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=300)))
    def test_any_files_come_out_as_they_went_in(self, files: dict[str, bytes]) -> None:
        files = {name: c for name, c in files.items() if not any(o.startswith(f"{name}/") for o in files)}
        with TemporaryDirectory() as folder:
            found = artifact.tree(write(Path(folder), files), files, name="tree")
        with tarfile.open(fileobj=io.BytesIO(layer_of(found))) as tar:
            read = {info.name: file.read() for info in tar if (file := tar.extractfile(info))}
        assert read == files


def chart_files(name: str = "cilium", **more: str) -> dict[str, bytes]:
    files = {
        "Chart.yaml": f"apiVersion: v2\nname: {name}\nversion: 1.18.12\nappVersion: 1.18.12\n",
        "values.yaml": "hubble:\n  relay:\n    enabled: false\n",
        "templates/a.yaml": "kind: ConfigMap\n",
        **more,
    }
    return {path: content.encode() for path, content in files.items()}


def tgz(path: Path, files: Mapping[str, bytes], top: str = "cilium") -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


class TestChart:
    def test_a_package(self, tmp_path: Path) -> None:
        path = tgz(tmp_path / "c.tgz", chart_files(**{"charts/sub/Chart.yaml": "name: other\nversion: 9\n"}))
        found = artifact.read_chart(path)
        assert (found.name, found.version, found.app_version) == ("cilium", "1.18.12", "1.18.12")
        assert found.values == {"hubble": {"relay": {"enabled": False}}}
        assert found.package == path.read_bytes()

    def test_a_folder_is_packaged(self, tmp_path: Path) -> None:
        write(tmp_path, chart_files())
        (tmp_path / "LICENSE").hardlink_to(tmp_path / "values.yaml")
        found = artifact.read_chart(tmp_path)
        assert found.version == "1.18.12"
        with tarfile.open(fileobj=io.BytesIO(found.package)) as tar:
            assert sorted(info.name for info in tar if info.isreg()) == [
                "cilium/Chart.yaml",
                "cilium/LICENSE",
                "cilium/templates/a.yaml",
                "cilium/values.yaml",
            ]
        assert artifact.read_chart(tmp_path).package == found.package

    def test_without_values(self, tmp_path: Path) -> None:
        files = chart_files()
        del files["values.yaml"]
        assert artifact.read_chart(tgz(tmp_path / "c.tgz", files)).values == {}

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"no archive",
            b"\x1f\x8b\x08\x00garbage",
            gzip.compress(b"no tar", mtime=0),
            gzip.compress(b"\0" * 1024, mtime=0),
        ],
        ids=["empty", "text", "broken gzip", "no tar", "empty tar"],
    )
    def test_garbage(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "c.tgz"
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            artifact.read_chart(path)
        assert caught.value.place == str(path)
        assert "\n" not in str(caught.value)

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"expected a Helm chart, a \.tgz or a folder"):
            artifact.read_chart(tmp_path / "none.tgz")

    @given(st.data())
    def test_a_damaged_package_is_a_chart_or_an_error(self, data: st.DataObject) -> None:
        with TemporaryDirectory() as folder:
            path = tgz(Path(folder) / "c.tgz", chart_files())
            content = bytearray(path.read_bytes())
            for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
                content[at] ^= data.draw(st.integers(1, 255))
            path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
            try:
                assert artifact.read_chart(path).name
            except InputError as error:
                assert error.place == str(path)

    @pytest.mark.parametrize("kind", ["folder", "package"])
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("Chart.yaml", ""),
            ("Chart.yaml", "text"),
            ("Chart.yaml", "- list"),
            ("Chart.yaml", "name: cilium"),
            ("Chart.yaml", "version: 1"),
            ("Chart.yaml", "a: [\n"),
            ("values.yaml", "a: [\n"),
            ("values.yaml", "- list\n"),
            ("values.yaml", "text"),
        ],
    )
    def test_malformed(self, tmp_path: Path, kind: str, name: str, text: str) -> None:
        files = chart_files(**{name: text})
        path = write(tmp_path / "c", files) if kind == "folder" else tgz(tmp_path / "c.tgz", files)
        with pytest.raises(InputError) as caught:
            artifact.read_chart(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    def test_a_folder_without_a_chart(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"Chart\.yaml"):
            artifact.read_chart(tmp_path)

    def test_the_repository_s_index(self, tmp_path: Path) -> None:
        chart = artifact.read_chart(tgz(tmp_path / "c.tgz", chart_files()))
        files = artifact.chart_repository(chart, folder="charts")
        index = yaml.safe_load(files["charts/index.yaml"])
        (entry,) = index["entries"]["cilium"]
        assert entry["version"] == "1.18.12"
        package = files[f"charts/{entry['urls'][0]}"]
        assert package == chart.package
        assert entry["digest"] == hashlib.sha256(package).hexdigest()


class TestServer:
    @pytest.fixture
    def port(self, tmp_path: Path) -> Iterator[int]:
        tree = artifact.tree(write(tmp_path / "t", {"a.yaml": b"a: 1\n"}), ["a.yaml"], name="tree")
        chart = artifact.read_chart(tgz(tmp_path / "c.tgz", chart_files()))
        root = write(tmp_path / "root", {**tree.files, **artifact.chart_repository(chart, folder="charts")})
        self.tree, self.chart = tree, chart
        server = artifact_server.serve(str(root), 0)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        server.server_close()
        thread.join()

    def ask(self, port: int, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    @pytest.mark.parametrize("path", ["/v2/", "/v2"])
    def test_it_speaks_the_registry_s_version_2(self, port: int, path: str) -> None:
        assert self.ask(port, path)[0] == 200
        assert self.ask(port, path, "HEAD")[0] == 200

    def test_a_manifest_has_its_own_type_and_digest(self, port: int) -> None:
        path = f"/v2/tree/manifests/{self.tree.digest}"
        status, headers, body = self.ask(port, path)
        assert (status, headers["content-type"]) == (200, "application/vnd.oci.image.manifest.v1+json")
        assert headers["docker-content-digest"] == self.tree.digest
        assert artifact.digest(body) == self.tree.digest

    def test_head_is_get_without_a_body(self, port: int) -> None:
        path = f"/v2/tree/manifests/{self.tree.digest}"
        _, got, body = self.ask(port, path)
        status, headed, nothing = self.ask(port, path, "HEAD")
        assert (status, nothing) == (200, b"")
        assert headed["content-length"] == got["content-length"] == str(len(body))
        assert headed["content-type"] == got["content-type"]
        assert headed["docker-content-digest"] == got["docker-content-digest"]

    def test_the_layer_can_be_pulled_as_flux_does(self, port: int) -> None:
        manifest = json.loads(self.ask(port, f"/v2/tree/manifests/{self.tree.digest}")[2])
        layer = manifest["layers"][0]
        status, headers, body = self.ask(port, f"/v2/tree/blobs/{layer['digest']}")
        assert (status, headers["content-type"]) == (200, "application/octet-stream")
        assert (artifact.digest(body), len(body)) == (layer["digest"], layer["size"])

    def test_a_chart_can_be_pulled_as_helm_does(self, port: int) -> None:
        index = yaml.safe_load(self.ask(port, "/charts/index.yaml")[2])
        url = index["entries"]["cilium"][0]["urls"][0]
        assert self.ask(port, f"/charts/{url}")[2] == self.chart.package

    @pytest.mark.parametrize(
        "path", ["/v2/tree/manifests/latest", "/v2/other/blobs/sha256:00", "/nothing", "/../../etc/passwd"]
    )
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_what_is_not_there(self, port: int, path: str, method: str) -> None:
        assert self.ask(port, path, method)[0] == 404

    def test_a_connection_is_kept(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        for _ in range(3):
            connection.request("GET", "/v2/")
            connection.getresponse().read()
            assert connection.sock is not None
        connection.close()

    def test_what_is_no_http_is_refused(self, port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
            raw.sendall(b"GET / nonsense\r\n\r\n")
            assert b"400" in raw.recv(1000)
