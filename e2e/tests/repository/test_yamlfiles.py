"""YAML, as Go's parsers read it."""

import pytest

from cilium_e2e.model import ManifestError, ValuesError
from cilium_e2e.repository.reasons import reason_at
from cilium_e2e.repository.yamlfiles import line_of, parse, read_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("=", "="),
        ("1e3", 1000.0),
        ("0755", 493),
        ("0x10", 16),
        ("yes", True),
        ("1.18", 1.18),
        ("1.18.4", "1.18.4"),
        ("~", None),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    (document,) = parse(f"v: {text}\n", place="x")
    assert document == {"v": expected}


def test_anchors_and_merges_work() -> None:
    (document,) = parse("a: &a {x: 1}\nb: {<<: *a, y: 2}\n", place="x")
    assert document["b"] == {"x": 1, "y": 2}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: [\n", r"^f\.yaml:3: not valid YAML"),
        ("a: 1\na: 2\n", r"^f\.yaml:2: .*the key 'a' stands twice"),
        ("a: !!python/object:x {}\n", r"^f\.yaml:1: "),
        ("a: \x00\n", r"^f\.yaml: not valid YAML"),
    ],
)
def test_errors_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ValuesError, match=message) as caught:
        parse(text, place="f.yaml", error=ValuesError)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path) -> None:
    (tmp_path / "latin").write_bytes(b"\xff")
    with pytest.raises(ManifestError, match="latin: expected UTF-8 text"):
        read_text(tmp_path / "latin", place="latin")
    with pytest.raises(ManifestError, match="gone: no such file"):
        read_text(tmp_path / "gone", place="gone")
    with pytest.raises(ManifestError, match="cannot be read"):
        read_text(tmp_path, place="folder")


def test_lines_are_found() -> None:
    text = "a:\n  b:\n    - c: 1\n---\nd: 2\n"
    assert line_of(text, ["a", "b", 0, "c"]) == 3
    assert line_of(text, ["d"], document=1) == 5
    assert line_of(text, ["a", "x"]) is None
    assert line_of("a: [", ["a"]) is None


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("a: 1 # beside\n", ["a"], "beside"),
        ("# above\n# it\na: 1\n", ["a"], "above it"),
        ("# top\n\nb: 2\na: 1\n", ["a"], "top"),
        ("x: 0\n# group\na:\n  b: 1\n", ["a", "b"], "group"),
        ("a: 'x # no comment'\n", ["a"], ""),
        ("a: 1\n", ["a"], ""),
    ],
)
def test_reasons_are_comments(text: str, path: list[str], reason: str) -> None:
    assert reason_at(text, path) == reason
