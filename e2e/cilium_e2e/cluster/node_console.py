"""Questions to a node's Cilium agent by a way that costs little: a shell in the node's container.

Where nodes are containers of an engine at hand, a shell stays open in each of them. What the agent answers
over its socket takes curl a few milliseconds there; one more start of ``cilium-dbg`` takes ten times as long,
and an exec through the API server longer still. A proof of enforcement asks several times.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from cilium_e2e.model import ClusterStateError, ExecStream, StreamLost

_ROOT = "http://localhost/v1/"
_ANSWER_S = 10.0
"""curl gives up earlier, and a map takes milliseconds; what takes longer hangs."""
_COMMAND_S = 30.0
"""The command line tool may take long on a busy node, as it may by exec."""

# After each answer a line that starts with _END tells the exit code. Nothing is started but what answers: on
# a small machine a process more costs as much as the answer. Tools enter the agent's file systems, where they
# and the eBPF maps are, and its process tree, because cilium-dbg reads its own /proc.
_END = "\x01"
_LOOP = r"""
socket=/var/run/cilium/cilium.sock
maps=/sys/fs/bpf/tc/globals
name() { local comm=; [ -n "$1" ] && read -r comm 2>/dev/null < "/proc/$1/comm"; [ "$comm" = cilium-agent ]; }
inside() {
  if name "$pid" || { pid=$(pgrep -xo cilium-agent) && name "$pid"; }; then nsenter -t "$pid" -m -p "$@"
  else echo 'no process of an agent' >&2; false; fi
}
while read -r way rest; do
  case $way in
    get) curl -sS --fail-with-body --fail-early --max-time 8 --unix-socket "$socket" $rest 2>&1 ;;
    dbg) inside cilium-dbg $rest -o json 2>/dev/null || inside cilium-dbg $rest -o json 2>&1 ;;
    map) inside bpftool -j map dump pinned "$maps/$rest" 2>/dev/null ||
         inside bpftool -j map dump pinned "$maps/$rest" 2>&1 ;;
  esac
  printf '\n\001%s\n' "$?"
done
"""
COMMAND = ("bash", "-c", _LOOP)
"""What runs in a node's container; it ends with its standard input."""


class NodeConsoles:
    """A shell in each node's container, opened at the first question; safe to use from several threads.

    Args:
        open_stream: node name to a new stream, on which :data:`COMMAND` runs.
    """

    def __init__(self, open_stream: Callable[[str], ExecStream]) -> None:
        self._open_stream = open_stream
        self._streams: dict[str, ExecStream] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, node: str, *paths: str) -> list[Any]:
        """What the agent's API answers to some GETs, one after the other, decoded.

        Args:
            node: the node's name.
            paths: below ``/v1/``.

        Raises:
            ClusterStateError: it did not answer in time, or no JSON; the message has its words. StreamLost
                where the shell was lost twice.
        """
        return self._ask(node, f"get {' '.join(_ROOT + path for path in paths)}", len(paths))

    def dbg(self, node: str, *words: str) -> Any:
        """The JSON that a ``cilium-dbg`` command prints; raises as :meth:`get`."""
        return self._ask(node, f"dbg {' '.join(words)}", 1, timeout_s=_COMMAND_S)[0]

    def map(self, node: str, name: str) -> Any:
        """All entries of one of the agent's eBPF maps as bpftool prints them; raises as :meth:`get`.

        It takes a tenth of what ``cilium-dbg`` takes for the same.
        """
        return self._ask(node, f"map {name}", 1)[0]

    def close(self) -> None:
        """End all shells."""
        with self._lock:
            streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()

    def _ask(self, node: str, question: str, documents: int, *, timeout_s: float = _ANSWER_S) -> list[Any]:
        place = f"the agent on {node}, asked {question!r}"
        with self._lock:
            lock = self._locks.setdefault(node, threading.Lock())
        with lock:
            try:
                text, code = self._answer(node, question, place, timeout_s)
            except StreamLost:
                # A node that was restarted has lost its shell, and nothing was changed by the question.
                text, code = self._answer(node, question, place, timeout_s)
        if code != "0":
            raise ClusterStateError(
                f"exit code {code}: {text.strip()[-300:] or 'without a word'}", place=place
            )
        answers = documents_in(text, place)
        if len(answers) != documents:
            raise ClusterStateError(f"expected {documents} JSON documents, got {len(answers)}", place=place)
        return answers

    def _answer(self, node: str, question: str, place: str, timeout_s: float) -> tuple[str, str]:
        """One question's output and exit code; a stream that failed is not used again."""
        with self._lock:
            stream = self._streams.pop(node, None)
        stream = stream or self._open_stream(node)
        lines: list[str] = []
        try:
            stream.send_line(question)
            while (line := stream.read_line(timeout_s=timeout_s)) is not None:
                if line.startswith(_END):
                    break
                lines.append(line)
        except BaseException:
            stream.close()
            raise
        if line is None:
            stream.close()
            raise StreamLost(f"the shell ended: {stream.stderr().strip()[-300:]}", place=place)
        with self._lock:
            self._streams[node] = stream
        return "\n".join(lines), line.removeprefix(_END).strip()


def documents_in(text: str, place: str) -> list[Any]:
    """The JSON documents that stand one after the other in a text.

    Raises:
        ClusterStateError: there is something else; the message shows it.
    """
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        try:
            document, end = decoder.raw_decode(rest)
        except ValueError as error:
            raise ClusterStateError(f"expected JSON, got {rest[:200]!r}", place=place) from error
        found.append(document)
        rest = rest[end:].lstrip()
    return found
