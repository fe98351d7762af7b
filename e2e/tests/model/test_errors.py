import inspect

import pytest

from cilium_e2e.model import errors


def classes():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.HarnessError)]


def test_the_tree_drawn_at_the_top_is_the_tree():
    drawn = {word for word in errors.__doc__.split() if word[0].isupper() and word.isalpha()}
    assert {c.__name__ for c in classes()} <= drawn


@pytest.mark.parametrize("error", classes())
def test_exit_codes_are_pytests(error):
    assert error.exit_code == (4 if issubclass(error, errors.InputError) else 2)


def test_text_names_place_then_message_then_hint():
    error = errors.InputError("expected a, got b", place="file.yaml:3", hint="Write a.")
    assert str(error) == "file.yaml:3: expected a, got b. Write a."
    assert str(errors.InputError("no place")) == "no place"


@pytest.mark.parametrize(
    ("status", "retryable"), [(0, True), (404, False), (409, True), (410, False), (429, True), (503, True)]
)
def test_kube_error_says_what_may_be_retried(status, retryable):
    assert errors.KubeError(status, "", "x").retryable is retryable


def test_kube_error_kinds():
    assert errors.KubeError(404, "NotFound", "x").not_found
    assert errors.KubeError(409, "Conflict", "x").conflict
    assert errors.KubeError(410, "Expired", "x").expired
