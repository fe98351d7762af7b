"""Each test's evidence: made when a test first asks for it, kept with the test until it is reported."""

from __future__ import annotations

import pytest

from cilium_e2e.model import Evidence

_EVIDENCE = pytest.StashKey[Evidence]()


def evidence_of(item: pytest.Item) -> Evidence:
    """The evidence of a test."""
    return item.stash.setdefault(_EVIDENCE, Evidence())
