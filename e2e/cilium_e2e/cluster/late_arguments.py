"""Runs a command in a container whose last arguments are known only when the container runs.

Its own address is such an argument. Standard library only; a program of its own, put beside the command::

    late_arguments.py PIPE run COMMAND ARGUMENT ...      waits, then becomes the command
    late_arguments.py PIPE give ARGUMENT ...             tells it the rest
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path


def main(pipe: str, role: str, *words: str) -> None:
    """Wait at one end of a named pipe for the other, whichever comes first."""
    with contextlib.suppress(FileExistsError):
        os.mkfifo(pipe, 0o600)
    if role == "give":
        with os.fdopen(os.open(pipe, os.O_WRONLY), "w", encoding="utf-8") as end:
            end.write("\n".join(words))
        return
    more = Path(pipe).read_text(encoding="utf-8").splitlines()
    os.execvp(words[0], [*words, *more])  # noqa: S606 - that is its purpose


if __name__ == "__main__":
    main(*sys.argv[1:])
