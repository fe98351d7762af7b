"""Flux's variable language."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.repository.envsubst import BadSubstitution, UnknownVariable, expand

VARIABLES = {"name": "production", "empty": "", "path": "a/b/c", "n": "3", "inner": "name", "dots": "1.2.3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("${name}", "production"),
        ("a-${name}-${n}.", "a-production-3."),
        ("${absent:=default}", "default"),
        ("${absent:-default}", "default"),
        ("${absent=default}", "default"),
        ("${empty:=default}", "default"),
        ("${name:=default}", "production"),
        ("${absent:=}", ""),
        ("${absent:=${name}}", "production"),
        ("${absent:=a ${name} b}", "a production b"),
        ("${absent:=a:b/c}", "a:b/c"),
        ("${#name}", "10"),
        ("${name^}", "Production"),
        ("${name^^}", "PRODUCTION"),
        ("${name,,}", "production"),
        ("${name:0:4}", "prod"),
        ("${name:4}", "uction"),
        ("${name:-4}", "production"),
        ("${name:99}", ""),
        ("${path/b/x}", "a/x/c"),
        ("${path//\\//-}", "a-b-c"),
        ("${path/#a/z}", "z/b/c"),
        ("${path/%c/z}", "a/b/z"),
        ("${dots%.*}", "1.2"),
        ("${dots%%.*}", "1"),
        ("${dots#*.}", "2.3"),
        ("${dots##*.}", "3"),
        ("${dots#x}", "1.2.3"),
        ("$${name}", "${name}"),
        ("$$", "$"),
        ("$name costs 5$", "$name costs 5$"),
        ("$(name)", "$(name)"),
    ],
)
def test_expressions(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


def test_a_bare_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(UnknownVariable) as caught:
        expand("x: ${absent}", VARIABLES)
    assert caught.value.name == "absent"


@pytest.mark.parametrize("text", ["${", "${}", "${name", "${name:=x", "${na-me}", "${name/x}", "${-}"])
def test_what_cannot_be_read_is_an_error(text: str) -> None:
    with pytest.raises(BadSubstitution):
        expand(text, VARIABLES)


@given(st.text(st.characters(exclude_characters="$")), st.dictionaries(st.sampled_from("abc"), st.text()))
def test_text_without_a_dollar_is_left_alone(text: str, variables: dict[str, str]) -> None:
    assert expand(text, variables) == text


@given(st.text())
def test_doubling_every_dollar_protects_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}) == text


@given(
    st.text(), st.text(st.characters(exclude_characters="$")), st.text(st.characters(exclude_characters="$"))
)
def test_a_value_is_put_in_as_it_is_and_only_once(value: str, before: str, after: str) -> None:
    assert expand(f"{before}${{v}}{after}", {"v": value}) == f"{before}{value}{after}"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadSubstitution, UnknownVariable):
        expand(text, {"a": "b"})
