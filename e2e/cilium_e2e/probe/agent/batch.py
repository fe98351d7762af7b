"""Batches of probes over standard input and output.

A probe that was itself not scheduled for long after its deadline is an ``infra_error``: silence that
nobody listened to is no denial.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import queue
import resource
import sys
import threading
import time
from typing import Any

from . import CONCURRENT, VERSION
from .names import dns
from .probes import http, icmp, sctp, stream, udp
from .shot import Ended, Infra, Shot

STARVED_S = 1.0

KINDS = {
    errno.ECONNREFUSED: "refused",
    errno.ECONNRESET: "reset",
    errno.ECONNABORTED: "reset",
    errno.EPIPE: "reset",
    errno.ETIMEDOUT: "timeout",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.EHOSTDOWN: "unreachable",
    errno.ENETDOWN: "unreachable",
    errno.ENOPROTOOPT: "unreachable",
    errno.EACCES: "unreachable",
    errno.EPERM: "unreachable",
}

PROBES = {"tcp": stream, "sctp": sctp, "udp": udp, "icmp": icmp, "http": http, "dns": dns}


async def probe(spec: dict[str, Any], gate: asyncio.Semaphore) -> dict[str, Any]:
    """Make one probe; every way it can end is an outcome."""
    async with gate:
        report: dict[str, Any] = {"kind": "infra_error"}
        try:
            shot = Shot(spec)
            run = PROBES[spec["protocol"]]
        except (KeyError, TypeError, ValueError) as error:
            return {**report, "detail": f"malformed probe: {error!r}"}
        try:
            await run(shot)
        except Ended as end:
            report = end.report
        except OSError as error:  # TimeoutError is one, without a number
            kind = (
                "timeout" if isinstance(error, TimeoutError) else KINDS.get(error.errno or 0, "infra_error")
            )
            report = {"kind": kind, "detail": error.strerror or str(error)}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other probes have outcomes
            report["detail"] = str(error) if isinstance(error, Infra) else repr(error)
        late_s = time.monotonic() - shot.deadline
        if report["kind"] == "timeout" and late_s > STARVED_S:
            report = {"kind": "infra_error", "detail": f"not scheduled for {late_s:.1f} s after the deadline"}
        return {
            "elapsed_s": round(shot.elapsed(), 6),
            **shot.seen,
            **{k: v for k, v in report.items() if v != ""},
        }


async def batch(line: bytes, name: str, gate: asyncio.Semaphore) -> dict[str, Any]:
    """Answer one line: the outcomes of its probes, or an error where it is no batch."""
    head: dict[str, Any] = {"v": VERSION, "agent": name, "id": None}
    try:
        message = json.loads(line)
        head["id"] = message["id"]
        if message["v"] != VERSION:
            return {**head, "error": f"this agent speaks version {VERSION}, not {message['v']}"}
        probes = list(message["probes"])
    except (ValueError, KeyError, TypeError) as error:
        return {**head, "error": f"malformed batch: {error!r}"}
    return {**head, "outcomes": await asyncio.gather(*(probe(spec, gate) for spec in probes))}


async def once(line: str, name: str) -> dict[str, Any]:
    """Answer one line, for a process that does nothing else."""
    return await batch(line.encode(), name, asyncio.Semaphore(CONCURRENT))


async def serve_batches(name: str, *, concurrent: int = CONCURRENT) -> None:
    """Read batches until standard input ends; several may be under way at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    loop, gate = asyncio.get_running_loop(), asyncio.Semaphore(concurrent)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    output: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def reader() -> None:
        for line in sys.stdin.buffer:
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, b"")

    def writer() -> None:  # a slow reader at the other end must not stop the clocks of running probes
        while (message := output.get()) is not None:
            try:
                sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
                sys.stdout.buffer.flush()
            except OSError:
                os._exit(1)  # nobody is left to read what else there may be

    async def answer(line: bytes) -> None:
        output.put(await batch(line, name, gate))

    threading.Thread(target=reader, daemon=True).start()
    writing = threading.Thread(target=writer, daemon=True)
    writing.start()
    output.put({"v": VERSION, "hello": name, "python": ".".join(map(str, sys.version_info[:3]))})
    running: set[asyncio.Task[None]] = set()
    while line := await lines.get():
        task = loop.create_task(answer(line))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    output.put(None)
    await loop.run_in_executor(None, writing.join)
