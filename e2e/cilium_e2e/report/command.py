"""The command that runs one test again, with the options of the run it failed in."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from cilium_e2e.report.texts import without_secrets


def command(nodeid: str, options: Mapping[str, object], *, suites: bool) -> str:
    """A shell command.

    Secrets in URLs are replaced; files are named, never quoted from.

    Args:
        nodeid: the test.
        options: flag to value, in order. Skipped are None, False, and what is empty; True is a flag alone; a
            list is a flag several times.
        suites: whether the test is one of the harness's own suites, which ``cilium-e2e run`` finds by
            itself; for others pytest is called, from the folder the node id is relative to.
    """
    words = ["cilium-e2e", "run"] if suites else ["python", "-m", "pytest"]
    words.append(nodeid)
    for flag, value in options.items():
        if value is None or value is False or value in ("", [], ()):
            continue
        if value is True:
            words.append(flag)
            continue
        values: Sequence[object] = value if isinstance(value, (list, tuple)) else [value]
        words += [f"{flag}={without_secrets(str(one))}" for one in values]
    return shlex.join(words)
