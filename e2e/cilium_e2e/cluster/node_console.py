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

_ANSWER_S = 10.0
"""curl gives up earlier; what takes longer hangs."""

# An answer is one line: its first character tells whether the rest is JSON or the words of a failure. The
# command line tool enters the agent's file systems, where its binary and the eBPF maps are, and its process
# tree, because it reads its own /proc.
_LOOP = r"""
a='no process of an agent'
while IFS=' ' read -r way rest; do
  case $way in
    get) a=$(curl -sS --fail-with-body --max-time 8 --unix-socket /var/run/cilium/cilium.sock \
             "http://localhost/v1/$rest" 2>&1) ;;
    dbg) pid=$(pgrep -xo cilium-agent) &&
         a=$(nsenter -t "$pid" -m -p timeout 8 cilium-dbg $rest -o json 2>/dev/null ||
             nsenter -t "$pid" -m -p timeout 8 cilium-dbg $rest -o json 2>&1) ;;
  esac && mark='=' || mark='!'
  printf '%s %s\n' "$mark" "$(printf %s "$a" | tr '\n' ' ')"
  a='no process of an agent'
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

    def get(self, node: str, path: str) -> Any:
        """What the agent's API answers to GET, decoded.

        Args:
            node: the node's name.
            path: below ``/v1/``.

        Raises:
            ClusterStateError: it did not answer in time, or no JSON; the message has its words. StreamLost
                where the shell was lost twice.
        """
        return self._ask(node, f"get {path}")

    def dbg(self, node: str, *words: str) -> Any:
        """The JSON that a ``cilium-dbg`` command prints; raises as :meth:`get`."""
        return self._ask(node, f"dbg {' '.join(words)}")

    def close(self) -> None:
        """End all shells."""
        with self._lock:
            streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.close()

    def _ask(self, node: str, question: str) -> Any:
        place = f"the agent on {node}, asked {question!r}"
        with self._lock:
            lock = self._locks.setdefault(node, threading.Lock())
        with lock:
            try:
                answer = self._line(node, question, place)
            except StreamLost:
                # A node that was restarted has lost its shell, and nothing was changed by the question.
                answer = self._line(node, question, place)
        mark, _, text = answer.partition(" ")
        if mark != "=":
            raise ClusterStateError(text.strip() or "it failed without a word", place=place)
        try:
            return json.loads(text)
        except ValueError as error:
            raise ClusterStateError(f"expected JSON, got {text[:200]!r}", place=place) from error

    def _line(self, node: str, question: str, place: str) -> str:
        """One question, one line; a stream that failed is not used again."""
        with self._lock:
            stream = self._streams.pop(node, None)
        stream = stream or self._open_stream(node)
        try:
            stream.send_line(question)
            line = stream.read_line(timeout_s=_ANSWER_S)
        except BaseException:
            stream.close()
            raise
        if line is None:
            stream.close()
            raise StreamLost(f"the shell ended: {stream.stderr().strip()[-300:]}", place=place)
        with self._lock:
            self._streams[node] = stream
        return line
