"""What every format can carry, and what no report may show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.report import bounded, clean, command
from cilium_e2e.report.texts import without_secrets


@given(st.text(), st.integers(1, 200))
def test_bounded_keeps_beginning_and_end(text, limit):
    short = bounded(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        head, tail = limit - limit // 3, limit // 3
        assert short.startswith(text[:head])
        assert short.endswith(text[len(text) - tail :])
        assert f"{len(text) - limit} characters left out" in short


@given(st.text(st.characters(codec=None)))
def test_clean_is_utf_8_and_changes_nothing_that_was(text):
    clean(text).encode()
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://u:p@h.example/x", "https://REDACTED@h.example/x"),
        ("oci://token@h.example:5000/x", "oci://REDACTED@h.example:5000/x"),
        ("https://h.example/f?X-Signature=abc&a=b#top", "https://h.example/f?REDACTED#top"),
        ("a=https://u:p@h/x b=https://v@i/y?q", "a=https://REDACTED@h/x b=https://REDACTED@i/y?REDACTED"),
        ("dir/with@sign?and=more", "dir/with@sign?and=more"),
        ("python:3.13@sha256:0123", "python:3.13@sha256:0123"),
        ("https://h.example/a@b", "https://h.example/a@b"),
    ],
)
def test_secrets_of_urls_are_not_shown(text, shown):
    assert without_secrets(text) == shown


@given(st.from_regex(r"[a-z0-9:._~!$&'()*+,;=%-]{1,20}", fullmatch=True))
def test_no_user_information_survives(secret):
    assert secret + "@" not in without_secrets(f"https://{secret}@h.example/x").replace("REDACTED@", "")


def test_the_command_has_what_is_set_in_order_and_quoted():
    options = {
        "--backend": "kind",
        "--path": "apps/my cluster",
        "--values": ["a.yaml", "b.yaml"],
        "--chart": None,
        "--context": "",
        "--keep-cluster": True,
        "--other": False,
        "--step-timeout": 2.5,
    }
    assert command("policy/test_x.py::test_y[a b]", options, suites=True) == (
        "cilium-e2e run 'policy/test_x.py::test_y[a b]' --backend=kind '--path=apps/my cluster' "
        "--values=a.yaml --values=b.yaml --keep-cluster --step-timeout=2.5"
    )
    assert command("t.py::t", {}, suites=False) == "python -m pytest t.py::t"
