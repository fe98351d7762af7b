"""Merging, as Helm merges values."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.repository import dig, leaves, merge
from cilium_e2e.repository.merge import nest

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
)
VALUES: Any = st.recursive(
    st.dictionaries(st.sampled_from("abc"), SCALARS, max_size=3),
    lambda below: st.dictionaries(st.sampled_from("abc"), SCALARS | below, max_size=3),
    max_leaves=8,
)


def test_mappings_merge_and_everything_else_replaces() -> None:
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    over = {"a": {"y": [3]}, "b": {"c": 2}}
    assert merge(base, over) == {"a": {"x": 1, "y": [3]}, "b": {"c": 2}}


def test_null_stays_so_that_helm_can_remove_a_default() -> None:
    assert merge({"a": {"b": 1}}, {"a": None}) == {"a": None}
    assert merge({"a": {"b": 1}}, {"a": {"b": None}}) == {"a": {"b": None}}


def test_dig_finds_or_gives_none() -> None:
    assert dig({"a": {"b": 1}}, "a.b") == 1
    assert dig({"a": 1}, "a.b.c") is None


@given(VALUES)
def test_merging_nothing_changes_nothing(values: dict[str, Any]) -> None:
    assert merge(values, {}) == values == merge({}, values)


@given(VALUES)
def test_merging_twice_is_merging_once(values: dict[str, Any]) -> None:
    assert merge(values, values) == values


@given(VALUES, VALUES)
def test_what_is_put_over_wins(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = dict(leaves(merge(base, over)))
    for path, value in leaves(over):
        if value != {}:
            assert merged[path] == value


@given(VALUES, VALUES)
def test_neither_side_is_changed_nor_shared(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = repr((base, over))
    merged = merge(base, over)
    for value in merged.values():
        if isinstance(value, dict):
            value["new"] = 1
        elif isinstance(value, list):
            value.append(1)
    assert repr((base, over)) == before


@given(VALUES)
def test_leaves_rebuild_the_whole(values: dict[str, Any]) -> None:
    rebuilt: dict[str, Any] = {}
    for path, value in leaves(values):
        rebuilt = merge(rebuilt, nest(path, value))
    assert rebuilt == values
