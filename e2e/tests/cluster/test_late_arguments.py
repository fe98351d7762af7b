"""A command whose last arguments come later: the real program, in processes of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cilium_e2e.cluster import late_arguments

PROGRAM = [sys.executable, late_arguments.__file__]
PRINT = [sys.executable, "-c", "import os, sys; print(os.getpid(), sys.argv[1:])"]


@pytest.mark.parametrize("words", [[], ["--record", "*.any.e2e.test=10.0.0.1", "two words", "ü"]])
@pytest.mark.parametrize("first", ["run", "give"])
def test_whoever_comes_first_waits_for_the_other(tmp_path: Path, words: list[str], first: str) -> None:
    pipe = str(tmp_path / "pipe")
    commands = {
        "run": [*PROGRAM, pipe, "run", *PRINT, "serve"],
        "give": [*PROGRAM, pipe, "give", *words],
    }
    (second,) = set(commands) - {first}
    one = subprocess.Popen(commands[first], stdout=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        one.wait(0.3)
    other = subprocess.Popen(commands[second], stdout=subprocess.PIPE, text=True)
    said = {first: one.communicate(timeout=20)[0], second: other.communicate(timeout=20)[0]}
    assert (one.returncode, other.returncode) == (0, 0)
    runner = one if first == "run" else other
    # The same process: signals to a container's first process must reach the command.
    assert said == {"run": f"{runner.pid} {['serve', *words]}\n", "give": ""}


def test_it_imports_nothing_but_the_standard_library() -> None:
    """It runs in a stock Python image."""
    text = Path(late_arguments.__file__).read_text(encoding="utf-8")
    imported = {
        line.split()[1].partition(".")[0]
        for line in text.splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported - {"__future__"} <= sys.stdlib_module_names
